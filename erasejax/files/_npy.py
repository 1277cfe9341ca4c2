"""The formats of numpy: .npy files, mapped, and .npz archives of them, streamed.

Python objects are never loaded: that would run whatever code the file asks for.

What a file declares is held against what it has before anything is allocated. A .npy file must be
as long as its shape says. A member of an archive must declare, to the byte, the length that the
shape in its header takes, and that may be no more than 1,032 times its compressed length, which is
the most that deflate can do. Beyond that no bound is set: a file of zeros is large, compresses
well, and is what was asked for. It is decompressed as it is used, a block at a time.
"""

import io
import math
import os
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

from erasejax._core.text import show
from erasejax.files._memory import check_memory
from erasejax.files._sources import Source, readable
from erasejax.files._stored import Stored, Tensor, check_size, nothing, stored_tensor, used_dtype

__all__ = ["archive_names", "open_archive", "open_archived", "open_npy"]

_MAGIC = b"\x93NUMPY"
_LONGEST_HEADER = 10_000  # bytes, as in numpy
_LARGEST_RATIO = 1032  # of deflate: 258 bytes in two bits
_PIECE = 1 << 22  # bytes decompressed at once


def open_npy(source: Source) -> Stored:
    """Describes the array of a .npy file.

    Raises:
      ValueError: the file is damaged.
    """
    with open(source.path, "rb") as file:
        shape, order, dtype, offset = _header(file)
    if problem := _problem(dtype):
        check_size(shape, dtype)
        return Stored(source, shape, dtype, _kind(dtype), problem, nothing)
    return stored_tensor(source, Tensor(source.path, offset, shape, dtype, order), _kind(dtype))


def open_archive(source: Source) -> zipfile.ZipFile:
    """Opens a .npz file.

    Raises:
      ValueError: the file is damaged.
    """
    with open(source.path, "rb") as file:
        if file.read(len(_MAGIC)) == _MAGIC:
            raise ValueError("a .npy array with the wrong extension")
    return zipfile.ZipFile(source.path)


def archive_names(archive: zipfile.ZipFile) -> list[str]:
    """Returns the names of the arrays of a .npz file, in its order.

    Raises:
      ValueError: two arrays have one name.
    """
    names = [name[:-4] for name in archive.namelist() if name.endswith(".npy")]
    if len(set(names)) < len(names):
        twice, _ = Counter(names).most_common(1)[0]
        raise ValueError(f"two arrays are named {show(twice)}")
    return names


def open_archived(source: Source, archive: zipfile.ZipFile, name: str) -> Stored:
    """Describes an array of a .npz file.

    Raises:
      ValueError: the file is damaged.
    """
    member = _member(source, archive, name)
    with archive.open(member) as file:
        shape, order, dtype, offset = _header(file)
    problem = _problem(dtype)
    size = check_size(shape, dtype)
    if offset + size != member.file_size and not dtype.hasobject:
        raise ValueError(
            f"{show(name)} should take {offset + size} bytes and has {member.file_size}"
        )

    def read(rows: int) -> Iterator[np.ndarray]:
        # Whatever is wrong with compressed bytes shows while they are read.
        with (
            readable(source),
            open_archive(source) as archive,
            archive.open(_member(source, archive, name)) as file,
        ):
            _header(file)
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

    return Stored(source, shape, used_dtype(dtype), _kind(dtype), problem, read)


def _member(source: Source, archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    """Returns a member whose declared length can be true.

    Raises:
      ValueError: it cannot be.
    """
    member = archive.getinfo(f"{name}.npy")
    known = {zipfile.ZIP_STORED: 1, zipfile.ZIP_DEFLATED: _LARGEST_RATIO}
    if member.compress_type not in known:
        raise ValueError(f"{show(name)} is compressed in a way that numpy does not write")
    length = os.path.getsize(source.path)
    if member.compress_size > length:
        raise ValueError(f"{show(name)} should take {member.compress_size} of {length} bytes")
    if member.file_size > known[member.compress_type] * member.compress_size:
        raise ValueError(
            f"{show(name)} cannot hold {member.file_size} bytes in {member.compress_size}"
        )
    return member


def _header(file: Any) -> tuple[tuple[int, ...], str, np.dtype, int]:
    """Reads the header of a .npy file.

    Returns:
      Shape, order ("C" or "F"), dtype, and how many bytes the header takes.

    Raises:
      ValueError: it is damaged.
    """
    start = file.read(12)
    if start[:2] == b"PK":
        raise ValueError("a .npz archive with the wrong extension")
    if start[:6] != _MAGIC or len(start) < 12:
        raise ValueError("it does not begin as a .npy file does")
    wide = start[6] > 1
    length = int.from_bytes(start[8 : 12 if wide else 10], "little")
    if start[6] not in {1, 2, 3} or start[7] != 0:
        raise ValueError(f"unknown version {start[6]}.{start[7]}")
    if length > _LONGEST_HEADER:
        raise ValueError(f"its header should take {length} bytes")
    begin = 12 if wide else 10
    text = start[begin:] + file.read(length - len(start[begin:]))
    if len(text) < length:
        raise ValueError("it ends within its header")
    read = np.lib.format.read_array_header_2_0 if wide else np.lib.format.read_array_header_1_0
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # written by Python 2
            shape, by_columns, dtype = read(io.BytesIO(start[8:begin] + text))
    except (MemoryError, RecursionError):
        raise ValueError("its header is nested too deeply") from None
    except ValueError as error:
        if b"f1'" in text:
            raise ValueError(
                "it holds floats of 1 byte, probably float8_e5m2, which .npy and .npz files do not "
                "have; save it as .safetensors, or as array.astype(np.float32)"
            ) from None
        raise error
    return shape, "F" if by_columns else "C", dtype, begin + length


def _problem(dtype: np.dtype) -> str:
    """Returns why entries of a dtype are not read, or ""."""
    if dtype.hasobject:
        return (
            "it holds Python objects, not numbers or text, and loading them would run what the "
            "file says; save text as array.astype(str), numbers as array.astype(np.float32)"
        )
    if dtype.kind == "V" and dtype.names is None and dtype.subdtype is None:
        kept = ".npy and .npz files do not keep the names of such dtypes"
        if dtype.itemsize > 2:
            return f"it holds entries of {dtype.itemsize} bytes without a dtype; {kept}"
        guess, view = "2 bytes, probably bfloat16", "ml_dtypes.bfloat16"
        if dtype.itemsize == 1:
            guess = "1 byte, probably float8 or int4"
            view = "ml_dtypes.float8_e4m3fn or its kin"
        return (
            f"it holds entries of {guess}: {kept}; np.load(...).view({view}) has the "
            "numbers, save them as .safetensors or as .astype(np.float32)"
        )
    return ""


def _kind(dtype: np.dtype) -> str:
    return "Python objects" if dtype.hasobject else str(dtype)


def _filled(file: Any, shape: tuple[int, ...], dtype: np.dtype, order: str = "C") -> np.ndarray:
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
