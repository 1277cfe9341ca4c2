"""Tokens with a mask: how they are checked, and their mean, one row a sequence."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from erasejax._core import inputs
from erasejax._core.foreign import as_jax_or_numpy
from erasejax._core.types import Given
from erasejax.rows import features_about, row_by_row

__all__ = ["check_tokens", "mean_pooled", "tokens_about"]


def mean_pooled(x: Given, mask: Given | None = None) -> Float[Array, "n d"]:
    """Returns the mean over the tokens of each sequence: rows for any probe, eraser or metric.

    Args:
      x: (n, t, d) floats.
      mask: (n, t) bool, or 0 and 1, what is a token; the rest is padding and never read. None where
        all are tokens.

    Returns:
      (n, d) in at least float32. Under jit NaN for a sequence without tokens.

    Raises:
      TypeError: x is not floating point, or the mask neither boolean nor integer.
      ValueError: shapes do not match, or a sequence has no token.

    Under jit: pure.

    Example:
      >>> x = jnp.array([[[1.0], [3.0]], [[5.0], [jnp.nan]]])
      >>> ej.probes.mean_pooled(x, [[1, 1], [1, 0]]).tolist()
      [[2.0], [5.0]]
    """
    x, mask = _masked(x, mask)
    check_tokens(mask)
    return row_by_row(_mean, None, (inputs.features("x", x, ndim=3), mask))


def tokens_about(x: Given, mask: Given | None) -> tuple[jax.Array, jax.Array, jax.Array | None]:
    """Returns tokens, their mask, and the origin that the tokens are about, or None."""
    x, mask = _masked(x, mask)
    known = inputs.known_values(mask)
    if isinstance(x, np.ndarray) and x.dtype == np.float64 and known is not None:
        x = np.where(known[:, :, None], x, np.nan)  # an origin is the mean of what is finite
    x, origin = features_about("x", x, ndim=3)
    return x, mask, origin


def check_tokens(mask: jax.Array) -> None:
    """Checks that every sequence has a token, where that is known.

    Raises:
      ValueError: one has none.
    """
    known = inputs.known_values(mask)
    empty = np.flatnonzero(~np.any(known, axis=1)) if known is not None else np.zeros(0, int)
    if len(empty):
        raise ValueError(
            f"mask: sequence {empty[0]} has no token ({len(empty)} of {len(mask)} have none); "
            "leave them out"
        )


def _mean(_: None, rows: tuple[jax.Array, jax.Array]) -> jax.Array:
    x, mask = rows
    x = jnp.where(mask[:, :, None], x, 0).astype(inputs.compute_dtype(x))
    return jnp.sum(x, axis=1) / jnp.sum(mask, axis=1, keepdims=True)


def _masked(x: Given, mask: Given | None) -> tuple[jax.Array | np.ndarray, jax.Array]:
    """Returns tokens (n, t, d), and their mask as bool (n, t).

    Raises:
      TypeError: the mask is neither boolean nor integer.
      ValueError: shapes do not match, or the mask is known and holds other numbers than 0 and 1.
    """
    x = as_jax_or_numpy("x", x)
    if x.ndim != 3:
        raise ValueError(f"x: expected (sequences, tokens, features), got shape {x.shape}")
    if mask is None:
        return x, inputs.as_array("mask", np.ones(x.shape[:2], bool))
    mask = as_jax_or_numpy("mask", mask)
    if mask.dtype != bool and not jnp.issubdtype(mask.dtype, jnp.integer):
        raise TypeError(f"mask: expected booleans, or 0 and 1, got {mask.dtype}")
    if mask.shape != x.shape[:2]:
        raise ValueError(f"mask: expected {x.shape[:2]}, as x {x.shape} has, got {mask.shape}")
    known = inputs.known_values(mask)
    if known is not None and not np.isin(known, (0, 1)).all():
        raise ValueError("mask: expected 1 for a token and 0 for padding, got other numbers")
    if mask.dtype != bool:
        return x, inputs.as_array("mask", (mask if known is None else known) != 0)
    return x, inputs.as_array("mask", mask)
