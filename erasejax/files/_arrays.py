"""Arrays of any shape from files that are no tables: .npy, .npz and .safetensors."""

import contextlib
from collections.abc import Callable, Generator

import numpy as np

from erasejax._core.text import show
from erasejax.files._npy import archive_names, open_archive, open_archived, open_npy
from erasejax.files._sources import MessageError, Source, readable
from erasejax.files._stored import Stored, nothing, stored_tensor
from erasejax.files._tensors import read_tensors

__all__ = ["open_array", "opened", "read_array"]


@contextlib.contextmanager
def opened(source: Source) -> Generator[tuple[list[str], Callable[[str], Stored]], None, None]:
    """Opens a .npz or .safetensors file.

    Args:
      source: the file.

    Yields:
      The names of its arrays in the order of the file, and a function that describes one of them,
      or raises what `readable` turns into a message.
    """
    if source.kind == ".npz":
        with open_archive(source) as archive:
            yield archive_names(archive), lambda name: open_archived(source, archive, name)
        return
    entries = read_tensors(source.path)[1]

    def describe(name: str) -> Stored:
        shape, kind, tensor, problem = entries[name]
        if tensor is None:
            return Stored(source, shape, np.dtype(np.void), kind, problem, nothing)
        return stored_tensor(source, tensor, kind)

    yield list(entries), describe


def open_array(source: Source) -> Stored:
    """Describes the array that is meant, before its numbers are read.

    Args:
      source: a file that is no table.

    Raises:
      MessageError: the file is damaged, has no such array, or several and none is named.
    """
    if source.is_table:
        raise MessageError(f"{source}: expected an array, got a table")
    with readable(source):
        if source.kind == ".npy":
            return open_npy(source)
        with opened(source) as (names, describe):
            return describe(_choose(source, names))


def read_array(source: Source) -> np.ndarray:
    """Returns an array of any shape; of a .npy or .safetensors file as a memory map.

    Args:
      source: a file that is no table.

    Raises:
      MessageError: the file is damaged, has no such array, or several and none is named.
    """
    return open_array(source).array()


def _choose(source: Source, names: list[str]) -> str:
    """Returns which array of a file is meant.

    Raises:
      MessageError: it does not exist, or there are several and none is named.
    """
    if source.part is None and len(names) == 1:
        return names[0]
    if source.part in names:
        return str(source.part)
    known = ", ".join(show(name) for name in sorted(names)[:8]) + (", ..." if names[8:] else "")
    if not names:
        raise MessageError(f"{source}: holds no arrays")
    if source.part is None:
        raise MessageError(
            f"{source}: holds {known}; name one as {show(f'{source.path}:{names[0]}')}"
        )
    raise MessageError(f"{source.path}: has no array {source.part!r}; it holds {known}")
