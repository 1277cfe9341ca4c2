"""What the command `fit` does: rows are streamed, the file appears whole or not at all."""

import os
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from erasejax import files
from erasejax._core import inputs
from erasejax._core.status import describe, raise_if_failed
from erasejax._core.text import show
from erasejax.cli._common import check_output
from erasejax.erasers import INLP, SPLINCE, ClosedForm
from erasejax.files import (
    Features,
    Labels,
    Source,
    check_rows,
    open_features,
    parse,
    read_array,
    read_blocks,
    read_labels,
    read_task,
    stream_moments,
)
from erasejax.metrics import Certificate, certify, certify_rows, is_rounded, named_dtype
from erasejax.names import configure
from erasejax.statistics import SHRINKAGE_RULES

__all__ = ["fit", "fit_eraser"]

_MEMORY_VALUES = 1 << 28  # with fewer rows than features: numbers that are fitted in memory, 1 GiB
_CERTIFIED_DIMS = 4096  # features up to which a method that needs no covariance gets one: 64 MiB


def fit(
    x: str,
    labels: str,
    *,
    out: str | os.PathLike[str],
    method: str,
    task: str | None = None,
    concept: str = "auto",
    keep_mean: bool | None = None,
    shrinkage: float | None = None,
    shrinkage_rule: str | None = None,
    rank: int | None = None,
    rounds: int | None = None,
    probe: str | None = None,
    directions: str | None = None,
    target: float | None = None,
    max_rank: int | None = None,
    certificate: bool = True,
    dtype: str | None = None,
    seed: int = 0,
    drop: str | None = None,
    encoding: str | None = None,
    force: bool = False,
) -> str:
    """Fits an eraser to files and saves it.

    Args:
      x: features, see `erasejax.files.open_features`.
      labels: see `erasejax.files.read_labels`.
      out: file to write.
      method: a key of `erasejax.names.METHODS`.
      task: see `erasejax.files.read_task`; for splince.
      concept: "auto", "classes" or "real".
      keep_mean: option of the method, None for its default; so are the next six.
      shrinkage: weight of the identity, in [0, 1].
      shrinkage_rule: one of `erasejax.statistics.SHRINKAGE_RULES`.
      rank: number of directions.
      rounds: the most rounds.
      probe: a key of `erasejax.names.PROBES`.
      directions: file with an array (d,) or (d, r).
      target: share of the difference of covariances to remove, in [0, 1].
      max_rank: at most so many directions for it.
      certificate: whether to compute damage and linear_r2 of the fitting rows.
      dtype: in which erased rows will be written and so are certified, a name of
        `erasejax.metrics.DTYPES`; None for that of the features.
      seed: for methods that draw.
      drop: columns that are no features, see `erasejax.files.open_features`.
      encoding: of text in the files, None for UTF-8.
      force: replace `out` if it exists.

    Returns:
      A line that says what was fitted, and one of what it does to the fitting rows.

    Raises:
      ValueError: the input cannot be used, or fitting failed.
      OSError: a file cannot be read or written.
    """
    check_output(out, force, x, labels, task, directions, kinds=(".safetensors",))
    options = {
        "keep_mean": keep_mean,
        "shrinkage": shrinkage,
        "shrinkage_rule": shrinkage_rule,
        "rank": rank,
        "rounds": rounds,
        "probe": probe,
        "directions": directions,
        "target": target,
        "max_rank": max_rank,
    }
    config = configure(method, options)
    wanted = None if dtype is None else named_dtype(dtype)
    _check_shrinkage(shrinkage, shrinkage_rule)
    if target is not None and not 0 <= target <= 1:
        raise ValueError(f"--target: expected a number from 0 to 1, got {target:g}")
    if hasattr(config, "directions") and directions is None:
        raise ValueError(f"{method} needs --directions FILE, an array (d,) or (d, r)")
    keeps = isinstance(config, SPLINCE)
    if keeps and task is None:
        raise ValueError(f"{method} needs --task FILE, what it should keep")
    if task is not None and not keeps:
        raise ValueError(f"--task is no option of {method}; splince keeps a task")
    if directions is not None:
        config = config.replace(directions=_directions(parse(directions, encoding)))
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
        "options": {k: _base(v) for k, v in options.items() if v is not None},
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
    for text in describe(int(eraser.status)):
        print(f"erasejax: {text}", file=sys.stderr)
    if isinstance(config, INLP) and int(eraser.steps) == config.rounds:
        left = f"{float(eraser.trace[-1]):.4g}"
        print(
            f"erasejax: the probe of the last of {config.rounds} rounds read {left}",
            file=sys.stderr,
        )
    line = (
        f"{show(str(out))}: {method}, removes {int(eraser.rank)} of {features.shape[1]} "
        f"dimensions, fitted on {features.shape[0]} rows, {concepts}"
    )
    return f"{line}\n{_describe(eraser, features, certified, written)}" if certificate else line


def fit_eraser(
    config: Any,
    features: Features,
    labels: Labels,
    *,
    task: Labels | None = None,
    certificate: bool = True,
    dtype: np.dtype | None = None,
    seed: int = 0,
) -> tuple[Any, Certificate]:
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


def _describe(eraser: Any, features: Features, certified: Certificate, written: np.dtype) -> str:
    """Returns a line about what an eraser does to the rows it was fitted on.

    And one where the dtype in which they will be written brings a part of the concept back.
    """
    parts = [f"on these rows: rank {int(eraser.rank)}"]
    if certified.damage is not None:
        parts.append(f"damage {float(certified.damage):.4g} of the variance")
    if certified.before is not None:
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
    if certified.after is None or not float(certified.after) > float(certified.unrounded):
        return line
    wider = "float32" if is_rounded(written) else "float64"
    return (
        f"{line}\nrounding to {written} leaves R^2 {float(certified.after):.4g}, and "
        f"{wider} {float(certified.unrounded):.4g}: apply --dtype {wider}"
    )


def _check_shrinkage(shrinkage: float | None, rule: str | None) -> None:
    """Checks the options of shrinkage.

    Raises:
      ValueError: a value is out of range, or the two contradict each other.
    """
    if shrinkage is not None and not 0 <= shrinkage <= 1:
        raise ValueError(f"--shrinkage: expected a number from 0 to 1, got {shrinkage:g}")
    if rule is None:
        return
    inputs.choice("--shrinkage-rule", rule, SHRINKAGE_RULES)
    if rule == "fixed" and shrinkage is None:
        raise ValueError("--shrinkage-rule fixed needs --shrinkage, a number from 0 to 1")
    if rule != "fixed" and shrinkage is not None:
        raise ValueError(f"--shrinkage is for --shrinkage-rule fixed, got {rule}")


def _directions(source: Source) -> jax.Array:
    """Reads directions, (d,) or (d, r).

    Raises:
      ValueError: they are no finite numbers.
    """
    if source.is_table:
        array = open_features(source).array()
    else:
        array = read_array(source)
    is_number = array.dtype.kind in "iu" or jnp.issubdtype(array.dtype, jnp.floating)
    if array.ndim not in (1, 2) or not is_number:
        raise ValueError(
            f"{source}: expected directions, numbers (d,) or (d, r), got {array.dtype} "
            f"{array.shape}"
        )
    array = np.asarray(array, np.float64)
    if not np.isfinite(array).all():
        raise ValueError(f"{source}: the directions hold NaN or infinity")
    return jnp.asarray(array)


def _base(value: Any) -> Any:
    """Returns the last part of a path, so that a saved file does not tell where it was made."""
    return Path(value).name if isinstance(value, str) else value
