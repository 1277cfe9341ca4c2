"""What the commands share: checks before any work, saved erasers, and rows in blocks."""

import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from erasejax import checks, io
from erasejax.files import Features, Labels, parse
from erasejax.files.writing import check_extension
from erasejax.replacing import check_target

__all__ = ["check_output", "check_rows", "load_eraser", "padded_blocks"]

BLOCK_VALUES = 1 << 22  # numbers in a block of rows: 16 MiB in float32


def check_rows(features: Features, labels: Labels, spec: str) -> None:
    """Checks that there is one label a row.

    Raises:
      ValueError: there is not.
    """
    n, m = features.shape[0], len(labels.values)
    if n != m:
        hint = ""
        if n - m == 1 and parse(spec).kind == ".csv":
            hint = "; the first line of a csv file is read as column names"
        raise ValueError(
            f"{spec}: holds {m} labels, but {features.source} has {n} rows; expected one each{hint}"
        )


def check_output(
    out: str | os.PathLike[str],
    force: bool,
    *inputs: str | None,
    kinds: tuple[str, ...] | None = None,
) -> None:
    """Checks that a file can be written before any work is done.

    Raises:
      ValueError: it has the wrong extension, or is one of the inputs.
      FileExistsError: it exists and force is False.
      OSError: it cannot be written.
    """
    kind = check_extension(out)
    if kinds and kind not in kinds:
        raise ValueError(f"{out}: expected the extension {' or '.join(kinds)}, got {kind!r}")
    for spec in inputs:
        if spec is not None and os.path.exists(out) and os.path.samefile(parse(spec).path, out):
            raise ValueError(f"{out}: is an input too; give the output another name")
    check_target(out, overwrite=force)


def load_eraser(path: str) -> tuple[Any, dict[str, Any]]:
    """Returns a saved eraser and its notes.

    Raises:
      ValueError: the file holds something else, a batch, or an eraser that failed or needs labels.
    """
    header = io.read_header(path)
    eraser = io.load(path)
    if not callable(eraser):
        raise ValueError(f"{path}: expected an eraser, got {header.name}")
    checks.raise_if_failed(eraser)
    if np.ndim(eraser.status):
        shape = np.shape(eraser.status)
        raise ValueError(f"{path}: expected one eraser, the file holds a batch of shape {shape}")
    if eraser.needs_z:
        raise ValueError(f"{path}: a {header.name} needs the labels of the rows; use it in Python")
    return eraser, header.notes


def padded_blocks(features: Features, verb: str) -> Iterator[tuple[np.ndarray, int]]:
    """Yields blocks of one shape and how many of their rows are real; shows progress if it is slow.

    Args:
      features: what to read.
      verb: what the progress bar says.

    Yields:
      ((rows, d), count); rows beyond count are zero.
    """
    from tqdm import tqdm

    n, d = features.shape
    rows = max(1, min(n, BLOCK_VALUES // d))
    with tqdm(
        total=n, desc=verb, unit="row", unit_scale=True, delay=1, disable=None, leave=False
    ) as bar:
        for block in features.blocks(rows):
            count = len(block)
            if count < rows:
                block = np.concatenate([block, np.zeros((rows - count, d), block.dtype)])
            yield block, count
            bar.update(count)
