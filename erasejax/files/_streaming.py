"""Rows beyond memory: files of features and labels in blocks."""

import os
from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np

from erasejax._core import inputs
from erasejax._core.bars import bar
from erasejax.files._features import Features, open_features
from erasejax.files._labels import Labels, read_labels, read_task
from erasejax.files._sources import parse
from erasejax.rows import Dataset

__all__ = ["check_rows", "padded_blocks", "read_blocks"]

BLOCK_VALUES = 1 << 22  # numbers in a block of rows: 16 MiB in float32

Spec: TypeAlias = str | os.PathLike[str]


def read_blocks(
    x: Spec | Features,
    z: Spec | Labels,
    *,
    task: Spec | Labels | None = None,
    concept: str = "auto",
    drop: str | None = None,
    encoding: str | None = None,
    rows: int | None = None,
    progress: str | None = None,
) -> Iterator[Dataset]:
    """Reads features with a concept in blocks of rows, about one block in memory at a time.

    Files are .npy, .npz, .csv, .parquet or .safetensors; a part is named as in "acts.npz:layer_7",
    "table.parquet:a,b" or "table.parquet:f*". All labels are read before the first block, so that
    classes have the same numbers in every block: the sorted different values are 0, 1, ..., k - 1.

    Args:
      x: file of features, (n, d). Of a table all columns but those of the labels and the task,
        and an index of pandas.
      z: file of labels, (n,). Integers, booleans and text are classes.
      task: file of a second concept that should survive; classes become one-hot columns, floats
        columns.
      concept: "auto", "classes" or "real": what labels that are floats mean.
      drop: columns of a table that are no features, such as "id,meta_*".
      encoding: of text in the files, as Python names it, such as "cp1252"; None for UTF-8.
      rows: rows in a block; None for about 16 MiB.
      progress: what a progress bar says, which shows if it takes a second; None for no bar.

    Yields:
      A `Dataset` of numpy arrays, all of one shape. The last one is padded with rows of weight 0;
      `weights` is None where one block without padding holds all rows.

    Raises:
      ValueError: a file is damaged, holds NaN, or they differ in the number of rows.
      FileNotFoundError: there is no such file.
      ModuleNotFoundError: tables need pyarrow, a bar needs tqdm.
    """
    if isinstance(x, Features):
        features = x
    else:
        features = open_features(parse(x, encoding), labels=_spec(z), task=_spec(task), drop=drop)
    labels = z if isinstance(z, Labels) else read_labels(parse(z, encoding), concept=concept)
    check_rows(features, labels)
    kept = read_task(parse(task, encoding)) if isinstance(task, str | os.PathLike) else task
    if kept is not None:
        check_rows(features, kept, what="task entries")
    start, n = 0, features.shape[0]
    for block, count in padded_blocks(features, progress, rows=rows):
        codes: Any = labels.block(start, len(block))
        weights: Any = np.zeros(len(block), np.float32)
        weights[:count] = 1
        features_block: Any = block
        yield Dataset(
            x=features_block,
            z=codes if labels.names else codes.astype(inputs.compute_dtype(block)),
            num_classes=len(labels.names) if labels.names else None,
            task=None if kept is None else _columns(kept, start, len(block)),
            weights=None if count == n else weights,
        )
        del block, features_block  # before the next is read
        start += count


def padded_blocks(
    features: Features, progress: str | None = None, *, rows: int | None = None
) -> Iterator[tuple[np.ndarray, int]]:
    """Yields blocks of one shape and how many of their rows are real.

    Args:
      features: what to read.
      progress: what the progress bar says; None for no bar.
      rows: rows in a block; None for about 16 MiB.

    Yields:
      ((rows, d), count); rows beyond count are zero.

    Raises:
      ValueError: rows is not positive, or the features hold NaN or infinity.
    """
    n, d = features.shape
    if rows is not None and rows < 1:
        raise ValueError(f"rows: expected a positive number of rows in a block, got {rows}")
    rows = min(n, rows or max(1, BLOCK_VALUES // d))
    shown = None
    if progress is not None:
        options = {"unit": "row", "unit_scale": True, "delay": 1, "leave": False}
        shown = bar("cli", total=n, desc=progress, **options)
    try:
        for block in features.blocks(rows, exact=True):
            count = len(block)
            if count < rows:
                block = np.concatenate([block, np.zeros((rows - count, d), block.dtype)])
            yield block, count
            del block
            if shown is not None:
                shown.update(count)
    finally:
        if shown is not None:
            shown.close()


def check_rows(features: Features, labels: Labels, *, what: str = "labels") -> None:
    """Checks that there is one label a row.

    Args:
      features: the rows.
      labels: the labels, or a task.
      what: what they are, for the message.

    Raises:
      ValueError: there is not.
    """
    n, m = features.shape[0], len(labels.values)
    if n != m:
        hint = ""
        if n - m == 1 and labels.source and (form := parse(labels.source).format).is_text:
            hint = f"; the first line of a {form.name[1:]} file is read as column names"
        raise ValueError(
            f"{labels.source}: holds {m} {what}, but {features.source} has {n} rows; expected one "
            f"each{hint}"
        )


def _columns(task: Labels, start: int, rows: int) -> Any:
    """Returns rows of a task as columns of floats, (rows, t)."""
    block = task.block(start, rows)
    if task.names:
        return np.asarray(block[:, None] == np.arange(len(task.names)), np.float32)
    return block.reshape(rows, -1)


def _spec(given: Spec | Labels | None) -> Spec | None:
    return None if isinstance(given, Labels) else given
