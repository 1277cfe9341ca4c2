"""Labels from anybody's files: one concept, one entry a row."""

import dataclasses
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from erasejax._core.inputs import choice
from erasejax._core.text import show
from erasejax.files._arrays import open_array, read_array
from erasejax.files._features import open_features
from erasejax.files._sources import Source, not_text, parse
from erasejax.files._tables import is_list, open_table, values_of

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "Labels",
    "describe_classes",
    "read_classes",
    "read_groups",
    "read_labels",
    "read_labels_again",
    "read_task",
]


@dataclasses.dataclass(frozen=True)
class Labels:
    """One concept.

    Attributes:
      values: (n,) int32 in [0, k), or floats: (n,) for a real concept, (n,) or (n, t) for
        a task. Where labels may be missing, -1 or NaN is one that is.
      names: the k class names in the order of their numbers, or None for floats.
      source: the file they come from, as it was named.
      kind: what the file holds: "booleans", "integers", "text" or "floats".
    """

    values: np.ndarray
    names: tuple[str, ...] | None
    source: str = ""
    kind: str = ""

    @property
    def counts(self) -> tuple[int, ...]:
        """Rows of each class."""
        return tuple(int(c) for c in np.bincount(self.values, minlength=len(self.names or ())))

    def rows(self, start: int, stop: int) -> "Labels":
        """Returns those of some rows, with the classes that are there."""
        values = self.values[start:stop]
        if self.names is None:
            return dataclasses.replace(self, values=values)
        found, codes = np.unique(values, return_inverse=True)
        names = tuple(self.names[code] for code in found)
        return dataclasses.replace(self, values=codes.astype(np.int32), names=names)

    def among(self, names: tuple[str, ...] | None) -> "Labels":
        """Returns the same labels as numbers of other classes, which hold these."""
        if self.names is None or names is None:
            return self
        table = np.array([names.index(name) for name in self.names], np.int32)
        return dataclasses.replace(self, values=table[self.values], names=names)

    def block(self, start: int, rows: int) -> np.ndarray:
        """Returns entries from `start` on, padded with zeros to a length of `rows`."""
        part = self.values[start : start + rows]
        return np.pad(part, ((0, rows - len(part)),) + ((0, 0),) * (part.ndim - 1))

    def __str__(self) -> str:
        if self.names is None:
            return f"a real concept from {self.values.min():g} to {self.values.max():g}"
        return describe_classes(self.names, self.counts)


def united(labels: Labels, names: Sequence[str] | None) -> tuple[str, ...] | None:
    """Returns the classes of labels and some others, in the order that one file would give them."""
    if labels.names is None:
        return None
    order = int if labels.kind == "integers" else str
    return tuple(sorted({*labels.names, *(names or ())}, key=order))


def describe_classes(names: Sequence[str], counts: Sequence[int]) -> str:
    """Returns a text that says how many rows each class has."""
    shown = [f"{show(name)} ({count})" for name, count in zip(names, counts, strict=True)]
    more = f", and {len(shown) - 12} more" if len(shown) > 12 else ""
    return f"{len(shown)} classes, {', '.join(shown[:12])}{more}"


_KINDS = {"b": "booleans", "i": "integers", "u": "integers", "f": "floats"}


