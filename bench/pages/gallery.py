"""The pictures of docs/gallery.md, by its own code.

python -m bench.pages.gallery
"""

import argparse
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from erasejax.plot import save

PAGE = Path(__file__).parents[2] / "docs" / "gallery.md"
# A block of code, and the picture behind it if there is one.
BLOCK = re.compile(r"```python\n(.*?)```\n(?:\n!\[([^]]*)\]\(figures/([^)]*)\)\n)?", re.DOTALL)


def blocks(page: Path = PAGE) -> list[tuple[str, str, str]]:
    """Returns (code, alt text, file) of every block; the last two empty where it draws nothing."""
    return BLOCK.findall(page.read_text())


def pictures(page: Path = PAGE) -> Iterator[tuple[str, Any]]:
    """Yields (file, axes) of every picture, in a folder for what the code writes."""
    session: dict[str, Any] = {}
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            for code, _, file in blocks(page):
                session.pop("ax", None)
                exec(compile(code, str(page), "exec"), session)
                if file:
                    yield file, session["ax"]
        finally:
            os.chdir(here)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=PAGE.parent / "figures")
    out = parser.parse_args().out.resolve()
    for file, ax in pictures():
        save(ax.figure, out / file)
        print(out / file)


if __name__ == "__main__":
    main()
