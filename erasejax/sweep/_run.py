"""Runs a sweep: compiles its programs one ahead of another, and says what it would take."""

import contextlib
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import jax

from erasejax._core.views import View
from erasejax._core.warn import warn
from erasejax.sweep._blocks import Numerics, numerics
from erasejax.sweep._content import about, changes
from erasejax.sweep._executors import Executor, check_executor, run_elsewhere
from erasejax.sweep._grid import Spec, grid
from erasejax.sweep._plan import Plan, plan, share, share_in_words
from erasejax.sweep._progress import Progress
from erasejax.sweep._sharing import in_words
from erasejax.sweep._store import Store
from erasejax.sweep._stream import Writer, stream
from erasejax.sweep._table import Sweep
from erasejax.sweep._traced import Traced

__all__ = ["Estimate", "estimate", "run"]


class Estimate(NamedTuple):
    """What a sweep would take: programs, trials, bytes and seconds.

    Attributes:
      cells: combinations of dataset, eraser, probe and labels, in all parts.
      programs: to compile.
      blocks: of this process's share, and how many of them are stored already.
      stored: see blocks.
      trials: rows of the table in the missing blocks.
      bytes: of the missing blocks on disk, about.
      compile_s: seconds to compile; None where nothing was timed.
      run_s: seconds to run, from one chunk of every program.
      share: which share this process does, and why; "" for all of it.
      sharing: which numbers of rows share a program, and why; "" where none do.
      rows: how many rows of yours there are, how equal their parts are, and whether their files
        have changed; "" where there are none.

    Example:
      >>> spec = {"dataset": "xor-classes", "eraser": "sal", "probe": "mean-difference"}
      >>> spec |= {"metrics": "accuracy", "protocols": "fitting", "seeds": 2}
      >>> found = ej.sweep.estimate(spec, measure=False)
      >>> found.cells, found.programs, found.blocks, found.stored
      (1, 1, 1, 0)
    """

    cells: int
    programs: int
    blocks: int
    stored: int
    trials: int
    bytes: int
    compile_s: float | None = None
    run_s: float | None = None
    share: str = ""
    sharing: str = ""
    rows: str = ""

    def __str__(self) -> str:
        return "\n".join(f"{name:<9} {text}" for name, text in _told(self).items())

    def _repr_html_(self) -> str:
        return View("What the sweep would take", _told(self)).html()


def run(
    spec: Spec,
    *,
    out: str | Path,
    progress: bool = False,
    shard: str | None = None,
    chunk: int | None = None,
    memory: int | None = None,
    executor: Executor | None = None,
    tasks: int | None = None,
) -> Sweep:
    """Runs what is missing of a sweep, and returns its table.

    Every finished block is a file of its own, so a run may be killed at any moment; the same call
    goes on from there. A grid that has grown runs its new cells only. Results do not depend on the
    chunk, the devices, the processes, or what else is in the grid, but for rounding.

    All local devices are used. Several processes may share a folder: with `shard`, in a SLURM job
    array, or under jax.distributed each does its part; without, two may compute the same block.
    Which part a process does, and why, is said: a job array whose tasks run a sweep each, in a
    folder each, wants shard="0/1".

    With an executor this process computes nothing: it hands tasks to the workers, waits for them,
    and counts what comes back. A worker stores its blocks by itself, in the same folder; an engine
    that gives the task of a lost worker to another loses none. All compute as this process would,
    with the same numbers. What is raised in a task is raised here, and cancels the tasks that wait;
    so does Ctrl-C.

    Args:
      spec: a table, see `erasejax.sweep.grid`; or the path of one, .toml or .py.
      out: the folder, made if need be; or the URL of one in a bucket, such as s3://bucket/run.
      progress: whether to show a bar; under jax.distributed the first process shows it.
      shard: "i/n", the part of this process; "0/1" is all of it, wherever it runs.
      chunk: datasets at once; None for what fits `memory`.
      memory: bytes for the rows of a chunk on each device, drawn and erased; None for what suits
        the device.
      executor: anything with `submit(function, ...)` that returns what has a `result()`:
        `concurrent.futures.ProcessPoolExecutor` whose processes are spawned,
        `dask.distributed.Client`, an executor of submitit or `mpi4py.futures`; None for this
        process.
      tasks: about how many tasks to make for the executor; None for four a worker, fewer where
        compiling would take longer than computing.

    Returns:
      `Sweep`, to read the results.

    Raises:
      TypeError: a concept is of a kind that an eraser or probe cannot take, or executor is none.
      ValueError: the spec is not valid, chunk, memory or tasks make no sense, the executor's
        workers are threads or forks, or they are set to draw other numbers.
      OSError: the disk is full, the folder or bucket cannot be written, or a worker does not see
        it.
      ChildProcessError: workers were lost, and the executor has given up.
      MemoryError: a chunk does not fit the device.
      ModuleNotFoundError: the extra `sweep` is not installed.

    Warns:
      UserWarning: no progress is shown, and it does only a part, because of where it runs, or
        files of own rows are not those that the folder has blocks of.

    Example:
      >>> spec = {"dataset": "xor-classes", "eraser": "sal", "probe": "mean-difference"}
      >>> spec |= {"metrics": "accuracy", "protocols": "fitting", "seeds": 2}
      >>> sweep = ej.sweep.run(spec, out="sweep")
      >>> len(sweep.to_pandas()), len(sweep.missing())
      (2, 0)
    """
    _check(chunk=chunk, memory=memory, tasks=tasks)
    if executor is not None:
        check_executor(executor)
    resolved = grid(spec)
    own = share(shard)
    words = share_in_words(own, shard)
    if words and shard is None and not progress:
        warn(words)
    store = Store(out, create=True)
    store.clean()
    now = numerics()
    todo = plan(resolved, store, now, own)
    changed = changes(resolved, store)
    for line in () if progress else changed:
        warn(line)
    devices = jax.local_devices()
    with contextlib.closing(
        Progress(todo.trials, show=progress and jax.process_index() == 0)
    ) as show:
        for line in (*[words] * bool(words), *about(resolved), *changed):
            show.note(line)
        show.say(f"{todo.blocks - todo.missing:,} of {todo.blocks:,} blocks are stored")
        if todo.programs:
            show.say("tracing")
        ready = [Traced(program, devices, chunk, memory) for program in todo.programs]
        store.write_manifest(resolved, now)
        if executor is None:
            _run_here(ready, store, now, show)
        elif ready:
            where = str(out) if "://" in str(out) else os.path.abspath(out)
            options = {"tasks": tasks, "chunk": chunk, "memory": memory}
            run_elsewhere(executor, ready, where, show, **options)
    store.clean()
    return Sweep(store.path)


