"""Rows in many files, with their labels in one file or in as many."""

import contextlib
import dataclasses
import functools
import hashlib
import json
import re
from collections.abc import Callable, Generator, Mapping, Sequence
from os import PathLike
from typing import NamedTuple

import numpy as np

from erasejax._core.text import show
from erasejax.files._features import Features, open_features
from erasejax.files._labels import Labels, read_labels, read_task, united
from erasejax.files._places import Place, brought, find_places, named_as
from erasejax.files._sources import Source
from erasejax.files._streaming import check_rows

__all__ = [
    "ADVICE",
    "After",
    "CountedFile",
    "Piece",
    "Together",
    "find_together",
    "listed",
    "open_pieces",
    "read_together",
]

ADVICE = "rows cannot be taken back: remove the file of moments to count all files anew"


class Together(NamedTuple):
    """Files whose rows belong together, in sorted order.

    Attributes:
      x: of features.
      z: of labels, one or as many.
      task: of a task, none, one or as many.
    """

    x: tuple[Place, ...]
    z: tuple[Place, ...]
    task: tuple[Place, ...] = ()

    def group(self, i: int) -> tuple[Place, ...]:
        """Returns file i of the features, with those of labels and task that are its own."""
        return (self.x[i], *(own[i] for own in self[1:] if len(own) == len(self.x)))

    def marks(self, i: int) -> list[str]:
        """Returns what tells whether the files of a group are what they were."""
        return [f"{place.size} {place.mark}" for place in self.group(i)]

    def __str__(self) -> str:
        parts = zip(("features", "labels", "task"), self, strict=True)
        return ", ".join(f"{what} {listed(list(map(str, own)))}" for what, own in parts if own)


@dataclasses.dataclass(frozen=True)
class CountedFile:
    """A file whose rows have been counted.

    Attributes:
      name: its path or URL.
      marks: size and mark, see `Place`, of it and of the labels and the task that are its own.
      sha256: of the file.
      labels: the same of its labels, as they were read.
      task: the same of its task, or "".
      rows: how many it has.
    """

    name: str
    marks: list[str]
    sha256: str
    labels: str
    task: str
    rows: int


class Piece(NamedTuple):
    """A file of rows, open.

    Attributes:
      features: (n, d).
      labels: (n,), with the classes that it has.
      task: (n,) or (n, t), or None.
      counted: what to remember of it.
      named: a context in which errors name the file as it was named, see `named_as`.
    """

    features: Features
    labels: Labels
    task: Labels | None
    counted: CountedFile
    named: Callable[[], contextlib.AbstractContextManager[None]]


class After(NamedTuple):
    """What was read before, in another command.

    Attributes:
      skip: files to leave out, by their names.
      dims: how many features all have, or None.
      columns: their names, or None.
      kind: of the labels, see `Labels`.
      task_kind: the same of the task.
    """

    skip: Mapping[str, CountedFile]
    dims: int | None
    columns: tuple[str, ...] | None
    kind: str
    task_kind: str


def find_together(
    x: Sequence[str | PathLike[str]],
    z: Sequence[str | PathLike[str]],
    task: Sequence[str | PathLike[str]] = (),
    *,
    encoding: str | None = None,
) -> Together:
    """Finds files of rows, and which labels belong to which.

    Args:
      x: names, patterns and URLs of features, see `find_places`.
      z: the same of labels: one file for all rows, or as many as of features.
      task: the same of a task, or nothing.
      encoding: of text in the files.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the files differ in number; or which belong together depends on whether they are
        sorted by letters or by numbers.
      OSError: a store does not answer.
      ModuleNotFoundError: a URL needs fsspec, or the package of its store.
    """
    found = Together(*(find_places(specs, encoding) for specs in (x, z, task)))
    order = _by_numbers(found.x)
    for what, own in (("labels", found.z), ("the task", found.task)):
        if own and len(own) not in {1, len(found.x)}:
            raise ValueError(
                f"{own[0]}: {len(own)} files of {what}, but {len(found.x)} of features; expected "
                "one for all rows, or one each"
            )
        theirs = _by_numbers(own) if len(own) == len(order) else sorted(order)
        if own and theirs != order:
            raise ValueError(
                f"{found.x[0]}: sorted by letters the files are in another order than by their "
                f"numbers, so {what} might be those of other rows; write the numbers with zeros in "
                f"front, or give {what} one file each, numbered the same way"
            )
    return found


