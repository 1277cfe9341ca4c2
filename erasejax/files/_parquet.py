"""The format .parquet, read batch by batch (pyarrow)."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from erasejax.files._formats import Format, Names, Opened, Shape
from erasejax.files._sources import Source
from erasejax.files._tables import Table, batch_of, schema_of

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Parquet"]


class Parquet(Format):
    """A table, with an index where pandas wrote one."""

    name = ".parquet"
    is_table = True
    dtypes = ("float64", "float32", "float16")

    def open(self, source: Source) -> Table:
        """Describes the table."""
        import pyarrow.parquet as parquet

        with parquet.ParquetFile(source.path) as file:
            schema, rows = file.schema_arrow, file.metadata.num_rows

        def batches(columns: list[str], rows: int) -> "Iterator[pa.RecordBatch]":
            with parquet.ParquetFile(source.path) as file:
                # Larger batches take more memory and are slower.
                yield from file.iter_batches(batch_size=min(rows, 65536), columns=columns)

        return Table(source, schema, rows, batches, _index(schema))

    @contextlib.contextmanager
    def write(self, path: Path, shape: Shape, dtype: np.dtype, names: Names) -> Opened:
        """Opens a file for features."""
        schema = schema_of(names, dtype)
        import pyarrow.parquet as parquet

        with parquet.ParquetWriter(path, schema) as file:
            yield lambda block: file.write_batch(batch_of(block, schema))


def _index(schema: "pa.Schema") -> tuple[str, ...]:
    """Returns the columns that pandas wrote as an index, with a name of its own or without."""
    try:
        said = json.loads((schema.metadata or {}).get(b"pandas", b"{}"))["index_columns"]
    except (ValueError, KeyError, TypeError):
        said = []
    named = [name for name in said if isinstance(name, str)] if isinstance(said, list) else []
    return tuple(n for n in schema.names if n in named or n.startswith("__index_level_"))
