"""The command `fit`: rows are streamed, the file appears whole or not at all."""

import contextlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import jax
import numpy as np
from tyro.conf import arg

from erasejax import files
from erasejax._core.status import describe, raise_if_failed
from erasejax._core.text import show
from erasejax._core.warn import warn
from erasejax.cli._arguments import (
    Columns,
    Dtype,
    Encoding,
    OptionalFile,
    Rows,
    Several,
    check_seed,
    configure,
    files_among,
)
from erasejax.cli._common import check_output
from erasejax.cli._given import Given, count, find_given, say
from erasejax.erasers import ClosedForm, Eraser, FittedEraser
from erasejax.files import (
    Counted,
    Features,
    check_rows,
    joint_labels,
    open_features,
    parse,
    read_again,
    read_blocks,
    read_labels,
    read_task,
    read_together,
    stream_moments,
)
from erasejax.files import Labels as ReadLabels
from erasejax.metrics import Certificate, certify, certify_rows, is_rounded, named_dtype
from erasejax.names import known
from erasejax.rows import Dataset, remember_columns
from erasejax.statistics import Moments, conditional_blocks, conditional_moments

__all__ = ["fit", "fit_eraser"]

_MEMORY_VALUES = 1 << 28  # with fewer rows than features: numbers that are fitted in memory, 1 GiB
_CERTIFIED_DIMS = 4096  # features up to which a method that needs no covariance gets one: 64 MiB


