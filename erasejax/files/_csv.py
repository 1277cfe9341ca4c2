"""The format .csv: comma-separated values, read whole (pyarrow)."""

import codecs
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from erasejax._core.text import show
from erasejax.files._formats import Format, Names, Opened, Shape
from erasejax.files._sources import MessageError, Source, not_text
from erasejax.files._tables import INDEX, Table, batch_of, schema_of

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["CSV"]

_UNNAMED = ("", "Unnamed: 0")  # as pandas writes an index, and as it reads and writes it again
_BLOCK = 1 << 20  # bytes that pyarrow parses at once, in which it is fastest
_LARGEST_BLOCK = (1 << 31) - 1  # beyond which it cannot count
_TOO_SMALL = ("straddling", "file or block")  # what it says of a block that holds no whole row


class CSV(Format):
    """A table in text, whose first column is an index where pandas wrote one without a name."""

    name = ".csv"
    is_table = is_text = True
    dtypes = ("float64", "float32", "float16")

    def open(self, source: Source) -> Table:
        """Reads the table."""
        data = _read(source)
        index = tuple(name for name in data.column_names if name == INDEX)

        def batches(columns: list[str], rows: int) -> "Iterator[pa.RecordBatch]":
            return iter(data.select(columns).to_batches(max_chunksize=rows))

        return Table(source, data.schema, data.num_rows, batches, index)

    @contextlib.contextmanager
    def write(self, path: Path, shape: Shape, dtype: np.dtype, names: Names) -> Opened:
        """Opens a file for features."""
        wide = np.dtype(np.float32) if dtype == np.float16 else dtype
        schema = schema_of(names, wide)
        import pyarrow.csv as csv

        with csv.CSVWriter(path, schema) as file:
            yield lambda block: file.write_batch(batch_of(block.astype(wide), schema))


def _read(source: Source) -> "pa.Table":
    """Reads a file of comma-separated values.

    What stands in quotes is text, line breaks and words like NA included; without quotes NA, null
    and their kin are missing. Nothing at all is missing even in quotes, since that is how pandas
    writes it. Spaces around names, numbers and text do not count.

    Args:
      source: a .csv file; in UTF-8, or UTF-16 that says so itself, if it has no encoding.

    Returns:
      A pyarrow table.

    Raises:
      MessageError: a ValueError; there are no proper names, the text has another encoding, or a
        quote is never closed.
      ValueError: the file is damaged.
    """
    encoding = source.encoding or _encoding(source)
    data = _parse(source, encoding)
    try:
        names = data.column_names
    except UnicodeDecodeError:
        raise MessageError(not_text(source, "the line of column names")) from None
    stripped = [name.strip() for name in names]
    if len(set(stripped)) == len(set(names)):
        names = stripped
    first = names[:1] if len(names) > 1 and names[0] in _UNNAMED else []
    _check_names(source, names[len(first) :], len(first))
    if data.num_rows:
        _check_closed(source, data.column(len(names) - 1)[-1].as_py())
    columns = [_trimmed(column) for column in data.columns]
    if first:
        names = [INDEX, *names[1:]]
        if source.part is None and not _is_index(columns[0]):
            raise MessageError(
                f"{source.path}: column 0 has no name, and is no index of pandas: its entries "
                "would be whole numbers, text or dates, all different; name it, write the file "
                f"with index=False, or name the columns to use, {source.path}:a,b"
            )
    return type(data).from_arrays(columns, names=names)


def _encoding(source: Source) -> str:
    """Returns the encoding of a file for which none was given.

    Raises:
      MessageError: it is not UTF-8, nor does it say that it is UTF-16.
    """
    with open(source.path, "rb") as file:
        head = file.read(4096)
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if head.count(0) > len(head) // 4:
        raise MessageError(
            f"{source.path}: holds bytes that are zero, as UTF-16 does; if it is UTF-16, say "
            "--encoding utf-16-le"
        )
    return "utf8"


