"""Metrics of others, as columns of a sweep."""

import jax.numpy as jnp
import numpy as np
import pytest

import erasejax as ej
from erasejax import names
from erasejax.metrics import Metric
from tests.sweeps import TINY


class Wrong(Metric):
    name = "wrong"
    needs = frozenset({"classes"})

    def compute(self, probe, rows):
        return jnp.mean(probe.predict(rows.x) != rows.z)


class WithTask(Wrong):
    name = "with_task"
    needs = frozenset({"task"})


class Largest(Metric):
    name = "largest"
    of = "rows"

    def compute(self, rows):
        return jnp.max(jnp.abs(rows.x))


class Moved(Metric):
    name = "moved"
    of = "change"

    def compute(self, before, after):
        return jnp.max(jnp.abs(before - after))


class Dims(Metric):
    name = "dims"
    of = "eraser"

    def compute(self, eraser):
        return jnp.int32(eraser.center.shape[0])


class Ones(Metric):
    name = "ones"
    of = "labels"

    def compute(self, rows):
        return jnp.sum(rows.z)


OWN = {kind.name: kind for kind in (Wrong, WithTask, Largest, Moved, Dims, Ones)}
SPEC = {**TINY, "metrics": ["accuracy", *OWN]}


@pytest.fixture
def known(monkeypatch):
    for name, kind in OWN.items():
        monkeypatch.setitem(names._registered, ("metric", name), kind)


@pytest.mark.slow
def test_metrics_of_others_are_columns(known, tmp_path):
    found = ej.sweep.run(SPEC, out=tmp_path)
    spread = [f"{name}_{p}" for name in ("accuracy", *list(OWN)[:4]) for p in ("fitting", "fresh")]
    assert found.columns == (*spread, "dims", "ones", "status")
    frame = found.to_pandas()
    for protocol in ("fitting", "fresh"):
        right = frame[f"accuracy_{protocol}"] + frame[f"wrong_{protocol}"]
        np.testing.assert_allclose(right, 1, rtol=1e-6)
        assert frame[f"with_task_{protocol}"].isna().all()
        assert (frame[f"moved_{protocol}"] > 0).equals(frame.eraser == "mean-difference")
    assert (frame.ones == TINY["dataset"]["rows"]).all()
    assert (frame.dims > 1).all()
    assert (frame.largest_fitting > 0).all()


@pytest.mark.slow
def test_the_prefix_of_a_task_goes_before_metrics_of_others(known, tmp_path):
    spec = {
        **TINY,
        "dataset": {"name": "two-concepts", "rows": 12, "dims": 3},
        "protocols": "fresh",
    }
    found = ej.sweep.run(
        {**spec, "metrics": ["task_accuracy", "task_wrong", "with_task"]}, out=tmp_path
    ).to_pandas()
    np.testing.assert_allclose(found.task_accuracy_fresh + found.task_wrong_fresh, 1, rtol=1e-6)
    assert found.with_task_fresh.notna().all()
    with pytest.raises(ValueError, match="unknown 'task_dims'"):
        ej.sweep.grid({**spec, "metrics": "task_dims"})


@pytest.mark.slow
def test_a_metric_that_is_not_known_is_said(monkeypatch, tmp_path):
    with pytest.raises(ValueError, match="metrics: unknown 'wrong'"):
        ej.sweep.grid({**TINY, "metrics": ["accuracy", "wrong"]})
    with monkeypatch.context() as patch:
        patch.setitem(names._registered, ("metric", "wrong"), Wrong)
        ej.sweep.run({**TINY, "metrics": ["accuracy", "wrong"]}, out=tmp_path)
    with pytest.raises(ValueError, match="unknown metric 'wrong'"):
        ej.sweep.open(tmp_path)
