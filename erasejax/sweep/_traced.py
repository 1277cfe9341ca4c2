"""Programs of a sweep, traced: what goes through them is cut into chunks of one shape."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeAlias

import jax
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from erasejax._core.programs import own_rules
from erasejax._linalg import platforms
from erasejax.datasets import Generator
from erasejax.sweep._cells import Config
from erasejax.sweep._plan import Item, Program, batches, leaves_of
from erasejax.sweep._trial import drawn, lane_key, trials

__all__ = ["Chunk", "Piece", "Traced"]

_MOST = 16384  # lanes a chunk


class Piece(NamedTuple):
    """Lanes of a chunk that belong to one item, from `start` to `stop` - 1."""

    item: Item
    start: int
    stop: int


# Of every lane the seed, the words of its dataset, whether its labels are permuted (None where no
# lane's are), and the fields that vary from dataset to dataset.
Chunk: TypeAlias = tuple[np.ndarray, np.ndarray, np.ndarray | None, list[np.ndarray]]


class Traced:
    """A program, traced for a chunk of lanes; what can be known wrong with it has been raised."""

    def __init__(
        self,
        program: Program,
        devices: Sequence[platforms.Device],
        chunk: int | None = None,
        memory: int | None = None,
    ):
        self.program = program
        self.shared = jax.device_put((batches(program.erasers), batches(program.probes)))
        self.table = _Datasets([item.dataset for item in program.items])
        size = self._row_bytes()
        if chunk is None:
            chunk = _suitable(size, program, devices[0], memory) * len(devices)
        chunk = min(chunk, program.lanes)
        self.chunk = -(-chunk // len(devices)) * len(devices)
        _, lanes = next(self.chunks())
        turns = devices[0].platform == "cpu" and platforms.take_turns(size)
        run = own_rules()(self._lanes(devices, turns))
        self._traced = jax.jit(run).trace(*lanes, *self.shared)

    def lower(self) -> jax.stages.Lowered:
        """Returns the program, lowered: in the thread of the caller, whose settings count."""
        return self._traced.lower()

    def chunks(self) -> Iterator[tuple[list[Piece], Chunk]]:
        """Yields the pieces and inputs of every chunk; the last is padded."""
        items, size = self.program.items, self.chunk
        ends = np.cumsum([item.seeds for item in items])
        starts = ends - [item.seeds for item in items]
        firsts = np.array([item.first for item in items])
        null = np.array([item.labels == "permuted" for item in items])
        for at in range(0, int(ends[-1]), size):
            lane = np.minimum(np.arange(at, at + size), ends[-1] - 1)
            of = np.searchsorted(ends, lane, side="right")
            seeds = (firsts[of] + lane - starts[of]).astype(np.uint32)
            pieces = [
                Piece(items[i], max(int(starts[i]) - at, 0), min(int(ends[i]) - at, size))
                for i in range(of[0], of[-1] + 1)
            ]
            permuted = null[of] if null.any() else None
            yield pieces, (seeds, self.table.words[of], permuted, self.table.rows(of))

    def _lanes(self, devices: Sequence[platforms.Device], turns: bool) -> Callable:
        """Returns the function of (seeds, words, permuted, varying, erasers, probes).

        Args:
          devices: that share the lanes.
          turns: whether those of one device run one after another.
        """
        columns, table = self.program.columns, self.table

        def draw(seed, words, permuted, varying):
            key = lane_key(seed, words)
            return key, drawn(key, table.merge(varying), columns=columns, permuted=permuted)

        def one_by_one(seeds, words, permuted, varying, erasers, probes):
            def one(given):
                return trials(*draw(*given), erasers, probes, columns=columns)

            return jax.lax.map(one, (seeds, words, permuted, varying))

        def side_by_side(seeds, words, permuted, varying, erasers, probes):
            # Between the two maps labels that are the same in every lane get an axis for lanes.
            keys, rows = jax.vmap(draw)(seeds, words, permuted, varying)
            return jax.vmap(lambda key, own: trials(key, own, erasers, probes, columns=columns))(
                keys, rows
            )

        lanes = one_by_one if turns else side_by_side
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

    def rows(self, items: np.ndarray, lane: slice | int = slice(None)) -> list[np.ndarray]:
        """Returns the varying fields of items, by number."""
        return [values[items][lane] for values in self._varying]

    def merge(self, varying: Sequence[jax.Array | np.ndarray]) -> Generator:
        """Returns the dataset of a lane."""
        rest = iter(varying)
        leaves = [
            next(rest) if varies else same
            for varies, same in zip(self._varies, self._same, strict=True)
        ]
        return jax.tree.unflatten(self._tree, leaves)


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
