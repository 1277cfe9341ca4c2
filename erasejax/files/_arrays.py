"""Arrays of any shape from files that are no tables."""

import numpy as np

from erasejax._core.text import show
from erasejax.files._sources import MessageError, Source, readable
from erasejax.files._stored import Stored

__all__ = ["open_array", "read_array"]


def open_array(source: Source) -> Stored:
    """Describes the array that is meant, before its numbers are read.

    Args:
      source: a file that is no table.

    Raises:
      MessageError: the file is damaged, has no such array, or several and none is named.
    """
    if source.format.is_table:
        raise MessageError(f"{source}: expected an array, got a table")
    with readable(source):
        arrays = source.format.open(source)
        return arrays[_choose(source, list(arrays))]()


def read_array(source: Source) -> np.ndarray:
    """Returns an array of any shape, as a memory map where the file holds it as it is.

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
