"""Sorting scores together with a mark, fast enough to do it a million times."""

import jax
import jax.numpy as jnp
from jax import lax

__all__ = ["sort_marked"]


def sort_marked(
    scores: jax.Array,
    mark: jax.Array,
    weights: jax.Array | None,
    seen: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Sorts scores in rising order and takes a mark and a weight a score along.

    Without weights the mark travels in the lowest bit of the score, as one integer key, which sorts
    about five times faster than a key with a payload. Scores then come back rounded by at most one
    unit in the last place; equal scores stay equal.

    Args:
      scores: (..., n) float.
      mark: (..., n) bool.
      weights: (..., n) float, or None for ones.
      seen: (..., n) bool, which scores count; None for all.

    Returns:
      (scores, mark, weights) in rising order of the scores along the last axis; NaN last, and after
      them, as NaN of weight 0, what does not count.
    """
    if weights is not None:
        if seen is not None:
            scores, weights = jnp.where(seen, scores, jnp.nan), jnp.where(seen, weights, 0)
        scores, mark, weights = lax.sort((scores, mark, weights), dimension=-1, num_keys=1)
        return scores, mark, weights
    bits = jnp.int64 if scores.dtype == jnp.float64 else jnp.int32
    flip = jnp.iinfo(bits).max
    key = lax.bitcast_convert_type(scores + 0.0, bits)  # + 0.0 makes -0.0 and 0.0 one key
    key = jnp.where(key < 0, key ^ flip, key)  # integers in the order of the floats
    key = (key & ~jnp.asarray(1, bits)) | mark.astype(bits)
    if seen is not None:  # a NaN that no computation returns
        key = jnp.where(seen, key, flip)
    key = jnp.sort(key, axis=-1)
    weights = jnp.ones_like(scores) if seen is None else (key != flip).astype(scores.dtype)
    mark, key = (key & 1) == 1, key & ~jnp.asarray(1, bits)
    scores = lax.bitcast_convert_type(jnp.where(key < 0, key ^ flip, key), scores.dtype)
    return scores, mark, weights
