"""The blocks and manifests of a sweep, in a folder or a bucket."""

import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from erasejax._core.extras import require
from erasejax._core.warn import warn
from erasejax.sweep._blocks import (
    Block,
    DamagedBlockError,
    Manifest,
    Numerics,
    check,
    decode,
    encode,
    is_manifest,
    name_of,
)
from erasejax.sweep._bucket import Bucket
from erasejax.sweep._cells import Grid
from erasejax.sweep._folder import Folder

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Store"]

_BLOCKS = "blocks"
_URL = re.compile(r"[a-z][a-z0-9+.-]+:(//|:)")
_CRUSHED = re.compile(r"[a-z][a-z0-9+.-]+:/[^/]")
_ADVICE = "remove it, and run the sweep again"


class _Place(Protocol):
    """Where files lie that are written once: what differs between a folder and a bucket."""

    threads: int
    near: bool

    @property
    def path(self) -> Path | str: ...
    def make(self, inner: str) -> None: ...
    def has(self, inner: str) -> bool: ...
    def names(self, inner: str = "") -> set[str]: ...
    def read(self, name: str) -> bytes: ...
    def put(self, name: str, content: bytes) -> None: ...
    def clean(self, inner: str) -> None: ...


class Store:
    """What is stored of a sweep.

    Args:
      path: a folder, or the URL of one in a bucket.
      create: whether it may be new.

    Attributes:
      path: the folder, or the URL as text.
      threads: how many blocks to read or write at once.

    Raises:
      FileNotFoundError: there is no sweep and create is False.
      NotADirectoryError: `path` is a file.
      ModuleNotFoundError: an extra is not installed.
      ValueError: there is no such kind of URL.
      OSError: the bucket cannot be reached.
    """

    def __init__(self, path: str | os.PathLike[str], *, create: bool = False):
        require("pyarrow.parquet", "sweep")
        self._place = _place(path)
        self.path, self.threads = self._place.path, self._place.threads
        if create:
            self._place.make(_BLOCKS)
        elif not self._place.has(_BLOCKS):
            raise FileNotFoundError(f"{path}: holds no sweep; erasejax sweep SPEC --out {path}")

    def names(self) -> set[str]:
        """Returns the names of the files of blocks, by one listing."""
        return self._place.names(_BLOCKS)

    def clean(self) -> None:
        """Removes what processes that are gone left half written; in a bucket, nothing is."""
        self._place.clean(_BLOCKS)

    def done(self, block: Block, numerics: Numerics, names: Collection[str]) -> bool:
        """Returns whether a block is stored.

        In a folder its footer is looked at, too. In a bucket that would be a request for each
        block: there the listing says it, and the content is checked when it is read.

        Args:
          block: which.
          numerics: of this process.
          names: what `names` returned.

        Warns:
          UserWarning: the file is damaged, and the block is not there.
        """
        name = name_of(block, numerics)
        if name not in names or not self._place.near:
            return name in names
        try:
            check(self._place.read(f"{_BLOCKS}/{name}"), block, numerics)
        except (DamagedBlockError, OSError) as error:
            warn(f"{self._where(name)}: {error}; computed again now")
            return False
        return True

    def write(self, block: Block, numerics: Numerics, columns: Mapping[str, np.ndarray]) -> None:
        """Writes a block whole, or not at all.

        Args:
          block: what it is.
          numerics: of this process.
          columns: (seeds,) numbers by name.

        Raises:
          OSError: the disk is full, or the file cannot be written.
        """
        content = encode(block, numerics, columns)
        self._place.put(f"{_BLOCKS}/{name_of(block, numerics)}", content)

    def read(self, block: Block, numerics: Numerics) -> "pa.Table":
        """Returns a block as a `pyarrow.Table`: seed and the asked-for columns.

        Raises:
          DamagedBlockError: the file is damaged, or holds something else.
          OSError: it cannot be read.
        """
        name = name_of(block, numerics)
        content = self._place.read(f"{_BLOCKS}/{name}")
        try:
            return decode(content, block, numerics)
        except DamagedBlockError as error:
            raise DamagedBlockError(f"{self._where(name)}: {error}; {_ADVICE}") from None

    def write_manifest(self, grid: Grid, numerics: Numerics) -> None:
        """Writes what was asked for, if it is not written yet."""
        manifest = Manifest.new(grid, numerics)
        if manifest.name not in self._place.names():
            self._place.put(manifest.name, manifest.content)

    def manifests(self) -> list[Manifest]:
        """Returns all manifests, the oldest first.

        Raises:
          ValueError: there is none, or one cannot be read.
        """
        found = []
        for name in filter(is_manifest, self._place.names()):
            try:
                found.append(Manifest.read(name, self._place.read(name)))
            except ValueError as error:
                raise ValueError(f"{self.path}/{name}: {error}; {_ADVICE}") from None
        if not found:
            raise ValueError(f"{self.path}: holds no manifest; nothing was run here")
        return sorted(found, key=lambda manifest: str(manifest.provenance.get("started")))

    def _where(self, name: str) -> str:
        return f"{self.path}/{_BLOCKS}/{name}"


def _place(path: str | os.PathLike[str]) -> _Place:
    """Returns the folder or bucket that a path names.

    Raises:
      ValueError: it was a URL before it was made a path.
    """
    text = os.fspath(path)
    if text.startswith("file://"):
        return Folder(text.removeprefix("file://"))
    if _URL.match(text):
        return Bucket(text)
    if _CRUSHED.match(text):
        raise ValueError(f"{text}: a URL that was made a path has lost a slash; give it as text")
    return Folder(path)
