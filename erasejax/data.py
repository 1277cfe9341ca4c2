"""Labelled rows, and how a concept becomes columns of numbers.

`as_dataset` is the one place where features, concepts and weights are checked and coerced.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.core import Tracer

from erasejax import checks
from erasejax.checks import Status
from erasejax.linalg import product, safe_reciprocal

__all__ = ["weigh_classes", "centered", "Dataset"]


@struct.dataclass
class Dataset:
    """Rows of features with a concept.

    Attributes:
      x: (n, d) float features.
      z: the concept: (n,) integers are class labels in [0, num_classes); (n,) or (n, k) floats are
        real values; (n, k) integers are k binary labels.
      num_classes: static number of classes, or None where z is not one class label a row.
      task: (n,) or (n, t), a second concept that should survive erasure, or None.
      weights: (n,) row weights >= 0, or None for all equal. Rows of weight 0 are never read.
    """

    x: jax.Array
    z: jax.Array
    num_classes: int | None = struct.field(pytree_node=False, default=None)
    task: jax.Array | None = None
    weights: jax.Array | None = None

    @property
    def is_classes(self) -> bool:
        """Whether z is one class label a row."""
        return self.num_classes is not None

    @property
    def row_weights(self) -> jax.Array:
        """(n,) weights; ones where there are none."""
        if self.weights is None:
            return jnp.ones(self.x.shape[0], checks.compute_dtype(self.x))
        return self.weights


def as_dataset(
    x: Any,
    z: Any = None,
    *,
    weights: Any = None,
    num_classes: int | None = None,
    task: Any = None,
) -> Dataset:
    """Checks and coerces what `fit` is given into a `Dataset`.

    Args:
      x: (n, d) floats, or a `Dataset`, and then z is left out.
      z: (n,) or (n, k), see `Dataset`; booleans (n,) are two classes.
      weights: (n,) or None.
      num_classes: number of classes of integer labels; counted where it is None and z is concrete.
      task: a second concept, (n,) or (n, t), or None.

    Returns:
      A `Dataset` of JAX arrays, labels as int32, the task as float columns (n, t).

    Raises:
      TypeError: x is not floating point, or z is missing or not numeric.
      ValueError: shapes do not match, or the number of classes is missing or makes no sense.
    """
    if isinstance(x, Dataset):
        if z is not None:
            raise TypeError("z: a Dataset brings its own concept; leave z out")
        weights = x.weights if weights is None else weights
        num_classes = x.num_classes if num_classes is None else num_classes
        task, x, z = x.task if task is None else task, x.x, x.z
    elif z is None:
        raise TypeError("z: missing; give the concept, one entry a row, or a Dataset")
    x = checks.features("x", x)
    z = checks.as_array("z", z)
    n = x.shape[0]
    if z.ndim not in (1, 2) or z.shape[0] != n:
        raise ValueError(
            f"z: expected shape ({n},) or ({n}, k) to match x {x.shape}, got {z.shape}"
        )
    weights = checks.row_weights(weights, n, checks.compute_dtype(x))
    task = None if task is None else _task_columns(task, n, checks.compute_dtype(x))
    if z.dtype == bool:
        num_classes = 2 if z.ndim == 1 and num_classes is None else num_classes
        z = z.astype(jnp.int32)
    if jnp.issubdtype(z.dtype, jnp.floating) or z.ndim == 2:
        if num_classes is not None:
            raise ValueError(
                f"num_classes: only for integer labels of shape (n,); z is {z.dtype} {z.shape}"
            )
        if not jnp.issubdtype(z.dtype, jnp.number):
            raise TypeError(f"z: expected integers, booleans or floats, got {z.dtype}")
        return Dataset(x=x, z=z, task=task, weights=weights)
    if num_classes is None:
        num_classes = _count_classes(z, n)
    if num_classes < 2:
        raise ValueError(f"num_classes: expected at least 2, got {num_classes}")
    return Dataset(
        x=x, z=z.astype(jnp.int32), num_classes=int(num_classes), task=task, weights=weights
    )


def _task_columns(task: Any, n: int, dtype: Any) -> jax.Array:
    """Returns a task as columns (n, t): class labels one-hot, all else as it is.

    Raises:
      ValueError: it has not one entry a row, or holds class labels that are traced.
    """
    task = checks.as_array("task", task)
    if task.ndim not in (1, 2) or task.shape[0] != n:
        raise ValueError(f"task: expected ({n},) or ({n}, t), one entry a row, got {task.shape}")
    if task.ndim == 2 or jnp.issubdtype(task.dtype, jnp.floating):
        return task.reshape(n, -1).astype(dtype)
    if task.dtype == bool:
        return task[:, None].astype(dtype)
    return jax.nn.one_hot(task, _count_classes(task, n, name="task"), dtype=dtype)


def _count_classes(z: jax.Array, n: int, name: str = "z") -> int:
    """Returns 1 + the largest of concrete labels, at least 2.

    Raises:
      ValueError: the labels are traced, or larger than the number of rows allows.
    """
    if isinstance(z, Tracer) and name == "task":
        raise ValueError(
            "task: class labels must be concrete; under jit, vmap or grad give one-hot columns"
        )
    if isinstance(z, Tracer):
        raise ValueError(
            "num_classes: required for integer labels under jit, vmap or grad, where values are "
            "not known; pass num_classes=..., or a Dataset, which carries it"
        )
    count = max(int(np.asarray(z).max()) + 1, 2)
    if count > max(n, 2):
        raise ValueError(
            f"{name}: the largest label is {count - 1} but there are only {n} rows; labels should "
            "be 0, 1, ..., k - 1 (numpy.unique(z, return_inverse=True) makes them so)"
        )
    return count


def codes(data: Dataset, dtype: Any) -> tuple[jax.Array, jax.Array]:
    """Returns the concept as columns, (n, k), and a status word.

    Classes become one-hot columns; real concepts and binary labels stay as they are. Labels outside
    [0, num_classes), and binary labels other than 0 and 1, set LABEL_RANGE.
    """
    z = data.z
    if data.num_classes is not None:
        outside = (z < 0) | (z >= data.num_classes)
        columns = jax.nn.one_hot(z, data.num_classes, dtype=dtype)
    else:
        columns = (z[:, None] if z.ndim == 1 else z).astype(dtype)
        outside = jnp.zeros(z.shape[0], bool)
        if jnp.issubdtype(z.dtype, jnp.integer):
            outside = ((z < 0) | (z > 1)).any(axis=1)
    if data.weights is not None:
        outside &= data.weights != 0
    return columns, checks.flag(outside.any(), Status.LABEL_RANGE)


def centered(data: Dataset, center: jax.Array) -> Dataset:
    """Returns rows about a point, in its dtype; zeros where the weight is 0, whatever was there.

    A copy of the rows, for methods that pass over them many times.

    Args:
      data: rows.
      center: (d,).
    """
    x = data.x.astype(center.dtype) - center
    if data.weights is not None:
        x = jnp.where((data.weights != 0)[:, None], x, 0)
    return data.replace(x=x)  # pyright: ignore[reportAttributeAccessIssue]


def weigh_classes(data: Dataset, class_weights: Any) -> Dataset:
    """Returns rows whose weights are multiplied by one of their class.

    Args:
      data: rows with class labels.
      class_weights: (k,) floats >= 0, or "balanced" for the same total weight in every class.

    Raises:
      TypeError: the concept is not class labels.
      ValueError: class_weights is neither.
    """
    if not data.is_classes:
        raise TypeError(f"class_weights: expected class labels z, got {data.z.dtype}")
    dtype = checks.compute_dtype(data.x)
    members, _ = codes(data, dtype)
    weights = data.row_weights
    if isinstance(class_weights, str):
        checks.choice("class_weights", class_weights, ("balanced",))
        size = jnp.sum(jnp.where(weights[:, None] != 0, members * weights[:, None], 0), axis=0)
        factors = safe_reciprocal(size, size > 0) * jnp.sum(size) / jnp.sum(size > 0)
    else:
        factors = jnp.asarray(class_weights, dtype)
        if factors.shape != (members.shape[1],):
            raise ValueError(
                f"class_weights: expected one for each of {members.shape[1]} classes, got shape "
                f"{factors.shape}"
            )
    # A row of no class keeps its weight, and is found by whoever reads it.
    own = product("nk,k->n", members, factors) + (1 - jnp.sum(members, axis=1))
    weights = jnp.where(weights != 0, weights * own, 0)
    return data.replace(weights=weights)  # pyright: ignore[reportAttributeAccessIssue]
