"""Text from files, made safe for terminals.

Names of arrays, columns, classes and files may hold anything: line breaks that fake a line, escape
codes that move the cursor or change what was printed before, marks that turn the direction of
writing. Nothing of that reaches a terminal: what is not printable is shown by its code.
"""

__all__ = ["plain", "show"]

_LONGEST = 200  # characters of a name that are shown


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
    """Returns one line that is safe to print.

    Line breaks and tabs become spaces. What else is not printable (terminal codes, marks of the
    direction of writing, halves of characters) becomes its escape, such as ``\\x1b``.

    Args:
      text: anything.
    """
    line = " ".join(text.split())
    if line.isprintable():
        return line
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)
