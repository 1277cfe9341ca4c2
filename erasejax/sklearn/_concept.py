"""What columns of anybody's labels and numbers are taken for, and how they are coded."""

from collections.abc import Hashable, Iterator
from typing import Any

import numpy as np

__all__ = ["coded"]


def coded(name: str, given: Any) -> tuple[np.ndarray, list[str]]:
    """Returns a concept as methods take it, and what each column of it is.

    Args:
      name: of the argument, for messages.
      given: (n,) or (n, k): a data frame, an array, or lists.

    Returns:
      Of one column of labels their numbers (n,), of one of quantities these, (n,) float64. Of
      several, labels one-hot coded and quantities side by side: integers if all are labels, else
      floats. And the names of the coded columns, such as "sex=f" or "age".

    Raises:
      TypeError: a column is neither labels nor numbers.
      ValueError: it has another number of axes, or values are missing or infinite.
    """
    columns = [(label, *_column(label, values)) for label, values in _columns(name, given)]
    parts: list[np.ndarray] = []
    names: list[str] = []
    for label, values, classes in columns:
        if classes is None:
            names.append(label)
        else:
            names += [f"{label}={one}" for one in classes]
            if len(columns) > 1:
                values = np.equal.outer(values, np.arange(len(classes))).astype(np.int32)
        parts.append(values)
    return parts[0] if len(parts) == 1 else np.column_stack(parts), names


def _columns(name: str, given: Any) -> Iterator[tuple[str, Any]]:
    """Yields (name, values) of each column.

    Raises:
      ValueError: it has another number of axes than one or two, or no columns.
    """
    if hasattr(given, "columns") and len(given.columns):
        for label in given.columns:
            yield str(label), given[label]
        return
    # numpy makes text of lists that hold some, and "nan" of what is missing there.
    values = np.asanyarray(given, None if hasattr(given, "__array__") else object)
    if values.ndim == 1:
        label = getattr(given, "name", None)
        yield name if label is None else str(label), given if hasattr(given, "dtype") else values
    elif values.ndim == 2 and values.shape[1]:
        for j in range(values.shape[1]):
            yield f"{name}[{j}]", values[:, j]
    else:
        raise ValueError(
            f"{name}: expected one entry a row, (n,), or columns, (n, k), got shape {values.shape}"
        )


def _column(name: str, column: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """Returns the numbers of labels (n,) and their classes, or quantities (n,) float64 and None.

    Raises:
      TypeError: they are neither.
      ValueError: there are several values a row, or some are missing or infinite.
    """
    values = np.asanyarray(column)
    if values.ndim != 1:
        raise ValueError(f"{name}: expected one value a row, got shape {values.shape}")
    if values.dtype.kind not in "biufOUST":
        raise TypeError(f"{name}: expected labels or numbers, got {values.dtype}")
    categories = str(getattr(column, "dtype", "")) == "category"
    values = values.astype(object) if values.dtype.kind == "T" else values
    gone = np.ma.getmaskarray(values) | _missing(values)
    if gone.any():
        raise ValueError(
            f"{name}: {gone.sum()} of {len(gone)} values are missing, the first in row "
            f"{gone.argmax()}, counted from 0; fill them, or leave these rows out"
        )
    if values.dtype.kind == "O":
        values = _objects(name, values)
    if values.dtype.kind == "f" and not categories:
        if not np.isfinite(values).all():
            raise ValueError(f"{name}: expected finite numbers, got infinity")
        return values.astype(np.float64), None
    classes, numbers = np.unique(values, return_inverse=True)
    return numbers, classes


def _missing(values: np.ndarray) -> np.ndarray:
    """Returns which values (n,) are NaN, None, or the like of other packages, bool."""
    if values.dtype.kind == "f":
        return np.isnan(values)
    if values.dtype.kind != "O":
        return np.zeros(len(values), bool)
    return np.array([_is_missing(value) for value in values.tolist()], bool)


def _is_missing(value: object) -> bool:
    same = value == value  # NaN and NaT do not equal themselves, and pandas.NA cannot tell
    return value is None or not isinstance(same, bool | np.bool_) or not same


def _objects(name: str, values: np.ndarray) -> np.ndarray:
    """Returns objects as numbers if all are numbers, and else as text.

    Raises:
      TypeError: they are of several kinds, or of one that cannot name a class.
    """
    found = values.tolist()
    if all(
        isinstance(one, bool | int | float | np.integer | np.floating | np.bool_) for one in found
    ):
        return np.array(found)
    kinds = {"str" if isinstance(one, str) else type(one).__name__ for one in found}
    if len(kinds) > 1 or not all(isinstance(one, Hashable) for one in found):
        raise TypeError(
            f"{name}: expected numbers or labels of one kind, got {', '.join(sorted(kinds))}; pass "
            "all as text, such as .astype(str)"
        )
    return values.astype(str)
