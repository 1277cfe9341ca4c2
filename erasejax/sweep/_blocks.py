"""What a sweep stores, as bytes: immutable blocks, named by what they hold, and manifests.

A block is one cell and up to 1,024 seeds: a Parquet file whose name is the SHA-256 of its content's
description. It is done when it exists. A manifest says what was asked for, so that the table can be
put together, and where and with what it was computed. Nothing is appended to or rewritten.
"""

import dataclasses
import datetime
import functools
import hashlib
import json
import platform
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import jax
import numpy as np

from erasejax._core.extras import require
from erasejax.files import package_version
from erasejax.sweep._cells import BLOCK, Cell, Grid, Product, Table, canonical
from erasejax.sweep._columns import Columns

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

__all__ = [
    "Block",
    "DamagedBlockError",
    "Manifest",
    "Numerics",
    "blocks",
    "check",
    "decode",
    "encode",
    "is_block",
    "is_manifest",
    "name_of",
    "numerics",
    "ranges",
]

Numerics: TypeAlias = Mapping[str, bool | int | str]

_KEY = b"erasejax.block"
_NAME = re.compile(r"[0-9a-f]{64}\.parquet")
_MANIFEST = re.compile(r"manifest-[0-9a-f]{64}\.json")
_DRAWS = 2  # raised whenever the rows that a seed gives become others


class DamagedBlockError(ValueError):
    """Raised for a file in the folder of a sweep that is not what its name says.

    Example:
      >>> spec = {"dataset": "xor-classes", "eraser": "sal", "probe": "mean-difference"}
      >>> spec |= {"metrics": "accuracy", "protocols": "fitting", "seeds": 2}
      >>> sweep = ej.sweep.run(spec, out="sweep")
      >>> for block in sweep.path.glob("blocks/*"):
      ...     _ = block.write_bytes(b"not a block")
      >>> try:
      ...     sweep.to_arrow()
      ... except ej.sweep.DamagedBlockError as error:
      ...     print("damaged" in str(error))
      True
    """


def numerics() -> dict[str, bool | int | str]:
    """Returns what the drawn numbers depend on beside the configuration."""
    config: Any = jax.config
    return {
        "x64": bool(config.jax_enable_x64),
        "prng": str(config.jax_default_prng_impl),
        "partitionable": bool(config.jax_threefry_partitionable),
        "version": package_version(),
        "draws": _DRAWS,
    }


@dataclasses.dataclass(frozen=True)
class Block:
    """One cell and a range of seeds.

    Attributes:
      cell: what was run.
      first: first seed.
      last: last seed + 1.
      columns: the numbers wanted.
    """

    cell: Cell
    first: int
    last: int
    columns: Columns

    def described(self, numerics: Numerics) -> str:
        """Returns what the block holds, as canonical JSON."""
        return canonical({
            "cell": self.cell.json,
            "seeds": [self.first, self.last],
            "columns": self.columns.names,
            **numerics,
        })


def blocks(product: Product) -> Iterator[Block]:
    """Yields the blocks of a product; ranges of seeds start at multiples of 1,024."""
    for cell in product.cells():
        for first, last in ranges(product.seeds):
            yield Block(cell, first, last, product.columns)


