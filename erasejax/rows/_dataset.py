"""Labelled rows, and how a concept becomes columns of numbers.

`as_dataset` is the one place where features, concepts and weights are checked and coerced.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, Int, UInt32

from erasejax._core import inputs
from erasejax._core.foreign import as_jax_or_numpy
from erasejax._core.pytrees import Tree, static
from erasejax._core.status import Status, flag
from erasejax._core.types import DTypeLike, Given
from erasejax._core.warn import warn
from erasejax._linalg.products import product, safe_reciprocal

__all__ = ["Dataset", "centered", "leading", "reweighted", "weigh_classes"]


@struct.dataclass
class _Room(Tree):
    """How many rows there are in a buffer that has room for more, see `erasejax.rows._room`.

    Attributes:
      filled: () int32, how many of the leading rows there are; all others have weight 0.
      plain: static; whether these have weight 1, so that weights say nothing else.
      few: static; whether there are fewer of them than features.
    """

    filled: Int[Array, ""]
    plain: bool = static()
    few: bool = static()


@struct.dataclass
class Dataset(Tree):
    """Rows of features, each with its value of a concept.

    Fields are changed by `data.replace(...)`. `dataclasses.replace` would keep what is known of the
    old weights.

    Attributes:
      x: (n, d) float features.
      z: the concept: (n,) integers are class labels in [0, num_classes); (n,) or (n, k) floats are
        real values; (n, k) integers are k binary labels.
      num_classes: static number of classes, or None where z is not one class label a row.
      task: (n,) or (n, t), a second concept that should survive erasure, or None.
      weights: (n,) row weights >= 0, or None for all equal. Rows of weight 0 are never read.
      room: set where the last rows are room for more, of weight 0, as eager calls make it.

    Example:
      >>> data = ej.Dataset(x=jnp.ones((6, 2)), z=jnp.array([0, 0, 0, 1, 1, 1]), num_classes=2)
      >>> data.is_classes, data.row_weights.shape
      (True, (6,))
    """

    x: Float[Array, "n d"]
    z: Int[Array, " n *k"] | Float[Array, " n *k"]
    num_classes: int | None = static(None)
    task: Float[Array, " n *t"] | Int[Array, " n *t"] | None = None
    weights: Float[Array, " n"] | None = None
    room: _Room | None = None

    @property
    def is_classes(self) -> bool:
        """Whether z is one class label a row."""
        return self.num_classes is not None

    @property
    def row_weights(self) -> Float[Array, " n"]:
        """(n,) weights; ones where there are none."""
        if self.weights is None:
            return jnp.ones(self.x.shape[0], inputs.compute_dtype(self.x))
        return self.weights

    @property
    def own_weights(self) -> Float[Array, " n"] | None:
        """(n,) weights that rows were given, None for all equal, whatever room there is."""
        return None if self.room is not None and self.room.plain else self.weights

    @property
    def seen(self) -> Bool[Array, " n"] | None:
        """(n,) bool, which rows are read; None for all. A NaN weight counts as seen."""
        return None if self.weights is None else self.weights != 0

    @property
    def filled(self) -> Int[Array, ""] | None:
        """() how many of the leading rows there are, where passes over rows end; None for all."""
        return None if self.room is None else self.room.filled


def _replaced(self: Dataset, **changes: object) -> Dataset:
    """Returns a copy with some fields changed.

    Whoever changes the weights may have moved the rows, too: then nothing is known of the last.
    """
    if "weights" in changes:
        changes.setdefault("room", None)
    return dataclasses.replace(self, **changes)  # pyright: ignore[reportArgumentType]


Dataset.replace = _replaced  # flax writes its own over one of the class


def as_dataset(
    x: Given | Dataset,
    z: Given | None = None,
    *,
    weights: Given | None = None,
    num_classes: int | None = None,
    task: Given | None = None,
    decided: bool = False,
) -> Dataset:
    """Checks and coerces what `fit` is given into a `Dataset`.

    Args:
      x: (n, d) floats, or a `Dataset`, and then z is left out.
      z: (n,) or (n, k), see `Dataset`; booleans (n,) are two classes.
      weights: (n,) or None.
      num_classes: number of classes of integer labels; counted where it is None and z is concrete.
      task: a second concept, (n,) or (n, t), or None.
      decided: whether it is settled that floats are real concepts, by what z is read with.

    Returns:
      A `Dataset` of JAX arrays that later changes of the arguments do not reach, labels as int32,
      the task as float columns (n, t).

    Raises:
      TypeError: x is not floating point, or z is missing or not numeric.
      ValueError: shapes do not match, the number of classes is missing or makes no sense, or
        concrete integers are no labels.

    Warns:
      UserWarning: concrete z are floats that are all whole numbers.
    """
    room = None
    if isinstance(x, Dataset):
        room = x.room if weights is None else None
        if z is not None:
            raise TypeError("z: a Dataset brings its own concept; leave z out")
        weights = x.weights if weights is None else weights
        num_classes = x.num_classes if num_classes is None else num_classes
        task, x, z, decided = x.task if task is None else task, x.x, x.z, True
    elif z is None:
        raise TypeError("z: missing; give the concept, one entry a row, or a Dataset")
    x = inputs.features("x", x)
    z = as_jax_or_numpy("z", z)
    n = x.shape[0]
    if z.ndim not in (1, 2) or z.shape[0] != n:
        raise ValueError(
            f"z: expected shape ({n},) or ({n}, k) to match x {x.shape}, got {z.shape}"
        )
    real = jnp.issubdtype(z.dtype, jnp.floating)
    if not (real or z.dtype == bool or jnp.issubdtype(z.dtype, jnp.integer)):
        raise TypeError(f"z: expected integers, booleans or floats, got {z.dtype}")
    weights = inputs.row_weights(weights, n, inputs.compute_dtype(x))
    task = None if task is None else _task_columns(task, n, inputs.compute_dtype(x))
    if real or z.ndim == 2:
        if num_classes is not None:
            raise ValueError(
                "num_classes: only for integer labels of shape (n,); z is " + describe_concept(z)
            )
        if not real:
            _check_binary("z", z)
        elif not decided:
            _warn_of_whole_numbers(z)
        z = inputs.as_array("z", z)
        z = z.astype(jnp.int32) if z.dtype == bool else z
        return Dataset(x=x, z=z, task=task, weights=weights, room=room)
    if num_classes is None:
        num_classes = 2 if z.dtype == bool else _count_classes(z, n)
    if num_classes < 2:
        raise ValueError(f"num_classes: expected at least 2, got {num_classes}")
    return Dataset(
        x=x,
        z=inputs.as_labels("z", z),
        num_classes=int(num_classes),
        task=task,
        weights=weights,
        room=room,
    )


def describe_concept(z: jax.Array | np.ndarray) -> str:
    """Returns the dtype and shape of a concept that is not class labels, and how to make it so."""
    if jnp.issubdtype(z.dtype, jnp.floating):
        return f"{z.dtype} {z.shape}; pass integers, such as z.astype(int)"
    return f"{z.dtype} {z.shape}" + ("; pass z[:, 0]" if z.shape[1:] == (1,) else "")


def class_labels(z: Given) -> jax.Array | np.ndarray:
    """Returns z as a JAX or numpy array if it is one class label a row.

    Raises:
      TypeError: it is not.
    """
    z = as_jax_or_numpy("z", z)
    if z.ndim != 1 or jnp.issubdtype(z.dtype, jnp.floating):
        raise TypeError(f"z: expected class labels, integers (n,), got {describe_concept(z)}")
    return z


def _check_binary(name: str, z: jax.Array | np.ndarray) -> None:
    """Checks that one column of concrete integers holds binary labels.

    What several columns hold is for the status to say.

    Raises:
      ValueError: it does not.
    """
    values = inputs.known_values(z) if z.shape[1] == 1 else None
    if values is None or (values.min() >= 0 and values.max() <= 1):
        return
    raise ValueError(
        f"{name}: expected binary labels, 0 or 1, in integers of shape {z.shape}, got values from "
        f"{values.min()} to {values.max()}; for class labels pass {name}[:, 0], for quantities "
        "floats"
    )


def _warn_of_whole_numbers(z: jax.Array | np.ndarray) -> None:
    """Warns of concrete floats that are all whole numbers: they are taken for quantities."""
    values = inputs.known_values(z)
    if values is None:
        return
    found = values[np.isfinite(values)]
    if found.size and (found == np.floor(found)).all():
        warn(
            f"z: {z.dtype} {z.shape} of whole numbers is taken for quantities; for class labels "
            "pass integers, such as z.astype(int)"
        )


def _task_columns(task: Given, n: int, dtype: DTypeLike) -> jax.Array:
    """Returns a task as columns (n, t): class labels one-hot, all else as it is.

    Raises:
      ValueError: it has not one entry a row, or holds class labels that are traced.
    """
    task = as_jax_or_numpy("task", task)
    if task.ndim not in (1, 2) or task.shape[0] != n:
        raise ValueError(f"task: expected ({n},) or ({n}, t), one entry a row, got {task.shape}")
    if task.ndim == 1 and jnp.issubdtype(task.dtype, jnp.integer):
        count = _count_classes(task, n, name="task")
        return jax.nn.one_hot(inputs.as_labels("task", task), count, dtype=dtype)
    if jnp.issubdtype(task.dtype, jnp.integer):
        _check_binary("task", task)
    columns = task if task.ndim == 2 else task.reshape(n, 1)
    return inputs.as_array("task", columns, dtype)


def _count_classes(z: jax.Array | np.ndarray, n: int, name: str = "z") -> int:
    """Returns 1 + the largest of concrete labels, at least 2.

    Raises:
      ValueError: the labels are traced, or larger than the number of rows allows.
    """
    values = inputs.known_values(z)
    if values is None and name == "task":
        raise ValueError(
            "task: class labels must be concrete; under jit, vmap or grad give one-hot columns"
        )
    if values is None:
        raise ValueError(
            "num_classes: required for integer labels under jit, vmap or grad, where values are "
            "not known; pass num_classes=..., or a Dataset, which carries it"
        )
    count = max(int(values.max()) + 1, 2)
    if count > max(n, 2):
        raise ValueError(
            f"{name}: the largest label is {count - 1} but there are only {n} rows; labels should "
            "be 0, 1, ..., k - 1 (numpy.unique(z, return_inverse=True) makes them so)"
        )
    return count


def codes(data: Dataset, dtype: DTypeLike) -> tuple[Float[Array, "n k"], UInt32[Array, ""]]:
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
    if data.seen is not None:
        outside &= data.seen
    return columns, flag(outside.any(), Status.LABEL_RANGE)


def centered(data: Dataset, center: Float[Array, " d"]) -> Dataset:
    """Returns rows about a point, in its dtype; zeros where the weight is 0, whatever was there.

    A copy of the rows, for what passes over them many times.

    Args:
      data: rows.
      center: (d,).
    """
    x = data.x.astype(center.dtype) - center
    if data.seen is not None:
        x = jnp.where(data.seen[:, None], x, 0)
    return data.replace(x=x)


def reweighted(data: Dataset, weights: Float[Array, " n"]) -> Dataset:
    """Returns the same rows with other weights (n,), 0 where they were 0."""
    room = None if data.room is None else data.room.replace(plain=False)
    return data.replace(weights=weights, room=room)


def leading(data: Dataset, count: jax.Array, most: int) -> Dataset:
    """Returns the first `count` () of the first `most` rows: the others of those get weight 0.

    Passes end before them where the rows have room.
    """
    weights = jnp.where(jnp.arange(most) < count, data.row_weights[:most], 0)
    room = data.room
    if room is not None:
        room = room.replace(filled=jnp.minimum(count, room.filled))
    x, z, task = jax.tree.map(lambda rows: rows[:most], (data.x, data.z, data.task))
    return data.replace(x=x, z=z, task=task, weights=weights, room=room)


def weigh_classes(data: Dataset, class_weights: Given | str) -> Dataset:
    """Returns rows whose weights are multiplied by one of their class.

    Args:
      data: rows with class labels.
      class_weights: (k,) floats >= 0, or "balanced" for the same total weight in every class.

    Raises:
      TypeError: the concept is not class labels.
      ValueError: class_weights is neither.
    """
    if not data.is_classes:
        raise TypeError(f"class_weights: expected class labels z, got {describe_concept(data.z)}")
    dtype = inputs.compute_dtype(data.x)
    members, _ = codes(data, dtype)
    weights = data.row_weights
    if isinstance(class_weights, str):
        inputs.choice("class_weights", class_weights, ("balanced",))
        size = jnp.sum(jnp.where(weights[:, None] != 0, members * weights[:, None], 0), axis=0)
        factors = safe_reciprocal(size, size > 0) * jnp.sum(size) / jnp.sum(size > 0)
    else:
        factors = inputs.as_array("class_weights", class_weights, dtype)
        if factors.shape != (members.shape[1],):
            raise ValueError(
                f"class_weights: expected one for each of {members.shape[1]} classes, got shape "
                f"{factors.shape}"
            )
    # A row of no class keeps its weight, and is found by whoever reads it.
    own = product("nk,k->n", members, factors) + (1 - jnp.sum(members, axis=1))
    weights = jnp.where(weights != 0, weights * own, 0)
    return reweighted(data, weights)
