"""Runs a sweep: compiles its programs, streams chunks of trials through them, stores blocks."""

import collections
import contextlib
import threading
import time
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from erasejax._core.programs import own_rules
from erasejax._linalg import platforms
from erasejax.sweep._cells import Config
from erasejax.sweep._grid import grid
from erasejax.sweep._plan import Item, Plan, Program, leaves_of, plan, share, share_in_words, stacks
from erasejax.sweep._progress import Progress
from erasejax.sweep._store import Store, numerics
from erasejax.sweep._table import Sweep
from erasejax.sweep._trial import drawn, drawn_parts, lane_key, trials

__all__ = ["Estimate", "estimate", "run"]

# Chunks: one is computed while another is fetched. A CPU that computes two at once, started from
# two threads, is faster; but a program of many erasers then stood still for ever (jaxlib 0.9.2).
_IN_FLIGHT = 2
_QUEUED = 64  # blocks that may wait for the disk
_MOST = 16384  # lanes a chunk


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


def run(
    spec: Any,
    *,
    out: str | Path,
    progress: bool = False,
    shard: str | None = None,
    chunk: int | None = None,
    memory: int | None = None,
) -> Sweep:
    """Runs what is missing of a sweep, and returns its table.

    Every finished block is a file of its own, so a run may be killed at any moment; the same call
    goes on from there. A grid that has grown runs its new cells only. Results do not depend on the
    chunk, the devices, the processes, or what else is in the grid, but for rounding.

    All local devices are used. Several processes may share a folder: with `shard`, in a SLURM job
    array, or under jax.distributed each does its part; without, two may compute the same block.
    Which part a process does, and why, is said: a job array whose tasks run a sweep each, in a
    folder each, wants shard="0/1".

    Args:
      spec: a table, see `erasejax.sweep.grid`; or the path of one, .toml or .py.
      out: the folder; made if need be.
      progress: whether to show a bar; under jax.distributed the first process shows it.
      shard: "i/n", the part of this process; "0/1" is all of it, wherever it runs.
      chunk: datasets at once; None for what fits `memory`.
      memory: bytes for the rows of a chunk on each device, drawn and erased; None for what suits
        the device.

    Returns:
      `Sweep`, to read the results.

    Raises:
      TypeError: a concept is of a kind that an eraser or probe cannot take.
      ValueError: the spec is not valid, or chunk or memory make no sense.
      OSError: the disk is full, or the folder cannot be written.
      MemoryError: a chunk does not fit the device.
      ModuleNotFoundError: the extra `sweep` is not installed.

    Warns:
      UserWarning: it does only a part, because of where it runs, and no progress is shown.

    Example:
      >>> spec = {"dataset": "xor-classes", "eraser": "sal", "probe": "mean-difference"}
      >>> spec |= {"metrics": "accuracy", "protocols": "fitting", "seeds": 2}
      >>> sweep = ej.sweep.run(spec, out="sweep")
      >>> len(sweep.to_pandas()), len(sweep.missing())
      (2, 0)
    """
    _check(chunk=chunk, memory=memory)
    resolved = grid(spec)
    part = share(shard)
    words = share_in_words(part, shard)
    if words and shard is None and not progress:
        warnings.warn(words, stacklevel=2)
    store = Store(out, create=True)
    store.clean()
    now = numerics()
    todo = plan(resolved, store, now, part)
    devices = jax.local_devices()
    with contextlib.closing(
        Progress(todo.trials, show=progress and jax.process_index() == 0)
    ) as show:
        if words:
            show.note(words)
        show.say(f"{todo.blocks - todo.missing:,} of {todo.blocks:,} blocks are stored")
        if todo.programs:
            show.say("tracing")
        ready = [Traced(program, devices, chunk, memory) for program in todo.programs]
        store.write_manifest(resolved, now)
        with Writer(store, now) as writer, ThreadPoolExecutor(1) as ahead:
            following = [ahead.submit(each.lower().compile) for each in ready[:1]]
            for i, traced in enumerate(ready):
                if not following[0].done():
                    show.say(f"compiling program {i + 1} of {len(ready)}")
                compiled = following.pop().result()
                following = [ahead.submit(each.lower().compile) for each in ready[i + 1 : i + 2]]
                show.say(f"program {i + 1} of {len(ready)}")
                with _fitting(traced.chunk):
                    stream(traced, compiled, writer, show)
    store.clean()
    return Sweep(store.path)


