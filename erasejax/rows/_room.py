"""Eager calls compile for few numbers of rows: rows are moved into a buffer with room for more.

People bring one table after another, each with its own number of rows, and a program is compiled
for shapes. So a buffer has one of a few sizes. The rows beyond those that are there have weight 0,
which nothing reads; and what passes over the rows ends with the last that is there, in a loop whose
count is no part of the program. Room costs memory, then, and no work. Under `jit` and `vmap` there
is none.
"""

from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from erasejax._core.foreign import aligned
from erasejax._linalg import platforms
from erasejax.rows._dataset import Dataset, Room

__all__ = ["roomy"]

T = TypeVar("T")


def roomy(data: Dataset) -> Dataset:
    """Returns the same rows in a buffer with room for more; as they are where they are traced.

    Args:
      data: rows; on several devices they stay as they are, too.
    """
    leaves = jax.tree.leaves(data)
    if data.room is not None or any(isinstance(leaf, Tracer) for leaf in leaves):
        return data
    if any(len(leaf.devices()) > 1 for leaf in leaves):
        return data
    n, d = data.x.shape
    size = platforms.rows_of_room(n, d)
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
