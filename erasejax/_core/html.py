"""HTML as text that is safe to put together: elements, rows and tables."""

from collections.abc import Iterable
from html import escape

__all__ = ["Html", "element", "join", "row"]

_VOID = {"img", "meta"}  # elements without an end


class Html(str):
    """A string that is HTML. Any other value is text, and escaped when it enters an element."""


def join(parts: Iterable[object], between: str = "") -> Html:
    """Returns Html and text one after another, with HTML between them."""
    return Html(between.join(p if isinstance(p, Html) else escape(str(p)) for p in parts))


def element(name: str, /, *content: object, **attributes: object) -> Html:
    """Returns an element.

    Args:
      name: of the element.
      *content: Html, or text.
      **attributes: text; one that is None is left out, and `class_` is `class`.
    """
    written = "".join(
        f' {key.rstrip("_")}="{escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Html(f"<{name}{written}>{join(content)}{'' if name in _VOID else f'</{name}>'}")


def row(keys: Iterable[object], cells: Iterable[object]) -> Html:
    """Returns a row of a table: what it is about, and its cells."""
    heads = [element("th", key, scope="row") for key in keys]
    return element("tr", *heads, *(element("td", cell) for cell in cells))
