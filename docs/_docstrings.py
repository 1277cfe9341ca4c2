"""Docstrings are plain text in Google's style; Sphinx reads reStructuredText.

What is a mark there, and no mark here (|weight|, x * y, a trailing underscore), is escaped, except
in backticks, in examples, and in blocks after "::".
"""

import re

__all__ = ["is_not_ours", "plain_text"]

_CODE = re.compile(r"(``.+?``|`[^`]+`)")
_MARK = re.compile(r"([*|\\]|(?<=\w)_(?=\W|$))")


def plain_text(
    app: object, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    """Escapes marks, line by line, in place; the signature is Sphinx's."""
    block: int | None = None  # the indentation of what introduced a literal block
    example = False
    for i, line in enumerate(lines):
        indent = len(line) - len(line.lstrip())
        if not line.strip():
            example = False
            continue
        if block is not None and indent > block:
            continue
        block = None
        example = example or line.lstrip().startswith(">>>")
        if example:
            continue
        pieces = _CODE.split(line)
        lines[i] = "".join(
            piece if n % 2 else _MARK.sub(r"\\\1", piece) for n, piece in enumerate(pieces)
        )
        if line.rstrip().endswith("::"):
            block = indent


def is_not_ours(
    app: object, what: str, name: str, obj: object, skip: bool, options: object
) -> bool | None:
    """Leaves out what others put into our classes, such as scikit-learn's requests.

    And the fields of named tuples, whose docstring is a number; the class says what they are.
    """
    ours = str(getattr(obj, "__module__", "erasejax")).startswith("erasejax")
    field = str(getattr(obj, "__doc__", "")).startswith("Alias for field number")
    return None if ours and not field else True
