"""The command `fit`: rows are streamed, the file appears whole or not at all."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import jax
import numpy as np
from tyro.conf import arg

from erasejax import files
from erasejax._core.status import describe, raise_if_failed
from erasejax._core.text import show
from erasejax.cli._arguments import (
    Columns,
    Dtype,
    Encoding,
    Labels,
    OptionalFile,
    X,
    check_seed,
    configure,
    files_among,
)
from erasejax.cli._common import check_output
from erasejax.erasers import ClosedForm, Eraser, FittedEraser
from erasejax.files import (
    Features,
    check_rows,
    open_features,
    parse,
    read_blocks,
    read_labels,
    read_task,
    stream_moments,
)
from erasejax.files import Labels as ReadLabels
from erasejax.metrics import Certificate, certify, certify_rows, is_rounded, named_dtype
from erasejax.names import known

__all__ = ["fit", "fit_eraser"]

_MEMORY_VALUES = 1 << 28  # with fewer rows than features: numbers that are fitted in memory, 1 GiB
_CERTIFIED_DIMS = 4096  # features up to which a method that needs no covariance gets one: 64 MiB


def fit(
    x: X,
    labels: Labels,
    /,
    *,
    out: Path,
    method: str = "mean-difference",
    task: OptionalFile = None,
    concept: Annotated[str, arg(metavar="auto|classes|real")] = "auto",
    options: Mapping[str, object],
    certificate: bool = True,
    dtype: Dtype = None,
    seed: int = 0,
    drop: Columns = None,
    encoding: Encoding = None,
    force: bool = False,
) -> str:
    """Fit an eraser to features and labels, and save it.

    The rows are streamed, so files may be larger than memory (all but .csv).
    Files are .npy, .npz, .csv, .parquet or .safetensors; name a part of one as x.npz:key or
    table.csv:column, and several columns as table.csv:a,b or 'table.csv:f*'. Integers, booleans
    and text are class labels. Of the rows fitted on it prints the damage, a share of their
    variance, and the certificate linear_r2, the share of the concept that least squares reads,
    before and after. After is of the rows as they will be written: rounding to float16 or
    bfloat16 may bring the concept back, and a line says so.

    Args:
      x: features, (rows, features). Of a table all columns but the labels', the task's and an
        index of pandas; or one column of lists of numbers.
      labels: one label a row.
      out: where to save the eraser, a .safetensors file.
      method: {erasers}.
      task: what splince keeps; classes as labels, or floats, one or several columns.
      concept: what labels that are numbers mean.
      options: fields of the eraser, see `command`.
      certificate: compute the damage and linear_r2, which takes the covariance of the features.
      dtype: certify rows written as float64, float32, float16 or bfloat16; that of x if left
        out.
      seed: for methods that draw.
      drop: columns of a table that are no features; names and patterns, commas between.
      encoding: of text in the files, such as cp1252; UTF-8 if nothing is said.
      force: replace the output if it exists.

    Returns:
      A line that says what was fitted, and one of what it does to the fitting rows.

    Raises:
      ValueError: the input cannot be used, or fitting failed.
      OSError: a file cannot be read or written.
    """
    check_seed(seed)
    check_output(out, force, x, labels, task, *files_among(options), kinds=(".safetensors",))
    wanted = None if dtype is None else named_dtype(dtype)
    config = configure(method, options, encoding)
    if config.reads_task and task is None:
        raise ValueError(f"{method} needs --task FILE here, the second concept")
    if task is not None and not config.reads_task:
        keeping = [name for name, eraser in known("eraser").items() if eraser.needs_task]
        raise ValueError(
            f"--task is no option of {method}; {', '.join(keeping)} keeps a task, and --given pooled "
            "or each, of those that have it, erases within its classes"
        )
    features = open_features(parse(x, encoding), labels=labels, task=task, drop=drop)
    concepts = read_labels(parse(labels, encoding), concept=concept)
    check_rows(features, concepts)
    kept = None if task is None else read_task(parse(task, encoding))
    if kept is not None:
        check_rows(features, kept, what="task entries")
    written = features.dtype if wanted is None else wanted
    eraser, certified = fit_eraser(
        config,
        features,
        concepts,
        task=kept,
        certificate=certificate,
        dtype=written,
        seed=seed,
    )
    notes = {
        "method": method,
        "options": {k: _base(v) for k, v in options.items()},
        "seed": seed if config.needs_key else None,
        "features": _base(str(features.source)),
        "labels": _base(labels),
        "task": _base(task),
        "rows": features.shape[0],
        "dims": features.shape[1],
        "columns": features.columns,
        "class_names": concepts.names,
        "class_counts": concepts.counts if concepts.names else None,
        "certificate": {k: None if v is None else float(v) for k, v in certified._asdict().items()}
        | {"dtype": written.name},
    }
    files.save(eraser, out, overwrite=force, notes=notes)
    for text in (*describe(int(eraser.status)), *config.remarks(eraser)):
        print(f"erasejax: {text}", file=sys.stderr)
    line = (
        f"{show(str(out))}: {method}, removes {int(eraser.rank)} of {features.shape[1]} "
        f"dimensions, fitted on {features.shape[0]} rows, {concepts}"
    )
    return f"{line}\n{_describe(eraser, features, certified, written)}" if certificate else line


def fit_eraser(
    config: Eraser,
    features: Features,
    labels: ReadLabels,
    *,
    task: ReadLabels | None = None,
    certificate: bool = True,
    dtype: np.dtype | None = None,
    seed: int = 0,
) -> tuple[FittedEraser, Certificate]:
    """Returns the eraser that a method fits to files, and what it does to their rows.

    Closed forms stream the rows. Where there are fewer rows than features and they fit in memory,
    the method chooses the smaller of its two solves.

    Args:
      config: the method.
      features: (n, d).
      labels: (n,).
      task: (n,) or (n, t), or None.
      certificate: whether to compute the `Certificate`; its fields are None if not.
      dtype: in which erased rows will be written; None for that of the features.
      seed: for methods that draw.

    Raises:
      ValueError: the input holds NaN, or fitting failed.
    """
    n, d = features.shape
    dtype = features.dtype if dtype is None else dtype
    closed = isinstance(config, ClosedForm)
    wide = n < d and n * d <= _MEMORY_VALUES
    if not closed or (wide and (certificate or config.needs_covariance)):
        (data,) = read_blocks(features, labels, task=task, rows=n)
        eraser = raise_if_failed(config.fit(data, key=jax.random.key(seed)))
        return eraser, certify_rows(eraser, data, dtype=dtype) if certificate else _NOTHING
    covariance = config.needs_covariance or (certificate and d <= _CERTIFIED_DIMS)
    moments = stream_moments(features, labels, task=task, covariance=covariance, progress="fitting")
    eraser = raise_if_failed(config.solve(moments))
    if not certificate:
        return eraser, _NOTHING
    again = read_blocks(features, labels, progress="rounding")
    return eraser, certify(eraser, moments, dtype=dtype, blocks=again)


_NOTHING = Certificate(None, None, None, None)


def _describe(
    eraser: FittedEraser, features: Features, certified: Certificate, written: np.dtype
) -> str:
    """Returns a line about what an eraser does to the rows it was fitted on.

    And one where the dtype in which they will be written brings a part of the concept back.
    """
    parts = [f"on these rows: rank {int(eraser.rank)}"]
    if certified.damage is not None:
        parts.append(f"damage {float(certified.damage):.4g} of the variance")
    if certified.before is not None and certified.after is not None:
        before, after = float(certified.before), float(certified.after)
        parts.append(f"linear_r2 {before:.4g} before, {after:.4g} after")
        if features.shape[0] <= features.shape[1]:
            parts[-1] += " (with no more rows than features, any concept is read in sample)"
    else:
        missing = "linear_r2" if certified.damage is not None else "damage and linear_r2"
        parts.append(
            f"{missing} not computed (beyond {_CERTIFIED_DIMS} features only where the method "
            "itself needs the covariance)"
        )
    line = ", ".join(parts)
    after, unrounded = certified.after, certified.unrounded
    if after is None or unrounded is None or not float(after) > float(unrounded):
        return line
    wider = "float32" if is_rounded(written) else "float64"
    return (
        f"{line}\nrounding to {written} leaves R^2 {float(after):.4g}, and "
        f"{wider} {float(unrounded):.4g}: apply --dtype {wider}"
    )


def _base(value: object) -> object:
    """Returns the last part of a path, so that a saved file does not tell where it was made."""
    return Path(value).name if isinstance(value, str) else value
