"""Writing features in blocks of rows: the file appears whole or not at all."""

import contextlib
import os
from collections.abc import Generator

import numpy as np

from erasejax._core.types import DTypeLike
from erasejax.files._formats import Format, Writer
from erasejax.files._replacing import replacing
from erasejax.files._sources import find_format

__all__ = ["open_writer", "output_format", "written_dtype"]


@contextlib.contextmanager
def open_writer(
    path: str | os.PathLike[str],
    shape: tuple[int, int],
    dtype: DTypeLike,
    *,
    columns: tuple[str, ...] | None = None,
    overwrite: bool = True,
) -> Generator[Writer, None, None]:
    """Opens a file for features; its extension says the format.

    The array of a file with parts is named x. Columns without names are x0, x1, ... What dtype the
    format does not have is written as float32.

    Args:
      path: file to write.
      shape: (n, d).
      dtype: float dtype of the blocks.
      columns: names of the features.
      overwrite: False refuses to replace a file.

    Yields:
      A function that takes the next (m, d) block.

    Raises:
      ValueError: the extension is unknown or of files that are only read, or the blocks do not
        have n rows together.
      FileExistsError: the file exists and overwrite is False.
      OSError: the file cannot be written.
      ModuleNotFoundError: writing tables needs pyarrow.
    """
    dtype = written_dtype(path, dtype)
    names = columns or tuple(f"x{i}" for i in range(shape[1]))
    rows = 0
    with replacing(path, overwrite=overwrite) as temporary:
        with output_format(path).write(temporary, shape, dtype, names) as write:

            def counted(block: np.ndarray) -> None:
                nonlocal rows
                rows += len(block)
                write(np.asarray(block, dtype, order="C"))

            yield counted
        if rows != shape[0]:
            raise ValueError(f"{path}: expected {shape[0]} rows to write, got {rows}")


def written_dtype(path: str | os.PathLike[str], dtype: DTypeLike) -> np.dtype:
    """Returns the dtype in which features are written: float32 for what the format lacks.

    Args:
      path: file to write; its extension says the format.
      dtype: of the features.

    Raises:
      ValueError: the extension is unknown, or of files that are only read.
    """
    dtype = np.dtype(dtype)
    return dtype if dtype.name in output_format(path).dtypes else np.dtype(np.float32)


def output_format(path: str | os.PathLike[str]) -> Format:
    """Returns the format of a file to be written, which its extension says.

    Raises:
      ValueError: it is unknown, or of files that are only read.
    """
    form = find_format(path)
    if not form.dtypes:
        raise ValueError(f"{path}: {form.name} files are only read; choose another extension")
    return form
