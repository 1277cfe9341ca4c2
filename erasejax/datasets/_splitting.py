"""Which of your rows go to which part: a function of a key, in shapes that no key changes.

What decides the shapes, the labels and groups, is known beforehand and part of the program. The
draws are integers from end to end, so that the same key is the same split on every device, and
however many lanes run at once.
"""

import dataclasses
import functools
import hashlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["PARTS", "Column", "Drawn", "Split"]

PARTS = 3  # an eraser is fitted to the first, a probe to the second, and the third is scored

_SHARES, _ROWS, _WEIGHT = 2**14, 2**20, 2**16  # of integers that stand for fractions


class Column:
    """Numbers, one or several a row, that nothing changes: compared and hashed by their content."""

    def __init__(self, values: np.ndarray):
        self.values = np.array(values, order="C")
        self.values.flags.writeable = False

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of the dtype, the shape and the bytes."""
        head = f"{self.values.dtype.newbyteorder('<').str}{self.values.shape}".encode()
        little = self.values.astype(self.values.dtype.newbyteorder("<"), copy=False)
        return hashlib.sha256(head + little.tobytes()).hexdigest()

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.values, dtype) if copy else np.asarray(self.values, dtype)

    def __len__(self) -> int:
        return len(self.values)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Column) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return f"{self.values.dtype}{list(self.values.shape)}"


class Drawn(NamedTuple):
    """Where the rows of every part stand.

    Attributes:
      places: (parts, size) int32, among the rows that take part.
      times: (parts, size) int32, how often each counts, 0 behind the last; None for once, all of
        them.
    """

    places: jax.Array
    times: jax.Array | None


@dataclasses.dataclass(frozen=True)
class Split:
    """What decides a split. Rows that take part stand by class, those of a class in their order.

    Attributes:
      classes: (n,) int32, the class of each row, -1 for a row that does not take part.
      groups: (n,) int32, which rows belong together; None where all are independent.
      shares: how many rows parts have, in proportion.
      bootstrap: whether rows (or groups) are drawn with replacement: the first two parts are the
        rows drawn, the third is those that were not.
    """

    classes: Column
    groups: Column | None
    shares: tuple[int, ...]
    bootstrap: bool

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of all of it."""
        groups = "" if self.groups is None else self.groups.digest
        said = f"{self.classes.digest} {groups} {self.shares} {self.bootstrap}"
        return hashlib.sha256(said.encode()).hexdigest()

    @functools.cached_property
    def rows(self) -> np.ndarray:
        """(m,) int32, the numbers of the rows that take part, by class."""
        classes = self.classes.values
        return np.argsort(classes, kind="stable")[np.sum(classes < 0) :].astype(np.int32)

    @functools.cached_property
    def counts(self) -> np.ndarray:
        """(k,) how many rows of each class take part."""
        return np.bincount(self.classes.values[self.rows], minlength=1)

    @functools.cached_property
    def _of(self) -> np.ndarray:
        """(m,) int32, the group of each row that takes part, 0, 1, ...; its own without groups."""
        if self.groups is None:
            return np.arange(len(self.rows), dtype=np.int32)
        found = np.unique(self.groups.values[self.rows], return_inverse=True)[1]
        return found.reshape(-1).astype(np.int32)

    @functools.cached_property
    def table(self) -> np.ndarray:
        """(groups, k) int32, how many rows of each class a group has."""
        k, of = len(self.counts), self._of
        flat = np.bincount(of * k + self.classes.values[self.rows], minlength=(of.max() + 1) * k)
        return flat.reshape(-1, k).astype(np.int32)

    @functools.cached_property
    def capacity(self) -> np.ndarray:
        """(parts,) how many rows a part may hold, whatever the key.

        A part takes its share of the m rows, and the rest of the largest group, of s rows: with the
        shares a_i, a_i m + (1 - a_i) s. If no part had room for a group, the rows placed would be
        more than sum_i (a_i m + (1 - a_i) s - s) = m - s, and there are no more than that.
        """
        if self.bootstrap:
            return np.full(PARTS, len(self.rows))
        if self.groups is None:
            return self._quotas.sum(axis=1)
        m, largest, total = len(self.rows), int(self.table.sum(axis=1).max()), sum(self.shares)
        exact = [share * m + (total - share) * largest for share in self.shares]
        return np.minimum([-(-rows // total) for rows in exact], m)

    @property
    def size(self) -> int:
        """How many rows the arrays of a part have."""
        return int(self.capacity.max())

    @property
    def is_full(self) -> bool:
        """Whether all parts always have so many rows, each once."""
        return self.groups is None and not self.bootstrap and len({*self.capacity.tolist()}) == 1

    @functools.cached_property
    def _quotas(self) -> np.ndarray:
        """(parts, k) how many rows of each class a part gets: its share, rounded.

        What rounding leaves of a class goes to the parts that are the furthest behind.
        """
        shares, total = np.array(self.shares, np.int64), sum(self.shares)
        found = np.zeros((PARTS, len(self.counts)), np.int64)
        for j, count in enumerate(self.counts.tolist()):
            found[:, j] = count * shares // total
            rest = count - int(found[:, j].sum())
            behind = shares * int(self.counts[: j + 1].sum()) - total * found.sum(axis=1)
            found[np.argsort(-behind, kind="stable")[:rest], j] += 1
        return found

    def check(self, names: tuple[str, ...]) -> None:
        """Checks that every part can have every class.

        Args:
          names: of the classes; one of "" where there are none.

        Raises:
          ValueError: it cannot.
        """
        if not len(self.rows):
            raise ValueError("z: no row has a label")
        least = 2 if self.bootstrap else PARTS
        what = "row" if self.groups is None else "group"
        if len(self.table) < least:
            raise ValueError(
                f"{what}s: expected at least {least}, one for each part, got {len(self.table)}"
            )
        held = np.zeros(len(names), np.int64)
        held[: len(self.counts)] = (self.table > 0).sum(axis=0)
        few = held < least
        if self.groups is None and not self.bootstrap:
            few[: len(self.counts)] |= (self._quotas == 0).any(axis=0)
        if few.any():
            j = int(np.argmax(few))
            where = f"z: class {names[j]} has" if names[j] else "z: there are"
            some = f"{held[j]} {what}" + ("" if held[j] == 1 else "s")
            raise ValueError(f"{where} {some}, too few for each part to have one")

    def draw(self, key: jax.Array) -> Drawn:
        """Returns where the rows of every part stand."""
        if self.bootstrap:
            return self._resample(key)
        return self._split_rows(key) if self.groups is None else self._split_groups(key)

    def _split_rows(self, key: jax.Array) -> Drawn:
        """Deals the rows of each class out, in random order."""
        k, m = len(self.counts), len(self.rows)
        high = (k - 1).bit_length()  # the class goes into the upper bits: one key sorts faster
        bits = jax.random.bits(key, (m,), jnp.uint32)
        if high:
            classes = self.classes.values[self.rows].astype(np.uint32)
            bits = (bits >> high) | jnp.asarray(classes << np.uint32(32 - high))
        _, order = jax.lax.sort((bits, jnp.arange(m, dtype=jnp.int32)), num_keys=1)
        ends = np.cumsum(self._quotas, axis=0) + np.cumsum([0, *self.counts[:-1]])
        slots = np.full((PARTS, self.size), m - 1, np.int32)
        for i, (stops, lengths) in enumerate(zip(ends, self._quotas, strict=True)):
            own = [np.arange(b - n, b) for b, n in zip(stops, lengths, strict=True)]
            slots[i, : self.capacity[i]] = np.concatenate(own)
        filled = np.arange(self.size) < self.capacity[:, None]
        return Drawn(order[slots], None if self.is_full else jnp.asarray(filled, jnp.int32))

    def _split_groups(self, key: jax.Array) -> Drawn:
        """Puts one group after another where least of its classes is, for the part's share.

        The groups that hold most of a class come first; those within a factor of two class by
        class, in random order. Of parts with equally much the one with the fewest rows is taken,
        and never one that has no room.
        """
        table, m = self.table, len(self.rows)
        share = table / self.counts
        most = np.floor(np.log2(share.max(axis=1)))
        ranks = np.unique(np.stack([-most, share.argmax(axis=1)]), axis=1, return_inverse=True)[1]
        bits = jax.random.bits(key, (len(table),), jnp.uint32)
        numbers = jnp.arange(len(table), dtype=jnp.int32)
        ranks = jnp.asarray(ranks.reshape(-1), jnp.int32)
        _, _, order = jax.lax.sort((ranks, bits, numbers), num_keys=2)
        part = jnp.zeros(len(table), jnp.int32).at[order].set(self._places(order))
        part = part[self._of]
        hot = (part[:, None] == jnp.arange(PARTS)).astype(jnp.int32)
        before = jnp.cumsum(hot, axis=0)
        rank = jnp.sum(before * hot, axis=1) - 1
        places = jnp.full(PARTS * self.size, m - 1, jnp.int32)
        places = places.at[part * self.size + rank].set(
            jnp.arange(m, dtype=jnp.int32), unique_indices=True
        )
        filled = jnp.arange(self.size) < before[-1][:, None]
        return Drawn(places.reshape(PARTS, self.size), filled.astype(jnp.int32))

    def _places(self, order: jax.Array) -> jax.Array:
        """Returns the part of each group, (groups,) int32, in an order of the groups."""
        table, total = self.table, self.table.sum(axis=1)
        share = table / self.counts
        weight = np.floor(_WEIGHT * share / share.sum(axis=1, keepdims=True)).astype(np.int32)
        fair = min(self.shares) / np.array(self.shares)
        # Rounded products of one factor each: no order of sums changes them.
        by_class = jnp.asarray(_SHARES * fair[:, None] / self.counts, jnp.float32)
        by_rows = jnp.asarray(_ROWS * fair / len(self.rows), jnp.float32)
        capacity = jnp.asarray(self.capacity, jnp.int32)
        never = np.iinfo(np.int32).max
        table, weight = jnp.asarray(table), jnp.asarray(weight)
        total = jnp.asarray(total, jnp.int32)

        def put(held, group):
            has, size = held
            more, rows = has + table[group], size + total[group]
            score = jnp.sum((more * by_class).astype(jnp.int32) * weight[group], axis=1)
            score = jnp.where(rows <= capacity, score, never)
            least = score == jnp.min(score)
            filled = (rows * by_rows).astype(jnp.int32)
            part = jnp.argmin(jax.lax.select(least, filled, jnp.full_like(filled, never)))
            own = jnp.arange(PARTS) == part
            return (jnp.where(own[:, None], more, has), jnp.where(own, rows, size)), part

        empty = jnp.zeros((PARTS, table.shape[1]), jnp.int32), jnp.zeros(PARTS, jnp.int32)
        return jax.lax.scan(put, empty, order)[1].astype(jnp.int32)

    def _resample(self, key: jax.Array) -> Drawn:
        """Draws as many as there are with replacement: rows class by class, or groups."""
        m = len(self.rows)
        if self.groups is None:
            classes = self.classes.values[self.rows]
            starts = np.cumsum([0, *self.counts[:-1]]).astype(np.int32)[classes]
            counts = jnp.asarray(self.counts[classes], jnp.int32)
            drawn = starts + jax.random.randint(key, (m,), 0, counts)
            times = jnp.zeros(m, jnp.int32).at[drawn].add(1)
        else:
            count = len(self.table)
            drawn = jax.random.randint(key, (count,), 0, count)
            times = jnp.zeros(count, jnp.int32).at[drawn].add(1)[self._of]
        places = jnp.broadcast_to(jnp.arange(m, dtype=jnp.int32), (PARTS, m))
        return Drawn(places, jnp.stack([times, times, (times == 0).astype(jnp.int32)]))
