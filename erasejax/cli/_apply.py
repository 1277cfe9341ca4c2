"""The command `apply`: rows are streamed, the file appears whole or not at all."""

from pathlib import Path
from typing import Annotated

import numpy as np
from tyro.conf import Positional, arg

from erasejax._core.text import show
from erasejax._core.warn import warn
from erasejax.cli._arguments import Columns, Dtype, Encoding, OptionalFile, X
from erasejax.cli._common import check_dims, check_output, load_eraser
from erasejax.files import (
    check_rows,
    open_features,
    open_writer,
    padded_blocks,
    parse,
    read_blocks,
    read_labels_again,
    written_dtype,
)
from erasejax.metrics import erase, is_coarse, is_rounded, named_dtype
from erasejax.names import known

__all__ = ["apply"]


def apply(
    eraser: Positional[Annotated[str, arg(metavar="ERASER")]],
    x: X,
    /,
    *,
    out: Path,
    labels: OptionalFile = None,
    dtype: Dtype = None,
    drop: Columns = None,
    encoding: Encoding = None,
    force: bool = False,
) -> str:
    """Erase a concept from a file of features.

    Rows are streamed. float64 features are computed about their mean in float32, and written in
    float32, unless JAX_ENABLE_X64=1 is set; with --dtype float64 the mean keeps its digits.
    Integers become float32.

    Args:
      eraser: file saved by fit.
      x: features. Of a table the columns that the eraser was fitted on.
      out: where to write; .npy, .npz, .csv, .parquet or .safetensors.
      labels: labels of these rows, for oracle-leace and qleace, which read them.
      dtype: of the output, float64, float32, float16 or bfloat16; that of x if left out, and
        float32 for bfloat16 where the format does not have it.
      drop: columns of a table that are no features; names and patterns, commas between.
      encoding: of text in the files, such as cp1252; UTF-8 if nothing is said.
      force: replace the output if it exists.

    Returns:
      A line that says what was written.

    Warns:
      UserWarning: float64 features vary by less than the output can say, or the output is rounded
        more than what was certified.

    Raises:
      ValueError: the input cannot be used.
      OSError: a file cannot be read or written.
    """
    check_output(out, force, eraser, x, labels)
    wanted = None if dtype is None else named_dtype(dtype)
    if wanted is not None and written_dtype(out, wanted) != wanted:
        holders = [name for name, form in known("format").items() if wanted.name in form.dtypes]
        raise ValueError(
            f"{out}: only {' and '.join(holders)} files hold {wanted}; or --dtype float32"
        )
    function, notes = load_eraser(eraser)
    if function.needs_z and labels is None:
        raise ValueError(f"{eraser}: this eraser reads the labels of the rows; give --labels FILE")
    if labels is not None and not function.needs_z:
        raise ValueError(f"{eraser}: this eraser reads no labels; leave out --labels")
    features = open_features(
        parse(x, encoding), labels=labels, columns=notes.get("columns"), drop=drop
    )
    check_dims(function, eraser, features)
    concept = None
    if labels is not None:
        concept = read_labels_again(parse(labels, encoding), notes.get("class_names"))
        check_rows(features, concept)
    written = written_dtype(out, features.dtype) if wanted is None else wanted
    coarse = np.zeros(features.shape[1], bool)
    with open_writer(
        out, features.shape, written, columns=features.columns, overwrite=force
    ) as write:
        if concept is None:
            for block, count in padded_blocks(features, "erasing"):
                coarse |= is_coarse(block[:count], written)
                write(erase(function, block, None, written)[:count])
        else:
            left = features.shape[0]
            for block in read_blocks(features, concept, progress="erasing"):
                rows = np.asarray(block.x)
                coarse |= is_coarse(rows[:left], written)
                write(erase(function, rows, block.z, written)[:left])
                left -= len(block.x)
    if coarse.any():
        warn(
            f"at the values of {coarse.sum()} features numbers of {written} lie a tenth of a "
            "deviation apart, or more; --dtype float64 keeps what is between them"
        )
    certified = (notes.get("certificate") or {}).get("dtype")
    if certified is not None and is_rounded(written) and certified != written.name:
        warn(
            f"rounded to {written}; what fit certified are {certified} rows, and rounding may "
            "bring a part of the concept back"
        )
    return (
        f"{show(str(out))}: {features.shape[0]} rows of {features.shape[1]} features, "
        f"{int(function.rank)} dimensions removed"
    )
