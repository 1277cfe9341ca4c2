"""Metrics say what they are of and what they need, and are found by their names."""

from pathlib import Path

import jax
import numpy as np
import pytest

import erasejax as ej
from erasejax import names
from erasejax.metrics import Metric, offered
from tests.common import draw

X, Z = draw(0, 40, 3, 2)


BY_GROUP = {
    "demographic_parity_difference",
    "demographic_parity_ratio",
    "equalized_odds_difference",
    "tpr_gap",
    "worst_group_accuracy",
}


@pytest.mark.slow
def test_metrics_are_the_functions_of_their_names():
    data = ej.Dataset(x=X, z=Z, num_classes=2)
    eraser = ej.LEACE().fit(data)
    probe = ej.probes.Logistic().fit(data)
    regression = ej.probes.LeastSquares().fit(data)
    given = {
        "rows": (data,),
        "change": (X, np.asarray(eraser(X))),
        "eraser": (eraser,),
        "labels": (data,),
    }
    for name, kind in names.known("metric").items():
        if name in BY_GROUP or kind.of == "fit":  # the latter in test_probing
            continue
        reader = regression if name == "r2" else probe
        found = kind().compute(*given.get(kind.of, (reader, data)))
        if kind.of == "eraser":
            assert int(found) == 1
            continue
        arguments = {"probe": (reader, X, Z), "rows": (X, Z), "change": given["change"]}
        expected = getattr(ej.metrics, name)(*arguments.get(kind.of, (Z,)))
        assert float(found) == pytest.approx(float(expected), rel=1e-6), name
        assert found.shape == ()


@pytest.mark.slow
def test_metrics_by_group_are_the_functions_of_their_names():
    groups = np.arange(len(Z)) % 3
    task = np.eye(3, dtype=np.float32)[groups]
    data = ej.Dataset(x=X, z=Z, num_classes=2, task=task)
    probe = ej.probes.Logistic().fit(X, Z)
    predicted = probe.predict(X)
    for name in BY_GROUP:
        found = names.known("metric")[name]().compute(probe, data)
        given = (predicted,) if name.startswith("demographic") else (predicted, Z)
        expected = getattr(ej.metrics, name)(*given, groups=groups)
        assert float(found) == pytest.approx(float(expected), rel=1e-6), name
        assert found.shape == ()


def test_the_guide_names_every_metric():
    guide = (Path(__file__).parents[2] / "docs" / "sweeps.md").read_text()
    assert not [name for name in names.known("metric") if f"`{name}`" not in guide]


def test_what_there_is():
    data = ej.Dataset(x=X, z=Z, num_classes=2)
    assert offered(data) == {"classes"}
    real = ej.Dataset(x=X, z=X[:, 0], task=Z)
    assert offered(real) == {"task"}
    for probe, more in (
        (ej.probes.Logistic(), {"likelihood"}),
        (ej.probes.LeastSquares(), {"values"}),
        (ej.probes.LinearSVM(), set()),
    ):
        fitted = probe.fit(data)
        assert offered(data, probe, fitted) == {"classes", *more}
        for name, kind in names.known("metric").items():
            if kind.of == "probe" and kind.needs <= offered(data, probe, fitted):
                assert np.isfinite(kind().compute(fitted, data)), name


def test_metrics_of_others_are_read_when_asked_for(monkeypatch):
    class Mine(Metric):
        name = "mine"

    assert "mine" not in names.known("metric")
    monkeypatch.setitem(names._registered, ("metric", "mine"), Mine)
    assert names.known("metric")["mine"] is Mine
    assert list(names.known("metric"))[:2] == ["accuracy", "balanced_accuracy"]


def test_a_metric_is_what_it_is_of_and_its_fields():
    kind = names.known("metric")["expected_calibration_error"]
    assert kind() == kind(bins=15) != kind(bins=3)
    probe = ej.probes.Logistic().fit(X, Z)
    data = ej.Dataset(x=X, z=Z, num_classes=2)
    found = jax.jit(lambda: kind(bins=3).compute(probe, data))()
    expected = ej.metrics.expected_calibration_error(probe, X, Z, bins=3)
    assert float(found) == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize(
    ("words", "message"),
    [({"of": "prob"}, "expected one of"), ({"needs": frozenset({"class"})}, r"got \['class'\]")],
)
def test_slips_are_told_where_a_metric_is_written(words, message):
    with pytest.raises(TypeError, match=message):
        type("Mine", (Metric,), {"name": "mine", **words})
