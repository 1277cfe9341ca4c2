"""The page of the claims runs as it is printed, and prints what it says."""

import contextlib
import io
import re
from pathlib import Path

import numpy as np
import pytest

PAGE = Path(__file__).parent.parent / "docs" / "claims.md"
BLOCK = re.compile(r"```python\n(.*?)```\n(?:\n```text\n(.*?)```\n)?", re.DOTALL)
NUMBER = re.compile(r"-?\d+\.\d+")


@pytest.mark.slow
def test_the_page_prints_what_it_says():
    blocks = BLOCK.findall(PAGE.read_text())
    assert len(blocks) == 11
    session: dict = {}
    for code, expected in blocks:
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(code, str(PAGE), "exec"), session)
        printed = out.getvalue()
        # The words to the letter; accuracies may differ by a few rows between machines.
        assert NUMBER.sub("#", printed) == NUMBER.sub("#", expected)
        ours, theirs = (np.array(NUMBER.findall(t), float) for t in (printed, expected))
        np.testing.assert_allclose(ours, theirs, atol=0.01)


def test_the_pictures_of_the_page_are_there():
    pictures = re.findall(r"\]\((figures/[^)]*)\)", PAGE.read_text())
    assert len(pictures) == 7
    assert all((PAGE.parent / picture).is_file() for picture in pictures)
