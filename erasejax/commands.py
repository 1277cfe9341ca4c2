"""What the commands `fit` and `apply` do: rows are streamed, files appear whole or not at all."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from erasejax import checks, io
from erasejax.erasers.base import ClosedForm
from erasejax.files import (
    Features,
    Labels,
    open_features,
    open_writer,
    parse,
    read_array,
    read_labels,
)
from erasejax.files.writing import check_extension
from erasejax.moments import Moments
from erasejax.registry import configure
from erasejax.replacing import check_target

__all__ = ["apply", "check_rows", "fit", "load_eraser"]

BLOCK_VALUES = 1 << 22  # numbers in a block of rows: 16 MiB in float32


def fit(
    x: str,
    labels: str,
    *,
    out: str | os.PathLike[str],
    method: str,
    concept: str = "auto",
    keep_mean: bool | None = None,
    rank: int | None = None,
    directions: str | None = None,
    seed: int = 0,
    force: bool = False,
) -> str:
    """Fits an eraser to files and saves it.

    Args:
      x: features, see `erasejax.files.open_features`.
      labels: see `erasejax.files.read_labels`.
      out: file to write.
      method: a key of `erasejax.registry.METHODS`.
      concept: "auto", "classes" or "real".
      keep_mean: option of the method, None for its default; so are rank and directions.
      rank: number of directions.
      directions: file with an array (d,) or (d, r).
      seed: for methods that draw.
      force: replace `out` if it exists.

    Returns:
      One line that says what was fitted.

    Raises:
      ValueError: the input cannot be used, or fitting failed.
      OSError: a file cannot be read or written.
    """
    check_output(out, force, x, labels, directions, kinds=(".safetensors",))
    options = {"keep_mean": keep_mean, "rank": rank, "directions": directions}
    config = configure(method, options)
    if hasattr(config, "directions") and directions is None:
        raise ValueError(f"{method} needs --directions FILE, an array (d,) or (d, r)")
    if directions is not None:
        config = config.replace(directions=_directions(directions))
    features = open_features(x, labels=labels)
    concepts = read_labels(labels, concept=concept)
    check_rows(features, concepts, labels)
    eraser = fit_eraser(config, features, concepts, seed=seed)
    notes = {
        "method": method,
        "options": {k: _base(v) for k, v in options.items() if v is not None},
        "seed": seed if config.needs_key else None,
        "features": _base(str(features.source)),
        "labels": _base(labels),
        "rows": features.shape[0],
        "dims": features.shape[1],
        "columns": features.columns,
        "class_names": concepts.names,
        "class_counts": concepts.counts if concepts.names else None,
    }
    io.save(eraser, out, overwrite=force, notes=notes)
    for text in checks.describe(int(eraser.status)):
        print(f"erasejax: {text}", file=sys.stderr)
    return (
        f"{out}: {method}, removes {int(eraser.rank)} of {features.shape[1]} dimensions, fitted on "
        f"{features.shape[0]} rows, {concepts}"
    )


def fit_eraser(config: Any, features: Features, labels: Labels, *, seed: int = 0) -> Any:
    """Returns the eraser that a method fits to files; closed forms stream the rows.

    Args:
      config: the method.
      features: (n, d).
      labels: (n,).
      seed: for methods that draw.

    Raises:
      ValueError: the input holds NaN, or fitting failed.
    """
    if not isinstance(config, ClosedForm):
        k = len(labels.names) if labels.names else None
        x = jnp.asarray(features.array())
        key = jax.random.key(seed)
        z = _concept(labels, x.dtype)
        return checks.raise_if_failed(config.fit(x, z, num_classes=k, key=key))
    moments = None
    start = 0
    for block, count in padded_blocks(features, "fitting"):
        z = np.zeros(len(block), labels.values.dtype)
        z[:count] = labels.values[start : start + count]
        whole = count == features.shape[0]  # one block without padding
        weights = np.zeros(len(block), np.float32)
        weights[:count] = 1
        if moments is None:
            moments = Moments.init(
                features.shape[1],
                len(labels.names) if labels.names else 1,
                dtype=checks.compute_dtype(block),
                covariance=config.needs_covariance,
                one_hot=labels.names is not None,
            )
        if labels.names is None:
            z = z.astype(moments.xz.dtype)
        moments = moments.update(block, z, weights=None if whole else weights)
        start += count
    assert moments is not None
    return checks.raise_if_failed(config.solve(moments))


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


def _concept(labels: Labels, dtype: Any) -> jax.Array:
    return jnp.asarray(labels.values, None if labels.names else dtype)


def _directions(spec: str) -> jax.Array:
    """Reads directions, (d,) or (d, r).

    Raises:
      ValueError: they are no finite numbers.
    """
    source = parse(spec)
    if source.is_table:
        array = open_features(spec).array()
    else:
        array = read_array(source)
    if array.ndim not in (1, 2) or array.dtype.kind not in "fiu":
        raise ValueError(
            f"{spec}: expected directions, numbers (d,) or (d, r), got {array.dtype} {array.shape}"
        )
    array = np.asarray(array, np.float64)
    if not np.isfinite(array).all():
        raise ValueError(f"{spec}: the directions hold NaN or infinity")
    return jnp.asarray(array)


def _base(value: Any) -> Any:
    """Returns the last part of a path, so that a saved file does not tell where it was made."""
    return Path(value).name if isinstance(value, str) else value
