"""A sweep over rows of one's own, from a TOML file, against a scikit-learn loop over its splits.

The breast-cancer table of scikit-learn, standardised: 8 erasers x 4 probes x 256 splits, on the
fitting rows and on fresh ones. The loop does the same in numpy and scikit-learn over the splits
that `FileRows.parts` says, some of them, and its time is scaled. Compiling counts: nothing is kept
from another run. Seconds are of the clock, and of all processors together.

    python -m bench.speed.own_rows
    python -m bench.speed.own_rows --only memory
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC
from threadpoolctl import threadpool_limits

import erasejax as ej
from bench.speed.harness import Figure, Row, measure

SPLITS, LOOPED = 256, 16
PENALTIES, SHRINKAGES, ROUNDS = (0.001, 0.01, 0.1), (0.0, 0.01, 0.1, 0.5), 4
SPEC = f"""
seeds = {SPLITS}
metrics = "accuracy"
eraser = [
  "identity",
  "mean-difference",
  {{ name = "leace", shrinkage = {list(SHRINKAGES)} }},
  {{ name = "inlp", rounds = {ROUNDS} }},
  "random-directions",
]
probe = [{{ name = "logistic", l2 = {list(PENALTIES)} }}, "linear-svm"]

[dataset]
name = "file-rows"
file = "cells.csv"
labels = "cells.csv:target"
"""
_PROCESS = """
import json, resource, sys, time
start = time.perf_counter(), time.process_time()
import numpy as np
import erasejax as ej
spec, out = map(json.loads, sys.argv[1:])
if "rows" in spec:
    n, d = spec.pop("rows")
    x = np.random.default_rng(0).standard_normal((n, d), dtype=np.float32)
    spec["dataset"] = ej.datasets.Rows(x, np.arange(n) % 2)
    del x
