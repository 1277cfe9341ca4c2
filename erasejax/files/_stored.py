"""An array in a file, described before any of its numbers is read."""

import dataclasses
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import ml_dtypes
import numpy as np

from erasejax.files._sources import MessageError, Source, readable

__all__ = ["Stored", "Tensor", "check_size", "nothing", "used_dtype"]

_EXACT = (ml_dtypes.bfloat16,)  # what else is no number of numpy's own is read as float32


@dataclasses.dataclass(frozen=True)
class Stored:
    """An array in a file, read when asked for.

    Attributes:
      source: the file, with the name of the array where it has names.
      shape: of the array.
      dtype: in which it is read; float8 is read as float32, which holds all its values.
      kind: the dtype as the file has it.
      problem: why the array cannot be read, or "".
      read: read(rows) iterates over blocks of so many rows, the last one shorter.
    """

    source: Source
    shape: tuple[int, ...]
    dtype: np.dtype
    kind: str
    problem: str
    read: Callable[[int], Iterator[np.ndarray]]

    def require(self) -> "Stored":
        """Returns the description itself where the array can be read.

        Raises:
          MessageError: it cannot.
        """
        if self.problem:
            raise MessageError(f"{self.source}: {self.problem}")
        return self

    def blocks(self, rows: int) -> Iterator[np.ndarray]:
        """Yields the array in blocks along its first axis, about one in memory at a time.

        Args:
          rows: rows in a block; the last one may be shorter.

        Yields:
          Arrays of `dtype`.

        Raises:
          MessageError: the array cannot be read, or the file is damaged.
        """
        # Whatever is wrong with compressed bytes shows while they are read.
        with readable(self.source):
            for block in self.require().read(rows):
                yield _checked(self.source, block).astype(self.dtype, copy=False)

    def array(self) -> np.ndarray:
        """Returns the whole array, which may be a map of the file.

        Raises:
          MessageError: the array cannot be read, or the file is damaged.
        """
        (whole,) = self.blocks(max(self.shape[0], 1) if self.shape else 1)
        return whole


class Tensor:
    """A piece of a file that holds the numbers of an array one after the other.

    Args:
      path: the file.
      offset: where the numbers begin, in bytes.
      shape: of the array.
      dtype: of the array.
      order: "C" or "F".

    Raises:
      ValueError: the file is shorter than that, or there are no such arrays.
    """

    def __init__(
        self, path: Path, offset: int, shape: tuple[int, ...], dtype: np.dtype, order: str = "C"
    ):
        size = check_size(shape, dtype)
        if offset + size > (found := path.stat().st_size):
            raise ValueError(
                f"it should hold {size} bytes of numbers and has {max(found - offset, 0)}"
            )
        self.path, self.offset, self.shape, self.dtype = path, offset, shape, dtype
        self.order = order

    def map(self) -> np.ndarray:
        """Returns a map of the numbers: pages are read when they are used."""
        if 0 in self.shape:
            return np.empty(self.shape, self.dtype)
        order = "F" if self.order == "F" else "C"
        return np.memmap(self.path, self.dtype, "r", self.offset, self.shape, order)

    def blocks(self, rows: int) -> Iterator[np.ndarray]:
        """Yields blocks of rows, each from a map of its own, so that pages do not stay in memory.

        Args:
          rows: rows in a block.

        Yields:
          Maps; of an array without axes, or that fits one block, the whole.
        """
        if not self.shape or self.shape[0] <= rows:
            yield self.map()
            return
        for start in range(0, self.shape[0], rows):
            yield self.map()[start : start + rows]

    def stored(self, source: Source, kind: str | None = None) -> Stored:
        """Returns the array as one that is read when asked for.

        Args:
          source: the file.
          kind: the dtype as the file has it; None for numpy's name of it.
        """
        kind = str(self.dtype) if kind is None else kind
        return Stored(source, self.shape, used_dtype(self.dtype), kind, "", self.blocks)


def nothing(rows: int) -> Iterator[np.ndarray]:
    """Reads what cannot be read."""
    yield from ()


def used_dtype(dtype: np.dtype) -> np.dtype:
    """Returns the dtype in which numbers of `dtype` are used: float32 for float8 and its kin."""
    foreign = dtype.kind == "V" and dtype.names is None and dtype.type is not np.void
    if (foreign or dtype == ml_dtypes.float8_e5m2) and dtype.type not in _EXACT:
        return np.dtype(np.float32)
    return dtype


def check_size(shape: tuple[int, ...], dtype: np.dtype) -> int:
    """Returns how many bytes an array takes.

    Raises:
      ValueError: there are no such arrays.
    """
    if any(type(size) is not int or size < 0 for size in shape):
        raise ValueError(f"its shape {shape} is none")
    bytes_each = max(dtype.itemsize, 1)
    if len(shape) > 32 or math.prod(max(size, 1) for size in shape) * bytes_each >= 2**63:
        raise ValueError(f"its shape {shape} is too large")
    if not dtype.itemsize and 0 not in shape:
        raise ValueError(f"its entries, {dtype}, take no bytes")
    return math.prod(shape) * dtype.itemsize


def _checked(source: Source, array: np.ndarray) -> np.ndarray:
    """Returns what was read, with values that its dtype can have.

    Any byte but 0 is true. Text is checked, since numpy does not look at it.

    Raises:
      MessageError: text holds what is no character.
    """
    if array.dtype == np.bool_:
        return array.view(np.uint8) != 0
    if array.dtype.kind == "U" and array.size:
        codes = np.ascontiguousarray(array).reshape(-1).view(f"{array.dtype.byteorder}u4")
        if codes.max() > 0x10FFFF:
            raise MessageError(f"{source}: damaged, its text holds what is no character")
    return array
