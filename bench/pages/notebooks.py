"""Notebooks for Colab, without outputs, from the pages in docs/notebooks.

python -m bench.pages.notebooks            # each NAME.md to NAME.ipynb beside it
python -m bench.pages.notebooks --out DIR
"""

import argparse
from pathlib import Path
from typing import Any

import jupytext
import nbformat

__all__ = ["FOLDER", "as_notebook", "pages", "read"]

FOLDER = Path(__file__).parents[2] / "docs/notebooks"


def pages() -> list[Path]:
    """Returns the pages that are notebooks."""
    return sorted(path for path in FOLDER.glob("*.md") if path.stem != "index")


def read(page: Path) -> Any:
    """Returns the cells of a page, as nbformat holds them."""
    found = jupytext.read(page)
    found.metadata = {
        "kernelspec": found.metadata["kernelspec"],
        "language_info": {"name": "python"},
    }
    for number, cell in enumerate(found.cells):
        cell.id = f"cell-{number}"  # not drawn at random: the same page gives the same file
    return found


def as_notebook(page: Path) -> str:
    """Returns the text of the notebook that a page is."""
    return nbformat.writes(read(page), version=4) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=FOLDER)
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    for page in pages():
        path = out / f"{page.stem}.ipynb"
        path.write_text(as_notebook(page), encoding="utf-8")
        print(path)


if __name__ == "__main__":
    main()
