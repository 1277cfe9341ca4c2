"""The format .npz of numpy: an archive of .npy files, streamed.

What a file declares is held against what it has before anything is allocated. A member must
declare, to the byte, the length that the shape in its header takes, and that may be no more than
1,032 times its compressed length, which is the most that deflate can do. Beyond that no bound is
set: a file of zeros is large, compresses well, and is what was asked for. It is decompressed as it
is used, a block at a time.
"""

import contextlib
import functools
import math
import os
import zipfile
from collections import Counter
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import IO

import numpy as np

from erasejax._core.text import show
from erasejax.files._formats import Arrays, Format, Names, Opened, Shape
from erasejax.files._memory import check_memory
from erasejax.files._npy import MAGIC, dtype_problem, read_header, shown_dtype, write_header
from erasejax.files._sources import Source
from erasejax.files._stored import Stored, check_size, used_dtype

__all__ = ["NPZ"]

_LARGEST_RATIO = 1032  # of deflate: 258 bytes in two bits
_PIECE = 1 << 22  # bytes decompressed at once


class NPZ(Format):
    """Arrays with names; that of features is called x."""

    name = ".npz"
    dtypes = ("float64", "float32", "float16")

    def open(self, source: Source) -> Arrays:
        """Describes the arrays.

        Raises:
          ValueError: two arrays have one name, or the file is damaged.
        """
        with _archive(source) as archive:
            names = [name[:-4] for name in archive.namelist() if name.endswith(".npy")]
        if len(set(names)) < len(names):
            twice, _ = Counter(names).most_common(1)[0]
            raise ValueError(f"two arrays are named {show(twice)}")
        return {name: functools.partial(_describe, source, name) for name in names}

    @contextlib.contextmanager
    def write(self, path: Path, shape: Shape, dtype: np.dtype, names: Names) -> Opened:
        """Opens a file for features."""
        entry = zipfile.ZipInfo("x.npy")  # of 1980, so that the same numbers are the same bytes
        with (
            zipfile.ZipFile(path, "w", allowZip64=True) as archive,
            archive.open(entry, "w", force_zip64=True) as file,
        ):
            write_header(file, shape, dtype)
            yield lambda block: file.write(block.tobytes())


def _archive(source: Source) -> zipfile.ZipFile:
    """Opens a file.

    Raises:
      ValueError: it is damaged.
    """
    with open(source.path, "rb") as file:
        if file.read(len(MAGIC)) == MAGIC:
            raise ValueError("a .npy array with the wrong extension")
    return zipfile.ZipFile(source.path)


def _describe(source: Source, name: str) -> Stored:
    """Describes an array.

    Raises:
      ValueError: the file is damaged.
    """
    with _member(source, name) as (file, length):
        shape, order, dtype, offset = read_header(file)
    size = check_size(shape, dtype)
    if offset + size != length and not dtype.hasobject:
        raise ValueError(f"{show(name)} should take {offset + size} bytes and has {length}")

    def read(rows: int) -> Iterator[np.ndarray]:
        with _member(source, name) as (file, _):
            read_header(file)
            if not shape:
                yield _filled(file, shape, dtype)
                return
            # By columns, every row is spread over the whole member.
            whole = _filled(file, shape, dtype, order) if order == "F" else None
            for start in range(0, max(shape[0], 1), rows):
                count = min(rows, shape[0] - start)
                if whole is not None:
                    yield whole[start : start + count]
                else:
                    yield _filled(file, (count, *shape[1:]), dtype)

    kind, problem = shown_dtype(dtype), dtype_problem(dtype)
    return Stored(source, shape, used_dtype(dtype), kind, problem, read)


@contextlib.contextmanager
def _member(source: Source, name: str) -> Generator[tuple[IO[bytes], int], None, None]:
    """Opens a member whose declared length can be true.

    Yields:
      What decompresses it as it is read, and its length in bytes.

    Raises:
      ValueError: its length cannot be true.
    """
    with _archive(source) as archive:
        member = archive.getinfo(f"{name}.npy")
        known = {zipfile.ZIP_STORED: 1, zipfile.ZIP_DEFLATED: _LARGEST_RATIO}
        if member.compress_type not in known:
            raise ValueError(f"{show(name)} is compressed in a way that numpy does not write")
        found, size, length = os.path.getsize(source.path), member.compress_size, member.file_size
        if size > found:
            raise ValueError(f"{show(name)} should take {size} of {found} bytes")
        if length > known[member.compress_type] * size:
            raise ValueError(f"{show(name)} cannot hold {length} bytes in {size}")
        with archive.open(member) as file:
            yield file, length


def _filled(
    file: IO[bytes], shape: tuple[int, ...], dtype: np.dtype, order: str = "C"
) -> np.ndarray:
    """Reads an array from a stream.

    Raises:
      ValueError: the stream ends before.
      MemoryError: the machine cannot hold it.
    """
    check_memory(f"{show(file.name)}: an array of shape {shape}", math.prod(shape) * dtype.itemsize)
    flat = np.empty(math.prod(shape), dtype)
    raw = flat.view(np.uint8)
    done = 0
    while done < len(raw):
        piece = file.read(min(_PIECE, len(raw) - done))
        if not piece:
            raise ValueError("it ends before its last number")
        raw[done : done + len(piece)] = np.frombuffer(piece, np.uint8)
        done += len(piece)
    return flat.reshape(shape, order="F" if order == "F" else "C")
