"""The format .safetensors: a JSON header, then the numbers.

The header is read here and not by the library: the library has no numpy dtype for float8, fails for
all tensors of a file where one is of a kind it does not know, and reads a whole slice to tell its
dtype. The format is small: eight bytes for the length of the header, JSON with the dtype, shape and
place of each tensor, and the numbers, which are mapped. Everything declared is checked here against
the length of the file and the size of the dtype, before anything is allocated.
"""

import contextlib
import functools
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO, NamedTuple, NoReturn

import ml_dtypes
import numpy as np

from erasejax._core.text import show
from erasejax._core.types import Json
from erasejax.files._formats import Arrays, Format, Names, Opened, Shape
from erasejax.files._sources import Source
from erasejax.files._stored import Stored, Tensor, nothing

__all__ = ["DTYPES", "Entry", "Safetensors", "read_json", "read_tensors", "write_header"]

# What each dtype is in numpy.
DTYPES = {
    "BOOL": np.dtype(np.bool_),
    "U8": np.dtype("<u1"),
    "I8": np.dtype("<i1"),
    "U16": np.dtype("<u2"),
    "I16": np.dtype("<i2"),
    "U32": np.dtype("<u4"),
    "I32": np.dtype("<i4"),
    "U64": np.dtype("<u8"),
    "I64": np.dtype("<i8"),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
    "F8_E4M3FNUZ": np.dtype(ml_dtypes.float8_e4m3fnuz),
    "F8_E5M2FNUZ": np.dtype(ml_dtypes.float8_e5m2fnuz),
    "F8_E8M0": np.dtype(ml_dtypes.float8_e8m0fnu),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
    "C64": np.dtype("<c8"),
}
_PACKED = {"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6}  # bits each
_LONGEST_HEADER = 100_000_000  # bytes, as in the library


class Safetensors(Format):
    """Arrays with names; that of features is called x."""

    name = ".safetensors"
    dtypes = ("float64", "float32", "float16", "bfloat16")

    def open(self, source: Source) -> Arrays:
        """Describes the arrays."""
        entries = read_tensors(source.path)[1].items()
        return {name: functools.partial(entry.stored, source) for name, entry in entries}

    @contextlib.contextmanager
    def write(self, path: Path, shape: Shape, dtype: np.dtype, names: Names) -> Opened:
        """Opens a file for features."""
        kind = next(kind for kind, known in DTYPES.items() if known == dtype)
        size = math.prod(shape) * dtype.itemsize
        with open(path, "wb") as file:
            write_header(file, {"x": {"dtype": kind, "shape": shape, "data_offsets": [0, size]}})
            yield lambda block: file.write(block.tobytes())


class Entry(NamedTuple):
    """A tensor of a file.

    Attributes:
      shape: of the tensor.
      kind: its dtype as the file calls it.
      tensor: its numbers; None where there is no such dtype here, and then `problem` says so.
      problem: why the numbers cannot be read, or "".
    """

    shape: tuple[int, ...]
    kind: str
    tensor: Tensor | None
    problem: str

    def stored(self, source: Source) -> Stored:
        """Returns the tensor as one that is read when asked for."""
        if self.tensor is not None:
            return self.tensor.stored(source, self.kind)
        return Stored(source, self.shape, np.dtype(np.void), self.kind, self.problem, nothing)


def read_tensors(path: str | os.PathLike[str]) -> tuple[dict[str, str], dict[str, Entry]]:
    """Reads the header of a file.

    Args:
      path: a .safetensors file.

    Returns:
      The metadata, which are strings by name, and the tensors by name.

    Raises:
      ValueError: the file is damaged.
      OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        found = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        if found < 8 or length > min(_LONGEST_HEADER, found - 8):
            raise ValueError(f"its header should take {length} bytes and the file has {found}")
        text = file.read(length)
    header = read_json(text)
    if not isinstance(header, dict):
        raise ValueError("its header is no JSON object")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or any(type(v) is not str for v in metadata.values()):
        raise ValueError("its metadata are not strings")
    places = {name: _place(name, entry) for name, entry in header.items()}
    end = 0
    for name, (begin, size) in sorted(places.items(), key=lambda item: item[1]):
        if begin != end:
            raise ValueError(f"{show(name)} begins at byte {begin}, expected {end}")
        end += size
    if 8 + length + end != found:
        raise ValueError(f"it should take {8 + length + end} bytes and has {found}")
    start = 8 + length
    return metadata, {
        name: _entry(Path(path), start + places[name][0], entry) for name, entry in header.items()
    }


def write_header(file: BinaryIO, entries: Mapping[str, Json]) -> None:
    """Writes the header of a file, to a whole number of words."""
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little") + text)


def read_json(text: str | bytes) -> Json:
    """Parses JSON as its standard has it: every name once, and no NaN.

    Raises:
      ValueError: it is none, or is nested too deeply.
    """
    try:
        return json.loads(text, object_pairs_hook=_once, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("its JSON is nested too deeply") from None


def _once(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    """Returns a JSON object.

    Raises:
      ValueError: it has a name twice.
    """
    result = dict(pairs)
    if len(result) < len(pairs):
        raise ValueError("a name stands twice in its JSON")
    return result


def _refuse(text: str) -> NoReturn:
    """Refuses NaN and infinity.

    Raises:
      ValueError: always.
    """
    raise ValueError(f"{text} is no JSON")


def _place(name: str, entry: Json) -> tuple[int, int]:
    """Returns where the numbers of a tensor begin, and how many bytes they take.

    Raises:
      ValueError: the entry makes no sense.
    """
    wrong = ValueError(f"the entry of {show(name)} makes no sense")
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise wrong
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    whole = all(isinstance(part, list) for part in (shape, offsets))
    if not whole or any(type(i) is not int or not 0 <= i < 2**63 for i in shape + offsets):
        raise wrong
    if len(shape) > 32 or len(offsets) != 2 or offsets[0] > offsets[1] or type(dtype) is not str:
        raise wrong
    size = offsets[1] - offsets[0]
    if dtype in DTYPES or dtype in _PACKED:
        bits = _PACKED.get(dtype) or 8 * DTYPES[dtype].itemsize
        if 8 * size != bits * math.prod(shape):
            raise ValueError(f"{show(name)}, {dtype} {tuple(shape)}, has {size} bytes")
    return offsets[0], size


def _entry(path: Path, offset: int, entry: dict[str, Json]) -> Entry:
    shape, kind = tuple(entry["shape"]), entry["dtype"]
    if kind in DTYPES:
        return Entry(shape, kind, Tensor(path, offset, shape, DTYPES[kind]), "")
    if kind in _PACKED:
        problem = (
            f"it holds {kind}, several numbers to a byte, whose scales lie in another tensor; "
            "dequantise it and save it as float32"
        )
    else:
        problem = f"it holds {show(kind)}, a dtype unknown here; save it as float32"
    return Entry(shape, show(kind), None, problem)
