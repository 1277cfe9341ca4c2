"""Moments of the rows of files, with which files those were: kept, and merged."""

import dataclasses
import os
import typing
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from erasejax._core.annotations import is_a
from erasejax._core.text import show
from erasejax._core.types import Json
from erasejax.files._labels import describe_classes
from erasejax.files._saved import load, read_header
from erasejax.files._together import CountedFile
from erasejax.statistics import Moments, merge

__all__ = ["Counted", "load_counted", "merge_counted", "span_of", "sums_of"]


@dataclasses.dataclass(frozen=True)
class Counted:
    """The moments of files, and what they are of.

    Attributes:
      moments: of all rows; of one class alone, beside an empty one.
      files: which.
      dtype: of the features in the first one.
      columns: names of the features, of tables.
      part: of each file, as in `Source`.
      kind: of the labels, see `Labels`.
      class_names: in the order of their numbers; None for a real concept.
      class_counts: rows of each.
      span: the least and the largest label of a real concept.
      task_kind: of the task, "" without one.
      task_names: as class_names, of the task.
      within_task: whether the moments are of the classes y k + z of task and concept, and of no
        task beside them.
    """

    moments: Moments
    files: tuple[CountedFile, ...]
    dtype: str
    columns: tuple[str, ...] | None
    part: str | None
    kind: str
    class_names: tuple[str, ...] | None
    class_counts: tuple[int, ...]
    span: tuple[float, float]
    task_kind: str
    task_names: tuple[str, ...] | None
    within_task: bool = False

    @property
    def tasks(self) -> int | None:
        """How many classes of the task the moments tell apart, or None."""
        return len(self.task_names or ()) if self.within_task else None

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return sum(file.rows for file in self.files)

    @property
    def concept(self) -> str:
        """What the labels are, in words."""
        if self.class_names is None:
            return f"a real concept from {self.span[0]:g} to {self.span[1]:g}"
        return describe_classes(self.class_names, self.class_counts)

    @property
    def notes(self) -> dict[str, Json]:
        """All but the moments, as JSON."""
        own: dict[str, Any] = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        del own["moments"]
        own["files"] = [dataclasses.asdict(file) for file in self.files]
        return {"counted": {k: list(v) if isinstance(v, tuple) else v for k, v in own.items()}}

    def widened(
        self, names: tuple[str, ...] | None, task_names: tuple[str, ...] | None
    ) -> "Counted":
        """Returns the same with more classes, which have no rows: exact."""
        if (names, task_names) == (self.class_names, self.task_names):
            return self
        old, k = self.moments, 1 if names is None else max(len(names), 2)
        t = old.task if task_names is None else len(task_names)
        at = [0] if names is None else [names.index(name) for name in self.class_names or ()]
        last = (
            range(t) if task_names is None else list(map(task_names.index, self.task_names or ()))
        )
        # Ones where a column goes: each sum has one term.
        columns = old.xz.shape[1]
        if self.within_task:
            goes = np.zeros((columns, t * k), old.xz.dtype)
            for i, y in enumerate(last):  # a lone class stands beside an empty one
                goes[
                    [i * columns // len(last) + j for j in range(len(at))], [y * k + z for z in at]
                ] = 1
            t = 0
        else:
            goes = np.zeros((columns, k + t), old.xz.dtype)
            goes[range(len(at)), at] = 1
            goes[range(columns - old.task, columns), [k + i for i in last]] = 1
        moments = old.replace(
            mean_z=jax.device_put(np.asarray(old.mean_z) @ goes),
            xz=jax.device_put(np.asarray(old.xz) @ goes),
            zz=jax.device_put(goes.T @ np.asarray(old.zz) @ goes),
            task=t,
        )
        counts = dict(zip(self.class_names or (), self.class_counts, strict=True))
        return dataclasses.replace(
            self,
            moments=moments,
            class_names=names,
            class_counts=tuple(counts.get(name, 0) for name in names or ()),
            task_names=task_names,
        )


def load_counted(path: str | os.PathLike[str]) -> Counted:
    """Loads what `count_files` keeps.

    Raises:
      ValueError: the file is damaged, or holds something else.
      FileNotFoundError: there is no such file.
    """
    header = read_header(path)
    notes = header.notes.get("counted")
    if header.name != "Moments" or not isinstance(notes, dict):
        raise ValueError(f"{path}: holds no moments that erasejax fit has counted")
    hints = {f.name: f for f in dataclasses.fields(Counted)}
    try:
        given: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in notes.items()
        }
        given["files"] = tuple(CountedFile(**file) for file in given["files"])
        counted = Counted(moments=load(path), **given)
        kinds = typing.get_type_hints(Counted)
        sound = all(is_a(getattr(counted, name), kinds[name]) for name in hints)
        kinds = typing.get_type_hints(CountedFile)
        sound &= all(is_a(getattr(f, k), kinds[k]) for f in counted.files for k in kinds)
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path}: damaged, its notes cannot be read ({error!r})") from None
    k = counted.moments.xz.shape[-1] - counted.moments.task
    names = counted.class_names
    sound &= k == (1 if names is None else max(len(names), 2)) * (counted.tasks or 1)
    sound &= len(names or ()) == len(counted.class_counts) and len(counted.span) == 2
    if not sound or np.ndim(counted.moments.status):
        raise ValueError(f"{path}: damaged, its notes do not fit its moments")
    return counted


