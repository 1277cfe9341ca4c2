"""Whether a built site is whole: links in it lead somewhere, and no page loads from outside.

python -m sphinx docs site && python -m bench.pages.links site
"""

import argparse
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADED = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src"}


class _Page(HTMLParser):
    """What a page names and where it leads.

    Attributes:
      names: of places in it.
      links: where it leads.
      loads: what it loads as it is shown.
    """

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value for name, value in attrs if value}
        self.names |= {found[name] for name in ("id", "name") if name in found}
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        is_loaded = tag != "link" or found.get("rel") in ("stylesheet", "preload", "icon")
        if tag in LOADED and LOADED[tag] in found and is_loaded:
            self.loads.append(found[LOADED[tag]])


def faults(site: Path) -> list[str]:
    """Returns what is wrong, a line each."""
    every = (path for path in sorted(site.rglob("*.html")) if "_static" not in path.parts)
    pages = {path: _Page() for path in every}
    if not pages:
        return [f"{site} has no page"]
    for path, page in pages.items():
        page.feed(path.read_text(encoding="utf-8"))
    found = []
    for path, page in pages.items():
        where = path.relative_to(site)
        found += [f"{where} loads {url}" for url in page.loads if urlsplit(url).netloc]
        for url in [*page.links, *page.loads]:
            parts = urlsplit(url)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            if not target.exists():
                found.append(f"{where}: {url} is not there")
            elif parts.fragment and target in pages:
                if unquote(parts.fragment) not in pages[target].names:
                    found.append(f"{where}: {url} has no such place")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("site", type=Path)
    found = faults(parser.parse_args().site.resolve())
    print("\n".join(found) or "every link leads somewhere, and nothing is loaded from outside")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
