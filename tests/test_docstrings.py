"""Every public class and function shows an example, and the examples print what they say."""

import doctest
import inspect
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import erasejax as ej
import erasejax.sklearn

ROOMS = [ej, ej.datasets, ej.erasers, ej.metrics, ej.models, ej.probes, ej.sweep, ej.testing]
ROOMS += [ej.plot, ej.sklearn, ej.transport]
PUBLIC = {room: room.__all__ for room in ROOMS} | {ej.files: ["Format"]}
NAMES = {"ej": ej, "jax": jax, "jnp": jnp, "np": np}


def parsed(name, text):
    return doctest.DocTestParser().get_doctest(text, dict(NAMES), name, None, None)


def faults(test):
    """Returns what examples print that they do not say."""
    found = []
    doctest.DocTestRunner(verbose=False).run(test, out=found.append)
    return "".join(found)


def given(room):
    """Yields (name, thing) of what a room gives and the rooms before it do not."""
    rooms = list(PUBLIC)
    before = [getattr(r, name) for r in rooms[: rooms.index(room)] for name in PUBLIC[r]]
    for name in PUBLIC[room]:
        thing = getattr(room, name)
        if not inspect.ismodule(thing) and thing not in before:
            yield name, thing


@pytest.mark.quick(1)
@pytest.mark.parametrize("room", PUBLIC, ids=lambda room: room.__name__)
def test_examples_are_there_and_right(room, tmp_path, monkeypatch):
    for name, thing in given(room):
        test = parsed(name, inspect.getdoc(thing))
        assert test.examples, f"{room.__name__}.{name} has no example"
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)  # where examples write their files
        assert not faults(test)


def test_a_wrong_example_is_found():
    assert "Got:\n    2" in faults(parsed("wrong", ">>> 1 + 1\n3"))
    assert not faults(parsed("right", ">>> 1 + 1\n2"))


@pytest.mark.slow
def test_the_eraser_of_the_guide_works(monkeypatch):
    guide = Path(__file__).parent.parent / "CONTRIBUTING.md"
    code = re.search(r"```python\n(.*?)```", guide.read_text(), re.DOTALL)
    assert code is not None
    module = {"__name__": "strongest"}
    exec(compile(code[1], str(guide), "exec"), module)
    (name,) = module["__all__"]
    monkeypatch.setattr(ej.erasers, name, module[name], raising=False)
    test = parsed(name, inspect.getdoc(module[name]))
    assert test.examples
    assert not faults(test)
