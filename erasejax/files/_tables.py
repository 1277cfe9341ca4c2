"""Tables with named columns, as batches of pyarrow."""

import dataclasses
import functools
import json
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import numpy as np

from erasejax._core.extras import require
from erasejax._core.text import show
from erasejax.files._memory import check_memory
from erasejax.files._sources import MessageError, Source, not_text, parse, readable

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "INDEX",
    "Table",
    "batch_of",
    "is_list",
    "open_table",
    "same_table_columns",
    "schema_of",
    "values_of",
]


INDEX = "__index_level_0__"  # as pandas calls an index without a name


@dataclasses.dataclass(frozen=True)
class Table:
    """A table that is read when asked for.

    Attributes:
      source: the file.
      schema: pyarrow schema: the name and the type of each column.
      rows: number of rows.
      read: read(columns, rows) iterates over pyarrow record batches of at most so many rows.
      index: columns that are an index of pandas: taken where they are named, and only there.
    """

    source: Source
    schema: "pa.Schema"
    rows: int
    read: Callable[[list[str], int], "Iterator[pa.RecordBatch]"]
    index: tuple[str, ...] = ()

    @functools.cached_property
    def types(self) -> "dict[str, pa.DataType]":
        """Pyarrow type of each column, by name."""
        return dict(zip(self.schema.names, self.schema.types, strict=True))

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns that are no index."""
        return tuple(name for name in self.types if name not in self.index)

    def batches(self, columns: list[str], rows: int) -> "Iterator[pa.RecordBatch]":
        """Yields columns as pyarrow record batches.

        Raises:
          MessageError: the file is damaged.
        """
        with readable(self.source):
            yield from self.read(columns, rows)

    def choose(self, part: str, *, aside: Collection[str] = ()) -> tuple[str, ...]:
        """Returns the columns that a part names: names and patterns with commas between them.

        A pattern has `*`, `?` or `[...]` as in file names, and means the columns that it matches,
        but for an index.

        Args:
          part: such as "a", "a,b", "f*,a".
          aside: columns that no pattern means.

        Raises:
          ValueError: there is no such column, or one is named twice.
        """
        if part in self.types:
            return (part,)
        chosen: list[str] = []
        named: list[str] = []
        for word in part.split(","):
            found = self._find(word)
            if found is not None:
                named.append(found)
                chosen.append(found)
            elif any(sign in word for sign in "*?["):
                names = [n for n in self.columns if fnmatchcase(n, word.strip())]
                if not names:
                    raise ValueError(self._unknown(f"no column that {word.strip()!r} matches"))
                chosen += [name for name in names if name not in aside]
            else:
                raise ValueError(self._unknown(f"no column {word!r}"))
        if len(set(named)) < len(named):
            raise ValueError(f"{self.source}: a column is named twice")
        return tuple(dict.fromkeys(chosen))

    def require(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Returns the columns of these names, as the table has them.

        Raises:
          ValueError: there are none.
        """
        found = [self._find(name) for name in names]
        if None in found:
            raise ValueError(self._unknown(f"no column {names[found.index(None)]!r}"))
        return tuple(name for name in found if name is not None)

    def _find(self, name: str) -> str | None:
        """Returns a column by its name, with or without spaces around it."""
        return next((n for n in (name, name.strip()) if n in self.types), None)

    def _unknown(self, what: str) -> str:
        known = ", ".join(map(show, list(self.types)[:8])) + (
            ", ..." if len(self.types) > 8 else ""
        )
        return f"{self.source.path}: has {what}; it has {known}"

    def matrix(self, names: tuple[str, ...]) -> tuple[np.dtype, int]:
        """Returns the dtype and the width of columns read as one matrix.

        Raises:
          ValueError: a column does not hold numbers.
        """
        import pyarrow as pa

        kind = self.types[names[0]]
        if len(names) == 1 and (is_list(kind) or _is_text(kind) and self._holds_lists(names[0])):
            inner = pa.float64() if _is_text(kind) else kind.value_type
            if is_list(kind) and _is_text(inner):
                raise ValueError(
                    f"{self.source}: column {names[0]!r} holds lists of text; expected one list of "
                    "numbers a row"
                )
            if is_list(inner):
                raise ValueError(
                    f"{self.source}: column {names[0]!r} holds lists of lists; expected one list "
                    "of numbers a row"
                )
            if pa.types.is_fixed_size_list(kind):
                return self._number(names[0], inner), kind.list_size
            first = self._lists_of(names[0], self._first(names[0], 1), 0)
            return self._number(names[0], inner), len(first[0].as_py() or ())
        dtypes = [self._number(name, self.types[name]) for name in names]
        return np.result_type(*set(dtypes)), len(names)

    def integers(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Returns the columns of integers, if there are columns of floats beside them."""
        import pyarrow as pa

        if not any(pa.types.is_floating(self.types[name]) for name in names):
            return ()
        return tuple(name for name in names if pa.types.is_integer(self.types[name]))

    def _first(self, name: str, rows: int) -> "pa.Array":
        """Returns the first entries of a column."""
        return next(b for b in self.batches([name], rows) if b.num_rows).column(name)

    def _holds_lists(self, name: str) -> bool:
        """Returns whether a column of text begins like lists of numbers."""
        first = next((v for v in self._first(name, 1024).to_pylist() if v is not None), "")
        return first.lstrip().startswith("[")

    def _number(self, name: str, kind: "pa.DataType") -> np.dtype:
        """Returns the float dtype that holds a column of numbers.

        Raises:
          ValueError: it holds something else.
        """
        import pyarrow as pa

        if pa.types.is_float16(kind):
            return np.dtype(np.float16)
        if pa.types.is_float64(kind) or pa.types.is_decimal(kind):
            return np.dtype(np.float64)
        if pa.types.is_integer(kind) and kind.bit_width >= 32:  # float32 ends at 2^24
            return np.dtype(np.float64)
        is_number = pa.types.is_floating(kind) or pa.types.is_integer(kind)
        if is_number or pa.types.is_boolean(kind) or pa.types.is_null(kind):
            return np.dtype(np.float32)
        if self.source.format.is_text and pa.types.is_binary(kind):
            raise ValueError(not_text(self.source, f"column {name!r}"))
        what = show(str(kind))
        if _is_text(kind):
            what = "lists written as text" if self._holds_lists(name) else self._text(name)
        if is_list(kind) or what.startswith("lists"):
            raise ValueError(
                f"{self.source}: column {name!r} holds {what}; to use a column of lists as "
                f"features, name it alone: {self.source.path}:{name}"
            )
        raise ValueError(
            f"{self.source}: column {name!r} holds {what}, features must be numbers; leave it out, "
            f"--drop {show(name)}, name the columns to use, {self.source.path}:a,b, or the labels' "
            "column as the labels"
        )

    def _text(self, name: str) -> str:
        """Returns what a column of text holds, with the first entry that is no number."""
        for row, entry in enumerate(self._first(name, 65536).to_pylist()):
            try:
                float(entry or 0)
            except ValueError:
                return f"text, such as {_short(entry)} in row {row}"
        return "text"

    def blocks(self, names: tuple[str, ...], rows: int) -> Iterator[np.ndarray]:
        """Yields columns as (m, d) matrices of at most `rows` rows; missing numbers are NaN.

        Raises:
          ValueError: lists differ in length or hold no numbers, or the file is damaged.
        """
        dtype, width = self.matrix(names)
        are_lists = len(names) == 1 and any(f(self.types[names[0]]) for f in (is_list, _is_text))
        start = 0
        for batch in self.batches(list(names), rows):
            if are_lists:
                lists = self._lists_of(names[0], batch.column(names[0]), start)
                yield self._rectangle(names[0], lists, width, start)
            else:
                block = np.empty((batch.num_rows, width), dtype)
                for j, name in enumerate(names):
                    block[:, j] = _floats(batch.column(name))
                yield block
            start += batch.num_rows

    def _lists_of(self, name: str, column: "pa.Array", start: int) -> "pa.Array":
        """Returns a column of lists of numbers, which may have been written as text, as lists.

        Raises:
          ValueError: a text is no list of numbers.
        """
        import pyarrow as pa

        if not _is_text(column.type):
            return column
        lists: list[list[float] | None] = []
        for row, text in enumerate(column.to_pylist(), start):
            try:
                # Everything that is a number becomes a float, however large.
                numbers = None if text is None else json.loads(text, parse_int=float)
                if numbers is not None and set(map(type, numbers)) - {float}:
                    raise ValueError
            except (ValueError, TypeError, RecursionError):
                raise ValueError(
                    f"{self.source}: column {name!r}, row {row}: expected a list of numbers such "
                    f"as [0.5, -1], got {_short(text)}"
                ) from None
            lists.append(numbers)
        return pa.array(lists, pa.list_(pa.float64()))

    def _rectangle(self, name: str, column: "pa.Array", width: int, start: int) -> np.ndarray:
        """Returns a column of lists of numbers as a matrix.

        Raises:
          ValueError: a list has another length.
        """
        import pyarrow.compute as pc

        lengths = pc.call_function("list_value_length", [column])
        sizes = values_of(lengths.fill_null(0))
        if (wrong := np.flatnonzero(sizes != width)).size:
            row = int(wrong[0])
            raise ValueError(
                f"{self.source}: column {name!r} has {width} numbers in row 0 and {sizes[row]} in "
                f"row {start + row}; expected lists of one length"
            )
        return _floats(column.flatten()).reshape(len(column), width)

    def column(self, name: str) -> "pa.Array":
        """Returns a whole column as a pyarrow array.

        Raises:
          MemoryError: the machine cannot hold one number a row.
        """
        import pyarrow as pa

        check_memory(f"{self.source.path}: a column of {self.rows} rows", 8 * self.rows)
        chunks = [batch.column(name) for batch in self.batches([name], 65536)]
        return pa.chunked_array(chunks, type=self.types[name]).combine_chunks()


def open_table(source: Source) -> Table:
    """Opens a table.

    Args:
      source: a file with named columns.

    Returns:
      `Table`.

    Raises:
      MessageError: a ValueError; the file is damaged or has no rows, or its columns have no proper
        names.
      ModuleNotFoundError: pyarrow is not installed.
    """
    require("pyarrow", "sweep")
    with readable(source):
        table = source.format.open(source)
        if len(table.types) < len(table.schema.names):
            twice, _ = Counter(table.schema.names).most_common(1)[0]
            raise MessageError(f"{source.path}: two columns are named {twice!r}")
        if not table.types:
            raise MessageError(f"{source.path}: has no columns")
        if not table.rows:
            raise MessageError(f"{source.path}: has a header but no rows")
    return table


def same_table_columns(table: Table, other: str | os.PathLike[str] | None) -> tuple[str, ...]:
    """Returns the columns that `other` names, if it is a part of the same file.

    Raises:
      ValueError: there are no such columns.
    """
    if other is None:
        return ()
    named = parse(other)
    if named.part is None or not os.path.samefile(table.source.path, named.path):
        return ()
    return table.choose(named.part)


def is_list(kind: "pa.DataType") -> bool:
    """Returns whether the entries of a pyarrow type are lists."""
    import pyarrow as pa

    return pa.types.is_nested(kind) and hasattr(kind, "value_type")


def _is_text(kind: "pa.DataType") -> bool:
    import pyarrow as pa

    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    return any(test(kind) for test in tests)


def _short(text: Any) -> str:
    """Returns text in quotes, its beginning only where it is long."""
    return repr(text) if len(text) <= 40 else f"{text[:40]!r}..."


def _floats(column: "pa.Array") -> np.ndarray:
    """Returns a pyarrow array of numbers as floats, NaN where they are missing."""
    import pyarrow as pa

    if not pa.types.is_floating(column.type):
        if pa.types.is_boolean(column.type):
            column = column.cast(pa.uint8())
        column = column.cast(pa.float64(), safe=False)
    return values_of(column.fill_null(np.nan) if column.null_count else column)


def values_of(column: "pa.Array") -> np.ndarray:
    """Returns the values of a pyarrow array of numbers without nulls.

    Its own `to_numpy`, and `pa.array`, import pandas first, which takes longer than to read a file.
    """
    return np.from_dlpack(column)


def schema_of(names: tuple[str, ...], dtype: np.dtype) -> "pa.Schema":
    """Returns the pyarrow schema of features that are to be written.

    Raises:
      ModuleNotFoundError: pyarrow is not installed.
    """
    pa = require("pyarrow", "sweep")
    return pa.schema([(name, pa.from_numpy_dtype(dtype)) for name in names])


def batch_of(block: np.ndarray, schema: "pa.Schema") -> "pa.RecordBatch":
    """Returns rows of features as a pyarrow record batch."""
    import pyarrow as pa

    def array(kind: pa.DataType, column: np.ndarray) -> pa.Array:
        return pa.Array.from_buffers(kind, len(column), [None, pa.py_buffer(column)])

    # Buffers are taken for what the schema says, so they must be that; it is of floats.
    columns = np.array(block.T, f"f{schema.types[0].bit_width // 8}", order="C")
    return pa.record_batch([*map(array, schema.types, columns)], schema=schema)
