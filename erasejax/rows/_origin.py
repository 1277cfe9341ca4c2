"""float64 features where JAX computes in float32: as float32 about a point of their own.

Cast as they are, seconds since 1970 would be rounded to 128. Less their mean, in float64, they keep
all the digits that their spread has. Erasers and probes move with the rows: what is fitted to rows
about an origin is moved there and back.
"""

from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from erasejax._core import inputs
from erasejax._core.foreign import as_jax_or_numpy
from erasejax._core.programs import program
from erasejax._core.types import Given
from erasejax._linalg.products import two_sum
from erasejax.rows._columns import check_columns
from erasejax.rows._dataset import Dataset, as_dataset

__all__ = ["as_dataset_about", "features_about", "move_point", "moved", "rows_about"]

T = TypeVar("T")

_SOME = 512  # rows tell how large deviations are
_FEW = 16  # rows do not


def features_about(
    name: str, x: Given, *, ndim: int | None = 2, of: object = None
) -> tuple[Float[Array, "*batch d"], Float[Array, "2 d"] | None]:
    """Returns features, and the origin that they are about, or None for zero.

    Args:
      name: of the argument.
      x: (..., d) floats. Only a float64 array that is not JAX's, where JAX keeps 32 bits, gets an
        origin: the mean of its finite values. And only where that lies more than 16 deviations
        from zero in some feature, as far as rows can tell: nearer, casting rounds no more than
        erasing does.
      ndim: how many axes to expect, None for any.
      of: what was fitted and reads them, of the same columns; one that cannot be moved reads them
        about zero.

    Returns:
      x as `inputs.features` returns it; and (2, d), the high and the low part of the origin.

    Raises:
      TypeError: x is not floating point.
      ValueError: x has another number of axes, no rows or columns, or other columns than the fit.
    """
    check_columns(name, x, of)
    found = as_jax_or_numpy(name, x)
    narrow = jax.dtypes.canonicalize_dtype(np.float64) == np.float32
    wide = isinstance(found, np.ndarray) and found.dtype.newbyteorder("=") == np.float64
    movable = of is None or hasattr(of, "_moved")
    fits = found.ndim > 0 and found.size > 0 and ndim in (None, found.ndim)
    if not (narrow and wide and movable and fits):
        return inputs.features(name, found, ndim=ndim), None
    rows = found.reshape(-1, found.shape[-1])
    with np.errstate(over="ignore", invalid="ignore"):
        center = rows.mean(axis=0)
        if not np.isfinite(center).all():
            finite = np.isfinite(rows)
            center = np.mean(rows, axis=0, where=finite)
        some = rows[:: max(len(rows) // _SOME, 1)]
        spread = np.std(some, axis=0, where=np.isfinite(some))
        if len(rows) >= _FEW and not (np.abs(center) > 16 * spread)[spread > 0].any():
            return inputs.features(name, found, ndim=ndim), None
        high = center.astype(np.float32)
        # Beyond float32, or of nothing finite: such a feature is refused by who reads it.
        high = np.where(np.isfinite(high), high, 0)
        low = np.where(high != 0, center - high, 0).astype(np.float32)
        own = found - (high.astype(np.float64) + low)
        return inputs.features(name, own, ndim=ndim), jnp.asarray(np.stack([high, low]))


def as_dataset_about(
    x: Given | Dataset, z: Given | None = None, *, of: object = None, **options: Any
) -> tuple[Dataset, Float[Array, "2 d"] | None]:
    """Returns what `as_dataset` does, of features about an origin; and (2, d) the origin, or None.

    See `features_about`.

    Args:
      x: as for `as_dataset`.
      z: as for `as_dataset`.
      of: as for `features_about`.
      **options: as for `as_dataset`.
    """
    rows, origin = features_about("x", x.x if isinstance(x, Dataset) else x, of=of)
    x = x.replace(x=rows) if isinstance(x, Dataset) else rows
    return as_dataset(x, z, **options), origin


def moved(fitted: T, origin: Float[Array, "2 d"] | None, *, back: bool = False) -> T:
    """Returns what was fitted to rows about zero for the same rows about an origin.

    Args:
      fitted: with a method `_moved`, of an origin (2, d).
      origin: (2, d), or None for zero.
      back: whether to move it the other way.

    Raises:
      TypeError: it has no such method, and would be taken for one of other rows.
    """
    if origin is None:
        return fitted
    if not hasattr(fitted, "_moved"):
        raise TypeError(
            f"x: float64 rows far from zero are centred first, and {type(fitted).__name__} has no "
            "_moved(origin) to be moved back by; subtract their mean, or pass float32"
        )
    return _moved(fitted, origin, back)


@program(static_argnums=2)
def _moved(fitted: Any, origin: jax.Array, back: bool) -> Any:
    return fitted._moved(-origin if back else origin)


def move_point(
    point: Float[Array, "*k d"], origin: Float[Array, "2 d"]
) -> tuple[Float[Array, "*k d"], Float[Array, "*k d"]]:
    """Returns a point (..., d) plus an origin (2, d), and what rounding took from it."""
    total, rest = two_sum(point, origin[0])
    return two_sum(total, rest + origin[1])


def rows_about(name: str, y: Given, origin: Float[Array, "2 d"] | None) -> Float[Array, "n d"]:
    """Returns features about an origin that is given, that of others.

    Args:
      name: of the argument.
      y: (n, d) floats.
      origin: (2, d), or None for zero.

    Raises:
      TypeError: y is not floating point.
      ValueError: y has another number of axes, or no rows or columns.
    """
    found = as_jax_or_numpy(name, y)
    if origin is None or found.shape[-1:] != origin.shape[1:]:
        return inputs.features(name, found)
    if isinstance(found, np.ndarray) and found.dtype.kind == "f" and found.dtype.itemsize > 4:
        return inputs.features(name, found - np.asarray(origin, np.float64).sum(axis=0))
    return (inputs.features(name, found) - origin[0]) - origin[1]
