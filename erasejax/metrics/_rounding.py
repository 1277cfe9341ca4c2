"""Erasing blocks of a file, in the dtype that is written."""

import jax
import ml_dtypes
import numpy as np

from erasejax._core.types import FittedEraser, Given
from erasejax.rows import features_about, moved

__all__ = ["DTYPES", "erase", "is_coarse", "is_rounded", "named_dtype"]

DTYPES = ("float64", "float32", "float16", "bfloat16")


def named_dtype(name: str) -> np.dtype:
    """Returns a dtype of `DTYPES`.

    Raises:
      ValueError: there is none of that name.
    """
    if name not in DTYPES:
        raise ValueError(f"--dtype: expected one of {', '.join(DTYPES)}, got {name!r}")
    return np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name)


def is_rounded(dtype: np.dtype) -> bool:
    """Returns whether a dtype has fewer digits than erasing is computed in."""
    return dtype.itemsize < 4


def is_coarse(x: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Returns which float64 features vary by less than ten spacings of a dtype at their values.

    Rounding them adds a thousandth of their variance, or more: (1 / 10)^2 / 12.

    Args:
      x: (n, d) rows of a file.
      dtype: in which they will be written.

    Returns:
      (d,) bool; none where x has no more digits than float32.
    """
    if x.dtype != np.float64 or dtype == np.float64:
        return np.zeros(x.shape[1], bool)
    spacing = float(ml_dtypes.finfo(dtype).eps) * np.abs(x).max(axis=0)
    spread = x.std(axis=0)
    return (spread > 0) & (spread < 10 * spacing)


def erase(eraser: FittedEraser, x: np.ndarray, z: Given | None, dtype: np.dtype) -> np.ndarray:
    """Returns erased rows in a dtype, float64 also where JAX keeps 32 bits.

    float64 rows are erased about their mean, which is added again in float64: to float32's accuracy
    relative to their spread.

    Args:
      eraser: a fitted eraser.
      x: (n, d) floats.
      z: (n,) the concept where the eraser reads it, else None.
      dtype: of `DTYPES`.

    Returns:
      (n, d).

    Raises:
      ValueError: a value is too large for the dtype.
    """
    given = (z,) if eraser.needs_z else ()
    if jax.dtypes.canonicalize_dtype(dtype) == dtype:
        erased = np.asarray(eraser(x, *given, dtype=dtype))
        if not np.isfinite(erased).all():
            raise ValueError(
                f"erased values do not fit {dtype}, which ends at "
                f"{float(ml_dtypes.finfo(dtype).max):g}; write them with --dtype float32, or scale "
                "the features down"
            )
        return erased
    rows, origin = features_about("x", x)
    if origin is None:
        return np.asarray(eraser(rows, *given), dtype)
    erased = moved(eraser, origin, back=True)(rows, *given)
    return np.asarray(erased, dtype) + np.asarray(origin, dtype).sum(axis=0)
