"""What rows of yours are given as, held to what it should be."""

from typing import Any

import jax
import numpy as np

from erasejax._core import inputs
from erasejax._core.foreign import as_jax_or_numpy
from erasejax._core.types import Given
from erasejax.datasets._splitting import PARTS, Column
from erasejax.rows import as_dataset, number_groups

__all__ = ["MISSING", "checked", "there_in"]

MISSING = -1  # a label


def there_in(values: np.ndarray) -> np.ndarray:
    """Returns which rows have a value in each column, (n,) bool."""
    found = ~np.isnan(values) if values.dtype.kind == "f" else values != MISSING
    return np.all(found.reshape(len(values), -1), axis=1)


def checked(
    x: Given,
    z: Given,
    groups: Given | None = None,
    task: Given | None = None,
    weights: Given | None = None,
    layer: int | None = None,
    title: str = "",
    shares: tuple[int, ...] = (1,) * PARTS,
    bootstrap: bool = False,
    decided: bool = False,
) -> dict[str, Any]:
    """Returns the fields of `Rows`, each of what it should be.

    Args:
      x: see `Rows`, and so all but `decided`.
      z: see x.
      groups: see x.
      task: see x.
      weights: see x.
      layer: see x.
      title: see x.
      shares: see x.
      bootstrap: see x.
      decided: whether it is settled that floats are real concepts.

    Raises:
      TypeError: as `Rows`.
      ValueError: as `Rows`.
    """
    found = inputs.features("x", x, ndim=None)
    found = found.astype(jax.dtypes.canonicalize_dtype(float))
    n = _count(found.shape, layer)
    z_ = _labels("z", z, n)
    columns = None if task is None else _labels("task", task, n)
    own = None
    if weights is not None:
        own = np.asarray(as_jax_or_numpy("weights", weights), np.float64)
        if own.shape != (n,) or not np.isfinite(own).all() or (own < 0).any():
            raise ValueError(f"weights: expected ({n},) finite numbers >= 0, one a row of x")
    there = there_in(z_)
    if there.any():  # none at all is said by the split
        as_dataset(np.zeros((int(there.sum()), 1), np.float32), z_[there], decided=decided)
    shares = tuple(shares)
    if len(shares) != PARTS or any(type(s) is not int or s < 1 for s in shares):
        raise ValueError(f"shares: expected {PARTS} whole numbers of at least 1, got {shares}")
    if bootstrap and len({*shares}) > 1:
        raise ValueError("shares: a bootstrap has none; leave shares or bootstrap out")
    return {
        "x": found,
        "z": Column(z_),
        "groups": None if groups is None else Column(_numbered(groups, n)),
        "task": None if columns is None else Column(_task_columns(columns)),
        "weights": None if own is None else Column(own),
        "layer": layer,
        "title": str(title),
        "shares": shares,
        "bootstrap": bool(bootstrap),
    }


def _count(shape: tuple[int, ...], layer: int | None) -> int:
    """Returns how many rows there are.

    Raises:
      ValueError: the axes are not those of rows, or there is no such layer.
    """
    if len(shape) == 2 and layer is None:
        return shape[0]
    if len(shape) != 3:
        extra = "" if layer is None else f" and layer {layer}"
        raise ValueError(
            "x: expected (rows, features), or (layers, rows, features) and a layer; got shape "
            f"{shape}{extra}"
        )
    if type(layer) is not int or not 0 <= layer < shape[0]:
        raise ValueError(
            f"layer: expected 0 to {shape[0] - 1}, one of the layers of x {shape}, got {layer}"
        )
    return shape[1]


def _labels(name: str, values: Given, n: int) -> np.ndarray:
    """Returns labels or quantities, one or several a row: int32 from -1 on, or float64.

    Raises:
      TypeError: they are no numbers.
      ValueError: there is not one a row, or one is no label.
    """
    found = np.asarray(as_jax_or_numpy(name, values))
    if found.ndim not in (1, 2) or len(found) != n:
        raise ValueError(f"{name}: expected ({n},) or ({n}, k), one a row of x, got {found.shape}")
    if found.dtype.kind in "biu":
        found = found.astype(np.int64)
        if found.size and found.min() < MISSING:
            raise ValueError(
                f"{name}: expected labels 0, 1, ..., or -1 where one is missing; got {found.min()}"
            )
        return found.astype(np.int32)
    found = found.astype(np.float64)
    if np.isinf(found).any():
        raise ValueError(f"{name}: expected finite numbers, or NaN where one is missing; got inf")
    return found


def _numbered(groups: Given, n: int) -> np.ndarray:
    """Returns groups as numbers, (n,) int32, in the order in which they occur, whatever their ids.

    Raises:
      TypeError: ids are neither integers nor text.
      ValueError: there is not one a row.
    """
    _, first, of = np.unique(number_groups(groups, n), return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[of].astype(np.int32)


def _task_columns(task: np.ndarray) -> np.ndarray:
    """Returns a task as columns of floats, (n, t), NaN where it is missing.

    Two classes are one column of 0 and 1, more are one-hot.
    """
    there = there_in(task)
    if task.dtype.kind != "f" and task.ndim == 1:
        count = int(task.max()) + 1
        columns = task[:, None] if count <= 2 else task[:, None] == np.arange(count)
    else:
        columns = task.reshape(len(task), -1)
    return np.where(there[:, None], columns, np.nan)
