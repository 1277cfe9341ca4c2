"""The site builds without a warning, its links lead somewhere, and no page loads from outside."""

import importlib.util
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import erasejax as ej
from bench.pages import links

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_it_is_whole(tmp_path):
    for package in ("sphinx", "myst_nb", "sphinx_book_theme"):
        pytest.importorskip(package)
    # The notebooks are executed by tests of their own.
    command = [sys.executable, "-m", "sphinx", "-W", "-q", "-D", "nb_execution_mode=off"]
    built = [*command, "-d", str(tmp_path / "trees"), "docs", str(tmp_path / "site")]
    done = subprocess.run(built, cwd=ROOT, capture_output=True, text=True, timeout=800)
    assert done.returncode == 0, done.stderr[-2000:]
    assert not links.faults(tmp_path / "site")


def test_a_broken_link_is_found(tmp_path):
    (tmp_path / "a.html").write_text('<h1 id="here">a</h1><a href="b.html#there">b</a>')
    (tmp_path / "b.html").write_text('<a href="a.html#here">a</a><a href="c.html">c</a>')
    assert links.faults(tmp_path) == [
        "a.html: b.html#there has no such place",
        "b.html: c.html is not there",
    ]
    (tmp_path / "b.html").write_text('<i id="there"></i><script src="https://x.org/y.js"></script>')
    assert links.faults(tmp_path) == ["b.html loads https://x.org/y.js"]


def test_a_site_that_was_not_built_is_not_whole(tmp_path):
    assert links.faults(tmp_path) == [f"{tmp_path} has no page"]


def test_every_public_room_has_a_page():
    spec = importlib.util.spec_from_file_location("_reference", ROOT / "docs/_reference.py")
    assert spec is not None
    assert spec.loader is not None
    reference = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reference)
    rooms = {f"erasejax.{name}" for name in ej.__all__ if inspect.ismodule(getattr(ej, name))}
    assert rooms <= set(reference.ROOMS)