def merge_counted(paths: Sequence[str | os.PathLike[str]]) -> Counted:
    """Returns the moments of several files of moments together.

    Args:
      paths: of what `count_files` has kept, on one machine or several.

    Raises:
      ValueError: a file of rows is counted in two of them; or they do not fit each other: in
        features, part, kind of labels or task; or none of two has all classes of the other.
      FileNotFoundError: there is no such file.
    """
    loaded = [(str(path), load_counted(path)) for path in paths]
    # Those with the most classes first: they hold those of the others.
    loaded.sort(key=lambda one: -len(one[1].class_names or ()))
    (first, whole), *others = loaded
    origin = {file.sha256: (first, file.name) for file in whole.files}
    for path, other in others:
        for file in other.files:
            if file.sha256 in origin:
                where, name = origin[file.sha256]
                alias = "" if name == file.name else f", there as {name}"
                raise ValueError(f"{file.name}: counted in {path} and in {where}{alias}")
            origin[file.sha256] = (path, file.name)
        for what in ("part", "columns", "kind", "task_kind", "task_names", "within_task"):
            if getattr(whole, what) != getattr(other, what):
                raise ValueError(
                    f"{path}: differs from {first} in {what.replace('_', ' ')}: "
                    f"{getattr(other, what)} and {getattr(whole, what)}"
                )
        if strange := set(other.class_names or ()) - set(whole.class_names or ()):
            raise ValueError(
                f"{path}: has the class {show(sorted(strange)[0])}, which {first} has not, though "
                "it has as many; expected one with all classes: count rows of every class there"
            )
        other = other.widened(whole.class_names, whole.task_names)
        try:
            moments = merge(whole.moments, other.moments)
        except ValueError as error:
            raise ValueError(f"{path}: does not fit {first}: {error}") from None
        whole = dataclasses.replace(
            whole,
            moments=moments,
            files=(*whole.files, *other.files),
            class_counts=sums_of(whole.class_counts, other.class_counts),
            span=span_of(whole.span, other.span),
        )
    return whole


def sums_of(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    """Returns the sums of rows of the same classes."""
    return tuple(x + y for x, y in zip(a, b, strict=True))


def span_of(a: tuple[float, float], b: tuple[float, float]) -> tuple[float, float]:
    """Returns the span of two spans."""
    return min(a[0], b[0]), max(a[1], b[1])
