"""Files of a sweep: immutable blocks, named by what they hold, and manifests.

A block is one cell and up to 1,024 seeds: a Parquet file whose name is the SHA-256 of its content's
description. It is done when it exists. A manifest says what was asked for, so that the table can be
put together, and where and with what it was computed. Nothing is appended to or rewritten.
"""

import dataclasses
import datetime
import errno
import hashlib
import json
import os
import platform
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import jax
import numpy as np

from erasejax._core.extras import require
from erasejax.files import package_version, remove_orphans, replacing
from erasejax.sweep._cells import BLOCK, Cell, Grid, Product, canonical
from erasejax.sweep._columns import Columns

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Block", "DamagedBlockError", "Numerics", "Store", "blocks", "numerics"]

Numerics: TypeAlias = Mapping[str, bool | int | str]

_BLOCKS, _SUFFIX, _KEY = "blocks", ".parquet", b"erasejax.block"
_NAME = re.compile(r"[0-9a-f]{64}\.parquet")
_MANIFEST = re.compile(r"manifest-[0-9a-f]{64}\.json")
_ADVICE = "remove it, and run the sweep again"
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


class Store:
    """The folder of a sweep.

    Args:
      path: the folder; made where `create`.
      create: whether to make it.

    Raises:
      FileNotFoundError: there is none and create is False.
      NotADirectoryError: `path` is a file.
      ModuleNotFoundError: the extra `sweep` is not installed.
    """

    def __init__(self, path: str | os.PathLike[str], *, create: bool = False):
        require("pyarrow.parquet", "sweep")
        self.path = Path(path)
        if self.path.exists() and not self.path.is_dir():
            raise NotADirectoryError(f"{path}: is a file, expected the folder of a sweep")
        if create:
            (self.path / _BLOCKS).mkdir(parents=True, exist_ok=True)
        elif not (self.path / _BLOCKS).is_dir():
            raise FileNotFoundError(f"{path}: holds no sweep; erasejax sweep SPEC --out {path}")

    def file(self, block: Block, numerics: Numerics) -> Path:
        """Returns the path of a block."""
        return self._file(block.described(numerics))

    def _file(self, described: str) -> Path:
        return self.path / _BLOCKS / (_sha(described) + _SUFFIX)

    def names(self) -> set[str]:
        """Returns the names of the files in the folder of blocks, but for those being written."""
        return {name for name in os.listdir(self.path / _BLOCKS) if not name.startswith(".")}

    def foreign(self) -> list[str]:
        """Returns the files in the folder of blocks that are none by their names."""
        return sorted(name for name in self.names() if not _NAME.fullmatch(name))

    def clean(self) -> None:
        """Removes what processes that are gone left half written."""
        remove_orphans(self.path)
        remove_orphans(self.path / _BLOCKS)

    def write(self, block: Block, numerics: Numerics, columns: Mapping[str, np.ndarray]) -> None:
        """Writes a block whole, or not at all.

        Args:
          block: what it is.
          numerics: of this process.
          columns: (seeds,) numbers by name.

        Raises:
          OSError: the disk is full, or the file cannot be written.
        """
        pa, pq = require("pyarrow", "sweep"), require("pyarrow.parquet", "sweep")
        seeds = np.arange(block.first, block.last, dtype=np.uint32)
        table = pa.table({"seed": seeds, **{name: columns[name] for name in block.columns.names}})
        described = block.described(numerics)
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
            file.add_key_value_metadata({_KEY: described})
        try:
            with replacing(self._file(described)) as temporary:
                temporary.write_bytes(content.getvalue())
        except OSError as error:
            if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
                raise
            raise OSError(
                error.errno,
                "no space left; what is stored stays, and the same command goes on from there "
                "once there is space",
                str(self.path),
            ) from None

    def read(self, block: Block, numerics: Numerics) -> "pa.Table":
        """Returns a block as a `pyarrow.Table`: seed and the asked-for columns.

        Raises:
          DamagedBlockError: the file is damaged, or holds something else.
        """
        pq = require("pyarrow.parquet", "sweep")
        file = self.file(block, numerics)
        try:
            self.check(file, block, numerics)
            return pq.read_table(file, page_checksum_verification=True)
        except DamagedBlockError as error:
            raise DamagedBlockError(f"{error}; {_ADVICE}") from None
        except (OSError, ValueError) as error:
            raise DamagedBlockError(f"{_damage(file, error)}; {_ADVICE}") from None

    def check(self, file: Path, block: Block, numerics: Numerics) -> None:
        """Checks by its footer that a file holds the block.

        Raises:
          DamagedBlockError: it does not.
        """
        pq = require("pyarrow.parquet", "sweep")
        try:
            found = pq.read_metadata(file)
        except (OSError, ValueError) as error:
            raise DamagedBlockError(_damage(file, error)) from None
        text = (found.metadata or {}).get(_KEY, b"")
        if text != block.described(numerics).encode() or found.num_rows != block.last - block.first:
            raise DamagedBlockError(f"{file}: not the block that its name says")

    def write_manifest(self, grid: Grid, numerics: Numerics) -> Path:
        """Writes what was asked for, if it is not written yet, and returns the file."""
        asked = {"grid": grid.json, "numerics": dict(numerics)}
        path = self.path / f"manifest-{_sha(canonical(asked))}.json"
        if not path.exists():
            text = json.dumps({"erasejax": 1, **asked, "provenance": _provenance()}, indent=1)
            with replacing(path) as temporary:
                temporary.write_text(text + "\n", encoding="utf-8")
        return path

    def manifests(self) -> list[Manifest]:
        """Returns all manifests, the oldest first.

        Raises:
          ValueError: there is none, or one cannot be read.
        """
        found = []
        for name in os.listdir(self.path):
            if not _MANIFEST.fullmatch(name):
                continue
            try:
                read = json.loads((self.path / name).read_text(encoding="utf-8"))
                asked = {"grid": read["grid"], "numerics": read["numerics"]}
                if name != f"manifest-{_sha(canonical(asked))}.json":
                    raise ValueError("its content is not what its name says")
                grid = Grid.from_json(read["grid"])
                found.append(Manifest(grid, read["numerics"], read["provenance"]))
            except (ValueError, KeyError, TypeError, IndexError) as error:
                raise ValueError(f"{_damage(self.path / name, error)}; {_ADVICE}") from None
        if not found:
            raise ValueError(f"{self.path}: holds no manifest; nothing was run here")
        return sorted(found, key=lambda manifest: str(manifest.provenance.get("started")))


def _damage(file: Path, error: Exception) -> str:
    return f"{file}: damaged ({str(error).splitlines()[0]})"


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
