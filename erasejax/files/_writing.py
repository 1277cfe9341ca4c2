"""Writing features in blocks of rows: the file appears whole or not at all."""

import contextlib
import json
import os
import zipfile
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from erasejax._core.extras import require
from erasejax.files._replacing import replacing
from erasejax.files._sources import EXTENSIONS

__all__ = ["Writer", "open_writer"]

Writer = Callable[[np.ndarray], Any]
_Opened = Generator[Writer, None, None]

_TENSOR_TYPES = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16"}


@contextlib.contextmanager
def open_writer(
    path: str | os.PathLike[str],
    shape: tuple[int, int],
    dtype: Any,
    *,
    columns: tuple[str, ...] | None = None,
    overwrite: bool = True,
) -> Generator[Writer, None, None]:
    """Opens a file for features; its extension says the format.

    The array of a .npz or .safetensors file is named x. Columns without names are x0, x1, ...
    bfloat16 is written as float32 where the format does not have it.

    Args:
      path: file to write.
      shape: (n, d).
      dtype: float dtype of the blocks.
      columns: names of the features.
      overwrite: False refuses to replace a file.

    Yields:
      A function that takes the next (m, d) block.

    Raises:
      ValueError: the extension is unknown, or the blocks do not have n rows together.
      FileExistsError: the file exists and overwrite is False.
      OSError: the file cannot be written.
      ModuleNotFoundError: writing tables needs pyarrow.
    """
    kind = check_extension(path)
    dtype = written_dtype(path, dtype)
    names = columns or tuple(f"x{i}" for i in range(shape[1]))
    opener = {".csv": _csv, ".parquet": _parquet, ".npz": _npz}.get(kind, _plain)
    rows = 0
    with replacing(path, overwrite=overwrite) as temporary:
        with opener(temporary, shape, dtype, names) as write:

            def counted(block: np.ndarray) -> None:
                nonlocal rows
                rows += len(block)
                write(np.asarray(block, dtype, order="C"))

            yield counted
        if rows != shape[0]:
            raise ValueError(f"{path}: expected {shape[0]} rows to write, got {rows}")


def written_dtype(path: str | os.PathLike[str], dtype: Any) -> np.dtype:
    """Returns the dtype in which features are written: float32 for bfloat16 where it is unknown.

    Args:
      path: file to write; its extension says the format.
      dtype: of the features.

    Raises:
      ValueError: the extension is unknown.
    """
    if check_extension(path) != ".safetensors" and np.dtype(dtype) == ml_dtypes.bfloat16:
        return np.dtype(np.float32)
    return np.dtype(dtype)


def check_extension(path: str | os.PathLike[str]) -> str:
    """Returns the extension of a file to be written.

    Raises:
      ValueError: it is unknown.
    """
    kind = os.path.splitext(path)[1].lower()
    if kind not in EXTENSIONS:
        raise ValueError(
            f"{path}: unknown extension {kind!r}, expected one of {', '.join(EXTENSIONS)}"
        )
    return kind


def _npy_header(file: Any, shape: tuple[int, int], dtype: np.dtype) -> None:
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)


@contextlib.contextmanager
def _plain(path: Path, shape: tuple[int, int], dtype: np.dtype, names: Any) -> _Opened:
    """A .npy or .safetensors file: a header, then the numbers."""
    with open(path, "wb") as file:
        if path.suffix.lower() == ".npy":
            _npy_header(file, shape, dtype)
        else:
            size = shape[0] * shape[1] * dtype.itemsize
            entry = {"dtype": _TENSOR_TYPES[dtype.name], "shape": shape, "data_offsets": [0, size]}
            text = json.dumps({"x": entry}, separators=(",", ":")).encode()
            text += b" " * (-len(text) % 8)
            file.write(len(text).to_bytes(8, "little") + text)
        yield lambda block: file.write(block.tobytes())


@contextlib.contextmanager
def _npz(path: Path, shape: tuple[int, int], dtype: np.dtype, names: Any) -> _Opened:
    entry = zipfile.ZipInfo("x.npy")  # of 1980, so that the same numbers are the same bytes
    with (
        zipfile.ZipFile(path, "w", allowZip64=True) as archive,
        archive.open(entry, "w", force_zip64=True) as file,
    ):
        _npy_header(file, shape, dtype)
        yield lambda block: file.write(block.tobytes())


def _schema(path: Path, dtype: np.dtype, names: tuple[str, ...]) -> Any:
    """Returns the pyarrow schema.

    Raises:
      ModuleNotFoundError: pyarrow is not installed.
    """
    pa = require("pyarrow", "sweep")
    return pa.schema([(name, pa.from_numpy_dtype(dtype)) for name in names])


def _batch(block: np.ndarray, schema: Any) -> Any:
    import pyarrow as pa

    return pa.record_batch([pa.array(column) for column in block.T.copy()], schema=schema)


@contextlib.contextmanager
def _csv(path: Path, shape: Any, dtype: np.dtype, names: tuple[str, ...]) -> _Opened:
    schema = _schema(path, np.dtype(np.float32) if dtype == np.float16 else dtype, names)
    import pyarrow.csv as csv

    wide = schema.field(0).type.to_pandas_dtype()
    with csv.CSVWriter(path, schema) as file:
        yield lambda block: file.write_batch(_batch(block.astype(wide), schema))


@contextlib.contextmanager
def _parquet(path: Path, shape: Any, dtype: np.dtype, names: tuple[str, ...]) -> _Opened:
    schema = _schema(path, dtype, names)
    import pyarrow.parquet as parquet

    with parquet.ParquetWriter(path, schema) as file:
        yield lambda block: file.write_batch(_batch(block, schema))