ej.sweep.run(spec if "dataset" in spec else "spec.toml", out=out)
now = time.perf_counter(), time.process_time()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(now[0] - start[0], now[1] - start[1], peak)
"""


def write_cells() -> tuple[np.ndarray, np.ndarray]:
    """Writes the table and the spec to the working directory, and returns features and labels."""
    frame = load_breast_cancer(as_frame=True).frame
    names = [name for name in frame.columns if name != "target"]
    frame[names] = (frame[names] - frame[names].mean()) / frame[names].std()
    frame.to_csv("cells.csv", index=False)
    Path("spec.toml").write_text(SPEC)
    return frame[names].to_numpy(np.float32), frame["target"].to_numpy()


def in_a_process(spec: dict, out: str) -> tuple[float, float, float]:
    """Returns seconds of the clock and of all processors, and the megabytes at the most."""
    command = [sys.executable, "-c", _PROCESS, json.dumps(spec), json.dumps(out)]
    path = os.pathsep.join([str(Path(ej.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "JAX_ENABLE_COMPILATION_CACHE": "0", "PYTHONPATH": path}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    wall, busy, peak = map(float, done.stdout.split())
    return wall, busy, peak


def projections(x: np.ndarray, z: np.ndarray, random: np.random.Generator) -> Iterator[np.ndarray]:
    """Yields the matrix of each eraser: rows about their mean are multiplied by it."""
    n, d = x.shape
    eye, centred = np.eye(d, dtype=x.dtype), x - x.mean(axis=0)
    delta = x[z == 1].mean(axis=0) - x[z == 0].mean(axis=0)
    yield eye
    yield eye - np.outer(delta, delta) / (delta @ delta)
    covariance = centred.T @ centred / n
    for shrinkage in SHRINKAGES:
        own = (1 - shrinkage) * covariance + shrinkage * np.diag(np.diag(covariance))
        solved = np.linalg.solve(own, delta)
        yield eye - np.outer(solved, delta) / (delta @ solved)
    basis, left = np.zeros((d, 0), x.dtype), centred
    for _ in range(ROUNDS):
        probe = LogisticRegression(C=1 / (0.01 * n), max_iter=1000).fit(left, z)
        basis = np.linalg.qr(np.concatenate([basis, probe.coef_.T.astype(x.dtype)], axis=1))[0]
        left = centred - (centred @ basis) @ basis.T
    yield eye - basis @ basis.T
    unit = random.standard_normal(d).astype(x.dtype)
    yield eye - np.outer(unit, unit) / (unit @ unit)


def loop(x: np.ndarray, z: np.ndarray, splits: list[tuple[np.ndarray, ...]]) -> None:
    """Does all trials of some splits in numpy and scikit-learn."""
    random = np.random.default_rng(0)
    for parts in splits:
        mean = x[parts[0]].mean(axis=0)
        for matrix in projections(x[parts[0]], z[parts[0]], random):
            erased = [(x[part] - mean) @ matrix + mean for part in parts]
            for fit, score in ((0, 0), (1, 2)):
                n = len(parts[fit])
                probes = [LogisticRegression(C=1 / (l2 * n), max_iter=1000) for l2 in PENALTIES]
                for probe in (*probes, LinearSVC(C=1 / (0.01 * n))):
                    probe.fit(erased[fit], z[parts[fit]]).score(erased[score], z[parts[score]])


def wrong_rows(
    x: np.ndarray, z: np.ndarray, parts: tuple[np.ndarray, ...], eraser: str, l2: float
) -> int:
    """Returns how many fresh rows a converged logistic regression gets wrong, before or after."""
    matrices = projections(x[parts[0]].astype(float), z[parts[0]], np.random.default_rng(0))
    matrix = {"identity": 0, "leace": 2}[eraser]
    chosen = [next(matrices) for _ in range(matrix + 1)][-1]
    fit, score = ((x[part] - x[parts[0]].mean(axis=0)) @ chosen for part in parts[1:])
    probe = LogisticRegression(
        C=1 / (l2 * len(fit)), solver="newton-cholesky", tol=1e-10, max_iter=1000
    )
    return int((probe.fit(fit, z[parts[1]]).predict(score) != z[parts[2]]).sum())


def table(repeats: int) -> tuple[list[Row], list[Figure]]:
    """The sweep in processes of their own, the loop, and what their fresh rows say."""
    with tempfile.TemporaryDirectory(prefix="erasejax-bench-") as folder:
        os.chdir(folder)
        x, z = write_cells()
        timed = [in_a_process({}, f"out{i}") for i in range(repeats)]
        wall, busy, _ = min(timed, key=lambda seconds: seconds[1])
        (config,) = ej.sweep.grid("spec.toml").parts[0].datasets
        keys = [ej.sweep.lane_key(np.uint32(seed), config.words) for seed in range(LOOPED)]
        splits = [config.value.parts(key) for key in keys]
        with threadpool_limits(1):
            start = time.perf_counter(), time.process_time()
            loop(x, z, splits)
            looped = time.perf_counter() - start[0], time.process_time() - start[1]
        scaled = [seconds * SPLITS / LOOPED for seconds in looped]
        trials = "8 x 4 x 256"
        figures = [
            Figure(trials, "sweep, compiling included", wall, "s"),
            Figure(trials, "sweep, compiling included, processors", busy, "s"),
            Figure(trials, f"loop, {LOOPED} splits scaled", scaled[0], "s"),
            Figure(trials, f"loop, {LOOPED} splits scaled, processors", scaled[1], "s"),
            Figure(trials, "faster by the clock", scaled[0] / wall, "times"),
            Figure(trials, "faster in seconds of processors", scaled[1] / busy, "times"),
        ]
        frame = ej.sweep.open("out0").to_pandas()
        for eraser in ("identity", "leace"):
            l2 = PENALTIES[1]
            rows = frame[(frame.eraser == eraser) & np.isclose(frame["probe.l2"], l2)]
            rows = rows[(rows.probe == "logistic") & ~(rows["eraser.shrinkage"] > 0)]
            found = rows.set_index("seed").accuracy_fresh
            apart = [
                abs(round((1 - found[i]) * len(p[2])) - wrong_rows(x, z, p, eraser, l2))
                for i, p in enumerate(splits)
            ]
            figures.append(Figure(trials, f"{eraser}: rows apart, all splits", sum(apart), "rows"))
        os.chdir("/")
    return [], figures


def memory(repeats: int) -> tuple[list[Row], list[Figure]]:
    """What 1,000 splits of 10,000 x 768 take."""
    spec = {"rows": (10_000, 768), "probe": "mean-difference", "metrics": "accuracy"}
    spec |= {"protocols": "fresh"}
    figures = []
    with tempfile.TemporaryDirectory(prefix="erasejax-bench-") as folder:
        for splits in (10, 1_000):
            _, busy, peak = in_a_process({**spec, "seeds": splits}, f"{folder}/{splits}")
            figures += [
                Figure("10,000 x 768", f"{splits:,} splits, peak memory", peak, "MB"),
                Figure("10,000 x 768", f"{splits:,} splits, processors", busy, "s"),
            ]
    return [], figures


def main() -> None:
    parts = {"table": table, "memory": memory}
    measure("Own rows", "split", parts, about=__doc__, repeats=2, packages=("jax", "scikit-learn"))


if __name__ == "__main__":
    main()
