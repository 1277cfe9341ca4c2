"""A warning points to the line of the user."""

import inspect
import warnings

import jax
import numpy as np
import pytest

import erasejax as ej
from erasejax._core.warn import warn

X = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
WHOLE = (np.arange(40) % 2).astype(np.float32)
# Without what tests put around public functions, `tests.typed`.
recursive, linear_r2 = map(inspect.unwrap, (ej.probes.recursive, ej.metrics.linear_r2))
CALLS = {
    "an eraser": lambda: ej.LEACE().fit(X, WHOLE),
    "probes": lambda: recursive(ej.probes.LeastSquares(), X, WHOLE, rounds=1),
    "a metric": lambda: linear_r2(X, WHOLE),
    "a lane": lambda: jax.vmap(lambda s: ej.LEACE(shrinkage=s).fit(X, WHOLE))(np.ones(2, "f4")),
}


def line_of(function):
    return inspect.getsourcelines(function)[1]


@pytest.mark.quick(1)
@pytest.mark.parametrize("name", CALLS)
def test_it_is_the_line_that_calls(name):
    with pytest.warns(UserWarning, match="whole numbers") as caught:
        CALLS[name]()
    assert {(found.filename, found.lineno) for found in caught} == {
        (__file__, line_of(CALLS[name]))
    }


def test_it_is_the_line_that_loads(tmp_path):
    path = tmp_path / "rows.safetensors"
    ej.save({"rows": np.ones((2, 2))}, path)
    load_file = inspect.unwrap(ej.load)
    load = lambda: load_file(path)  # noqa: E731
    with pytest.warns(UserWarning, match="64-bit") as caught:
        load()
    assert [(found.filename, found.lineno) for found in caught] == [(__file__, line_of(load))]


def test_a_kind_of_warning_is_kept():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn("late", DeprecationWarning)
    assert [(found.category, found.filename) for found in caught] == [
        (DeprecationWarning, __file__)
    ]
