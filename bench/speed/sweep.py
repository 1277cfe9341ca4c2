"""Sweeps end to end, with their files: against a loop, and how their cost grows.

The experiment is that of bench.speed.experiment: 2 x 100 rows, the mean difference projected out, a
logistic regression before and after, on the fitting rows. One unit is one dataset. Compiled
programs are kept between runs, as the command line keeps them; the first run compiles.

    python -m bench.speed.sweep
    python -m bench.speed.sweep --only million
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from pathlib import Path

import jax
import numpy as np
from sklearn.linear_model import LogisticRegression

from bench.speed.experiment import DATASETS, ROWS, loop_cases
from bench.speed.harness import Case, Figure, Row, compare, measure
from bench.speed.peers import one_or_all_threads
from erasejax import sweep
from erasejax.sweep._blocks import numerics
from erasejax.sweep._plan import plan
from erasejax.sweep._progress import Progress
from erasejax.sweep._store import Store
from erasejax.sweep._stream import Writer, stream
from erasejax.sweep._traced import Traced

WIDE = {(1_000, 256): 64, (2_000, 768): 16}  # (rows, columns): datasets
LOOPED = 6  # datasets of the loop
SEEDS = {3: 262_144, 16: 65_536, 64: 16_384}
_PROCESS = """
import json, resource, sys, time
start = time.perf_counter()
import erasejax as ej
spec, out, options = map(json.loads, sys.argv[1:])
result = ej.sweep.run(spec, out=out, **options)
print(time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def spec(d: int = 3, seeds: int = 65_536, rows: int = ROWS) -> dict:
    return {
        "dataset": {"name": "discrete-features", "dims": d, "rows": rows},
        "eraser": ["identity", "mean-difference"],
        "probe": {"name": "logistic", "l2": 1 / (2 * rows)},  # scikit-learn's C = 1
        "protocols": "fitting",
        "metrics": "accuracy",
        "seeds": seeds,
    }


@contextlib.contextmanager
def folder() -> Generator[Path, None, None]:
    path = Path(tempfile.mkdtemp(prefix="erasejax-bench-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def sweep_once(asked: dict, **options) -> None:
    with folder() as out:
        sweep.run(asked, out=out, **options)


def in_a_process(asked: dict, out: Path, environment: dict | None = None, **options):
    return subprocess.Popen(
        [sys.executable, "-c", _PROCESS, *map(json.dumps, (asked, str(out), options))],
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        text=True,
    )


def answer(process) -> tuple[float, float]:
    """Returns seconds and megabytes of a process."""
    seconds, megabytes = process.communicate(timeout=3600)[0].split()
    return float(seconds), float(megabytes)


def experiment(repeats: int) -> tuple[list[Row], list[Figure]]:
    rows = []
    for d in DATASETS:
        case = Case("sweep", lambda d=d: sweep_once(spec(d, SEEDS[d])), units=SEEDS[d])
        rows += compare(f"d = {d}", [*loop_cases(d), case], repeats=repeats)
    return rows, []


def wide(repeats: int) -> tuple[list[Row], list[Figure]]:
    """What one more dataset costs at the widths of activations: two runs of different length."""
    rows, figures = [], []
    for (n, d), count in WIDE.items():
        seeds = count if jax.default_backend() == "cpu" else 64 * count
        asked = {
            "dataset": {"name": "gaussian-classes", "rows": n // 2, "dims": d},
            "eraser": ["identity", "mean-difference"],
            "probe": {"name": "logistic", "l2": 1 / n},
            "protocols": "fitting",
            "metrics": "accuracy",
        }
        cases = [
            Case(f"{s:,} datasets", lambda a=asked, s=s: sweep_once({**a, "seeds": s}))
            for s in (seeds, 4 * seeds)
        ]
        loop = one_or_all_threads(
            "numpy + scikit-learn", lambda n=n, d=d: _gaussian_loop(n, d, LOOPED), LOOPED
        )
        found = compare(f"{n} x {d}", [*loop, *cases], repeats=repeats)
        *peers, few, many = [row.median for row in found]
        one_more = (many - few) / (3 * seeds)
        figures.append(Figure(f"{n} x {d}", "one more dataset", 1e3 * one_more, "ms"))
        figures.append(Figure(f"{n} x {d}", "faster than the loop", min(peers) / one_more, "times"))
        rows += found
    return rows, figures


def _gaussian_loop(n: int, d: int, datasets: int) -> None:
    """Does one dataset after the other in numpy and scikit-learn."""
    random = np.random.default_rng(0)
    z = np.repeat([0, 1], n // 2)
    probe = LogisticRegression(C=1.0)
    for _ in range(datasets):
        delta = random.standard_normal(d)
        x = random.standard_normal((n, d)) + np.outer(z, delta / np.linalg.norm(delta))
        probe.fit(x, z).score(x, z)
        gap = x[z == 1].mean(axis=0) - x[z == 0].mean(axis=0)
        unit = gap / np.linalg.norm(gap)
        erased = x - np.outer(x @ unit, unit)
        probe.fit(erased, z).score(erased, z)


def overhead(repeats: int) -> tuple[list[Row], list[Figure]]:
    """What the files and the bar add to the chunks alone, in turns."""
    rows, figures = [], []
    for d in (3, 16):
        # A tenth is less than two runs differ by.
        found = compare(f"overhead, d = {d}", _overhead_cases(d), repeats=5 * repeats)
        added = 100 * (found[1].median / found[0].median - 1)
        figures.append(Figure(f"overhead, d = {d}", "files and progress", added, "%"))
        rows += found
    return rows, figures


def _overhead_cases(d: int) -> list[Case]:
    program = plan(sweep.grid(spec(d, SEEDS[d])), None, numerics()).programs[0]
    traced = Traced(program, jax.local_devices())
    compiled = traced.lower().compile()

    class Nowhere:
        def put(self, *_):
            pass

    def alone():
        stream(traced, compiled, Nowhere(), Progress(program.lanes, show=False))

    def stored():
        with folder() as out, contextlib.closing(Progress(program.lanes, show=True)) as bar:
            with Writer(Store(out, create=True), numerics()) as writer:
                stream(traced, compiled, writer, bar)

    return [
        Case("chunks alone", alone, units=program.lanes, peer=True),
        Case("stored, with a bar", stored, units=program.lanes),
    ]


def growth(repeats: int) -> tuple[list[Row], list[Figure]]:
    """Against the number of trials, of rows and of features."""
    rows = []
    for seeds in (1_000, 10_000, 100_000):
        case = Case(f"{seeds:,} datasets", lambda s=seeds: sweep_once(spec(3, s)), units=seeds)
        rows += compare("trials", [case], repeats=repeats)
    for n in (20, 200, 2_000):
        seeds = 3_276_800 // n
        case = Case(
            f"2 x {n // 2} rows", lambda n=n, s=seeds: sweep_once(spec(3, s, n // 2)), units=seeds
        )
        rows += compare("rows", [case], repeats=repeats)
    for d in (3, 16, 64, 256):
        seeds = 65_536 // max(d // 4, 1)
        case = Case(f"d = {d}", lambda d=d, s=seeds: sweep_once(spec(d, s)), units=seeds)
        rows += compare("features", [case], repeats=repeats)
    return rows, []


def scaling(repeats: int) -> tuple[list[Row], list[Figure]]:
    """Virtual devices and processes: seconds of whole processes, started afresh."""
    found: dict[str, list[float]] = {}
    asked = spec(16, 65_536)
    for _ in range(repeats):
        for devices in (1, 2):
            with folder() as out:
                process = in_a_process(asked, out, {"JAX_NUM_CPU_DEVICES": str(devices)})
                found.setdefault(f"{devices} virtual devices", []).append(answer(process)[0])
        with folder() as out:
            start = time.perf_counter()
            both = [in_a_process(asked, out, shard=f"{i}/2") for i in range(2)]
            for process in both:
                answer(process)
            found.setdefault("2 processes", []).append(time.perf_counter() - start)
    base = np.median(found["1 virtual devices"])
    return [], [
        Figure("scaling", f"{name}, {np.median(times):.3g} s", base / np.median(times), "of one")
        for name, times in found.items()
    ]


def million(repeats: int) -> tuple[list[Row], list[Figure]]:
    """A million trials in one command, its memory, and its second start."""
    figures = []
    with folder() as out:
        for seeds in (100_000, 500_000):
            seconds, megabytes = answer(in_a_process(spec(3, seeds), out / str(seeds)))
            trials = f"{2 * seeds:,} trials"
            figures += [
                Figure("million", trials, seconds, "s"),
                Figure("million", f"{trials}, peak memory", megabytes, "MB"),
            ]
        again = answer(in_a_process(spec(3, 500_000), out / "500000"))[0]
        figures.append(Figure("million", "second start, all stored", again, "s"))
        more = answer(in_a_process(spec(3, 500_000 + 1_024), out / "500000"))[0]
        figures.append(Figure("million", "second start, two blocks to run", more, "s"))
    return [], figures


def main() -> None:
    parts = {
        "experiment": experiment,
        "wide": wide,
        "overhead": overhead,
        "growth": growth,
        "scaling": scaling,
        "million": million,
    }
    with folder() as cache:
        settings = {
            "jax_compilation_cache_dir": str(cache),
            "jax_persistent_cache_min_compile_time_secs": 0.5,
        }
        for name, value in settings.items():
            jax.config.update(name, value)
            os.environ[name.upper()] = str(value)
        measure(
            "Sweep", "dataset", parts, about=__doc__, repeats=3, packages=("jax", "scikit-learn")
        )


if __name__ == "__main__":
    main()
