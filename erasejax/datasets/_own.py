"""Rows of yours as a dataset: a key splits them, and nothing is drawn but the split."""

import dataclasses
import functools
import hashlib
import zlib
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from erasejax._core import inputs
from erasejax._core.programs import program
from erasejax._core.pytrees import static
from erasejax._core.types import Json, Key
from erasejax._core.warn import warn
from erasejax.datasets._base import Generator
from erasejax.datasets._checked import MISSING, checked, there_in
from erasejax.datasets._splitting import PARTS, Column, Drawn, Split
from erasejax.rows import Dataset

__all__ = ["OwnRows", "Rows"]


class OwnRows(Generator[Dataset]):
    """A dataset whose rows are there already: `Rows` in memory, `FileRows` in files.

    A sweep puts the leaves of `loaded()` on its devices once, whatever the number of splits.

    Example:
      >>> z = np.array([0, 1] * 6)
      >>> isinstance(ej.datasets.Rows(np.ones((12, 2)), z), ej.datasets.OwnRows)
      True
    """

    @property
    def outline(self) -> "Rows":
        """What `loaded` returns, with shapes in place of the features."""
        raise NotImplementedError

    def loaded(self) -> "Rows":
        """Returns the rows, without what only names them: two layers are of one structure."""
        raise NotImplementedError

    def described(self) -> Mapping[str, Json]:
        """Returns what the rows are as JSON, the hash of their content among it."""
        raise NotImplementedError

    @property
    def draws(self) -> Mapping[str, Json]:
        """What decides a split, as JSON: labels, groups and shares, and never the features."""
        return {"split": self.outline.split.digest}

    @property
    def about(self) -> str:
        """How many rows there are, and how equal the parts can be."""
        return self.outline.split_in_words()

    def parts(self, key: Key) -> tuple[np.ndarray, ...]:
        """Returns the row numbers of the three parts that `sample` takes, on the host.

        For loops of other libraries over the same splits. In a bootstrap a row that was drawn twice
        is there twice.

        Args:
          key: as for `sample`; that of a sweep's trial is `ej.sweep.lane_key(seed, words)`.

        Raises:
          TypeError: key is no key.
          ValueError: it is several.
        """
        split = self.outline.split
        places, times = jax.device_get(_drawn(split, inputs.as_key(key)))
        if times is None:
            times = np.ones_like(places)
        return tuple(np.repeat(split.rows[p], t) for p, t in zip(places, times, strict=True))


