"""The format .npy of numpy: a header, then the numbers, which are mapped.

Python objects are never loaded: that would run whatever code the file asks for. A file must be as
long as the shape in its header says, before anything is allocated.
"""

import contextlib
import io
import warnings
from pathlib import Path
from typing import IO

import numpy as np

from erasejax.files._formats import Arrays, Format, Names, Opened, Shape
from erasejax.files._sources import Source
from erasejax.files._stored import Stored, Tensor, check_size, nothing

__all__ = ["MAGIC", "NPY", "dtype_problem", "read_header", "shown_dtype", "write_header"]

MAGIC = b"\x93NUMPY"
_LONGEST_HEADER = 10_000  # bytes, as in numpy


class NPY(Format):
    """One array, without a name."""

    name = ".npy"
    has_parts = False
    dtypes = ("float64", "float32", "float16")

    def open(self, source: Source) -> Arrays:
        """Describes the array."""
        with open(source.path, "rb") as file:
            shape, order, dtype, offset = read_header(file)
        if problem := dtype_problem(dtype):
            check_size(shape, dtype)
            stored = Stored(source, shape, dtype, shown_dtype(dtype), problem, nothing)
        else:
            stored = Tensor(source.path, offset, shape, dtype, order).stored(source)
        return {"": lambda: stored}

    @contextlib.contextmanager
    def write(self, path: Path, shape: Shape, dtype: np.dtype, names: Names) -> Opened:
        """Opens a file for features."""
        with open(path, "wb") as file:
            write_header(file, shape, dtype)
            yield lambda block: file.write(block.tobytes())


def read_header(file: IO[bytes]) -> tuple[tuple[int, ...], str, np.dtype, int]:
    """Reads the header of a .npy file.

    Returns:
      Shape, order ("C" or "F"), dtype, and how many bytes the header takes.

    Raises:
      ValueError: it is damaged.
    """
    start = file.read(12)
    if start[:2] == b"PK":
        raise ValueError("a .npz archive with the wrong extension")
    if start[:6] != MAGIC or len(start) < 12:
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


def write_header(file: IO[bytes], shape: tuple[int, int], dtype: np.dtype) -> None:
    """Writes the header of a .npy file."""
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)


def dtype_problem(dtype: np.dtype) -> str:
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


def shown_dtype(dtype: np.dtype) -> str:
    """Returns what a dtype is called."""
    return "Python objects" if dtype.hasobject else str(dtype)
