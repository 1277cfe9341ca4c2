"""Eager calls compile for few numbers of rows: rows are moved into a buffer with room for more.

People bring one table after another, each with its own number of rows, and a program is compiled
for shapes. So a buffer has one of a few sizes. The rows beyond those that are there have weight 0,
which nothing reads; and what passes over the rows ends with the last that is there, in a loop whose
count is no part of the program. Room costs memory, then, and no work. Under `jit` and `vmap` there
is none.
"""

from collections.abc import Callable, Hashable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer

from erasejax._core.foreign import aligned
from erasejax._core.programs import program
from erasejax._linalg import platforms
from erasejax.rows._dataset import Dataset, Room

__all__ = ["roomy", "row_by_row"]


def roomy(data: Dataset, *, passes: int = 1) -> Dataset:
    """Returns the same rows in a buffer with room for more; as they are where they are traced.

    Args:
      data: rows; on several devices they stay as they are, too.
      passes: how often the whole buffer is read, and not only the rows that are there.
    """
    if data.room is not None or not _movable(data):
        return data
    n, d = data.x.shape
    size = platforms.rows_of_room(n, d * passes)
    room = Room(jnp.asarray(np.int32(n)), plain=data.weights is None, few=n < d)
    weights = data.weights
    if weights is None:
        weights = jnp.asarray(np.ones(n, np.dtype(jnp.promote_types(data.x.dtype, jnp.float32))))
    return Dataset(
        x=_into(data.x, size),
        z=_into(data.z, size),
        num_classes=data.num_classes,
        task=None if data.task is None else _into(data.task, size),
        weights=_into(weights, size),
        room=room,
    )


def row_by_row(core: Callable[..., Any], shared: Any, rows: Any, *options: Hashable) -> Any:
    """Returns core(shared, rows, *options) for a function of each row alone, compiled for few n.

    Args:
      core: maps rows to arrays (n, ...), each row by itself. A function of a module: programs are
        kept by it.
      shared: pytree that every row needs.
      rows: pytree of arrays (n, ...).
      *options: static.
    """
    leaves = jax.tree.leaves(rows)
    if not _movable((shared, rows)):
        return _whole(core, options, shared, rows)
    n = len(leaves[0])
    size = platforms.rows_of_room(n, max(leaf.size // n for leaf in leaves))
    rows = jax.tree.map(lambda leaf: _into(leaf, size), rows)
    found = _in_blocks(core, options, shared, rows, jnp.asarray(np.int32(n)))
    return jax.tree.map(lambda leaf: _first(leaf, n), found)


@program(static_argnums=(0, 1))
def _whole(core: Callable[..., Any], options: tuple, shared: Any, rows: Any) -> Any:
    return core(shared, rows, *options)


@program(static_argnums=(0, 1))
def _in_blocks(
    core: Callable[..., Any], options: tuple, shared: Any, rows: Any, filled: jax.Array
) -> Any:
    n = len(jax.tree.leaves(rows)[0])
    size = platforms.rows_in_block(n)
    if size >= n:
        return core(shared, rows, *options)

    def block(start):
        cut = jax.tree.map(lambda leaf: lax.dynamic_slice_in_dim(leaf, start, size), rows)
        return core(shared, cut, *options)

    def write(i, found):
        start = jnp.minimum(i * size, n - size)
        return jax.tree.map(
            lambda whole, part: lax.dynamic_update_slice_in_dim(whole, part, start, 0),
            found,
            block(start),
        )

    parts = jax.eval_shape(block, 0)
    nothing = jax.tree.map(lambda leaf: jnp.zeros((n, *leaf.shape[1:]), leaf.dtype), parts)
    return lax.fori_loop(0, (filled + size - 1) // size, write, nothing)


def _movable(tree: Any) -> bool:
    """Returns whether all arrays are known, and on one device."""
    leaves = jax.tree.leaves(tree)
    if any(isinstance(leaf, Tracer) for leaf in leaves):
        return False
    return all(len(leaf.devices()) == 1 for leaf in leaves if isinstance(leaf, jax.Array))


def _first(rows: jax.Array, n: int) -> jax.Array:
    """Returns the first n rows."""
    (device,) = rows.devices()
    if len(rows) == n or device.platform != "cpu":
        return rows[:n]
    return jax.device_put(np.asarray(rows)[:n], device)


def _into(rows: jax.Array, size: int) -> jax.Array:
    """Returns rows (n, ...) with zeros behind them, (size, ...)."""
    if len(rows) == size:
        return rows
    (device,) = rows.devices()
    if device.platform != "cpu":
        return jnp.pad(rows, ((0, size - len(rows)),) + ((0, 0),) * (rows.ndim - 1))
    # In numpy, which compiles nothing; pages that nobody has touched cost nothing either.
    buffer = aligned((size, *rows.shape[1:]), rows.dtype)
    buffer[: len(rows)] = rows
    return jax.device_put(buffer, device)
