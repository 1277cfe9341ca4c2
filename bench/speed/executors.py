"""What the engines that hand out tasks add to a sweep: tasks of about ten seconds, one worker.

The sweep is that of bench.speed.sweep, as long as two tasks of ten seconds on this machine. It runs
in this process, and by one worker of each engine, in turns; workers have started before, and
compiled programs are kept. So the difference is what is traced and loaded twice, what goes between
the processes, and the wait for what comes back.

    python -m bench.speed.executors
"""

import contextlib
import importlib
import multiprocessing
import os
import time
from collections.abc import Generator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import jax

from bench.speed.harness import Case, Figure, Row, compare, measure
from bench.speed.sweep import folder, spec, sweep_once

TASKS, SECONDS = 2, 10.0
# Dask has the memory of a worker given back at every turn: XLA's buffers then cost a page fault for
# each of their pages, every time, and a sweep takes 1.5 to 2 times as long.
_TRIM = "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_"
_DIMS, _FEW = 16, 16_384


def process_pool() -> contextlib.AbstractContextManager:
    return ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))


@contextlib.contextmanager
def dask_client() -> Generator[Any, None, None]:
    dask, distributed = map(importlib.import_module, ("dask", "dask.distributed"))
    options = {"n_workers": 1, "threads_per_worker": 1, "dashboard_address": None}
    with (
        dask.config.set({_TRIM: None}),
        distributed.LocalCluster(**options) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def overhead(repeats: int) -> tuple[list[Row], list[Figure]]:
    asked = spec(_DIMS, _seeds())
    with process_pool() as pool, dask_client() as client:
        engines = {"process pool": pool, "Dask": client}
        cases = [Case("this process", lambda: sweep_once(asked), peer=True)]
        for name, executor in engines.items():
            run = lambda e=executor: sweep_once(asked, executor=e, tasks=TASKS)  # noqa: E731
            cases.append(Case(name, run))
        rows = compare(f"{TASKS} tasks of {SECONDS:g} s", cases, repeats=repeats)
    alone, *others = rows
    return rows, [
        Figure(row.group, f"{row.name} adds", 100 * (row.median / alone.median - 1), "%")
        for row in others
    ]


def _seeds() -> int:
    """Returns how many seeds take as long as the tasks, from runs of two lengths."""
    times = []
    for seeds in (2 * _FEW, 2 * _FEW, 4 * _FEW):  # the first compiles
        start = time.process_time()  # others may be at work here
        sweep_once(spec(_DIMS, seeds))
        times.append(time.process_time() - start)
    each = (times[2] - times[1]) / (2 * _FEW)
    return -(-int(TASKS * SECONDS / each) // _FEW) * _FEW


def main() -> None:
    with folder() as programs:
        settings = {
            "jax_compilation_cache_dir": str(programs),
            "jax_persistent_cache_min_compile_time_secs": 0.0,
        }
        for name, value in settings.items():
            jax.config.update(name, value)
            os.environ[name.upper()] = str(value)
        measure(
            "Executors",
            "sweep",
            {"overhead": overhead},
            about=__doc__,
            repeats=3,
            packages=("jax", "distributed"),
        )


if __name__ == "__main__":
    main()
