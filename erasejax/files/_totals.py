"""Totals: the moments of the rows of files, however many and large."""

import contextlib
import dataclasses
import os
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any

import jax

from erasejax._core import inputs
from erasejax.files._features import Features
from erasejax.files._joint import joint_labels
from erasejax.files._labels import Labels, united
from erasejax.files._places import is_many
from erasejax.files._saved import save
from erasejax.files._streaming import BLOCK_VALUES, Spec, read_blocks
from erasejax.files._tally import Counted, load_counted, span_of, sums_of
from erasejax.files._together import (
    ADVICE,
    After,
    Piece,
    Together,
    find_together,
    listed,
    open_pieces,
)
from erasejax.rows import Dataset
from erasejax.statistics import Moments

__all__ = ["count_files", "read_again", "stream_moments"]


def stream_moments(
    x: Spec | Features | Sequence[Spec],
    z: Spec | Labels | Sequence[Spec],
    *,
    task: Spec | Labels | Sequence[Spec] | None = None,
    concept: str = "auto",
    drop: str | None = None,
    encoding: str | None = None,
    covariance: bool = True,
    rows: int | None = None,
    progress: str | None = None,
    moments: str | os.PathLike[str] | None = None,
    within_task: bool = False,
) -> Moments:
    """Returns the moments of the rows of files, which may be larger than memory.

    Give them to `solve` of a closed-form eraser: `LEACE().solve(stream_moments("x.npy", "z.npy"))`.
    Files may be many: lists of names, patterns such as "acts-*.npz:layer_7", and URLs that fsspec
    knows, "s3://bucket/acts-*.npy". They are read one after another in sorted order.

    Args:
      x: file of features, or many; see `read_blocks`, and for z, task, concept, drop, encoding,
        rows and progress, too.
      z: file of labels of all rows, or as many as of features.
      task: the same of a second concept, for `SPLINCE`.
      concept: "auto", "classes" or "real".
      drop: columns that are no features.
      encoding: of text in the files.
      covariance: False keeps variances only, O(d) memory instead of O(d^2).
      rows: rows in a block.
      progress: what a progress bar says.
      moments: a .safetensors file where moments are kept after each file, with what was counted:
        the same call goes on from there. `load` loads them.
      within_task: whether to take moments of the classes y k + z of task y and concept z, from
        which methods with `given` are solved, `solve(moments, tasks=m)`.

    Returns:
      `Moments` of all rows.

    Raises:
      ValueError: as `read_blocks`; or a file that was counted has changed.
      FileNotFoundError: there is no such file.
      ModuleNotFoundError: tables need pyarrow, a bar needs tqdm, URLs need fsspec.

    Example:
      >>> data = ej.datasets.GaussianClasses(rows=3, dims=2).sample(jax.random.key(0))
      >>> np.save("x.npy", data.x)
      >>> np.save("z.npy", data.z)
      >>> float(ej.stream_moments("x.npy", "z.npy").total)
      6.0
    """
    if not within_task and moments is None and not any(map(_are_many, (x, z, task))):
        one: Any = {"x": x, "z": z, "task": task, "encoding": encoding}
        if isinstance(x, Features):
            rows = rows or _rows(x, covariance)
        blocks = read_blocks(**one, concept=concept, drop=drop, rows=rows, progress=progress)
        return _add_blocks(None, blocks, covariance)
    return count_files(
        find_together(_specs("x", x), _specs("z", z), _specs("task", task), encoding=encoding),
        saved=moments,
        concept=concept,
        drop=drop,
        covariance=lambda dims: covariance,
        rows=rows,
        progress=progress,
        within_task=within_task,
    ).moments


def count_files(
    files: Together,
    *,
    saved: str | os.PathLike[str] | None = None,
    concept: str = "auto",
    drop: str | None = None,
    covariance: Callable[[int], bool] = lambda dims: True,
    rows: int | None = None,
    progress: str | None = None,
    say: Callable[[str], None] = lambda text: None,
    within_task: bool = False,
) -> Counted:
    """Returns the moments of the rows of files, one after another, with the memory that one takes.

    Args:
      files: which.
      saved: where moments are kept after each file, whole or not at all. What is there is gone on
        with: files that are counted there are not read again.
      concept: as in `read_labels`.
      drop: columns of tables that are no features.
      covariance: whether to keep the covariance of so many features.
      rows: rows in a block.
      progress: what a progress bar says.
      say: called with what is worth a line.
      within_task: as in `stream_moments`.

    Raises:
      ValueError: there is no task to count within; or a file does not fit the others, or has
        changed since it was counted.
      OSError: a file cannot be read or written.
    """
    say(f"in this order: {files}")
    if within_task and not files.task:
        raise ValueError("task: missing; within_task counts the classes of a task, too")
    part = files.x[0].part
    if any(place.part != part for place in files.x):
        raise ValueError(f"{files.x[0]}: expected the same part of all files of features")
    state = load_counted(saved) if saved is not None and os.path.exists(saved) else None
    after = None
    if state is not None:
        if state.part != part or bool(state.task_kind) != bool(files.task):
            what = "another part of the files" if state.part != part else "another task, or none"
            raise ValueError(f"{saved}: holds moments of {what}; give another name for these")
        if state.within_task != within_task:
            what = "within a task" if state.within_task else "not within the task"
            raise ValueError(f"{saved}: counts classes {what}; give another name for these")
        known = {file.name: file for file in state.files}
        skip = {
            place.path: known[place.path]
            for i, place in enumerate(files.x)
            if place.path in known and files.marks(i) == known[place.path].marks
        }
        if skip:
            say(f"skipped, as {saved} has counted them: {listed(list(skip))}")
        dims = state.moments.xz.shape[0]
        after = After(skip, dims, state.columns, state.kind, state.task_kind)
    opened = open_pieces(files, concept=concept, drop=drop, after=after, hashed=saved is not None)
    with contextlib.closing(opened) as pieces:
        for piece in pieces:
            if state is not None and saved is not None and (same := _counted_as(piece, state)):
                say(f"skipped, as {saved} has counted it as {same}: {piece.counted.name}")
                continue
            with piece.named():
                state = _counted_too(state, piece, covariance, rows, progress, within_task)
            if saved is not None:
                save(state.moments, saved, notes=state.notes)
    assert state is not None
    return state