def fit(
    rows: Rows = (),
    /,
    *,
    labels: Several = (),
    out: Path | None = None,
    moments: Path | None = None,
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

    Rows may be in many files, which are read one after another in sorted order: several names,
    patterns such as 'acts-*.npz:layer_7', and URLs such as 's3://bucket/acts-*.npy' (with fsspec).
    Labels are then one file for all rows, or as many. With --moments a killed fit goes on where it
    was, new files are added, and moments of several machines are merged (erasejax merge).

    Args:
      rows: features, (rows, features), and last their labels, one a row. Of a table all columns but
        the labels', the task's and an index of pandas, which in a .csv is a first column without
        a name; or one column of lists. None at all where --moments holds what was counted.
      labels: the labels; what stands without an option is then features alone.
      out: where to save the eraser, a .safetensors file. With --moments it may be left out.
      moments: where to keep the moments and which files are in them, after each file; those that
        are in them are skipped. For methods that solve from moments.
      method: {erasers}.
      task: what splince keeps, and what --given erases within; classes as labels, or for splince
        floats, one or several columns.
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

    Warns:
      UserWarning: a class has one row.

    Raises:
      ValueError: the input cannot be used, or fitting failed.
      OSError: a file cannot be read or written.
    """
    check_seed(seed)
    given = find_given(rows, labels, task, encoding, counted=moments is not None)
    if not given.x and moments is None:
        raise ValueError("expected features and their labels, X LABELS")
    if out is None and moments is None:
        raise ValueError("expected --out FILE, where to save the eraser")
    inputs = [*given.local, *files_among(options)]
    if moments is not None:
        check_output(moments, True, *inputs, kinds=(".safetensors",))
        inputs += [str(moments)] if moments.exists() else []
    if out is not None:
        check_output(out, force, *inputs, kinds=(".safetensors",))
    wanted = None if dtype is None else named_dtype(dtype)
    config = configure(method, options, encoding)
    if given.x and config.reads_task and task is None:
        raise ValueError(f"{method} needs --task FILE, the second concept")
    if task is not None and not config.reads_task:
        keeping = [name for name, eraser in known("eraser").items() if eraser.needs_task]
        raise ValueError(
            f"--task is no option of {method}; {', '.join(keeping)} keeps a task, and --given "
            "pooled or each erases within its classes"
        )
    if moments is not None and not isinstance(config, ClosedForm):
        raise ValueError(f"{method} needs the rows, not only their moments; leave out --moments")
    if moments is None and (given.together is None or not isinstance(config, ClosedForm)):
        found = _of_rows(config, given, concept, drop, encoding, certificate, wanted, seed)
    else:
        assert isinstance(config, ClosedForm)
        counted = count(
            config,
            given,
            moments,
            concept,
            drop,
            lambda dims: _keeps_covariance(config, dims, certificate),
        )
        if out is None:
            return (
                f"{show(str(moments))}: moments of {counted.rows} rows in {len(counted.files)} "
                f"files, {counted.concept}"
            )
        with contextlib.ExitStack() as stack:
            again = None
            if moments is None and given.together is not None:
                rows_again = read_again(given.together, counted, concept=concept, drop=drop)
                again = stack.enter_context(contextlib.closing(rows_again))
            found = _of_moments(config, counted, again, certificate, wanted)
    assert out is not None
    notes = {
        "method": method,
        "options": {k: _base(v) for k, v in options.items()},
        "seed": seed if config.needs_key else None,
        "features": _bases(given.x or (str(moments),)),
        "labels": _bases(given.z or (str(moments),)),
        "task": _base(task),
        "rows": found.shape[0],
        "dims": found.shape[1],
        "columns": found.columns,
        "class_names": found.class_names,
        "class_counts": found.class_counts if found.class_names else None,
        "certificate": {
            k: None if v is None else float(v) for k, v in found.certified._asdict().items()
        }
        | {"dtype": found.written.name},
    }
    remember_columns(found.eraser, found.columns)
    files.save(found.eraser, out, overwrite=force, notes=notes)
    for text in (*describe(int(found.eraser.status)), *config.remarks(found.eraser)):
        print(f"erasejax: {text}", file=sys.stderr)
    counts = zip(found.class_names or (), found.class_counts, strict=False)  # none of floats
    if rare := [name for name, rows in counts if rows == 1]:
        warn(
            f"class {show(rare[0])} has 1 row, of which what is erased cannot be told from its "
            "noise; add rows, or leave the class out"
        )
    line = (
        f"{show(str(out))}: {method}, removes {int(found.eraser.rank)} of {found.shape[1]} "
        f"dimensions, fitted on {found.shape[0]} rows, {found.concept}"
    )
    return f"{line}\n{_describe(found)}" if certificate else line


class _Found(NamedTuple):
    """An eraser, and what it was fitted on.

    Attributes:
      eraser: fitted.
      certified: what it does to these rows.
      written: the dtype of the rows that were certified.
      shape: (n, d).
      columns: names of the features, or None.
      class_names: in the order of their numbers, or None.
      class_counts: rows of each.
      concept: what the labels are, in words.
      reread: whether the rows could be read again, and rounded.
    """

    eraser: FittedEraser
    certified: Certificate
    written: np.dtype
    shape: tuple[int, int]
    columns: tuple[str, ...] | None
    class_names: tuple[str, ...] | None
    class_counts: tuple[int, ...]
    concept: str
    reread: bool = True


def _of_rows(
    config: Eraser,
    given: Given,
    concept: str,
    drop: str | None,
    encoding: str | None,
    certificate: bool,
    wanted: np.dtype | None,
    seed: int,
) -> _Found:
    """Returns the eraser of one file of rows, or of the rows of several in memory."""
    if given.together is not None:
        say(f"in this order: {given.together}")
        features, concepts, kept = read_together(given.together, concept=concept, drop=drop)
    else:
        x, z, task = given.x[0], given.z[0], given.task[0] if given.task else None
        features = open_features(parse(x, encoding), labels=z, task=task, drop=drop)
        concepts = read_labels(parse(z, encoding), concept=concept)
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
    names, counts = concepts.names, concepts.counts if concepts.names else ()
    return _Found(
        eraser, certified, written, features.shape, features.columns, names, counts, str(concepts)
    )


def _of_moments(
    config: ClosedForm,
    counted: Counted,
    again: Iterable[Dataset] | None,
    certificate: bool,
    wanted: np.dtype | None,
) -> _Found:
    """Returns the eraser of moments; rounding is certified where the rows can be read again.

    Raises:
      ValueError: there is one class only, or fitting failed.
    """
    moments = counted.moments
    if len(counted.class_names or ()) == 1:
        raise ValueError(f"one class only, {counted.concept}; expected at least two classes")
    if counted.within_task and len(counted.task_names or ()) == 1:
        raise ValueError("one class only of the task; expected at least two")
    eraser = raise_if_failed(config.solve(moments, tasks=counted.tasks))
    own = np.dtype(counted.dtype)
    written = np.dtype(moments.mean.dtype) if again is None else own if wanted is None else wanted
    certified = _NOTHING
    if certificate:
        of, blocks = _as_erased(config, moments, counted.tasks, () if again is None else again)
        certified = certify(eraser, of, dtype=None if again is None else written, blocks=blocks)
    return _Found(
        eraser,
        certified,
        written,
        (counted.rows, moments.xz.shape[0]),
        counted.columns,
        counted.class_names,
        counted.class_counts,
        counted.concept,
        reread=again is not None or not is_rounded(own if wanted is None else wanted),
    )


def _keeps_covariance(config: ClosedForm, dims: int, certificate: bool) -> bool:
    return config.needs_covariance or (certificate and dims <= _CERTIFIED_DIMS)


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
    wide = n < d and n * d <= _MEMORY_VALUES
    if not isinstance(config, ClosedForm) or (wide and (certificate or config.needs_covariance)):
        (data,) = read_blocks(features, labels, task=task, rows=n)
        eraser = raise_if_failed(config.fit(data, key=jax.random.key(seed)))
        if isinstance(config, ClosedForm):
            data = config.concept(data)
        return eraser, certify_rows(eraser, data, dtype=dtype) if certificate else _NOTHING
    covariance, tasks = _keeps_covariance(config, d, certificate), None
    if config.given != "none" and task is not None:
        labels, task, tasks = joint_labels(labels, task), None, len(task.names or ())
    moments = stream_moments(features, labels, task=task, covariance=covariance, progress="fitting")
    eraser = raise_if_failed(config.solve(moments, tasks=tasks))
    if not certificate:
        return eraser, _NOTHING
    again = read_blocks(features, labels, progress="rounding")
    of, blocks = _as_erased(config, moments, tasks, again)
    return eraser, certify(eraser, of, dtype=dtype, blocks=blocks)


def _as_erased(
    config: ClosedForm, moments: Moments, tasks: int | None, blocks: Iterable[Dataset]
) -> tuple[Moments, Iterable[Dataset]]:
    """Returns moments and rows with the concept that is erased, which may be within a task."""
    if tasks is None:
        return moments, blocks
    k = moments.xz.shape[1] // tasks
    again = conditional_blocks(blocks, moments, k, config.given)
    return conditional_moments(moments, k, config.given), again


_NOTHING = Certificate(None, None, None, None)


def _describe(found: _Found) -> str:
    """Returns a line about what an eraser does to the rows it was fitted on.

    And one where the dtype in which they will be written brings a part of the concept back.
    """
    certified = found.certified
    parts = [f"on these rows: rank {int(found.eraser.rank)}"]
    if certified.damage is not None:
        parts.append(f"damage {float(certified.damage):.4g} of the variance")
    if certified.before is not None and certified.after is not None:
        before, after = float(certified.before), float(certified.after)
        parts.append(f"linear_r2 {before:.4g} before, {after:.4g} after")
        if found.shape[0] <= found.shape[1]:
            parts[-1] += " (with no more rows than features, any concept is read in sample)"
    else:
        missing = "linear_r2" if certified.damage is not None else "damage and linear_r2"
        parts.append(
            f"{missing} not computed (beyond {_CERTIFIED_DIMS} features only where the method "
            "itself needs the covariance)"
        )
    line = ", ".join(parts)
    if not found.reread:
        line += (
            f"\nthese are figures of rows in {found.written}: what rounding brings back is seen "
            "where the rows are read again, without --moments"
        )
    after, unrounded = certified.after, certified.unrounded
    if after is None or unrounded is None or not float(after) > float(unrounded):
        return line
    wider = "float32" if is_rounded(found.written) else "float64"
    return (
        f"{line}\nrounding to {found.written} leaves R^2 {float(after):.4g}, and "
        f"{wider} {float(unrounded):.4g}: apply --dtype {wider}"
    )


def _base(value: object) -> object:
    """Returns the last part of a path, so that a saved file does not tell where it was made."""
    return Path(value).name if isinstance(value, str) else value


def _bases(paths: Sequence[str]) -> str:
    return " ".join(Path(path).name for path in paths)
