"""Programs of a sweep, traced: what goes through them is cut into chunks of one shape."""

import collections
import itertools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from erasejax._core.programs import own_rules, quick_options
from erasejax._linalg import platforms
from erasejax.datasets import Generator, OwnRows
from erasejax.sweep._cells import Config
from erasejax.sweep._plan import Item, Program, batches, leaves_of, structure
from erasejax.sweep._sharing import drawn_shapes, filled, is_short, outline, shape_of
from erasejax.sweep._trial import drawn, lane_key, trials

__all__ = ["Chunk", "Lowered", "Piece", "Traced"]

_MOST = 16384  # lanes a chunk


class Piece(NamedTuple):
    """Lanes of a chunk that belong to one item, from `start` to `stop` - 1."""

    item: Item
    start: int
    stop: int


# Which structure of dataset; of every lane the seed, the words of its dataset, whether its labels
# are permuted (None where no lane's are), and the fields that vary from dataset to dataset; and for
# all lanes the rows that they split, on the device.
Chunk: TypeAlias = tuple[
    int, np.ndarray, np.ndarray, np.ndarray | None, list[np.ndarray], list[jax.Array]
]


class Traced:
    """A program, traced for a chunk of lanes; what can be known wrong with it has been raised.

    In truth it is several: one that draws for each structure of dataset, and one for the trials.

    Attributes:
      program: what is run.
      rows: numbers of rows of the datasets, sorted; all are filled up to the last.
      chunk: lanes that run at once.
      shared: what all lanes take, on the device.
    """

    def __init__(
        self,
        program: Program,
        devices: Sequence[platforms.Device],
        chunk: int | None = None,
        memory: int | None = None,
    ):
        self.program = program
        self.shared = jax.device_put((batches(program.erasers), batches(program.probes)))
        by_structure = collections.defaultdict(list)
        for number, item in enumerate(program.items):
            by_structure[structure(outline(item.dataset.value))].append(number)
        self._numbers = list(by_structure.values())
        self._items = [[program.items[i] for i in numbers] for numbers in self._numbers]
        self._tables = [_Datasets([item.dataset for item in items]) for items in self._items]
        self.rows = sorted({shape_of(items[0].dataset.value).rows for items in self._items})
        size = self.row_bytes()
        if chunk is None:
            chunk = _suitable(size, program, devices[0], memory) * len(devices)
        runs = [run for i in range(len(self._items)) for _, run in self._runs(i)]
        chunk = min(chunk, max(sum(item.seeds for item in run) for run in runs))
        self.chunk = -(-chunk // len(devices)) * len(devices)
        mesh = Mesh(np.array(devices), ("lanes",))
        self._everywhere = NamedSharding(mesh, PartitionSpec()) if len(devices) > 1 else None

        def over(function: Callable, *specs: bool) -> Callable:
            """Returns a function of lanes, shared out over the devices, traced as our own."""
            if len(devices) > 1:
                function = jax.shard_map(
                    function,
                    mesh=mesh,
                    in_specs=tuple(PartitionSpec("lanes") if s else PartitionSpec() for s in specs),
                    out_specs=PartitionSpec("lanes"),
                    check_vma=False,
                )
            return jax.jit(own_rules()(function))

        draws = [over(self._draw(table), *[True] * 4, False) for table in self._tables]
        firsts = [next(self._chunks_of(i))[1][1:] for i in range(len(draws))]
        self._draws = [draw.trace(*first) for draw, first in zip(draws, firsts, strict=True)]
        turns = devices[0].platform == "cpu" and platforms.take_turns(size)
        run = over(self._trials(turns), True, True, False, False)
        self._trial = run.trace(*self._draws[0].out_info, *self.shared)

    def lower(self) -> "Lowered":
        """Returns the program, lowered: in the thread of the caller, whose settings count."""
        draws = [draw.lower() for draw in self._draws]
        return Lowered(draws, self._trial.lower(), quick_options() if self.is_short() else {})

    def chunks(self, chosen: Collection[int] | None = None) -> Iterator[tuple[list[Piece], Chunk]]:
        """Yields the pieces and inputs of every chunk; the last of a structure is padded.

        Args:
          chosen: numbers of the items to run, as in the program; None for all.
        """
        for which in range(len(self._items)):
            yield from self._chunks_of(which, chosen)

    @property
    def chunk_count(self) -> int:
        """How many chunks there are."""
        runs = [run for i in range(len(self._items)) for _, run in self._runs(i)]
        return sum(-(-sum(item.seeds for item in run) // self.chunk) for run in runs)

    def _runs(self, which: int) -> Iterator[tuple[int, list[Item]]]:
        """Yields items that may be in one chunk, and the number of the first; own rows are not."""
        start, items = 0, self._items[which]
        own = isinstance(items[0].dataset.value, OwnRows)
        for _, run in itertools.groupby(items, lambda item: item.dataset.digest if own else b""):
            found = list(run)
            yield start, found
            start += len(found)

    def _chunks_of(
        self, which: int, chosen: Collection[int] | None = None
    ) -> Iterator[tuple[list[Piece], Chunk]]:
        for start, items in self._runs(which):
            numbers = self._numbers[which][start : start + len(items)]
            own = [i for i, n in enumerate(numbers, start) if chosen is None or n in chosen]
            if own:
                held = self._tables[which].held(start)
                if self._everywhere is not None:
                    held = jax.device_put(held, self._everywhere)
                yield from self._chunks_of_run(which, own, held)

    def _chunks_of_run(
        self, which: int, own: list[int], held: list[jax.Array]
    ) -> Iterator[tuple[list[Piece], Chunk]]:
        """Yields chunks of the items of those numbers."""
        items, table, size = self._items[which], self._tables[which], self.chunk
        ends = np.cumsum([items[i].seeds for i in own], dtype=int)
        starts = ends - [items[i].seeds for i in own]
        firsts = np.array([item.first for item in items])
        # Of all items, so that what is chosen changes no input's type.
        null = np.array([item.labels == "permuted" for item in items])
        for at in range(0, int(ends[-1]), size):
            lane = np.minimum(np.arange(at, at + size), ends[-1] - 1)
            place = np.searchsorted(ends, lane, side="right")
            of = np.array(own)[place]
            seeds = (firsts[of] + lane - starts[place]).astype(np.uint32)
            pieces = [
                Piece(items[own[i]], max(int(starts[i]) - at, 0), min(int(ends[i]) - at, size))
                for i in range(place[0], place[-1] + 1)
            ]
            permuted = null[of] if null.any() else None
            yield pieces, (which, seeds, table.words[of], permuted, table.rows(of), held)

    def _draw(self, table: "_Datasets") -> Callable:
        """Returns the function of (seeds, words, permuted, varying, held): it draws keys and rows.

        What is held are rows of the user's, an argument and no part of the program.
        """
        columns = self.program.columns

        def draw(seed, words, permuted, varying, held):
            key = lane_key(seed, words)
            rows = drawn(key, table.merge(varying, held), columns=columns, permuted=permuted)
            if self.rows[1:]:
                rows = jax.vmap(lambda own: filled(own, self.rows[-1]))(rows)
            return key, rows

        return jax.vmap(draw, in_axes=(0, 0, 0, 0, None))

    def _trials(self, turns: bool) -> Callable:
        """Returns the function of (keys, rows, erasers, probes).

        Args:
          turns: whether the lanes of a device run one after another.
        """

        def run(keys, rows, erasers, probes):
            def one(given):
                key, own = given
                return trials(key, own, erasers, probes, columns=self.program.columns)

            return jax.lax.map(one, (keys, rows)) if turns else jax.vmap(one)((keys, rows))

        return run

    def is_short(self) -> bool:
        """Returns whether the program has little to do."""
        program = self.program
        numbers = program.lanes * self.row_bytes() // 4
        return is_short(program.erasers, program.probes, program.columns, numbers)

    def row_bytes(self) -> int:
        """Returns the bytes of one part of one dataset, filled up."""
        rows = drawn_shapes(self._items[0][0].dataset.value)
        if self.rows[1:]:
            rows = jax.eval_shape(lambda rows: filled(rows, self.rows[-1]), rows)
        return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(rows))


class Lowered(NamedTuple):
    """The parts of a program, lowered, and the compiler's options."""

    draws: list[jax.stages.Lowered]
    trial: jax.stages.Lowered
    options: dict[str, Any]

    def compile(self) -> Callable[..., Mapping[str, jax.Array]]:
        """Returns the function of a chunk, and what its lanes share."""
        *draws, trial = (part.compile(self.options) for part in (*self.draws, self.trial))
        return lambda which, *rest: trial(*draws[which](*rest[:5]), *rest[5:])


class _Datasets:
    """The datasets of a program: which fields vary from item to item, and which are the same.

    Rows of the user's are neither: they are held, those of one dataset at a time.
    """

    def __init__(self, configs: Sequence[Config]):
        self._own = [config.value for config in configs if isinstance(config.value, OwnRows)]
        leaves = [[] if self._own else jax.tree.leaves(leaves_of(c.value)) for c in configs]
        self._tree = jax.tree.structure(outline(configs[0].value))
        stacked = [np.stack(values) for values in zip(*leaves, strict=True)]
        self._varies = [bool((values != values[:1]).any()) for values in stacked]
        self._same = [values[0] for values in stacked]
        self._varying = [v for v, varies in zip(stacked, self._varies, strict=True) if varies]
        self.words = np.stack([config.words for config in configs])

    def rows(self, items: np.ndarray, lane: slice | int = slice(None)) -> list[np.ndarray]:
        """Returns the varying fields of items, by number."""
        return [values[items][lane] for values in self._varying]

    def held(self, item: int) -> list[jax.Array]:
        """Returns the rows that an item splits."""
        return jax.tree.leaves(self._own[item].loaded()) if self._own else []

    def merge(
        self, varying: Sequence[jax.Array | np.ndarray], held: Sequence[jax.Array]
    ) -> Generator:
        """Returns the dataset of a lane."""
        rest = iter(varying)
        leaves = [
            next(rest) if varies else same
            for varies, same in zip(self._varies, self._same, strict=True)
        ]
        return jax.tree.unflatten(self._tree, [*leaves, *held])


def _suitable(size: int, program: Program, device: platforms.Device, memory: int | None) -> int:
    """Returns how many lanes, a power of two, suit a device or a budget.

    Args:
      size: bytes of the rows of one part of one dataset.
      program: what is run.
      device: where.
      memory: bytes for rows, drawn and erased; None for what suits the device.
    """
    copies = len(program.columns.parts) * (1 + len(program.erasers))
    each = platforms.lanes_at_once(device, size, copies, memory)
    return min(1 << (max(each, 1).bit_length() - 1), _MOST)
