"""What the commands share: checks before any work, and saved erasers."""

import os
from typing import Any

import numpy as np

from erasejax import checks, io
from erasejax.files import Features, parse
from erasejax.files.writing import check_extension
from erasejax.replacing import check_target

__all__ = ["check_dims", "check_output", "load_eraser"]


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
      ValueError: the file holds something else, a batch, or an eraser that failed.
    """
    header = io.read_header(path)
    eraser = io.load(path)
    if not callable(eraser):
        raise ValueError(f"{path}: expected an eraser, got {header.name}")
    checks.raise_if_failed(eraser)
    if np.ndim(eraser.status):
        shape = np.shape(eraser.status)
        raise ValueError(f"{path}: expected one eraser, the file holds a batch of shape {shape}")
    return eraser, header.notes


def check_dims(eraser: Any, path: str, features: Features) -> None:
    """Checks that an eraser was fitted on as many features.

    Raises:
      ValueError: it was not.
    """
    if features.shape[1] != eraser.dims:
        raise ValueError(
            f"{features.source}: {path} was fitted on {eraser.dims} features, got "
            f"{features.shape[1]} in {features.shape}"
        )