def read_labels(
    spec: str | os.PathLike[str],
    *,
    concept: str = "auto",
    several: bool = True,
    missing: bool = False,
) -> Labels:
    """Reads labels: (n,) or (n, 1) of an array file, or a column of a table.

    Integers, booleans and text are classes: the sorted different values become 0, 1, ..., k - 1.
    Floats with a fraction somewhere are a real concept. Floats that are all whole may be either,
    so "auto" refuses them.

    Args:
      spec: file, with a part where it has parts.
      concept: "auto"; "classes" also takes whole floats as classes; "real" takes any numbers as
        quantities.
      several: False takes also one class only, or a single value, or a class a row: of a file whose
        rows are among those of others.
      missing: whether labels may be missing: empty cells, nulls, NaN and empty text. An integer -1
        among 0, 1, ... may be one, or a class, and is refused.

    Returns:
      `Labels`.

    Raises:
      ValueError: the file is damaged, a label is missing, there is one class only, the values are
        not what `concept` asks for, or a class a row.
      FileNotFoundError: there is no such file.
      ModuleNotFoundError: reading tables needs pyarrow.
    """
    choice("concept", concept, ("auto", "classes", "real"))
    values = _values(spec, missing)
    if not missing:
        return _coded(spec, values, concept, several)
    there = _there(spec, values)
    held = values[there]
    if held.dtype.kind == "O" and not all(isinstance(value, str) for value in held):
        held = np.array(held.tolist())  # numbers from between nulls
    found = _coded(spec, held, concept, several)
    whole = np.full(len(values), -1 if found.names else np.nan, found.values.dtype)
    whole[there] = found.values
    return dataclasses.replace(found, values=whole)


def read_classes(spec: str | os.PathLike[str], concept: str = "auto") -> Labels:
    """Reads labels that must be classes.

    Args:
      spec: as in `read_labels`.
      concept: "auto"; "classes" also takes whole floats as classes.

    Returns:
      `Labels`.

    Raises:
      ValueError: as `read_labels`, or they are floats.
      FileNotFoundError: there is no such file.
      ModuleNotFoundError: reading tables needs pyarrow.
    """
    found = read_labels(spec, concept=concept)
    if found.names is not None:
        return found
    return read_labels(spec, concept="classes")  # which says why they are none


def _there(spec: str | os.PathLike[str], values: np.ndarray) -> np.ndarray:
    """Returns which labels are there.

    Raises:
      ValueError: there is an integer that may be a class or say that one is missing.
    """
    if values.dtype.kind == "f":
        return ~np.isnan(values)
    if values.dtype.kind == "O":
        return np.array([value is not None and value != "" for value in values], bool)
    if values.dtype.kind == "i" and (values == -1).any() and (values == 0).any():
        raise ValueError(
            f"{spec}: -1 among the labels 0, 1, ... may be a class, or a label that is missing; "
            "leave missing ones empty (NaN in an array of floats, and concept classes), or name "
            "the classes by words"
        )
    return np.ones(len(values), bool)


def _coded(spec: str | os.PathLike[str], values: np.ndarray, concept: str, several: bool) -> Labels:
    """Returns labels that are all there as `Labels`.

    Raises:
      ValueError: as `read_labels`.
    """
    if not len(values):
        raise ValueError(f"{spec}: holds no labels")
    if values.dtype.kind == "f":
        _check_finite(spec, values)
        values = _whole_or_real(spec, values, concept)
    elif concept == "real":
        if values.dtype.kind == "O":
            raise ValueError(f"{spec}: expected numbers for a real concept, got text")
        values = values.astype(np.float64)
    if values.dtype.kind == "f":
        if several and (values == values[0]).all():
            raise ValueError(f"{spec}: all {len(values)} labels are {values[0]:g}, nothing to read")
        return Labels(values, None, str(spec), _KINDS["f"])
    found, codes = np.unique(values, return_inverse=True)
    if several and len(found) == 1:
        raise ValueError(
            f"{spec}: one class only, all {len(values)} labels are {show(str(found[0]))}; "
            "expected at least two classes"
        )
    if several and len(found) == len(values) > 2:
        raise ValueError(
            f"{spec}: {len(values)} labels and all of them different; expected classes with "
            "several rows each (quantities: --concept real)"
        )
    names = tuple(str(value) for value in found)
    return Labels(codes.astype(np.int32), names, str(spec), _KINDS.get(values.dtype.kind, "text"))


