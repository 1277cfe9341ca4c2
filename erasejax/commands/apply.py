"""What the command `apply` does: rows are streamed, the file appears whole or not at all."""

import os

import numpy as np

from erasejax.commands.common import check_output, load_eraser, padded_blocks
from erasejax.files import open_features, open_writer

__all__ = ["apply"]


def apply(eraser: str, x: str, *, out: str | os.PathLike[str], force: bool = False) -> str:
    """Erases a concept from a file of features.

    Args:
      eraser: file of a saved eraser.
      x: features. Of a table the columns that the eraser was fitted on.
      out: file to write; the extension says the format.
      force: replace `out` if it exists.

    Returns:
      One line that says what was written.

    Raises:
      ValueError: the input cannot be used.
      OSError: a file cannot be read or written.
    """
    check_output(out, force, eraser, x)
    function, notes = load_eraser(eraser)
    features = open_features(x, columns=notes.get("columns"))
    d = function.kernel.shape[0]
    if features.shape[1] != d:
        raise ValueError(
            f"{x}: {eraser} was fitted on {d} features, got {features.shape[1]} in {features.shape}"
        )
    with open_writer(
        out, features.shape, features.dtype, columns=features.columns, overwrite=force
    ) as write:
        for block, count in padded_blocks(features, "erasing"):
            write(np.asarray(function(block))[:count])
    return (
        f"{out}: {features.shape[0]} rows of {d} features, {int(function.rank)} dimensions removed"
    )
