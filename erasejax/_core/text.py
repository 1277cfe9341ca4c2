"""Text from files, made safe for terminals.

Names of arrays, columns, classes and files may hold anything: line breaks that fake a line, escape
codes that move the cursor or change what was printed before, marks that turn the direction of
writing. Nothing of that reaches a terminal: what is not printable is shown by its code.
"""

import difflib
import io
import os
import sys
from collections.abc import Iterable, Sequence

__all__ = ["lines_of", "nearest", "plain", "prepare_streams", "show", "told_apart"]

_LONGEST = 60  # characters of a name that are shown


def show(name: str) -> str:
    """Returns a name as it should be printed: quoted where it would be misread.

    A name that is empty, begins or ends with a space, or holds anything that is not printable is
    quoted, with escapes. A long one is cut.

    Args:
      name: of a class, column, array or file.
    """
    cut = name if len(name) <= _LONGEST else f"{name[:_LONGEST]}..."
    return cut if cut.isprintable() and cut == cut.strip() and cut else repr(cut)


def plain(text: str) -> str:
    r"""Returns one line that is safe to print.

    Line breaks and tabs become spaces, one each. What else is not printable (terminal codes, marks
    of the direction of writing, halves of characters) becomes its escape, such as ``\x1b``.

    Args:
      text: anything.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else " " if c.isspace() else repr(c)[1:-1] for c in text)


def lines_of(text: object) -> str:
    """Returns lines that may hold names from files, each made safe by `plain`."""
    return "\n".join(map(plain, str(text).split("\n")))


def nearest(name: str, known: Iterable[str], *, cutoff: float = 0.6) -> list[str]:
    """Returns the names that somebody may have meant, the nearest first.

    Of those that share as many letters in order, the one with the same letters comes first: two
    that have changed places are one slip, a letter more and a letter less are two.

    Args:
      name: what was written.
      known: what there is.
      cutoff: of `difflib.get_close_matches`.
    """
    near = difflib.get_close_matches(name, list(known), n=5, cutoff=cutoff)
    return sorted(near, key=lambda one: sorted(one) != sorted(name))


def told_apart(names: Sequence[str]) -> list[str]:
    """Returns names without the file or folder that all of them are in.

    Args:
      names: of files and of arrays in them, such as "acts.npz:layer0" and "acts.npz:layer1", which
        become "layer0" and "layer1".
    """
    if len(names) < 2:
        return list(names)
    same = os.path.commonprefix(list(names))
    start = max(same.rfind(sign) for sign in (":", "/", os.sep)) + 1
    return [name[start:] for name in names]


def prepare_streams() -> None:
    """Makes printing never fail for want of a character, or of a stream.

    What the encoding of a terminal or a pipe lacks is printed by its code. A stream that was closed
    before the start is opened as one that forgets, under its own number: else the next file to be
    opened, which may be the output, would get that number, and with it what libraries print.
    """
    while (opened := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(opened)
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
