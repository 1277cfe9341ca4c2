"""Tables of sweeps: their statistics, and that a large one needs little memory."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import erasejax as ej
from erasejax.sweep._blocks import blocks, numerics
from erasejax.sweep._grid import grid
from erasejax.sweep._store import Store
from erasejax.sweep._summary import summarised
from tests.sweeps import TINY

FAILED = int(ej.Status.CONSTANT_CONCEPT)


def fill(spec, folder, failing=0.0, seed=0):
    """Stores a sweep of numbers that are made up."""
    store, asked, now = Store(folder, create=True), grid(spec), numerics()
    store.write_manifest(asked, now)
    generator = np.random.default_rng(seed)
    with ThreadPoolExecutor(4) as pool:
        done = []
        for product in asked.parts:
            for block in blocks(product):
                seeds = block.last - block.first
                failed = generator.random(seeds) < failing
                columns = {
                    name: np.where(failed, np.nan, generator.random(seeds)).astype(np.float32)
                    for name in block.columns.names
                }
                columns["status"] = np.where(failed, FAILED, 0).astype(np.uint32)
                done.append(pool.submit(store.write, block, now, columns))
        for each in done:
            each.result()


def test_the_statistics_are_those_of_the_numbers():
    generator = np.random.default_rng(0)
    values = generator.normal(size=200)
    status = np.where(np.arange(200) % 7 == 0, FAILED, 1 << 16).astype(np.uint32)
    holes = np.where(np.arange(200) % 3 == 0, np.nan, values)
    infinite = np.where(np.arange(200) < 40, np.inf, values)
    cells = [
        {"a": values, "b": holes, "c": infinite, "status": status},
        {"a": values[:1], "b": holes[:1], "c": infinite[:1], "status": np.zeros(1, np.uint32)},
        {"a": values[:2], "b": holes[:2], "c": infinite[:2], "status": np.full(2, FAILED)},
    ]
    found = summarised([cell.__getitem__ for cell in cells], ["a", "b", "c"])
    for name, whole in (("a", values), ("b", holes)):
        own = whole[(status & 0xFFFF) == 0]
        own = own[~np.isnan(own)]
        wanted = {"mean": own.mean(), "sd": own.std(ddof=1), "count": len(own)}
        wanted["se"] = own.std(ddof=1) / np.sqrt(len(own))
        wanted |= {f"q{q:02d}": np.quantile(own, q / 100) for q in (5, 50, 95)}
        for statistic, value in wanted.items():
            np.testing.assert_allclose(found[name, statistic][0], value, rtol=1e-12)
    assert found["c", "mean"][0] == np.inf
    assert np.isfinite(found["c", "q50"][0])
    assert found["c", "q95"][0] == np.inf
    assert found["a", "mean"][1] == found["a", "q05"][1] == values[0]
    assert np.isnan(found["a", "sd"][1])
    assert np.isnan(found["b", "mean"][1])  # seed 0 is a hole
    assert found["b", "count"].tolist() == [114, 0, 0]
    assert np.isnan(found["a", "q50"][2])
    assert found["trials", "count"].tolist() == [200, 1, 2]
    assert found["trials", "failed"].tolist() == [29, 0, 2]


@pytest.mark.parametrize("width", [2**22, 1000], ids=["together", "one after another"])
def test_a_streamed_summary_is_that_of_the_table(tmp_path, width, monkeypatch):
    monkeypatch.setattr("erasejax.sweep._summary._AT_ONCE", width)
    probe = ["least-squares", {"name": "logistic", "l2": [0.1, 1.0]}]  # an axis that one lacks
    spec = {**TINY, "probe": probe, "seeds": 3000, "labels": ["true", "permuted"]}
    fill(spec, tmp_path, failing=0.2)
    found = ej.sweep.open(tmp_path)
    frame = found.to_pandas()
    streamed, whole = found.summary(), found.summary(frame)
    assert len(streamed) == 2 * 3 * 2
    assert streamed.equals(whole)
    by_pandas = frame.groupby(list(streamed.index.names), dropna=False, observed=True, sort=False)
    for statistic in ("mean", "count"):
        wanted = getattr(by_pandas["accuracy_fresh"], statistic)()
        assert wanted.index.equals(streamed.index)
        np.testing.assert_allclose(streamed["accuracy_fresh", statistic], wanted, rtol=1e-5)
    wanted = by_pandas["accuracy_fresh"].quantile(0.05)
    np.testing.assert_allclose(streamed["accuracy_fresh", "q05"], wanted, rtol=1e-6)


_MEASURED = r"""
import json, re, sys, time
import erasejax as ej
start = time.perf_counter()
found = ej.sweep.open(sys.argv[1])
opened = time.perf_counter()
missing = len(found.missing())
listed = time.perf_counter()
summary = found.summary()
print(json.dumps({
    "open": opened - start,
    "missing": listed - opened,
    "summary": time.perf_counter() - listed,
    "kB": int(re.search(r"VmHWM:\s*(\d+)", open("/proc/self/status").read()).group(1)),
    "lacking": missing,
    "cells": len(summary),
    "trials": int(summary["trials", "count"].sum()),
}))
"""


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux how much memory was used")
@pytest.mark.parametrize("cells", [10_000, 10])
def test_ten_million_trials_fit_a_gigabyte(tmp_path, cells):
    spec = {
        "dataset": {
            "name": "gaussian-classes",
            "separation": [1 + i / 1000 for i in range(cells // 10)],
        },
        "eraser": ["identity", "leace"],
        "probe": {"name": "logistic", "l2": [0.01, 0.1, 1.0, 10.0, 100.0]},
        "seeds": 10_240_000 // cells,
    }
    fill(spec, tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED, str(tmp_path)], capture_output=True, check=True, text=True
    )
    found = json.loads(done.stdout)
    print(found)
    assert found["lacking"] == 0
    assert found["cells"] == cells
    assert found["trials"] >= 10_000_000
    assert found["kB"] < 10**6


@pytest.mark.quick(1)
@pytest.mark.parametrize(
    ("rows", "known"), [([[6, 6]], 2), ([[4, 8]], None), ([4, 8], 2), ([[4, 8], 6], None)]
)
def test_chance_is_known_of_classes_of_one_size(tmp_path, rows, known):
    dataset = {"name": "gaussian-classes", "rows": rows, "dims": 2}
    spec = {"dataset": dataset, "probe": "lda", "protocols": "fitting", "metrics": "accuracy"}
    assert ej.sweep.run({**spec, "seeds": 1}, out=tmp_path).num_classes == known
