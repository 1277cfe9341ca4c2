"""The parts of pages: text is escaped wherever it enters, HTML is not."""

import base64
from html.parser import HTMLParser

import pytest

import erasejax as ej
from erasejax.pages import _html as html
from erasejax.pages import report
from tests.sweeps import TINY

BAD = "<b>\"&'"
ESCAPED = "&lt;b&gt;&quot;&amp;&#x27;"


class Tags(HTMLParser):
    """Reads a document, and holds that every element ends where it should."""

    def __init__(self, text):
        super().__init__()
        self.open, self.seen = [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        if tag not in {"img", "meta", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.mark.parametrize(
    "written",
    [
        html.element("p", BAD),
        html.join([BAD]),
        html.image(BAD, BAD),
        html.figure(html.Html("<i></i>"), BAD),
        html.download(BAD, ""),
        html.details(BAD, BAD),
        html.row([BAD], [BAD]),
        html.page(BAD, BAD),
    ],
)
def test_text_is_escaped(written):
    assert BAD not in written
    assert ESCAPED in written
    assert "b" not in Tags(written).seen


def test_html_is_not_escaped_again():
    inner = html.element("i", BAD)
    assert html.element("p", inner, class_="tiny") == f'<p class="tiny"><i>{ESCAPED}</i></p>'
    assert isinstance(html.join([inner, 1], "<br>"), html.Html)
    assert html.join([inner, 1], "<br>") == f"{inner}<br>1"


def test_a_table_has_its_parts():
    head = [html.element("tr", html.element("th", "a", colspan=2))]
    body = [html.row(["b"], [1])]
    seen = Tags(html.table(head, body, body, parts=[1, 1])).seen
    assert seen.count("colgroup") == seen.count("tbody") == 2
    assert seen.count("td") == 2


def test_a_download_holds_its_text():
    link = html.download("a.csv", "x,ä\n")
    assert base64.b64decode(link.split("base64,")[1].split('"')[0]).decode() == "x,ä\n"


@pytest.mark.slow
def test_the_page_of_a_sweep_is_well_formed(tmp_path):
    ej.sweep.run(TINY, out=tmp_path)
    page = report(tmp_path, tmp_path / "page.html", title=BAD).read_text(encoding="utf-8")
    assert page.count(f"<title>{ESCAPED}</title>") == page.count(f"<h1>{ESCAPED}</h1>") == 1
    seen = Tags(page).seen
    assert seen.count("style") == seen.count("html") == 1
    assert seen.count("figure") == seen.count("img") == 3
