"""Rows of yours in files, for specs."""

import dataclasses
import functools
import os
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import numpy as np
from flax import struct

from erasejax._core.pytrees import static
from erasejax._core.types import Json, Key
from erasejax.datasets._checked import checked
from erasejax.datasets._own import OwnRows, Rows
from erasejax.datasets._splitting import PARTS
from erasejax.files import open_features, parse, read_array, read_groups, read_labels, read_task
from erasejax.files import read_labels_again as read_numbers
from erasejax.rows import Dataset

__all__ = ["FileRows"]

_PATHS = ("file", "labels", "groups", "task", "weights")


@struct.dataclass(kw_only=True)
class FileRows(OwnRows):
    """Your rows in files: `Rows` by the names of files, as a spec has them.

    Files are those of the command line: .npy, .npz, .safetensors, .csv and .parquet, with a part
    behind a colon where they have parts. Paths are relative to the working directory. What they
    hold is read and hashed when the object is made, and read again where it is needed: a pickle, as
    a worker of another machine gets it, holds the names and the hash.

    A label is missing where a table has an empty cell, null or NaN, and where an array of floats
    has NaN. A row without a label does not take part, and may for another concept.

    Attributes:
      file: static; the features, "acts.npz:layer3", "cells.csv", "cells.csv:a,b". In a spec a list
        of them is an axis, and so is a pattern, "acts.npz:layer*" or "acts-*.npy": layers.
      labels: static; the concept, "y.npy", "cells.csv:sex". A list is an axis: concepts.
      groups: static; which rows belong together, or None.
      task: static; a second concept that should survive erasure, or None.
      weights: static; row weights >= 0, or None.
      layer: static; which of the layers of an array (layers, n, d), or None.
      drop: static; columns of a table that are no features, "id,meta_*", or None.
      concept: static; "classes" or "real" where labels are whole floats, which "auto" refuses.
      shares: static; three whole numbers, how many rows the parts have in proportion.
      bootstrap: static; see `Rows`.
      content: static; the working precision, and the SHA-256 of what was read when it was made.

    Raises:
      ValueError: a file is damaged, does not fit the others, or is no longer what it was.
      FileNotFoundError: there is no such file.
      ModuleNotFoundError: reading tables needs pyarrow.

    Example:
      >>> np.savez("acts.npz", layer3=np.ones((12, 2)), sex=np.array([0, 1] * 6))
      >>> rows = ej.datasets.FileRows(file="acts.npz:layer3", labels="acts.npz:sex")
      >>> rows.sample(jax.random.key(0)).x.shape
      (4, 2)
    """

    name: ClassVar[str] = "file-rows"

    file: str = static()
    labels: str = static()
    groups: str | None = static(None)
    task: str | None = static(None)
    weights: str | None = static(None)
    layer: int | None = static(None)
    drop: str | None = static(None)
    concept: str = static("auto")
    shares: tuple[int, ...] = static((1,) * PARTS)
    bootstrap: bool = static(False)
    content: str | None = static(None)

    def __post_init__(self) -> None:
        if self.content is not None:
            return
        for name in _PATHS:
            if isinstance(path := getattr(self, name), os.PathLike):
                object.__setattr__(self, name, os.fspath(path))
            elif not isinstance(path, str) and (path is not None or name in _PATHS[:2]):
                raise ValueError(f"{name}: expected the name of a file, got {path!r}")
        object.__setattr__(self, "shares", tuple(self.shares))
        rows = self._read()
        vars(self)["outline"] = rows.outline
        object.__setattr__(self, "content", rows.content)

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    @functools.cached_property
    def outline(self) -> Rows:
        """What `loaded` returns, with shapes in place of the features."""
        return self.loaded().outline

    def loaded(self) -> Rows:
        """Reads the rows.

        Raises:
          ValueError: they are not those that the object was made with.
        """
        rows = self._read()
        held, now = ((text or "").partition("-") for text in (self.content, rows.content))
        if held != now and held[0] == now[0]:  # another precision has another hash
            raise ValueError(
                f"{self.file}: this file, or one of its labels, is not what it was when the sweep "
                f"was planned (content {self.content}, here {rows.content}); put the same files "
                "here, or start again with the new ones"
            )
        return rows

    def described(self) -> Mapping[str, Json]:
        """Returns what the rows are as JSON, the hash of their content among it."""
        return self.__getstate__() | {"shares": list(self.shares)}

    def sample(self, key: Key, *, part: int | jax.Array = 0) -> Dataset:
        """Splits the rows, see `Rows`. Under jit they become part of the program."""
        return self.loaded().sample(key, part=part)

    def _read(self) -> Rows:
        paths = [parse(path).path for name in _PATHS if (path := getattr(self, name)) is not None]
        stats = [os.stat(path) for path in paths]
        stamps = tuple((stat.st_mtime_ns, stat.st_size, stat.st_ino) for stat in stats)
        plain = dataclasses.replace(self, content="")
        with jax.ensure_compile_time_eval():  # they are kept, whoever traces
            return _read(plain, stamps, bool(jax.config.jax_enable_x64))  # pyright: ignore


@functools.lru_cache(maxsize=2)  # two programs may be at work
def _read(given: FileRows, stamps: tuple, wide: bool) -> Rows:
    """Reads rows, unless they were read just now.

    Args:
      given: what to read.
      stamps: of the files, which change when these do.
      wide: whether the working precision is float64.
    """
    labels = read_labels(given.labels, concept=given.concept, missing=True)
    fields = checked(
        x=_features(given),
        z=labels.values,
        groups=None if given.groups is None else read_groups(given.groups).values,
        task=None if given.task is None else read_task(given.task).values,
        weights=None if given.weights is None else read_numbers(given.weights, None).values,
        shares=given.shares,
        bootstrap=given.bootstrap,
        decided=True,
    )
    rows = Rows(**fields)
    rows.check(labels.names or ("",))
    return rows


def _features(given: FileRows) -> np.ndarray:
    """Reads features, (n, d).

    Raises:
      ValueError: they are none, or there is no such layer.
    """
    if given.layer is None:
        others = {name: getattr(given, name) for name in ("labels", "groups", "task", "weights")}
        return open_features(given.file, drop=given.drop, **others).array()
    found = read_array(parse(given.file))
    if found.ndim != 3 or not 0 <= given.layer < len(found):
        raise ValueError(
            f"{given.file}: expected (layers, rows, features), one of them layer {given.layer}, "
            f"got shape {found.shape}"
        )
    found = np.asarray(found[given.layer], np.promote_types(found.dtype, np.float32))
    if not np.isfinite(found).all():
        raise ValueError(f"{given.file}: layer {given.layer} has values that are NaN or infinite")
    return found