@struct.dataclass
class Rows(OwnRows):
    """Your rows: `sample(key, part=...)` splits them in three by the key alone.

    Part 0 is for the eraser, part 1 for the probe, part 2 to be scored. Each part has its share of
    every class, within a class to a row. What decides a split is the labels, the groups and the
    shares, never the features: the same key splits every layer of a model alike, so differences
    between layers are paired.

    With `groups` all rows of a group (a statement, a name, a document, a template) are in one part.
    The parts are then as equal as groups allow: with m rows, a largest group of s and a share a, no
    part has more than a m + (1 - a) s, and arrays have the size of the largest part there can be,
    filled up with rows of weight 0. `about` says how many. Where by chance a part has no row of
    some class, the fits to it fail, and their status says so.

    Rows without a label do not take part, and may for another concept: -1 in integers, NaN in
    floats. So do rows without a task, and those of weight 0.

    Attributes:
      x: (n, d) floats; or (layers, n, d), and then `layer` says which.
      z: static; the concept, (n,) or (n, k), as `fit` takes it. Parts have every class, or for
        quantities and binary labels of several columns their share of rows.
      groups: static; (n,) ids of rows that belong together, integers or text, or None.
      task: static; (n,) or (n, t), a second concept that should survive erasure, or None. Two
        classes are one column of 0 and 1.
      weights: static; (n,) row weights >= 0, or None.
      layer: static; which of the layers of x, or None.
      title: static; what tables call the rows, such as the concept's name.
      shares: static; three whole numbers, how many rows the parts have in proportion.
      bootstrap: static; instead of splitting, draw as many rows (or groups) as there are with
        replacement, class by class: parts 0 and 1 are the rows drawn, each with the weight of how
        often it was, part 2 those that were not.

    Raises:
      TypeError: an array is of a kind that `fit` does not take.
      ValueError: shapes do not match, a class has fewer rows, or is in fewer groups, than there are
        parts, or an option makes no sense.

    Warns:
      UserWarning: the largest group has more rows than a part should have.

    Example:
      >>> x, z = np.arange(24.0).reshape(12, 2), np.array([0, 1] * 6)
      >>> rows = ej.datasets.Rows(x, z)
      >>> rows.sample(jax.random.key(0), part=1).z.tolist()
      [0, 0, 1, 1]
      >>> sorted(np.concatenate(rows.parts(jax.random.key(0))).tolist()) == list(range(12))
      True
    """

    name: ClassVar[str] = "rows"

    x: Any
    z: Any = static()
    groups: Any = static(None)
    task: Any = static(None)
    weights: Any = static(None)
    layer: int | None = static(None, kw_only=True)
    title: str = static("", kw_only=True)
    shares: tuple[int, ...] = static((1,) * PARTS, kw_only=True)
    bootstrap: bool = static(False, kw_only=True)

    def __post_init__(self) -> None:
        if isinstance(self.z, Column):  # checked already: a copy, or a pytree put together again
            return
        given = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        for name, value in checked(**given).items():
            object.__setattr__(self, name, value)
        count = self.num_classes
        self.check(tuple(map(str, range(count))) if count else ("",))

    @property
    def num_classes(self) -> int | None:
        """How many classes there are, or None for quantities and several columns."""
        z = self.z.values
        return None if z.dtype.kind == "f" or z.ndim == 2 else max(int(z.max()) + 1, 2)

    @property
    def split(self) -> Split:
        """What decides a split."""
        return _split(self.z, self.groups, self.task, self.weights, self.shares, self.bootstrap)

    @functools.cached_property
    def content(self) -> str:
        """The working precision, and SHA-256 of the features in it and of all else that counts."""
        x = np.ascontiguousarray(self.loaded().x)
        found = hashlib.sha256(str(x.shape).encode())
        found.update(x.astype(x.dtype.newbyteorder("<"), copy=False).data)
        for column in (self.z, self.groups, self.task, self.weights):
            found.update(b"-" if column is None else column.digest.encode())
        return f"{x.dtype}-{found.hexdigest()}"

    @property
    def outline(self) -> "Rows":
        """What `loaded` returns, with shapes in place of the features."""
        x = jax.ShapeDtypeStruct(self.x.shape[-2:], self.x.dtype)
        return dataclasses.replace(self, x=x, layer=None, title="")

    def loaded(self) -> "Rows":
        """Returns the rows, without what only names them: two layers are of one structure."""
        x = self.x if self.layer is None else self.x[self.layer]
        return dataclasses.replace(self, x=x, layer=None, title="")

    def described(self) -> Mapping[str, Json]:
        """Returns what the rows are as JSON, the hash of their content among it."""
        options: dict[str, Json] = {"title": self.title, "layer": self.layer}
        options |= {"shares": list(self.shares), "bootstrap": self.bootstrap}
        return options | {"content": self.content}

    def sample(self, key: Key, *, part: int | jax.Array = 0) -> Dataset:
        """Returns the rows of a part, by class; behind them, where parts differ, some of weight 0.

        Args:
          key: a typed `jax.random.key`. It decides the split.
          part: 0 for the eraser, 1 for the probe, 2 to be scored.

        Returns:
          `Dataset` with float32 x (float64 where jax's x64 mode is on).

        Raises:
          TypeError: key is no key.
          ValueError: it is several, or there is no such part.

        Under jit: pure; vmap over keys and parts. The rows become part of the program, unless they
        are an argument of it.
        """
        if isinstance(part, int) and not 0 <= part < PARTS:
            raise ValueError(f"part: expected 0 to {PARTS - 1}, got {part}")
        return super().sample(key, part=part)

    def split_in_words(self) -> str:
        """Returns how many rows there are, and how equal the parts can be."""
        split, n = self.split, len(self.z)
        m, least, most = len(split.rows), int(split.capacity.min()), split.size
        words = f"{m:,} rows" + (f" of {n:,} (the others have no label)" if m < n else "")
        if self.groups is not None:
            words += f" in {len(split.table):,} groups"
        if split.bootstrap:
            return f"{words}, drawn with replacement"
        if self.groups is not None:
            fair = " : ".join(str(m * share // sum(self.shares)) for share in self.shares)
            return f"{words}; parts of whole groups have up to {most:,} rows, equal ones {fair}"
        return f"{words} in parts of " + (f"{least:,} to {most:,}" if least < most else f"{most:,}")

    def check(self, names: tuple[str, ...]) -> None:
        """Checks that every part can have every class, and says where parts are unequal.

        Args:
          names: of the classes; one of "" where there are none.

        Raises:
          ValueError: a part cannot have one.

        Warns:
          UserWarning: the largest group has more rows than a part should have.
        """
        split = self.split
        split.check(names)
        if self.groups is None or self.bootstrap:
            return
        largest = int(split.table.sum(axis=1).max())
        fair = len(split.rows) * min(self.shares) // sum(self.shares)
        if largest > fair:
            warn(
                f"groups: the largest has {largest:,} of {len(split.rows):,} rows, more than the "
                f"{fair:,} of a part, and stays whole: parts are unequal; {self.about}"
            )

    def _draw(self, key: jax.Array, part: int | jax.Array) -> Dataset:
        split, dtype = self.split, self.x.dtype
        drawn = _draw(split, key)
        rows = jnp.asarray(split.rows)[drawn.places[part]]
        weights = None if self.weights is None else jnp.asarray(self.weights.values, dtype)[rows]
        if drawn.times is not None:
            times = drawn.times[part].astype(dtype)
            weights = times if weights is None else times * weights
        z = self.z.values
        z = jnp.asarray(z, dtype if z.dtype.kind == "f" else jnp.int32)
        return Dataset(
            x=(self.x if self.layer is None else self.x[self.layer])[rows],
            z=z[rows],
            num_classes=self.num_classes,
            task=None if self.task is None else jnp.asarray(self.task.values, dtype)[rows],
            weights=weights,
        )


@program(static_argnums=0)
def _drawn(split: Split, key: jax.Array) -> Drawn:
    return _draw(split, key)


def _draw(split: Split, key: jax.Array) -> Drawn:
    return split.draw(jax.random.fold_in(key, zlib.crc32(b"split")))


@functools.lru_cache(maxsize=256)
def _split(
    z: Column,
    groups: Column | None,
    task: Column | None,
    weights: Column | None,
    shares: tuple[int, ...],
    bootstrap: bool,
) -> Split:
    """Returns what decides a split of the rows that have a label, a task and a weight."""
    z_ = z.values
    there = there_in(z_)
    if task is not None:
        there &= there_in(task.values)
    if weights is not None:
        there &= weights.values > 0
    classes = z_ if z_.ndim == 1 and z_.dtype.kind != "f" else np.zeros(len(z_), np.int32)
    classes = Column(np.where(there, classes, MISSING).astype(np.int32))
    return Split(classes, groups, shares, bootstrap)
