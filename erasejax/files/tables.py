"""Tables with named columns: .csv, read whole, and .parquet, read batch by batch (pyarrow)."""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from erasejax.extras import require
from erasejax.files.memory import check_memory
from erasejax.files.sources import MessageError, Source, parse, readable

__all__ = ["Table", "open_table"]


class Table(NamedTuple):
    """A table that is read when asked for.

    Attributes:
      source: the file.
      types: pyarrow type of each column, by name.
      rows: number of rows.
      batches: batches(columns, rows) iterates over pyarrow record batches.
    """

    source: Source
    types: dict[str, Any]
    rows: int
    batches: Callable[[list[str], int], Iterator[Any]]

    def choose(self, part: str) -> tuple[str, ...]:
        """Returns the columns that a part names: one, or several with commas between them.

        Raises:
          ValueError: there is no such column, or one is named twice.
        """
        names = (part,) if part in self.types else tuple(part.split(","))
        self.require(names)
        if len(set(names)) < len(names):
            raise ValueError(f"{self.source}: a column is named twice")
        return names

    def require(self, names: tuple[str, ...]) -> None:
        """Checks that there are columns of these names.

        Raises:
          ValueError: there are not.
        """
        if missing := [name for name in names if name not in self.types]:
            known = ", ".join(list(self.types)[:8]) + (", ..." if len(self.types) > 8 else "")
            raise ValueError(f"{self.source.path}: has no column {missing[0]!r}; it has {known}")

    def matrix(self, names: tuple[str, ...]) -> tuple[np.dtype, int]:
        """Returns the dtype and the width of columns read as one matrix.

        Raises:
          ValueError: a column does not hold numbers.
        """
        import pyarrow as pa

        kind = self.types[names[0]] if len(names) == 1 else pa.null()
        if pa.types.is_fixed_size_list(kind):
            return self._number(names[0], kind.value_type), kind.list_size
        if pa.types.is_list(kind) or pa.types.is_large_list(kind):
            first = next(self.batches(list(names), 1)).column(names[0])
            return self._number(names[0], kind.value_type), len(first[0].as_py() or ())
        dtypes = [self._number(name, self.types[name]) for name in names]
        return np.result_type(*set(dtypes)), len(names)

    def _number(self, name: str, kind: Any) -> np.dtype:
        """Returns the float dtype that holds a column of numbers.

        Raises:
          ValueError: it holds something else.
        """
        import pyarrow as pa

        if pa.types.is_float16(kind):
            return np.dtype(np.float16)
        if pa.types.is_float64(kind) or pa.types.is_decimal(kind):
            return np.dtype(np.float64)
        is_number = pa.types.is_floating(kind) or pa.types.is_integer(kind)
        if is_number or pa.types.is_boolean(kind) or pa.types.is_null(kind):
            return np.dtype(np.float32)
        if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
            raise ValueError(
                f"{self.source}: column {name!r} holds {kind}; to use a column of lists as "
                f"features, name it alone: {self.source.path}:{name}"
            )
        what = "text" if pa.types.is_string(kind) or pa.types.is_large_string(kind) else str(kind)
        raise ValueError(
            f"{self.source}: column {name!r} holds {what}, features must be numbers; name the "
            f"columns to use, {self.source.path}:a,b, or the labels' column as the labels"
        )

    def blocks(self, names: tuple[str, ...], rows: int) -> Iterator[np.ndarray]:
        """Yields columns as (m, d) matrices of at most `rows` rows; missing numbers are NaN.

        Raises:
          ValueError: lists differ in length, or the file is damaged.
        """
        dtype, width = self.matrix(names)
        start = 0
        for batch in self.batches(list(names), rows):
            columns = [batch.column(name) for name in names]
            if width != len(names) or hasattr(columns[0].type, "value_type"):
                yield self._lists(names[0], columns[0], width, start)
            else:
                block = np.empty((batch.num_rows, width), dtype)
                for j, column in enumerate(columns):
                    block[:, j] = _floats(column)
                yield block
            start += batch.num_rows

    def _lists(self, name: str, column: Any, width: int, start: int) -> np.ndarray:
        """Returns a column of lists of numbers as a matrix.

        Raises:
          ValueError: a list has another length.
        """
        import pyarrow.compute as pc

        lengths = pc.call_function("list_value_length", [column])
        sizes = lengths.fill_null(0).to_numpy(zero_copy_only=False)
        if (wrong := np.flatnonzero(sizes != width)).size:
            row = int(wrong[0])
            raise ValueError(
                f"{self.source}: column {name!r} has {width} numbers in row 0 and {sizes[row]} in "
                f"row {start + row}; expected lists of one length"
            )
        return _floats(column.flatten()).reshape(len(column), width)

    def column(self, name: str) -> Any:
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
      source: a .csv or .parquet file.

    Returns:
      `Table`, without the index that pandas writes into Parquet files.

    Raises:
      MessageError: a ValueError; the file is damaged or has no rows, or its columns have no proper
        names.
      ModuleNotFoundError: pyarrow is not installed.
    """
    require("pyarrow", "sweep")
    with readable(source):
        table, names = _csv(source) if source.kind == ".csv" else _parquet(source)
        if repeated := sorted(name for name, count in Counter(names).items() if count > 1):
            raise MessageError(f"{source.path}: two columns are named {repeated[0]!r}")
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


def _floats(column: Any) -> np.ndarray:
    """Returns a pyarrow array of numbers as floats, NaN where they are missing."""
    import pyarrow as pa

    if not pa.types.is_floating(column.type):
        if pa.types.is_boolean(column.type):
            column = column.cast(pa.uint8())
        column = column.cast(pa.float64(), safe=False)
    return column.to_numpy(zero_copy_only=False)


def _csv(source: Source) -> tuple[Table, list[str]]:
    """Reads a CSV file.

    Raises:
      MessageError: the header is none.
    """
    import pyarrow.csv as csv

    options = csv.ConvertOptions(strings_can_be_null=True)
    data = csv.read_csv(source.path, convert_options=options)
    names = data.column_names
    numbers = [_is_number(name) for name in names]
    if all(numbers) and names != [str(i) for i in range(len(names))]:
        raise MessageError(
            f"{source.path}: the first line holds numbers ({','.join(names[:3])}); a csv file "
            "needs a first line with the names of the columns"
        )
    if len(names) == 1 and (";" in names[0] or "\t" in names[0]):
        raise MessageError(f"{source.path}: its columns are not separated by commas")
    if unnamed := [name for name in names if name in {"", "Unnamed: 0"}]:
        raise MessageError(
            f"{source.path}: column {names.index(unnamed[0])} has no name (an index written by "
            "pandas?); name it, or write the file with index=False"
        )

    def batches(columns: list[str], rows: int) -> Iterator[Any]:
        return iter(data.select(columns).to_batches(max_chunksize=rows))

    types = dict(zip(names, data.schema.types, strict=True))
    return Table(source, types, data.num_rows, batches), names


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _parquet(source: Source) -> tuple[Table, list[str]]:
    import pyarrow.parquet as parquet

    with parquet.ParquetFile(source.path) as file:
        schema, rows = file.schema_arrow, file.metadata.num_rows

    def batches(columns: list[str], rows: int) -> Iterator[Any]:
        with readable(source), parquet.ParquetFile(source.path) as file:
            # Larger batches take more memory and are slower.
            yield from file.iter_batches(batch_size=min(rows, 65536), columns=columns)

    names = [name for name in schema.names if not name.startswith("__index_level_")]
    types = {name: schema.field(schema.get_field_index(name)).type for name in set(names)}
    return Table(source, {name: types[name] for name in names}, rows, batches), names