def _parse(source: Source, encoding: str) -> "pa.Table":
    """Returns what pyarrow reads.

    It reads in one thread. With several it can leave tasks behind where a row is wrong, and then
    the process does not end; and up to two cores it is no faster.

    Raises:
      MessageError: the text has another encoding, or a row is longer than pyarrow can hold.
      ArrowInvalid: a ValueError; the file is damaged.
    """
    import pyarrow as pa
    import pyarrow.csv as csv

    parse = csv.ParseOptions(newlines_in_values=True)
    convert = csv.ConvertOptions(strings_can_be_null=True, quoted_strings_can_be_null=False)
    enough = 4 * os.path.getsize(source.path)  # no encoding is so much shorter than UTF-8
    size = _BLOCK
    while True:
        read = csv.ReadOptions(use_threads=False, block_size=size, encoding=encoding)
        try:
            return csv.read_csv(source.path, read, parse, convert)
        except UnicodeError as error:
            raise MessageError(f"{source.path}: is not {encoding}: {error}") from None
        except pa.ArrowInvalid as error:
            if not any(words in str(error) for words in _TOO_SMALL):
                raise
            if size >= _LARGEST_BLOCK:
                raise MessageError(
                    f"{source.path}: has a row of more than 2 GiB; is a quote never closed?"
                ) from None
            if size > enough:
                raise
            size = min(4 * size, _LARGEST_BLOCK)


def _check_names(source: Source, names: list[str], start: int) -> None:
    """Checks that the first line holds names.

    Args:
      source: the file.
      names: of all columns but an index.
      start: the number of the first of them.

    Raises:
      MessageError: it does not.
    """
    if all(map(_is_number, names)) and names != [str(i) for i in range(len(names))]:
        raise MessageError(
            f"{source.path}: the first line holds numbers ({','.join(names[:3])}); a csv file "
            "needs a first line with the names of the columns"
        )
    if len(names) == 1 and (";" in names[0] or "\t" in names[0]):
        raise MessageError(f"{source.path}: its columns are not separated by commas")
    if unnamed := [i for i, name in enumerate(names, start) if name in _UNNAMED]:
        raise MessageError(
            f"{source.path}: column {unnamed[0]} has no name (an index written by pandas?); name "
            "it, or write the file with index=False"
        )


def _is_index(column: "pa.ChunkedArray") -> bool:
    """Returns whether a column holds numbers or names of rows, no two the same."""
    import pyarrow as pa
    import pyarrow.compute

    if column.null_count or pa.types.is_floating(column.type):
        return False
    return pyarrow.compute.call_function("count_distinct", [column]).as_py() == len(column)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _check_closed(source: Source, last: object) -> None:
    """Checks that the last entry of the file has not swallowed the rows behind an open quote.

    Raises:
      MessageError: it has: it holds line breaks, and no quote ends the file.
    """
    if not isinstance(last, str) or len(last.splitlines()) < 2:
        return
    with open(source.path, "rb") as file:
        file.seek(max(0, os.path.getsize(source.path) - 64))
        tail = file.read()
    if not tail.rstrip(b"\r\n \0").endswith(b'"'):
        raise MessageError(
            f"{source.path}: a quote is never closed, it stands before {show(last.splitlines()[0])}"
        )


def _trimmed(column: "pa.ChunkedArray") -> "pa.ChunkedArray":
    """Returns a column without spaces around its entries, as numbers if those are left.

    pyarrow takes " 1" for an integer, but " 1.5" and " NA" for text.
    """
    import pyarrow as pa
    import pyarrow.compute
    import pyarrow.csv as csv

    call = pyarrow.compute.call_function
    if not pa.types.is_string(column.type):
        return column
    text = call("utf8_trim_whitespace", [column])
    changed = call("not_equal", [text, column])
    words = pa.array(csv.ConvertOptions().null_values)
    missing = call("and", [changed, call("is_in", [text], pyarrow.compute.SetLookupOptions(words))])
    missing = call("or", [missing, call("equal", [text, pa.scalar("")])])
    if not call("any", [call("or", [changed, missing])]).as_py():
        return column
    text = call("if_else", [missing, pa.scalar(None, pa.string()), text])
    for kind in (pa.int64(), pa.float64()):
        try:
            return text.cast(kind)
        except pa.ArrowInvalid:
            continue
    return text