def ranges(seeds: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Yields the ranges of seeds of blocks, cut at multiples of 1,024."""
    start = seeds[0]
    while start < seeds[1]:
        stop = min((start // BLOCK + 1) * BLOCK, seeds[1])
        yield start, stop
        start = stop


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def name_of(block: Block, numerics: Numerics) -> str:
    """Returns the name of the file of a block."""
    return _sha(block.described(numerics)) + ".parquet"


def is_block(name: str) -> bool:
    """Returns whether a file's name is one of a block."""
    return bool(_NAME.fullmatch(name))


def encode(block: Block, numerics: Numerics, columns: Mapping[str, np.ndarray]) -> bytes:
    """Returns a block as the content of its file.

    Args:
      block: what it is.
      numerics: of this process.
      columns: (seeds,) numbers by name.
    """
    pa, pq = require("pyarrow", "sweep"), require("pyarrow.parquet", "sweep")
    seeds = np.arange(block.first, block.last, dtype=np.uint32)
    table = pa.table({"seed": seeds, **{name: columns[name] for name in block.columns.names}})
    content = pa.BufferOutputStream()
    with pq.ParquetWriter(
        content,
        table.schema,
        compression="lz4",
        use_dictionary=False,
        write_statistics=False,
        write_page_checksum=True,
        store_schema=False,  # Arrow's own; the types are plain
    ) as file:
        file.write_table(table)
        file.add_key_value_metadata({_KEY: block.described(numerics)})
    return content.getvalue().to_pybytes()


def check(content: bytes, block: Block, numerics: Numerics) -> "pq.ParquetFile":
    """Checks by its footer that the content of a file is a block, and returns the file.

    Raises:
      DamagedBlockError: it is not.
    """
    pa, pq = require("pyarrow", "sweep"), require("pyarrow.parquet", "sweep")
    try:
        file = pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True)
    except (OSError, ValueError) as error:
        raise DamagedBlockError(_damage(error)) from None
    text = (file.metadata.metadata or {}).get(_KEY, b"")
    rows = block.last - block.first
    if text != block.described(numerics).encode() or file.metadata.num_rows != rows:
        raise DamagedBlockError("not the block that its name says")
    return file


def decode(content: bytes, block: Block, numerics: Numerics) -> "pa.Table":
    """Returns a block from the content of its file: seed and the asked-for columns.

    Raises:
      DamagedBlockError: it is damaged, or something else.
    """
    file = check(content, block, numerics)
    try:
        return file.read(use_threads=False)  # it is small, and others are read beside it
    except (OSError, ValueError) as error:
        raise DamagedBlockError(_damage(error)) from None


def _damage(error: Exception) -> str:
    """Returns what a reader said, as one line."""
    return f"damaged ({str(error).splitlines()[0]})"


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What was asked for and where it was computed.

    Attributes:
      grid: the resolved spec.
      numerics: what the numbers depend on beside it.
      provenance: versions and device of the process that started it first, and when.
    """

    grid: Grid
    numerics: Numerics
    provenance: Mapping[str, object]

    @classmethod
    def new(cls, grid: Grid, numerics: Numerics) -> "Manifest":
        """Returns the manifest of a sweep that this process starts now."""
        return cls(grid, numerics, _provenance())

    @functools.cached_property
    def name(self) -> str:
        """The name of its file: the same for everybody who asks for the same."""
        return _manifest_name(self.grid.json, self.numerics)

    @property
    def content(self) -> bytes:
        """The content of its file."""
        asked = {"grid": self.grid.json, "numerics": dict(self.numerics)}
        text = json.dumps({"erasejax": 1, **asked, "provenance": self.provenance}, indent=1)
        return (text + "\n").encode()

    @classmethod
    def read(cls, name: str, content: bytes) -> "Manifest":
        """Returns the manifest that a file holds.

        Raises:
          ValueError: it is damaged.
        """
        try:
            read = json.loads(content)
            if name != _manifest_name(read["grid"], read["numerics"]):
                raise ValueError("its content is not what its name says")
            return cls(Grid.from_json(read["grid"]), read["numerics"], read["provenance"])
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise ValueError(_damage(error)) from None


def _manifest_name(grid: Sequence[Table], numerics: Numerics) -> str:
    asked = {"grid": grid, "numerics": dict(numerics)}
    return f"manifest-{_sha(canonical(asked))}.json"


def is_manifest(name: str) -> bool:
    """Returns whether a file's name is one of a manifest."""
    return bool(_MANIFEST.fullmatch(name))


def _provenance() -> dict[str, object]:
    from importlib import metadata

    packages = ("erasejax", "jax", "jaxlib", "numpy")
    return {
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds"),
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in packages if name != "erasejax"},
        "erasejax": package_version(),
        "device": jax.devices()[0].device_kind,
        "devices": jax.device_count(),
        "machine": f"{platform.system()} {platform.machine()}",
    }
