"""The example of docs/models.md runs."""

import re
from pathlib import Path

import numpy as np

import erasejax as ej

PAGE = Path(__file__).parents[2] / "docs" / "models.md"


def test_the_example_runs():
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    names = {}
    exec(compile(code, str(PAGE), "exec"), names)
    moments, eraser = names["acts"]["layers.0"].moments, names["eraser"]
    assert float(moments.total) == names["mask"].sum()
    after = ej.metrics.certify(eraser, moments).after
    assert np.all(np.asarray(after) == 0)
