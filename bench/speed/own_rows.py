"""A sweep over rows of one's own, from a TOML file, against a scikit-learn loop over its splits.

The breast-cancer table of scikit-learn, standardised, and sentences about people as the last layer
of a real encoder sees them, split by name: 8 erasers x 4 probes x 256 splits, on the fitting rows
and on fresh ones. The loop does the same in numpy and scikit-learn over the splits that
`FileRows.parts` says, some of them, and its time is scaled; with one thread and with its default.
Compiling counts: nothing is kept from another run. Seconds are of the clock, and of all processors
together. The encoder needs what `docs.examples.encoder` says.

    python -m bench.speed.own_rows
    python -m bench.speed.own_rows --only memory
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC
from threadpoolctl import threadpool_limits

import erasejax as ej
from bench.speed.harness import Figure, Row, measure

SPLITS, NAMES = 256, 200
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
    """Writes the table and its spec to the working directory; returns features and labels."""
    frame = load_breast_cancer(as_frame=True).frame
    names = [name for name in frame.columns if name != "target"]
    frame[names] = (frame[names] - frame[names].mean()) / frame[names].std()
    frame.to_csv("cells.csv", index=False)
    Path("spec.toml").write_text(f'{SPEC}file = "cells.csv"\nlabels = "cells.csv:target"\n')
    return frame[names].to_numpy(np.float32), frame["target"].to_numpy()


def write_sentences() -> tuple[np.ndarray, np.ndarray]:
    """Writes sentences as an encoder sees them, and their spec; returns as `write_cells`."""
    from docs.examples import encoder, minilm
    from docs.examples.sentences import about_names

    found = about_names(0, NAMES)
    x = encoder.pooled_rows(minilm.load(), found)[minilm.LAYERS[-1]]
    # Three features are dead, with a spread of 1e-9 and less, and would make the covariance that
    # the loop solves with singular.
    x = x[:, x.std(axis=0) > np.finfo(np.float32).eps * x.std()]
    x = ((x - x.mean(axis=0)) / x.std(axis=0)).astype(np.float32)
    np.savez("acts.npz", x=x, sex=found.concept, name=found.group)
    places = {"file": "x", "labels": "sex", "groups": "name"}
    lines = [f'{field} = "acts.npz:{key}"' for field, key in places.items()]
    Path("spec.toml").write_text(SPEC + "\n".join(lines))
    return x, found.concept


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
        probe = LogisticRegression(C=1 / (ej.INLP().probe.l2 * n), max_iter=1000).fit(left, z)
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
                for probe in (*probes, LinearSVC(C=1 / (ej.probes.LinearSVM().l2 * n))):
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


def timed(work: Callable[[], None], threads: int | None) -> np.ndarray:
    """Returns seconds of the clock and of all processors."""
    with threadpool_limits(threads):
        start = np.array([time.perf_counter(), time.process_time()])
        work()
        return np.array([time.perf_counter(), time.process_time()]) - start


def against_a_loop(
    group: str, write: Callable[[], tuple[np.ndarray, np.ndarray]], looped: int, repeats: int
) -> list[Figure]:
    """Returns what the sweep takes in processes of its own, the loop, and how they differ.

    The loop does as many of the splits as `looped` says, and its time is scaled.
    """
    with tempfile.TemporaryDirectory(prefix="erasejax-bench-") as folder:
        os.chdir(folder)
        x, z = write()
        runs = [in_a_process({}, f"out{i}") for i in range(repeats)]
        wall, busy, _ = min(runs, key=lambda seconds: seconds[1])
        (config,) = ej.sweep.grid("spec.toml").parts[0].datasets
        keys = [ej.sweep.lane_key(np.uint32(seed), config.words) for seed in range(looped)]
        splits = [config.value.parts(key) for key in keys]
        figures = [
            Figure(group, "sweep, compiling included", wall, "s"),
            Figure(group, "sweep, compiling included, processors", busy, "s"),
        ]
        for threads, said in ((1, "one thread"), (None, "default threads")):
            found = timed(lambda: loop(x, z, splits), threads) * SPLITS / looped
            figures += [
                Figure(group, f"loop, {said}, {looped} splits scaled", found[0], "s"),
                Figure(group, f"loop, {said}, processors", found[1], "s"),
                Figure(group, f"faster than with {said}, by the clock", found[0] / wall, "times"),
                Figure(group, f"faster than with {said}, processors", found[1] / busy, "times"),
            ]
        frame = ej.sweep.open("out0").to_pandas()
        for eraser in ("identity", "leace"):
            l2 = PENALTIES[1]
            rows = frame[(frame.eraser == eraser) & np.isclose(frame["probe.l2"], l2)]
            rows = rows[(rows.probe == "logistic") & ~(rows["eraser.shrinkage"] > 0)]
            accuracy = rows.set_index("seed").accuracy_fresh
            apart = [
                abs(round((1 - accuracy[i]) * len(p[2])) - wrong_rows(x, z, p, eraser, l2))
                for i, p in enumerate(splits)
            ]
            figures.append(Figure(group, f"{eraser}: rows apart, all splits", sum(apart), "rows"))
        os.chdir("/")
    return figures


def table(repeats: int) -> tuple[list[Row], list[Figure]]:
    """The breast-cancer table, 569 x 30."""
    return [], against_a_loop("569 x 30: 8 x 4 x 256", write_cells, 16, repeats)


def sentences(repeats: int) -> tuple[list[Row], list[Figure]]:
    """The last layer of an encoder, 1,600 sentences about 400 names x 381."""
    return [], against_a_loop("1,600 x 381 by name: 8 x 4 x 256", write_sentences, 4, repeats)


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
    parts = {"table": table, "sentences": sentences, "memory": memory}
    measure("Own rows", "split", parts, about=__doc__, repeats=2, packages=("jax", "scikit-learn"))


if __name__ == "__main__":
    main()
