"""Peers as they are run at their best: by default, with one thread, in as many processes as cores.

Small matrices are slower with two threads of BLAS than with one, by up to twenty times. A ratio to
the default alone would flatter us.
"""

import atexit
import concurrent.futures
import functools
import multiprocessing
import os
import sys
from collections.abc import Callable
from typing import Any

from threadpoolctl import ThreadpoolController, threadpool_limits

from bench.speed.harness import Case

__all__ = ["ONE_THREAD", "in_processes", "one_or_all_threads"]

ONE_THREAD = {
    f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "VECLIB_MAXIMUM", "NUMEXPR")
}


def one_or_all_threads(name: str, run: Callable[[], Any], units: int = 1) -> list[Case]:
    """Returns a peer twice: as it comes, and with one thread of BLAS and OpenMP."""
    controller = ThreadpoolController()  # looking for libraries takes longer than a small fit

    def alone() -> Any:
        with controller.limit(limits=1):
            return run()

    return [
        Case(name, run, units=units, peer=True),
        Case(f"{name}, one thread", alone, units=units, peer=True),
    ]


def in_processes(name: str, share: Callable[[int, int], Any], units: int) -> Case:
    """Returns a peer that has as many processes as cores, of one thread each.

    Processes are started, and what they work on is drawn, before the clock.

    Args:
      name: of the peer.
      share: a function of a module, that does the part i of so many.
      units: of work in all parts together.
    """
    cores = os.cpu_count() or 1
    pool = concurrent.futures.ProcessPoolExecutor(
        cores, mp_context=multiprocessing.get_context("spawn"), initializer=_limit
    )
    atexit.register(pool.shutdown)
    run = functools.partial(_all, pool, share, cores)
    return Case(f"{name}, {cores} processes", run, units=units, peer=True)


def _all(pool: concurrent.futures.Executor, share: Callable[[int, int], Any], cores: int) -> None:
    for _ in pool.map(share, range(cores), [cores] * cores):
        pass


def _limit() -> None:
    threadpool_limits(limits=1)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
