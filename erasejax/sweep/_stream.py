"""Chunks of trials streamed through a compiled program, and blocks written behind them."""

import collections
import contextlib
import threading
from collections.abc import Callable, Collection, Generator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import jax
import numpy as np

from erasejax.sweep._blocks import Block, Numerics
from erasejax.sweep._plan import Item, Program
from erasejax.sweep._progress import Progress
from erasejax.sweep._store import Store
from erasejax.sweep._traced import Piece, Traced

__all__ = ["Writer", "stream"]

# Chunks: one is computed while another is fetched. A CPU that computes two at once, started from
# two threads, is faster; but a program of many erasers then stood still for ever (jaxlib 0.9.2).
_IN_FLIGHT = 2
_QUEUED = 64  # blocks that may wait for the disk


def stream(
    traced: Traced,
    compiled: Callable,
    writer: "Writer",
    show: Progress,
    chosen: Collection[int] | None = None,
) -> None:
    """Runs the chunks of a program and hands finished blocks to the writer.

    Args:
      traced: the program.
      compiled: the same.
      writer: of the blocks.
      show: counts the trials.
      chosen: numbers of the items to run; None for all.

    Raises:
      MemoryError: a chunk does not fit the device.
    """
    waiting: collections.deque[tuple[list[Piece], Mapping[str, jax.Array]]] = collections.deque()
    collected: list[Mapping[str, np.ndarray]] = []  # of the item that is being computed

    def fetch() -> None:
        nonlocal collected
        pieces, result = waiting.popleft()
        found = {name: np.asarray(value) for name, value in result.items()}
        for item, start, stop in pieces:
            collected.append({name: value[start:stop] for name, value in found.items()})
            if sum(len(own["status"]) for own in collected) == item.seeds:
                whole = {name: np.concatenate([own[name] for own in collected]) for name in found}
                writer.put(traced.program, item, whole)
                collected = []
            show.advance((stop - start) * len(item.missing))

    with _fitting(traced.chunk):
        for pieces, inputs in traced.chunks(chosen):
            waiting.append((pieces, compiled(*inputs, *traced.shared)))
            if len(waiting) >= _IN_FLIGHT:
                fetch()
        while waiting:
            fetch()


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


class Writer:
    """Writes blocks in the background. What goes wrong there is raised at the next call."""

    def __init__(self, store: Store, numerics: Numerics):
        self._store, self._numerics = store, numerics
        self._pool = ThreadPoolExecutor(store.threads)
        self._room = threading.Semaphore(_QUEUED)
        self._pending: collections.deque[Future[None]] = collections.deque()

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
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

    def _write(self, block: Block, columns: Mapping[str, np.ndarray]) -> None:
        try:
            self._store.write(block, self._numerics, columns)
        finally:
            self._room.release()

    def _raise(self) -> None:
        while self._pending and self._pending[0].done():
            self._pending.popleft().result()
