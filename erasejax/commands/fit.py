"""What the command `fit` does: rows are streamed, the file appears whole or not at all."""

import os
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from erasejax import checks, io
from erasejax.commands.common import check_output, check_rows, padded_blocks
from erasejax.erasers.base import ClosedForm
from erasejax.files import Features, Labels, open_features, parse, read_array, read_labels
from erasejax.moments import Moments
from erasejax.registry import configure

__all__ = ["fit", "fit_eraser"]


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
