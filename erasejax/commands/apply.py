"""What the command `apply` does: rows are streamed, the file appears whole or not at all."""

import os

import numpy as np

from erasejax.commands.common import check_dims, check_output, load_eraser
from erasejax.files import open_features, open_writer, read_labels_again
from erasejax.printing import show
from erasejax.streaming import check_rows, padded_blocks, read_blocks

__all__ = ["apply"]


def apply(
    eraser: str,
    x: str,
    *,
    out: str | os.PathLike[str],
    labels: str | None = None,
    force: bool = False,
) -> str:
    """Erases a concept from a file of features.

    Args:
      eraser: file of a saved eraser.
      x: features. Of a table the columns that the eraser was fitted on.
      out: file to write; the extension says the format.
      labels: labels of these rows, for an eraser that reads them; among those of the fit.
      force: replace `out` if it exists.

    Returns:
      One line that says what was written.

    Raises:
      ValueError: the input cannot be used.
      OSError: a file cannot be read or written.
    """
    check_output(out, force, eraser, x, labels)
    function, notes = load_eraser(eraser)
    if function.needs_z and labels is None:
        raise ValueError(f"{eraser}: this eraser reads the labels of the rows; give --labels FILE")
    if labels is not None and not function.needs_z:
        raise ValueError(f"{eraser}: this eraser reads no labels; leave out --labels")
    features = open_features(x, labels=labels, columns=notes.get("columns"))
    check_dims(function, eraser, features)
    concept = None
    if labels is not None:
        concept = read_labels_again(labels, notes.get("class_names"))
        check_rows(features, concept)
    with open_writer(
        out, features.shape, features.dtype, columns=features.columns, overwrite=force
    ) as write:
        if concept is None:
            for block, count in padded_blocks(features, "erasing"):
                write(np.asarray(function(block))[:count])
        else:
            left = features.shape[0]
            for block in read_blocks(features, concept, progress="erasing"):
                write(np.asarray(function(block.x, block.z))[:left])
                left -= len(block.x)
    return (
        f"{show(str(out))}: {features.shape[0]} rows of {features.shape[1]} features, "
        f"{int(function.rank)} dimensions removed"
    )