def read_labels_again(spec: str | os.PathLike[str], names: Sequence[str] | None) -> Labels:
    """Reads labels of other rows, coded as those that an eraser was fitted to.

    One class only, or a single value, is no error here.

    Args:
      spec: as in `read_labels`.
      names: the class names of the fit, or None for a real concept.

    Returns:
      `Labels` with these names.

    Raises:
      ValueError: the file is damaged, a label is missing, or is none of the names.
      FileNotFoundError: there is no such file.
      ModuleNotFoundError: reading tables needs pyarrow.
    """
    values = _values(spec)
    if values.dtype.kind == "f":
        _check_finite(spec, values)
    if names is None:
        if values.dtype.kind == "O":
            raise ValueError(f"{spec}: expected numbers, as the eraser was fitted to, got text")
        return Labels(values.astype(np.float64), None, str(spec))
    if values.dtype.kind == "f":
        values = _whole_or_real(spec, values, "classes")
    found, codes = np.unique(values, return_inverse=True)
    known = {name: code for code, name in enumerate(names)}
    if unknown := [str(value) for value in found if str(value) not in known]:
        raise ValueError(
            f"{spec}: {show(unknown[0])} is no class that the eraser was fitted to; those are "
            f"{', '.join(map(show, names[:12]))}" + (", ..." if len(names) > 12 else "")
        )
    table = np.array([known[str(value)] for value in found], np.int32)
    return Labels(table[codes], tuple(names), str(spec))


def read_task(spec: str | os.PathLike[str], *, several: bool = True) -> Labels:
    """Reads a task, a second concept that should survive: as labels, or several columns of floats.

    Integers, booleans and text, one a row, are classes. Floats are quantities, whole or not; so is
    everything of shape (n, t), and several columns of a table.

    Args:
      spec: file, with a part where it has parts; columns of a table have commas between them.
      several: as in `read_labels`.

    Returns:
      `Labels`; values are (n, t) where there are several columns.

    Raises:
      ValueError: the file is damaged, a number is missing, there is one class only, or a class a
        row.
      FileNotFoundError: there is no such file.
      ModuleNotFoundError: reading tables needs pyarrow.
    """
    if _is_wide(spec):
        return Labels(open_features(spec).array(), None, str(spec), _KINDS["f"])
    values = _values(spec)
    if several and values.dtype.kind != "f" and len(np.unique(values)) == len(values) > 2:
        raise ValueError(
            f"{spec}: {len(values)} entries and all of them different; expected classes with "
            "several rows each, or floats for quantities"
        )
    concept = "real" if values.dtype.kind == "f" else "classes"
    return read_labels(spec, concept=concept, several=several)


def read_groups(spec: str | os.PathLike[str]) -> Labels:
    """Reads which rows belong together: one id a row, integers or text, whole floats too.

    Args:
      spec: file, with a part where it has parts, as in `read_labels`.

    Returns:
      `Labels`, whose classes are the groups; one alone, or one a row, is no error here.

    Raises:
      ValueError: the file is damaged, an id is missing, or is a fraction.
      FileNotFoundError: there is no such file.
      ModuleNotFoundError: reading tables needs pyarrow.
    """
    values = _values(spec)
    if not len(values):
        raise ValueError(f"{spec}: holds no groups")
    if values.dtype.kind == "f":
        _check_finite(spec, values)
        if (values != np.round(values)).any():
            raise ValueError(
                f"{spec}: expected groups as integers or text, got floats such as "
                f"{values[np.argmax(values != np.round(values))]:g}"
            )
    found, codes = np.unique(values, return_inverse=True)
    return Labels(codes.astype(np.int32), tuple(str(value) for value in found), str(spec))


def _is_wide(spec: str | os.PathLike[str]) -> bool:
    """Returns whether a file holds several columns of numbers."""
    source = parse(spec)
    if not source.format.is_table:
        shape = open_array(source).shape
        return len(shape) == 2 and shape[1] != 1
    table = open_table(source)
    if source.part is None:
        return False
    names = table.choose(source.part)
    return len(names) != 1 or is_list(table.types[names[0]])


def _check_finite(spec: str | os.PathLike[str], values: np.ndarray) -> None:
    """Checks floats.

    Raises:
      ValueError: some are NaN or infinite.
    """
    finite = np.isfinite(values)
    if not finite.all():
        raise ValueError(
            f"{spec}: {np.sum(~finite)} of {len(values)} labels are NaN or infinite, the first "
            f"in row {np.argmin(finite)}, counted from 0"
        )


