"""Programs of a sweep computed elsewhere: cut into tasks, which an executor hands to workers."""

import concurrent.futures
import contextlib
import itertools
import math
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from erasejax._core.program_cache import programs_folder
from erasejax.sweep._blocks import numerics
from erasejax.sweep._plan import Program
from erasejax.sweep._progress import Progress
from erasejax.sweep._tasks import Done, Task, compute
from erasejax.sweep._traced import Traced

__all__ = ["Executor", "check_executor", "run_elsewhere"]

_EACH = 4  # tasks a worker: when one is late, the others do its share
_WORKERS = 4  # where nobody says how many there are
_PAUSE = 0.05  # seconds between looks at what has come back


class Executor(Protocol):
    """What hands tasks to workers, such as a process pool or the client of a cluster."""

    def submit(self, function: Callable, /, *args: Any) -> Any:
        """Returns what has a `result()`; `done()` and `cancel()` are used where they are there."""
        ...


def check_executor(executor: Executor) -> None:
    """Checks that tasks can run where an executor runs them.

    Raises:
      TypeError: it has no `submit`.
      ValueError: its workers are threads, or forks of this process.
    """
    if not callable(getattr(executor, "submit", None)):
        raise TypeError(
            "executor: expected an object with submit(function, ...), such as "
            "concurrent.futures.ProcessPoolExecutor or dask.distributed.Client; got "
            f"{type(executor).__name__}"
        )
    if isinstance(executor, concurrent.futures.ThreadPoolExecutor):
        raise ValueError(
            "executor: the threads of a process share its devices, which a sweep uses all by "
            "itself; leave the executor out, or pass a pool of processes"
        )
    context = getattr(executor, "_mp_context", None)
    if context is not None and context.get_start_method() == "fork":
        raise ValueError(
            "executor: this pool forks its processes, and JAX's threads do not survive a fork; "
            'pass ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn"))'
        )


def run_elsewhere(
    executor: Executor,
    ready: Sequence[Traced],
    store: str,
    show: Progress,
    *,
    tasks: int | None,
    chunk: int | None,
    memory: int | None,
) -> None:
    """Has programs computed by the workers of an executor, and waits for them.

    Whatever is raised, what waits is cancelled and what is stored stays.

    Args:
      executor: see `check_executor`.
      ready: the programs, traced here: so what is wrong with them has been raised.
      store: folder or URL, as the workers are to find it.
      show: counts the trials of tasks that came back.
      tasks: about how many to make; None for what suits the workers.
      chunk: as in `run`.
      memory: as in `run`.

    Raises:
      ChildProcessError: workers were lost, and the executor has given up.
    """
    now, programs, run = numerics(), programs_folder(), uuid.uuid4().hex
    todo = [
        Task(f"{run}-{i}", ready[i].program, items, store, now, chunk, memory, programs)
        for i, items in _cut(ready, executor, tasks)
    ]
    waiting: list[tuple[Any, int]] = []
    came: list[Done] = []
    try:
        with _as_array(executor):
            for task in todo:
                waiting.append((executor.submit(compute, task), task.trials))
        show.say(f"{len(todo)} tasks submitted")
        for trials, done in _as_they_come(waiting):
            came.append(done)
            show.doing(f"{len(waiting)} of {len(todo)} tasks wait or run")
            show.advance(trials)
    except BaseException as error:
        for future, _ in waiting:
            with contextlib.suppress(Exception):  # what has no cancel, or is over
                future.cancel()
        if _is_of(executor, error):
            raise ChildProcessError(
                f"executor: {error}; what is stored stays, and the same call goes on from there "
                "(with a new executor, where this one is broken)"
            ) from error
        error.add_note("What is stored stays, and the same call goes on from there.")
        raise
    trials, blocks = sum(done.trials for done in came), sum(done.blocks for done in came)
    seconds = sum(done.seconds for done in came)
    show.say(
        f"{len(todo)} tasks came back: {trials:,} trials in {blocks:,} blocks, {seconds:,.0f} s of "
        "workers"
    )


def _as_they_come(waiting: list[tuple[Any, int]]) -> Iterator[tuple[int, Done]]:
    """Takes futures from a list as they are done, and yields their trials and what they returned.

    Some futures only have a `result()`: those are taken in order.
    """
    while waiting:
        before = len(waiting)
        for pair in list(waiting):
            future, trials = pair
            if not hasattr(future, "done") or future.done():
                done = future.result()
                waiting.remove(pair)
                yield trials, done
        if len(waiting) == before:
            time.sleep(_PAUSE)


def _is_of(executor: Executor, error: BaseException) -> bool:
    """Returns whether an error is the engine's own, such as one of a worker that was lost."""
    broken = isinstance(error, concurrent.futures.BrokenExecutor)
    engine = type(executor).__module__.partition(".")[0]
    own = type(error).__module__.partition(".")[0] == engine != "builtins"
    return broken or (own and isinstance(error, Exception))


def _as_array(executor: Any) -> contextlib.AbstractContextManager:
    """Returns a context in which submitit makes one job array of all that is submitted."""
    arrays = type(executor).__module__.partition(".")[0] == "submitit"
    return executor.batch() if arrays else contextlib.nullcontext()


def _workers(executor: Any) -> int:
    """Returns how many workers an executor has, as far as it says so."""
    for name in ("_max_workers", "num_workers"):  # concurrent.futures; mpi4py
        count = getattr(executor, name, None)
        if isinstance(count, int):
            return count or _WORKERS
    if callable(getattr(executor, "ncores", None)):  # dask: those that are there by now
        return len(executor.ncores()) or _WORKERS
    return _WORKERS


def _cut(
    ready: Sequence[Traced], executor: Executor, tasks: int | None
) -> list[tuple[int, frozenset[int]]]:
    """Returns tasks as (number of the program, numbers of its items), in the order to begin them.

    All tasks have about the same work, and no fewer lanes than a chunk. Every worker that takes a
    task of a program compiles it, so one that has run long before it is compiled is one task. The
    first tasks are of as many programs as there are: each worker compiles another one, and finds
    the rest in the folder of compiled programs.
    """
    wanted = _EACH * _workers(executor) if tasks is None else tasks
    work = [one.program.lanes * one.program.width * one.row_bytes() for one in ready]
    cut = []
    for i, one in enumerate(ready):
        parts = max(1, round(wanted * work[i] / sum(work)))
        if tasks is None and one.is_short():
            parts = 1
        # Whole chunks, so that lanes lie in them as they do where nothing is cut.
        lanes = -(-math.ceil(one.program.lanes / parts) // one.chunk) * one.chunk
        cut.append([(i, frozenset(items)) for items in _runs(one.program, lanes)])
    rounds = itertools.zip_longest(*cut)
    return [task for tasks in rounds for task in tasks if task is not None]


def _runs(program: Program, lanes: int) -> Iterator[list[int]]:
    """Yields the numbers of a program's items in runs of that many lanes or a little more."""
    run, filled = [], 0
    for number, item in enumerate(program.items):
        run.append(number)
        filled += item.seeds
        if filled >= lanes:
            yield run
            run, filled = [], 0
    if run:
        yield run