def _run_here(ready: Sequence[Traced], store: Store, now: Numerics, show: Progress) -> None:
    """Runs programs on the devices of this process, compiling each ahead of its turn."""
    with Writer(store, now) as writer, ThreadPoolExecutor(1) as ahead:
        following = [ahead.submit(each.lower().compile) for each in ready[:1]]
        for i, traced in enumerate(ready):
            if not following[0].done():
                show.say(f"compiling program {i + 1} of {len(ready)}")
            compiled = following.pop().result()
            following = [ahead.submit(each.lower().compile) for each in ready[i + 1 : i + 2]]
            show.say(f"program {i + 1} of {len(ready)}")
            stream(traced, compiled, writer, show)


def estimate(
    spec: Spec,
    *,
    out: str | Path | None = None,
    shard: str | None = None,
    chunk: int | None = None,
    memory: int | None = None,
    measure: bool = True,
) -> Estimate:
    """Says what a sweep would take, and writes nothing.

    Args:
      spec: as in `run`.
      out: a folder or URL whose blocks count as done, or None.
      shard: as in `run`.
      chunk: as in `run`.
      memory: as in `run`.
      measure: whether to compile every program and time one chunk of it.

    Returns:
      `Estimate`.

    Raises:
      TypeError: as `run`.
      ValueError: as `run`.

    Example:
      >>> spec = {"dataset": "xor-classes", "eraser": "sal", "probe": "mean-difference"}
      >>> spec |= {"metrics": "accuracy", "protocols": "fitting", "seeds": 2}
      >>> ej.sweep.estimate(spec, measure=False).trials
      2
    """
    _check(chunk=chunk, memory=memory)
    resolved = grid(spec)
    try:
        store = None if out is None else Store(out)
    except FileNotFoundError:
        store = None
    own = share(shard)
    todo = plan(resolved, store, numerics(), own)
    ready = [Traced(program, jax.local_devices(), chunk, memory) for program in todo.programs]
    cells = sum(1 for product in resolved.parts for _ in product.cells())
    found = Estimate(
        cells,
        len(ready),
        todo.blocks,
        todo.blocks - todo.missing,
        todo.trials,
        _bytes(todo),
        share=share_in_words(own, shard),
        sharing=in_words([traced.rows for traced in ready]),
        rows="; ".join([*about(resolved), *changes(resolved, store)]),
    )
    if not measure:
        return found
    compile_s = run_s = 0.0
    for traced in ready:
        start = time.perf_counter()
        compiled = traced.lower().compile()
        compile_s += time.perf_counter() - start
        _, inputs = next(traced.chunks())
        jax.block_until_ready(compiled(*inputs, *traced.shared))
        start = time.perf_counter()
        jax.block_until_ready(compiled(*inputs, *traced.shared))
        run_s += (time.perf_counter() - start) * traced.chunk_count
    return found._replace(compile_s=compile_s, run_s=run_s)


def _check(**options: int | None) -> None:
    """Checks options that are None or positive.

    Raises:
      ValueError: one is neither.
    """
    for name, value in options.items():
        if value is not None and value < 1:
            raise ValueError(f"{name}: expected at least 1, got {value}")


def _bytes(todo: Plan) -> int:
    """Returns about how many bytes the missing blocks take: 4 a number, and 4 KB of description."""
    return sum(
        len(item.missing) * (item.seeds * 4 * (1 + len(program.columns.names)) + 4096)
        for program in todo.programs
        for item in program.items
    )


def _told(found: Estimate) -> dict[str, str]:
    """Returns an estimate in words, what is empty left out."""
    time = ""
    if found.compile_s is not None and found.run_s is not None:
        time = (
            f"about {_seconds(found.compile_s)} to compile and {_seconds(found.run_s)} to run "
            "here, from one chunk of each program"
        )
    lines = {
        "cells": f"{found.cells:,}",
        "share": found.share,
        "rows": found.rows,
        "blocks": f"{found.blocks:,}, of which {found.stored:,} are stored",
        "sharing": found.sharing,
        "programs": f"{found.programs:,} to compile",
        "trials": f"{found.trials:,} to run",
        "disk": f"about {_size(found.bytes)}",
        "time": time,
    }
    return {name: text for name, text in lines.items() if text}


def _size(count: float) -> str:
    for unit in ("bytes", "KB", "MB", "GB"):
        if count < 1024:
            return f"{count:.3g} {unit}"
        count /= 1024
    return f"{count:.3g} TB"


def _seconds(value: float) -> str:
    if value < 120:
        return f"{value:.2g} s"
    return f"{value / 60:.0f} min" if value < 7200 else f"{value / 3600:.1f} h"
