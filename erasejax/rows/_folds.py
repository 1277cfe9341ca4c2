"""Rows in folds and in random order, where only values say which rows count.

Each row has the same draw however many rows of weight 0 follow it.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from erasejax.rows._dataset import Dataset

__all__ = ["fold_rows", "random_order", "reordered"]


def fold_rows(
    data: Dataset, groups: jax.Array | np.ndarray | None, key: jax.Array, folds: int
) -> Int[Array, " n"]:
    """Returns the fold of each row, (n,) int32; rows that count, and classes, spread evenly.

    Of a group the first row that counts goes where such a row would, and takes the others along.

    Args:
      data: rows.
      groups: (n,) numbers of `number_groups`, or None where rows are independent.
      key: of the draws.
      folds: static; how many.
    """
    n = data.x.shape[0]
    rows = jnp.arange(n, dtype=jnp.int32)
    # What does not count comes last.
    drawn = jax.random.bits(key, (n,), jnp.uint32)
    kind = data.z if data.is_classes else jnp.zeros(n, jnp.int32)
    last = jnp.iinfo(jnp.int32).max
    if data.weights is not None:
        kind = jnp.where(data.weights != 0, kind, last)
    first = None
    if groups is not None:
        place = jnp.where(kind == last, 2 * n, rows)
        first = jax.ops.segment_min(place, groups, n)[groups]
        kind = jnp.where(place == first, kind, last)
    _, _, order = jax.lax.sort((kind, drawn, rows), num_keys=2)
    own = jnp.zeros(n, jnp.int32).at[order].set(rows % folds)
    return own if first is None else own[jnp.minimum(first, n - 1)]


def random_order(
    data: Dataset,
    groups: jax.Array | np.ndarray | None,
    key: jax.Array,
    *,
    behind: jax.Array | None = None,
) -> Int[Array, " n"]:
    """Returns the rows' numbers in random order, each group in one piece, (n,) int32.

    Args:
      data: rows; those that do not count come last.
      groups: (n,) numbers of `number_groups`, or None where rows are independent.
      key: of the draws.
      behind: (n,) bool, which rows come after all others that count, or None.
    """
    n = data.x.shape[0]
    rows = jnp.arange(n, dtype=jnp.int32)
    drawn = jax.random.bits(key, (n,), jnp.uint32)
    level = jnp.zeros(n, jnp.int32) if behind is None else behind.astype(jnp.int32)
    if data.seen is not None:
        level = jnp.where(data.seen, level, 2)
    if groups is None:
        return jax.lax.sort((level, drawn, rows), num_keys=2)[-1]
    return jax.lax.sort((level, drawn[groups], jnp.asarray(groups), rows), num_keys=3)[-1]


def reordered(data: Dataset, order: Int[Array, " n"]) -> Dataset:
    """Returns rows in an order in which those that do not count come last."""
    weights = None if data.weights is None else data.weights[order]
    task = None if data.task is None else data.task[order]
    return data.replace(
        x=data.x[order], z=data.z[order], task=task, weights=weights, room=data.room
    )
