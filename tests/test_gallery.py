"""The gallery runs as it is printed, and has a picture for every method and claim."""

import inspect
import re

import numpy as np
import pytest

import erasejax as ej
from bench.pages import gallery

BLOCKS = gallery.blocks()
TEXT = gallery.PAGE.read_text()


def test_every_picture_is_there_and_said_in_words():
    drawn = [(alt, file) for _, alt, file in BLOCKS if file]
    assert len(drawn) == TEXT.count("![") == len({file for _, file in drawn})
    for alt, file in drawn:
        assert len(alt) > 40, file
        assert (gallery.PAGE.parent / "figures" / file).read_bytes().startswith(b"\x89PNG")
    found = {path.name for path in (gallery.PAGE.parent / "figures").glob("gallery-*.png")}
    assert found == {file for _, file in drawn}


def test_code_is_short():
    for code, _, file in BLOCKS:
        assert len(code.splitlines()) <= 14, file
        assert max(map(len, code.splitlines())) <= 100, file


def test_every_method_and_claim_has_a_picture():
    base = ej.erasers.Eraser
    for name in ej.erasers.__all__:
        cls = getattr(ej.erasers, name)
        if inspect.isclass(cls) and issubclass(cls, base) and hasattr(cls, "name"):
            assert f"`{name}`" in TEXT, name
    claims = (gallery.PAGE.parent / "claims.md").read_text()
    for letter in re.findall(r"^## \((\w)\)", claims, re.MULTILINE):
        assert f"### ({letter}) " in TEXT


@pytest.mark.slow
def test_the_page_draws_its_pictures():
    found = dict(gallery.pictures())
    assert list(found) == [file for _, _, file in BLOCKS if file]
    for file, ax in found.items():
        panels = ax.child_axes or [ax]
        points = [line.get_ydata() for panel in panels for line in panel.lines]
        points += [np.asarray(c.get_offsets()) for panel in panels for c in panel.collections]
        points += [np.asarray(image.get_array()) for panel in panels for image in panel.images]
        assert sum(np.isfinite(np.asarray(p, float)).sum() for p in points) > 4, file
