"""Eager calls compile for few numbers of rows: rows are moved into a buffer with room for more.

People bring one table after another, each with its own number of rows, and a program is compiled
for shapes. So a buffer has one of a few sizes. The rows beyond those that are there have weight 0,
which nothing reads; and what passes over the rows ends with the last that is there, in a loop whose
count is no part of the program. Room costs memory, then, and no work. Under `jit` and `vmap` there
is none.
"""

import functools
from collections.abc import Callable, Hashable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from erasejax._core.foreign import aligned
from erasejax._core.programs import program
from erasejax._linalg import platforms
from erasejax.rows._dataset import Dataset, _Room

__all__ = ["in_room", "roomy", "row_by_row"]


def roomy(data: Dataset, *, passes: int = 1) -> Dataset:
    """Returns the same rows in a buffer with room for more; as they are where they are traced.

    Args:
      data: rows; on several devices they stay as they are, too, and where a copy of them would
        take more than compiling does.
      passes: how often the whole buffer is read, and not only the rows that are there.
    """
    if data.room is not None or not _movable(data) or not platforms.has_room(data.x.size):
        return data
    n, d = data.x.shape
    size = platforms.rows_of_room(n, d * passes)
    x = in_room(data.x, size)
    if isinstance(x, Tracer):  # known rows in a program of the caller's
        return data
    filled, ones = _marks(n, size, np.dtype(jnp.promote_types(data.x.dtype, jnp.float32)))
    room = _Room(filled, plain=data.weights is None, few=n < d)
    return Dataset(
        x=x,
        z=in_room(data.z, size),
        num_classes=data.num_classes,
        task=None if data.task is None else in_room(data.task, size),
        weights=ones if data.weights is None else in_room(data.weights, size),
        room=room,
    )


def in_room(rows: jax.Array, size: int) -> jax.Array:
    """Returns rows (n, ...) with zeros behind them, (size, ...)."""
    if len(rows) == size:
        return rows
    if not _on_host(rows):
        return jnp.pad(rows, ((0, size - len(rows)),) + ((0, 0),) * (rows.ndim - 1))
    return _put(_filled(np.asarray(rows), size), rows)


def row_by_row(
    core: Callable[..., jax.Array], shared: Any, rows: Any, *options: Hashable
) -> jax.Array:
    """Returns core(shared, rows, *options) for a function of each row alone, compiled for few n.

    On a CPU rows are cut into pieces of one of two sizes, where they lie: nothing that long is
    copied but the result.

    Args:
      core: maps rows to an array (n, ...), each row by itself. A function of a module: programs are
        kept by it.
      shared: pytree that every row needs.
      rows: pytree of arrays (n, ...).
      *options: static.
    """
    leaves = jax.tree.leaves(rows)
    if not (_movable((shared, rows)) and all(_on_host(leaf) for leaf in leaves)):
        return _whole(core, options, shared, rows)
    n = len(leaves[0])
    cuts = platforms.pieces(n, max(leaf.size // n for leaf in leaves))
    if cuts == [(0, n)]:
        return _whole(core, options, shared, rows)
    whole = None
    for start, size in cuts:
        piece = jax.tree.map(lambda leaf: _piece(leaf, start, size), rows)  # noqa: B023
        if isinstance(jax.tree.leaves(piece)[0], Tracer):  # in a program of the caller's
            return _whole(core, options, shared, rows)
        found = _whole(core, options, shared, piece)
        if whole is None:
            whole = aligned((n, *found.shape[1:]), found.dtype)
        whole[start : start + size] = np.asarray(found)[: n - start]
    return _put(whole, leaves[0])  # pyright: ignore[reportArgumentType]


def _piece(rows: jax.Array, start: int, size: int) -> jax.Array:
    """Returns `size` rows from a place on; zeros where there are no more."""
    found = np.asarray(rows)[start : start + size]
    return _put(found if len(found) == size else _filled(found, size), rows)


@program(static_argnums=(0, 1))
def _whole(core: Callable[..., jax.Array], options: tuple, shared: Any, rows: Any) -> jax.Array:
    return core(shared, rows, *options)


def _on_host(rows: jax.Array) -> bool:
    """Returns whether an array lies where numpy reads it without a copy."""
    return all(device.platform == "cpu" for device in rows.devices())


@functools.lru_cache(maxsize=1024)
def _count(n: int) -> jax.Array:
    """Returns a number as an array."""
    with jax.ensure_compile_time_eval():  # whoever traces when it is called first
        return jax.device_put(np.int32(n))


@functools.lru_cache(maxsize=64)
def _marks(n: int, size: int, dtype: np.dtype) -> tuple[jax.Array, jax.Array]:
    """Returns n and which of the rows of a buffer there are, (size,), 1 or 0."""
    with jax.ensure_compile_time_eval():
        return _count(n), jax.device_put((np.arange(size) < n).astype(dtype))


def _movable(tree: Any) -> bool:
    """Returns whether all arrays are known, and on one device."""
    leaves = jax.tree.leaves(tree)
    if any(isinstance(leaf, Tracer) for leaf in leaves):
        return False
    return all(len(leaf.devices()) == 1 for leaf in leaves if isinstance(leaf, jax.Array))


def _filled(rows: np.ndarray, size: int) -> np.ndarray:
    """Returns the same in numpy, which compiles nothing."""
    buffer = aligned((size, *rows.shape[1:]), rows.dtype)
    buffer[: len(rows)], buffer[len(rows) :] = rows, 0
    return buffer


def _put(rows: np.ndarray, like: jax.Array) -> jax.Array:
    """Returns rows where another array lies; only if that was put there on purpose, for good."""
    (device,) = like.devices()
    return jax.device_put(rows, device if like.committed else None)
