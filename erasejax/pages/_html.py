"""The parts that pages are made of, as HTML."""

import base64
from collections.abc import Iterable

from erasejax._core.html import Html, element, join, row
from erasejax.pages._style import CSS

__all__ = [
    "Html",
    "data_url",
    "details",
    "download",
    "element",
    "figure",
    "image",
    "join",
    "page",
    "row",
    "table",
]

def page(title: str, *body: object) -> Html:
    """Returns a whole document, with the style of all pages."""
    head = [
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", title),
        element("style", Html(CSS)),
    ]
    content = element("body", join([element("h1", title), *body], "\n"))
    text = element("html", element("head", join(head, "\n")), "\n", content, lang="en")
    return Html(f"<!doctype html>\n{text}\n")


def data_url(kind: str, content: bytes) -> str:
    """Returns an address that holds the content itself, of a media type."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def download(name: str, text: str) -> Html:
    """Returns a link that saves a CSV file, which the page holds."""
    return element("a", name, download=name, href=data_url("text/csv", text.encode()))


def image(source: str, alt: str) -> Html:
    """Returns a picture, with words for those who cannot see it."""
    return element("img", src=source, alt=alt)


def figure(picture: Html, *caption: object) -> Html:
    """Returns a picture with its caption."""
    scrolls = element("div", picture, class_="wide")
    return element("figure", scrolls, element("figcaption", *caption))


def details(summary: object, *content: object, folded: bool = False) -> Html:
    """Returns content that can be folded away; it is open at first unless it is `folded`."""
    return element("details", element("summary", summary), *content, open=None if folded else "")


def table(
    head: Iterable[Html],
    *bodies: Iterable[Html],
    parts: Iterable[int] = (),
    class_: str | None = None,
) -> Html:
    """Returns a table.

    Args:
      head: rows of headings.
      *bodies: rows of each group of rows.
      parts: how many columns each part has; a line stands between parts.
      class_: short for one that fits a narrow screen, text for one whose cells are text.
    """
    content = [element("colgroup", span=columns) for columns in parts]
    content.append(element("thead", *head))
    content += [element("tbody", *rows) for rows in bodies]
    return element("div", element("table", *content, class_=class_), class_="wide")