def open_pieces(
    files: Together,
    *,
    concept: str = "auto",
    drop: str | None = None,
    after: "After | None" = None,
    hashed: bool = False,
) -> Generator[Piece, None, None]:
    """Yields the files one after another; each may be read until the next one is asked for.

    Close it, as `brought`.

    Args:
      files: which.
      concept: as in `read_labels`.
      drop: columns of tables that are no features.
      after: what has been read before, or None.
      hashed: whether to compute the SHA-256 of the files.

    Yields:
      The pieces in order.

    Raises:
      ValueError: a file is damaged, does not fit the others or its labels; or labels of a file that
        is skipped have changed.
      OSError: a file cannot be read.
    """
    after = after or After({}, None, None, "", "")

    def labels_of(source: Source, kind: str, several: bool) -> Labels:
        return read_labels(source, concept="real" if kind == "floats" else concept, several=several)

    def task_of(source: Source, kind: str, several: bool) -> Labels:
        return read_task(source, several=several)

    sides = (
        _Side("labels", files.z, len(files.x), labels_of, after.kind),
        _Side("task entries", files.task, len(files.x), task_of, after.task_kind),
    )
    todo = [files.group(i) for i in range(len(files.x)) if files.x[i].path not in after.skip]
    dims, columns, start = after.dims, after.columns, 0
    with contextlib.closing(brought(todo, hashed=hashed)) as arrivals:
        for i, place in enumerate(files.x):
            if place.path in after.skip:
                skipped = after.skip[place.path]
                for side, known in zip(sides, (skipped.labels, skipped.task), strict=True):
                    side.check(start, skipped, known)
                start += skipped.rows
                continue
            sources, sha256 = next(arrivals)
            group = files.group(i)
            named = functools.partial(named_as, group, sources)
            with named():
                own = iter(sources[1:])
                given = [next(own) if side.each else None for side in sides]
                features = open_features(sources[0], labels=given[0], task=given[1], drop=drop)
                dims, columns = dims or features.shape[1], columns or features.columns
                _check_alike(features, dims, columns)
                labels, task = (
                    side.read(g, start, features) for side, g in zip(sides, given, strict=True)
                )
            assert labels is not None
            counted = CountedFile(
                name=place.path,
                marks=files.marks(i),
                sha256=sha256,
                labels=digest_of(labels),
                task="" if task is None else digest_of(task),
                rows=features.shape[0],
            )
            yield Piece(features, labels, task, counted, named)
            start += counted.rows
    for side in sides:
        side.finish(start)


def read_together(
    files: Together, *, concept: str = "auto", drop: str | None = None
) -> tuple[Features, Labels, Labels | None]:
    """Returns the rows of all files, as if they were in one; they are in memory.

    Args:
      files: which.
      concept: as in `read_labels`.
      drop: columns of tables that are no features.

    Returns:
      Features, labels, and the task or None.

    Raises:
      ValueError: as `open_pieces`, or a value is NaN or infinite.
      MemoryError: the machine cannot hold the rows of a file.
    """
    pieces, blocks = [], []
    with contextlib.closing(open_pieces(files, concept=concept, drop=drop)) as opened:
        for piece in opened:
            with piece.named():
                blocks.append(piece.features.array(exact=True))
            pieces.append(piece)
    every = [piece.features for piece in pieces]
    features = dataclasses.replace(
        every[0],
        shape=(sum(map(len, blocks)), every[0].shape[1]),
        dtype=functools.reduce(np.promote_types, [one.dtype for one in every]),
        wide=any(one.wide for one in every),
        _read=lambda rows: iter(blocks),
    )
    tasks = [piece.task for piece in pieces if piece.task is not None]
    return features, _joined([piece.labels for piece in pieces]), _joined(tasks) if tasks else None


