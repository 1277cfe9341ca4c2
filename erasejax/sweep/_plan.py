"""Which programs compute the blocks that are missing.

Datasets whose rows have one shape, or are filled up to one, run through one compiled program,
together with every eraser and probe that is asked of them. An item is one dataset and the seeds of
a block: what a program computes in one piece, and the unit that processes share out.
"""

import dataclasses
import os
from collections import Counter, defaultdict
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import jax
import numpy as np

from erasejax.sweep._blocks import Block, Numerics, ranges
from erasejax.sweep._cells import Cell, Config, Grid, Product
from erasejax.sweep._columns import Columns
from erasejax.sweep._sharing import groups, outline, shape_of
from erasejax.sweep._store import Store
from erasejax.sweep._trial import Batch

__all__ = [
    "batches",
    "Item",
    "Plan",
    "Program",
    "lacking",
    "plan",
    "share",
    "share_in_words",
    "structure",
]

T = TypeVar("T")

_FEW = 4  # items that are not worth a program of their own
_ARRAY = ("ID", "MIN", "MAX", "COUNT", "STEP")  # variables of a SLURM job array


class Item(NamedTuple):
    """One dataset, with its labels or permuted ones, and a range of seeds.

    Attributes:
      dataset: which.
      labels: "true" or "permuted".
      first: first seed.
      last: last seed + 1.
      missing: places (eraser, probe) in the program of what is not stored yet.
    """

    dataset: Config
    labels: str
    first: int
    last: int
    missing: frozenset[tuple[int, int]]

    @property
    def seeds(self) -> int:
        """How many seeds."""
        return self.last - self.first

    @property
    def trials(self) -> int:
        """How many rows of the table are not stored yet."""
        return self.seeds * len(self.missing)


@dataclasses.dataclass(frozen=True)
class Program:
    """What is compiled once: datasets with rows of one shape, with erasers and probes.

    Attributes:
      erasers: in the order of their batches, and so the probes.
      probes: see erasers.
      columns: the numbers wanted.
      items: what to run through it.
    """

    erasers: tuple[Config, ...]
    probes: tuple[Config, ...]
    columns: Columns
    items: tuple[Item, ...]

    @property
    def lanes(self) -> int:
        """How many datasets are drawn."""
        return sum(item.seeds for item in self.items)

    @property
    def width(self) -> int:
        """How many trials a dataset has."""
        return len(self.erasers) * len(self.probes)

    def block(self, item: Item, place: tuple[int, int]) -> Block:
        """Returns the block of an item for one eraser and probe."""
        cell = Cell(item.dataset, self.erasers[place[0]], self.probes[place[1]], item.labels)
        return Block(cell, item.first, item.last, self.columns)

    def asked(self, number: int) -> dict[tuple[int, int], Block]:
        """Returns the missing blocks of an item, by number, and their places."""
        item = self.items[number]
        return {place: self.block(item, place) for place in item.missing}


@dataclasses.dataclass(frozen=True)
class Plan:
    """What there is to do.

    Attributes:
      programs: to compile and run.
      blocks: how many blocks this process's share of the sweep has.
      missing: how many of them are not stored yet.
      trials: rows of the table in the missing ones.
    """

    programs: tuple[Program, ...]
    blocks: int
    missing: int
    trials: int


def share(text: str | None = None) -> tuple[int, int]:
    """Returns (index, count): which part of a sweep this process does.

    Args:
      text: "i/n" with i from 0 to n - 1. None takes it from a SLURM job array, or from
        jax.distributed where that is initialised, and is the whole otherwise.

    Raises:
      ValueError: the text is none, or the tasks of the job array are not evenly spaced.
    """
    if text is not None:
        index, _, count = text.partition("/")
        if not (index.isdecimal() and count.isdecimal() and int(index) < int(count)):
            raise ValueError(f"shard: expected i/n with i from 0 to n - 1, such as 0/4; got {text}")
        return int(index), int(count)
    index, count = jax.process_index(), jax.process_count()
    if array := _job_array():
        own, lowest, highest, tasks, step = array
        if (highest - lowest) // step + 1 != tasks:
            raise ValueError(
                f"shard: the {tasks} tasks of this job array, from {lowest} to {highest}, are not "
                "evenly spaced, so their shares are not known; pass --shard 0/1 to do all that is "
                "missing, or i/n"
            )
        index, count = (own - lowest) // step * count + index, tasks * count
    return index, count


def _job_array() -> list[int] | None:
    """Returns ID, MIN, MAX, COUNT and STEP of the SLURM array task that this is, or None."""
    found = [os.environ.get(f"SLURM_ARRAY_TASK_{name}", "") for name in _ARRAY]
    return [int(value) for value in found] if all(map(str.isdecimal, found)) else None


def share_in_words(shard: tuple[int, int], text: str | None = None) -> str:
    """Returns which share of a sweep a process does, why, and how to change that; "" for all of it.

    Args:
      shard: (index, count), what `share` made of the text.
      text: as there.
    """
    index, count = shard
    if count == 1:
        return ""
    own = f"part {index + 1} of {count} of the sweep"
    if text is not None:
        return f"{own}, as shard {text} asks"
    reasons = []
    if array := _job_array():
        reasons.append(f"task {array[0]} of a SLURM job array of {array[3]}")
    if jax.process_count() > 1:
        reasons.append(f"process {jax.process_index()} of {jax.process_count()} of jax.distributed")
    return f"{own}: this is {', '.join(reasons)}; shard 0/1 does all of it"