def estimate(
    spec: Any,
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
      out: a folder whose blocks count as done, or None.
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
    store = None if out is None or not (Path(out) / "blocks").is_dir() else Store(out)
    part = share(shard)
    todo = plan(resolved, store, numerics(), part)
    ready = [Traced(program, jax.local_devices(), chunk, memory) for program in todo.programs]
    cells = sum(1 for product in resolved.parts for _ in product.cells())
    found = Estimate(
        cells,
        len(ready),
        todo.blocks,
        todo.blocks - todo.missing,
        todo.trials,
        _bytes(todo),
        share=share_in_words(part, shard),
    )
    if not measure:
        return found
    compile_s = run_s = 0.0
    for traced in ready:
        start = time.perf_counter()
        compiled = traced.lower().compile()
        compile_s += time.perf_counter() - start
        inputs = next(_chunks(traced))[1]
        jax.block_until_ready(compiled(*inputs, *traced.shared))
        start = time.perf_counter()
        jax.block_until_ready(compiled(*inputs, *traced.shared))
        chunks = -(-traced.program.lanes // traced.chunk)
        run_s += (time.perf_counter() - start) * chunks
    return found._replace(compile_s=compile_s, run_s=run_s)


@contextlib.contextmanager
def _fitting(chunk: int) -> Generator[None, None, None]:
    """Says what to do where a device has too little memory.

    Raises:
      MemoryError: it has.
      jax.errors.JaxRuntimeError: something else went wrong there.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise MemoryError(
            f"chunk: {chunk} datasets at once do not fit the device's memory; pass a smaller one"
        ) from error


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
        len(item.missing) * (item.seeds * 4 * (1 + len(program.ask.columns)) + 4096)
        for program in todo.programs
        for item in program.items
    )


class Traced:
    """A program, traced for a chunk of lanes; what can be known wrong with it has been raised."""

    def __init__(
        self,
        program: Program,
        devices: Sequence[Any],
        chunk: int | None = None,
        memory: int | None = None,
    ):
        self.program = program
        self.shared = jax.device_put((stacks(program.erasers), stacks(program.probes)))
        self.table = _Datasets([item.dataset for item in program.items])
        if chunk is None:
            chunk = _suitable(self._row_bytes(), program, devices[0], memory) * len(devices)
        chunk = min(chunk, program.lanes)
        self.chunk = -(-chunk // len(devices)) * len(devices)
        lanes = next(_chunks(self))[1]
        self._traced = jax.jit(own_rules()(self._lanes(devices))).trace(*lanes, *self.shared)

    def lower(self) -> jax.stages.Lowered:
        """Returns the program, lowered: in the thread of the caller, whose settings count."""
        return self._traced.lower()

    def _lanes(self, devices: Sequence[Any]) -> Callable:
        """Returns the function of (seeds, words, permuted, varying, erasers, probes)."""
        ask, table = self.program.ask, self.table

        def draw(seed, words, permuted, varying):
            key = lane_key(seed, words)
            return key, drawn(key, table.merge(varying), ask=ask, permuted=permuted)

        def lanes(seeds, words, permuted, varying, erasers, probes):
            # Between the two maps labels that are the same in every lane get an axis for lanes.
            keys, rows = jax.vmap(draw)(seeds, words, permuted, varying)
            return jax.vmap(lambda key, own: trials(key, own, erasers, probes, ask=ask))(keys, rows)

        if len(devices) == 1:
            return lanes
        along, all_ = PartitionSpec("lanes"), PartitionSpec()
        return jax.shard_map(
            lanes,
            mesh=Mesh(np.array(devices), ("lanes",)),
            in_specs=(along, along, along, along, all_, all_),
            out_specs=along,
            check_vma=False,
        )

    def _row_bytes(self) -> int:
        """Returns the bytes of one part of one dataset."""
        dataset = self.table.merge(self.table.rows(np.zeros(1, int), 0))
        rows = jax.eval_shape(lambda key: dataset.sample(key), jax.random.key(0))
        return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(rows))


class _Datasets:
    """The datasets of a program: which fields vary from item to item, and which are the same."""

    def __init__(self, configs: Sequence[Config]):
        leaves = [jax.tree.leaves(leaves_of(config.value)) for config in configs]
        self._tree = jax.tree.structure(configs[0].value)
        stacked = [np.stack(values) for values in zip(*leaves, strict=True)]
        self._varies = [bool((values != values[:1]).any()) for values in stacked]
        self._same = [values[0] for values in stacked]
        self._varying = [v for v, varies in zip(stacked, self._varies, strict=True) if varies]
        self.words = np.stack([config.words for config in configs])

    def rows(self, items: np.ndarray, lane: Any = slice(None)) -> list[np.ndarray]:
        """Returns the varying fields of items, by number."""
        return [values[items][lane] for values in self._varying]

    def merge(self, varying: Sequence[Any]) -> Any:
        """Returns the dataset of a lane."""
        rest = iter(varying)
        leaves = [
            next(rest) if varies else same
            for varies, same in zip(self._varies, self._same, strict=True)
        ]
        return jax.tree.unflatten(self._tree, leaves)


def _suitable(size: int, program: Program, device: Any, memory: int | None) -> int:
    """Returns how many lanes, a power of two, suit a device or a budget.

    Args:
      size: bytes of the rows of one part of one dataset.
      program: what is run.
      device: where.
      memory: bytes for rows, drawn and erased; None for what suits the device.
    """
    copies = len(drawn_parts(program.ask)) * (1 + len(program.erasers))
    each = platforms.lanes_at_once(device, size, copies, memory)
    return min(1 << (max(each, 1).bit_length() - 1), _MOST)


def _chunks(traced: Traced) -> Iterator[tuple[list[tuple[Item, int, int]], tuple]]:
    """Yields pieces (item, from lane, to lane) and inputs of every chunk; the last is padded."""
    items, size = traced.program.items, traced.chunk
    ends = np.cumsum([item.seeds for item in items])
    starts = ends - [item.seeds for item in items]
    firsts = np.array([item.first for item in items])
    null = np.array([item.labels == "permuted" for item in items])
    for at in range(0, int(ends[-1]), size):
        lane = np.minimum(np.arange(at, at + size), ends[-1] - 1)
        of = np.searchsorted(ends, lane, side="right")
        seeds = (firsts[of] + lane - starts[of]).astype(np.uint32)
        pieces = [
            (items[i], max(int(starts[i]) - at, 0), min(int(ends[i]) - at, size))
            for i in range(of[0], of[-1] + 1)
        ]
        permuted = null[of] if null.any() else None
        yield pieces, (seeds, traced.table.words[of], permuted, traced.table.rows(of))


def stream(traced: Traced, compiled: Callable, writer: "Writer", show: Progress) -> None:
    """Runs the chunks of a program and hands finished blocks to the writer."""
    waiting: collections.deque = collections.deque()
    parts: list[Mapping[str, np.ndarray]] = []

    def fetch():
        nonlocal parts
        pieces, result = waiting.popleft()
        found = {name: np.asarray(value) for name, value in result.items()}
        for item, start, stop in pieces:
            parts.append({name: value[start:stop] for name, value in found.items()})
            if sum(len(part["status"]) for part in parts) == item.seeds:
                whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
                writer.put(traced.program, item, whole)
                parts = []
            show.advance((stop - start) * len(item.missing))

    for pieces, inputs in _chunks(traced):
        waiting.append((pieces, compiled(*inputs, *traced.shared)))
        if len(waiting) >= _IN_FLIGHT:
            fetch()
    while waiting:
        fetch()


class Writer:
    """Writes blocks in the background. What goes wrong there is raised at the next call."""

    def __init__(self, store: Store, numerics: Mapping[str, Any]):
        self._store, self._numerics = store, numerics
        self._pool = ThreadPoolExecutor(2)
        self._room = threading.Semaphore(_QUEUED)
        self._pending: collections.deque[Future] = collections.deque()

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, kind: Any, *_: object) -> None:
        self._pool.shutdown(wait=True)
        if kind is None:
            self._raise()

    def put(self, program: Program, item: Item, found: Mapping[str, np.ndarray]) -> None:
        """Writes the missing blocks of an item, from numbers (seeds, erasers, probes)."""
        for i, j in sorted(item.missing):
            columns = {name: np.ascontiguousarray(value[:, i, j]) for name, value in found.items()}
            self._room.acquire()
            self._pending.append(
                self._pool.submit(self._write, program.block(item, (i, j)), columns)
            )
        self._raise()

    def _write(self, block: Any, columns: Mapping[str, np.ndarray]) -> None:
        try:
            self._store.write(block, self._numerics, columns)
        finally:
            self._room.release()

    def _raise(self) -> None:
        while self._pending and self._pending[0].done():
            self._pending.popleft().result()