def _joined(parts: Sequence[Labels]) -> Labels:
    names = None
    for part in parts:
        names = united(part, names)
    values = np.concatenate([part.among(names).values for part in parts])
    return dataclasses.replace(parts[0], values=values, names=names)


def _check_alike(features: Features, dims: int, columns: tuple[str, ...] | None) -> None:
    """Checks that a file has the features of those before.

    Raises:
      ValueError: it has others.
    """
    if features.shape[1] != dims:
        raise ValueError(
            f"{features.source}: has {features.shape[1]} features, the files before {dims}"
        )
    if features.columns != columns:
        raise ValueError(
            f"{features.source}: has other columns than the files before, or another order"
        )


class _Side:
    """Labels or a task: in one file for all rows, or in as many as the features.

    Attributes:
      each: whether they are in as many.
    """

    def __init__(
        self,
        what: str,
        places: tuple[Place, ...],
        files: int,
        read: Callable[[Source, str, bool], Labels],
        kind: str,
    ) -> None:
        self._what, self._read, self._kind = what, read, kind
        self.each = len(places) == files
        self._whole = None
        if places and not self.each:
            self._name = str(places[0])
            with contextlib.closing(brought([places])) as arrivals:
                sources, _ = next(arrivals)
                with named_as(places, sources):
                    self._whole = self._agreed(read(sources[0], kind, True))

    def read(self, source: Source | None, start: int, features: Features) -> Labels | None:
        """Returns those of the rows of a file, which begin at `start`."""
        if source is not None:
            own = self._read(source, self._kind, False)
            check_rows(features, own, what=self._what)
            return self._agreed(own)
        return self._rows(start, features.shape[0], features.source)

    def check(self, start: int, file: CountedFile, known: str) -> None:
        """Checks that those of a file that was counted are what they were.

        Raises:
          ValueError: they are not.
        """
        found = self._rows(start, file.rows, file.name)
        if found is not None and digest_of(found) != known:
            raise ValueError(
                f"{self._name}: the {self._what} of {file.name} are not those that were counted; "
                f"{ADVICE}"
            )

    def finish(self, rows: int) -> None:
        """Checks that none is left over.

        Raises:
          ValueError: some are.
        """
        if self._whole is not None and len(self._whole.values) != rows:
            raise ValueError(
                f"{self._name}: holds {len(self._whole.values)} {self._what}, but the files have "
                f"{rows} rows together"
            )

    def _rows(self, start: int, rows: int, name: object) -> Labels | None:
        if self._whole is None:
            return None
        if len(self._whole.values) < start + rows:
            raise ValueError(
                f"{self._name}: holds {len(self._whole.values)} {self._what}, but the files up to "
                f"{name} have {start + rows} rows"
            )
        return self._whole.rows(start, start + rows)

    def _agreed(self, labels: Labels) -> Labels:
        if self._kind not in {"", labels.kind}:
            raise ValueError(
                f"{labels.source}: the {self._what} are {labels.kind}, those before {self._kind}"
            )
        self._kind = labels.kind
        return labels


def digest_of(labels: Labels) -> str:
    """Returns the SHA-256 of labels as they were read."""
    digest = hashlib.sha256(json.dumps([labels.kind, labels.names]).encode())
    digest.update(np.ascontiguousarray(labels.values).data)
    return digest.hexdigest()


def listed(names: Sequence[str]) -> str:
    """Returns the names of files in a line: some of many."""
    shown = [show(name) for name in names]
    return ", ".join(shown if len(shown) <= 6 else [*shown[:3], "...", *shown[-2:]])


def _by_numbers(places: Sequence[Place]) -> list[int]:
    """Returns the order in which files come if the numbers in their names are compared as such."""

    def key(i: int) -> list[tuple[int, str]]:
        words = re.split(r"(\d+)", places[i].path)
        return [(int(word), "") if word.isdigit() else (0, word) for word in words]

    return sorted(range(len(places)), key=key)