def plan(
    grid: Grid, store: Store | None, numerics: Numerics, shard: tuple[int, int] = (0, 1)
) -> Plan:
    """Returns the programs that compute what is missing of a process's share.

    Args:
      grid: what was asked for.
      store: where to look for what is done; None for nowhere.
      numerics: of this process.
      shard: (index, count), the share.

    Warns:
      UserWarning: a stored file is damaged and will be computed again.
    """
    done = set() if store is None else store.names()
    blocks = missing = trials = turn = 0
    wanted = defaultdict(list)
    for product in grid.parts:
        columns = product.columns
        for labels in product.labels:
            for dataset in product.datasets:
                for first, last in ranges(product.seeds):
                    turn += 1
                    if (turn - 1) % shard[1] != shard[0]:
                        continue
                    blocks += len(product.erasers) * len(product.probes)
                    asked = {
                        (i, j): Block(Cell(dataset, eraser, probe, labels), first, last, columns)
                        for i, eraser in enumerate(product.erasers)
                        for j, probe in enumerate(product.probes)
                    }
                    lacks = lacking(asked, store, done, numerics)
                    if not lacks:
                        continue
                    missing += len(lacks)
                    trials += len(lacks) * (last - first)
                    item = Item(dataset, labels, first, last, lacks)
                    wanted[id(product)].append((product, item))
    programs = []
    for pairs in wanted.values():
        programs += _sharing(pairs[0][0], [item for _, item in pairs])
    return Plan(tuple(programs), blocks, missing, trials)


def lacking(
    asked: Mapping[T, Block], store: Store | None, done: Collection[str], numerics: Numerics
) -> frozenset[T]:
    """Returns the places of those blocks that are not stored.

    Args:
      asked: blocks by their places.
      store: where they may be; None for nowhere.
      done: names of the files there.
      numerics: of the sweep.

    Warns:
      UserWarning: a block is damaged, and counts as not stored.
    """
    return frozenset(
        place
        for place, block in asked.items()
        if store is None or not store.done(block, numerics, done)
    )


def _sharing(product: Product, items: list[Item]) -> list[Program]:
    """Returns programs for the items of a product, those that share one together."""
    by_structure = defaultdict(list)
    for item in items:
        by_structure[structure(outline(item.dataset.value))].append(item)
    shapes = {key: shape_of(own[0].dataset.value) for key, own in by_structure.items()}
    lanes = {key: sum(item.seeds for item in own) for key, own in by_structure.items()}
    found = []
    for group in groups(product, shapes, lanes):
        found += _programs(product, [item for key in group for item in by_structure[key]])
    return found


def _programs(product: Product, items: list[Item]) -> list[Program]:
    """Returns programs for the items of one shape of rows.

    Items that lack the same cells share a program. A few that lack only some of the cells of
    another program (a run was killed there) go through that one: it takes less than compiling.
    """
    counts = Counter(item.missing for item in items)
    home = {}
    for lacks, count in counts.items():
        larger = [other for other in counts if lacks < other]
        home[lacks] = max(larger, key=len) if count < _FEW and larger else lacks
    found = []
    for whole in dict.fromkeys(home.values()):
        rows = [item for item in items if home[item.missing] == whole]
        by_probes = defaultdict(list)  # the cells as a sum of products
        for i in sorted({i for i, _ in whole}):
            by_probes[tuple(sorted(j for k, j in whole if k == i))].append(i)
        for probes, erasers in by_probes.items():
            found.append(_program(product, erasers, probes, rows))
    return found


def _program(
    product: Product, erasers: Sequence[int], probes: Sequence[int], rows: list[Item]
) -> Program:
    erasers = _by_structure(erasers, product.erasers)
    probes = _by_structure(probes, product.probes)
    places = {(i, j): (a, b) for a, i in enumerate(erasers) for b, j in enumerate(probes)}
    items = [
        item._replace(missing=frozenset(places[old] for old in item.missing if old in places))
        for item in rows
    ]
    return Program(
        tuple(product.erasers[i] for i in erasers),
        tuple(product.probes[j] for j in probes),
        product.columns,
        tuple(item for item in items if item.missing),
    )


def _by_structure(places: Iterable[int], configs: tuple[Config, ...]) -> list[int]:
    """Returns the places, those of one structure next to each other."""
    groups = defaultdict(list)
    for place in places:
        groups[structure(configs[place].value)].append(place)
    return [place for group in groups.values() for place in group]


def batches(configs: Sequence[Config]) -> list[Batch]:
    """Returns configurations as batches, those of one structure as one."""
    alike: dict[Hashable, list[Config]] = defaultdict(list)
    for config in configs:
        alike[structure(config.value)].append(config)
    return [
        Batch(
            jax.tree.map(lambda *leaves: np.stack(leaves), *(leaves_of(c.value) for c in group)),
            np.stack([config.words for config in group]),
        )
        for group in alike.values()
    ]


def leaves_of(value: T) -> T:
    """Returns a configuration with numpy leaves of the working precision."""
    dtype = jax.dtypes.canonicalize_dtype(float)
    return jax.tree.map(lambda leaf: np.asarray(leaf, dtype), value)


def structure(value: object) -> Hashable:
    """Returns what configurations have in common that run through one program."""
    leaves, tree = jax.tree.flatten(value)
    return tree, tuple(np.shape(leaf) for leaf in leaves)