def _values(spec: str | os.PathLike[str], missing: bool = False) -> np.ndarray:
    """Returns labels as they are: booleans, integers, float64, or str objects, (n,).

    Args:
      spec: as in `read_labels`.
      missing: whether columns of tables may have nulls; such columns are float64 or objects.

    Raises:
      ValueError: they are something else.
    """
    source = parse(spec)
    if source.format.is_table:
        table = open_table(source)
        names = table.columns if source.part is None else table.choose(source.part)
        if len(names) != 1:
            raise ValueError(
                f"{source}: has {len(names)} columns; name the labels' as "
                f"{source.path}:{list(table.types)[-1]}"
            )
        return _column(source, names[0], table.column(names[0]), missing)
    array = read_array(source)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise ValueError(f"{spec}: expected one label a row, shape (n,), got {array.shape}")
    match array.dtype.kind:
        case "b" | "i" | "u":
            return np.asarray(array)
        case "f":
            return np.asarray(array, np.float64)
        case "U":
            return array.astype(object)
        case "S":
            encoding = source.encoding or "utf-8"
            return np.char.decode(array, encoding, "backslashreplace").astype(object)
    if array.dtype.name == "bfloat16":
        return np.asarray(array, np.float64)
    raise ValueError(f"{spec}: expected integers, booleans, floats or text, got {array.dtype}")


def _column(source: Source, name: str, column: "pa.Array", missing: bool = False) -> np.ndarray:
    """Returns a column of a table as labels, None or NaN where `missing` ones are null.

    Raises:
      ValueError: entries are missing, or are no labels.
    """
    import pyarrow as pa

    if pa.types.is_nested(column.type):
        raise ValueError(f"{source}: expected one label a row, column {name!r} holds {column.type}")
    if column.null_count and missing:
        there = np.asarray(column.is_valid())
        found = _column(source, name, column.drop_null())
        real = found.dtype.kind == "f"
        whole = np.full(len(there), np.nan if real else None, found.dtype if real else object)
        whole[there] = found
        return whole
    if column.null_count:
        row = int(np.argmax(column.is_null().to_numpy(zero_copy_only=False)))
        hint = "; a class of such a name stands in quotes" if source.format.is_text else ""
        raise ValueError(
            f"{source}: {column.null_count} of {len(column)} labels are missing (empty, NA or null"
            f"{hint}), the first in row {row}, counted from 0; fill them, or remove the rows"
        )
    if pa.types.is_boolean(column.type):
        return values_of(column.cast(pa.uint8())).astype(bool)
    if pa.types.is_integer(column.type):
        return values_of(column)
    if pa.types.is_floating(column.type) or pa.types.is_decimal(column.type):
        return values_of(column.cast(pa.float64()))
    if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
        try:
            text = [value.decode(source.encoding or "utf-8") for value in column.to_pylist()]
        except UnicodeDecodeError:
            raise ValueError(not_text(source, f"column {name!r}")) from None
        return np.array(text, object)
    return np.array(column.cast(pa.string()).to_pylist(), object)


def _whole_or_real(spec: str | os.PathLike[str], values: np.ndarray, concept: str) -> np.ndarray:
    """Returns float labels as float64 quantities or as integers for classes.

    Raises:
      ValueError: they are not what `concept` asks for, or could be either.
    """
    if concept == "real":
        return values
    whole = values == np.round(values)
    if not whole.all():
        if concept == "auto":
            return values
        raise ValueError(
            f"{spec}: expected class labels (integers, booleans or text), got floats such as "
            f"{values[np.argmin(whole)]:g}"
        )
    if concept == "auto":
        raise ValueError(
            f"{spec}: the labels are floats and all whole, such as {values[0]:g}; say whether they "
            "are classes (--concept classes) or quantities (--concept real)"
        )
    if np.abs(values).max() >= 2**53:
        raise ValueError(
            f"{spec}: labels as large as {np.abs(values).max():g} are not exact as floats; write "
            "them as integers or text"
        )
    return values.astype(np.int64)
