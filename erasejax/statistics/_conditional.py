"""What is left of a concept once a task is known: the concept within the classes of the task.

With p(z | y) the frequencies of the concept's classes among the rows of task y, a row becomes its
contrast less what y says of it, c(z) - sum over z' of p(z' | y) c(z'). Those are real concepts: the
covariance of x with them is sum over y of p(y) Cov(x, c(z) | y). Where each is kept apart, times
whether y is this one, it is p(y) Cov(x, c(z) | y) for every y.

Both are linear in the classes (y, z) together, so moments of those are enough.
"""

from collections.abc import Iterable, Iterator
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from erasejax._core import inputs
from erasejax._linalg.products import product, row_sum, safe_reciprocal
from erasejax.rows import Dataset
from erasejax.statistics._moments import Moments

__all__ = [
    "Conditional",
    "conditional_blocks",
    "conditional_moments",
    "conditional_rows",
    "task_classes",
]

Conditional = Literal["none", "pooled", "each"]


def conditional_rows(data: Dataset, given: str) -> Dataset:
    """Returns rows whose concept is what the task does not say of it, (n, r) real.

    Rows whose label or task is no class become NaN.

    Args:
      data: with class labels, and a task: one column of 0 and 1, or one-hot columns.
      given: "pooled" for the k - 1 contrasts, "each" for those within each task.
    """
    assert data.num_classes is not None
    k, dtype = data.num_classes, inputs.compute_dtype(data.x)
    y, tasks, known = task_classes(data)
    known &= (data.z >= 0) & (data.z < k)
    one = jax.nn.one_hot(y * k + data.z, tasks * k, dtype=dtype)
    weights = data.row_weights.astype(dtype)[:, None]
    contrasts = _contrasts(row_sum(jnp.where(weights != 0, weights * one, 0)), k, given)
    z = jnp.where(known[:, None], product("nj,jr->nr", one, contrasts), jnp.nan)
    return data.replace(z=z, num_classes=None, task=None)


def conditional_moments(moments: Moments, classes: int, given: str) -> Moments:
    """Returns the moments of x and of what the task does not say of the concept.

    Args:
      moments: of the classes y k + z of task y and concept z.
      classes: k.
      given: as in `conditional_rows`.
    """
    contrasts = _contrasts(moments.concept_mean, classes, given)
    zz = product("ja,ji,ib->ab", contrasts, moments.zz, contrasts)
    return moments.replace(
        xz=product("dj,jr->dr", moments.xz, contrasts),
        zz=(zz + zz.T) / 2,
        mean_z=jnp.zeros((2, contrasts.shape[1]), zz.dtype),
        one_hot=False,
    )


def conditional_blocks(
    blocks: Iterable[Dataset], moments: Moments, classes: int, given: str
) -> Iterator[Dataset]:
    """Yields blocks of rows with the concept of `conditional_moments`.

    Args:
      blocks: with the classes y k + z of task y and concept z as labels.
      moments: of all rows.
      classes: k.
      given: as in `conditional_rows`.
    """
    contrasts = np.asarray(_contrasts(moments.concept_mean, classes, given))
    for block in blocks:
        yield block.replace(z=contrasts[np.asarray(block.z)], num_classes=None)


def task_classes(data: Dataset) -> tuple[jax.Array, int, jax.Array]:
    """Returns the classes (n,) of a task, their number, and which rows have one, (n,) bool."""
    assert data.task is not None
    task = data.task.reshape(len(data.x), -1)
    binary = ((task == 0) | (task == 1)).all(axis=1)
    if task.shape[1] == 1:
        return (task[:, 0] > 0.5).astype(jnp.int32), 2, binary
    return jnp.argmax(task, axis=1), task.shape[1], binary & (jnp.sum(task, axis=1) == 1)


def _contrasts(share: jax.Array, classes: int, given: str) -> jax.Array:
    """Returns what turns one-hot classes (y, z) into the concept within tasks, (m k, r).

    Args:
      share: (m k,) frequencies, of any sum.
      classes: k.
      given: "pooled", r = k - 1, or "each", r = m (k - 1).
    """
    share = share.reshape(-1, classes)
    m = len(share)
    own = jnp.eye(classes, dtype=share.dtype)[:, 1:]
    total = jnp.sum(share, axis=1, keepdims=True)
    mean = product("yz,zr->yr", share * safe_reciprocal(total, total > 0), own)
    within = own - mean[:, None]
    if given == "each":
        within = within[:, :, None] * jnp.eye(m, dtype=share.dtype)[:, None, :, None]
    return within.reshape(m * classes, -1)