def read_again(
    files: Together, counted: Counted, *, concept: str = "auto", drop: str | None = None
) -> Generator[Dataset, None, None]:
    """Yields the rows of files again, with the classes that were counted; close it, as `brought`.

    Args:
      files: as they were given to `count_files`.
      counted: what it returned.
      concept: as it was given, too.
      drop: the same.

    Yields:
      Blocks as those of `read_blocks`.
    """
    with contextlib.closing(open_pieces(files, concept=concept, drop=drop)) as pieces:
        for piece in pieces:
            with piece.named():
                labels = _beside(piece.labels, counted.class_names)
                if counted.within_task and piece.task is not None:
                    labels = joint_labels(labels, piece.task.among(counted.task_names))
                yield from read_blocks(piece.features, labels, progress="rounding")


def _are_many(given: object) -> bool:
    if isinstance(given, str | os.PathLike):
        return is_many(given)
    return isinstance(given, Sequence)


def _specs(name: str, given: object) -> list[Spec]:
    """Returns names of files.

    Raises:
      TypeError: something else is given.
    """
    if isinstance(given, str | os.PathLike) or given is None:
        return [] if given is None else [given]
    if not isinstance(given, Sequence):
        raise TypeError(f"{name}: expected names of files, got {type(given).__name__}")
    return list(given)


def _counted_too(
    state: Counted | None,
    piece: Piece,
    covariance: Callable[[int], bool],
    rows: int | None,
    progress: str | None,
    within_task: bool,
) -> Counted:
    """Returns what was counted with the rows of one more file.

    Raises:
      ValueError: its task has other columns, or is to be counted within and is no classes.
    """
    features, labels, task = piece.features, piece.labels, piece.task
    names = united(labels, None if state is None else state.class_names)
    task_names = None if task is None else united(task, state and state.task_names)
    if state is not None:
        state = state.widened(names, task_names)
    labels = _beside(labels, names)
    kept = None if task is None else task.among(task_names)
    moments = None if state is None else state.moments
    if moments is not None and kept is not None and kept.names is None:
        columns = kept.values[:1].size
        if columns != moments.task:
            raise ValueError(
                f"{kept.source}: has {columns} columns of a task, the files before {moments.task}"
            )
    full = covariance(features.shape[1])
    rows = rows or _rows(features, full)
    joint, beside = labels, kept
    if within_task and kept is not None:
        joint, beside = joint_labels(labels, kept), None
    blocks = read_blocks(features, joint, task=beside, rows=rows, progress=progress)
    moments = _add_blocks(moments, blocks, full)
    span, counts = (0.0, 0.0), ()
    if labels.names is None:
        span = (float(labels.values.min()), float(labels.values.max()))
    else:
        counts = labels.counts[: len(names or ())]
    if state is None:
        return Counted(
            moments,
            (piece.counted,),
            features.dtype.name,
            features.columns,
            features.source.part,
            labels.kind,
            names,
            counts,
            span,
            "" if task is None else task.kind,
            task_names,
            within_task,
        )
    return dataclasses.replace(
        state,
        moments=moments,
        files=(*state.files, piece.counted),
        class_counts=sums_of(state.class_counts, counts),
        span=span_of(state.span, span),
    )


def _rows(features: Features, covariance: bool) -> int | None:
    """Returns how many rows a block has: what merges a covariance costs as much as d of them."""
    d = features.shape[1]
    return d if covariance and d * d > BLOCK_VALUES else None


def _add_blocks(moments: Moments | None, blocks: Iterable[Dataset], covariance: bool) -> Moments:
    """Returns moments with the rows of blocks added; None for those of no rows."""
    for block in blocks:
        if moments is None:
            moments = Moments.init(
                block.x.shape[1],
                block.num_classes or 1,
                dtype=inputs.compute_dtype(block.x),
                covariance=covariance,
                one_hot=block.is_classes,
                task=0 if block.task is None else block.task.shape[1],
            )
        moments = moments.update(block.x, block.z, block.weights, task=block.task)
        del block
        # The copy of a block is let go before the next is read.
        jax.block_until_ready(moments.count)
    assert moments is not None
    return moments


def _counted_as(piece: Piece, state: Counted) -> str | None:
    """Returns the name of a file that was counted and has the same content.

    Raises:
      ValueError: a file has changed since it was counted, or its labels or task.
    """
    new = piece.counted
    for old in state.files:
        if old.sha256 == new.sha256:
            if (old.labels, old.task) != (new.labels, new.task):
                raise ValueError(f"{new.name}: was counted with other labels or task; {ADVICE}")
            return old.name
    if any(old.name == new.name for old in state.files):
        raise ValueError(f"{new.name}: has changed since it was counted; {ADVICE}")
    return None


def _beside(labels: Labels, names: tuple[str, ...] | None) -> Labels:
    """Returns labels as numbers of these classes; one alone stands beside an empty one."""
    own = labels.among(names)
    if own.names is None or len(own.names) > 1:
        return own
    return dataclasses.replace(own, names=(*own.names, ""))
