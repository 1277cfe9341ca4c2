"""Tasks: some items of a program, as plain data, and what a worker does with them.

A worker traces and compiles the whole program, so that every task is computed as a run in one
process computes it; stores its blocks by itself; and returns counts. What a worker that was lost
had stored is not computed again, whoever does its task.
"""

import collections
import platform
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from erasejax._core.program_cache import cache_programs
from erasejax.sweep._blocks import Numerics, numerics
from erasejax.sweep._plan import Program, lacking
from erasejax.sweep._progress import Progress
from erasejax.sweep._store import Store
from erasejax.sweep._stream import Writer, stream
from erasejax.sweep._traced import Traced

__all__ = ["Done", "Task", "compute"]

_KEPT = 4  # programs that a worker keeps compiled

_VARIABLES = {
    "x64": "JAX_ENABLE_X64",
    "prng": "JAX_DEFAULT_PRNG_IMPL",
    "partitionable": "JAX_THREEFRY_PARTITIONABLE",
}

_turn = threading.Lock()  # a task has all devices of its process
_kept: collections.OrderedDict[str, tuple[Traced, Callable]] = collections.OrderedDict()


class Task(NamedTuple):
    """Some items of a program.

    Attributes:
      name: of the program in this run; a worker keeps it compiled under that.
      program: all of it.
      items: numbers of those to compute.
      store: folder or URL.
      numerics: of the sweep.
      chunk: as in `run`.
      memory: as in `run`.
      programs: folder for compiled programs; None for the worker's own, if it has one.
    """

    name: str
    program: Program
    items: frozenset[int]
    store: str
    numerics: Numerics
    chunk: int | None
    memory: int | None
    programs: str | None

    @property
    def trials(self) -> int:
        """How many rows of the table it is to give."""
        return sum(self.program.items[i].trials for i in self.items)


class Done(NamedTuple):
    """What a task has computed and stored; less than it was to, where that was stored already.

    Attributes:
      trials: rows of the table.
      blocks: files.
      seconds: that it took, compiling included.
    """

    trials: int = 0
    blocks: int = 0
    seconds: float = 0.0


def compute(task: Task) -> Done:
    """Computes what is missing of a task, and stores it.

    Raises:
      FileNotFoundError: this machine does not see the folder of the sweep.
      ValueError: this process would draw other numbers.
    """
    _check_numerics(task.numerics)
    with _turn:
        start = time.perf_counter()
        try:
            store = Store(task.store)
        except FileNotFoundError:
            raise FileNotFoundError(
                f"{task.store}: a worker on {platform.node()} does not see the folder of this "
                "sweep; `out` must be one that all machines share"
            ) from None
        done, program = store.names(), task.program
        missing = {
            number
            for number in task.items
            if lacking(program.asked(number), store, done, task.numerics)
        }
        if not missing:
            return Done()
        traced, compiled = _compiled(task)
        with Writer(store, task.numerics) as writer:
            stream(traced, compiled, writer, Progress(0, show=False), missing)
        items = [program.items[number] for number in missing]
        return Done(
            sum(item.trials for item in items),
            sum(len(item.missing) for item in items),
            time.perf_counter() - start,
        )


def _compiled(task: Task) -> tuple[Traced, Callable]:
    """Returns the program of a task, kept from the task before or compiled."""
    if task.name not in _kept:
        config: Any = jax.config
        if task.programs is not None and config.jax_compilation_cache_dir is None:
            cache_programs(task.programs)
        while len(_kept) >= _KEPT:
            _kept.popitem(last=False)
        traced = Traced(task.program, jax.local_devices(), task.chunk, task.memory)
        _kept[task.name] = traced, traced.lower().compile()
    _kept.move_to_end(task.name)
    return _kept[task.name]


def _check_numerics(wanted: Numerics) -> None:
    """Checks that this process draws the numbers that the sweep is asked for.

    Raises:
      ValueError: it does not.
    """
    here = numerics()
    for name, value in wanted.items():
        if here.get(name) == value:
            continue
        remedy = "install the same erasejax for the workers"
        if name in _VARIABLES:
            setting = int(value) if isinstance(value, bool) else value
            remedy = f"start the workers with {_VARIABLES[name]}={setting} in their environment"
        raise ValueError(
            f"executor: {name} is {here.get(name)} in a worker on {platform.node()}, and {value} "
            f"where the sweep was started; {remedy}"
        )
