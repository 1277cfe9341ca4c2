"""Files of the same rows: the layers of a model, by names and patterns."""

import glob
import os
import re
from collections.abc import Sequence
from fnmatch import fnmatchcase

from erasejax._core.text import show
from erasejax.files._sources import find_format, parse, readable, split_part

__all__ = ["find_layers"]


def find_layers(specs: Sequence[str | os.PathLike[str]]) -> tuple[str, ...]:
    """Returns the names of files, and of arrays in them, that names and patterns mean.

    What a pattern matches comes in the order of the numbers in the names, layer 2 before layer 10.

    Args:
      specs: names of files as `parse` knows them; patterns such as "layer*.npy"; and patterns of
        arrays, such as "acts.npz:layer*". What stands behind a table's colon are its columns.

    Raises:
      FileNotFoundError: a pattern matches no file.
      ValueError: a pattern matches no array, or one is named twice.
    """
    found: list[str] = []
    for spec in specs:
        path, part = split_part(os.fspath(spec))
        paths = [path]
        if glob.has_magic(path) and not os.path.exists(path):
            paths = sorted(glob.glob(path, recursive=True), key=_numbers)
            if not paths:
                raise FileNotFoundError(f"{path}: no file matches")
        for name in paths:
            found += [name] if part is None else [f"{name}:{own}" for own in _parts(name, part)]
    if twice := [name for name in found if found.count(name) > 1]:
        raise ValueError(f"{twice[0]}: is named twice")
    return tuple(found)


def _parts(path: str, part: str) -> list[str]:
    """Returns the arrays of a file that a name or a pattern means.

    Raises:
      ValueError: a pattern means none.
    """
    if not glob.has_magic(part) or find_format(path).is_table:
        return [part]
    source = parse(path)
    with readable(source):
        names = list(source.format.open(source))
    if part in names:
        return [part]
    found = sorted((name for name in names if fnmatchcase(name, part)), key=_numbers)
    if not found:
        known = ", ".join(show(name) for name in sorted(names)[:8])
        raise ValueError(f"{path}: no array matches {part!r}; it holds {known}")
    return found


def _numbers(name: str) -> list[tuple[int, str]]:
    """Returns what sorts names by the numbers in them."""
    pieces = re.split(r"(\d+)", name)  # text and numbers in turn
    return [(int(piece), "") if i % 2 else (0, piece) for i, piece in enumerate(pieces)]
