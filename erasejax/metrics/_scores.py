"""Scores of fitted probes on rows, and the damage of an eraser.

A score says nothing without its protocol: which rows the eraser was fitted on, which the probe, and
which are scored. On one and the same rows an erased label has exactly zero weights; a probe fitted
on fresh rows finds the estimation error of the eraser.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from erasejax._core import inputs
from erasejax._core.foreign import as_jax_or_numpy
from erasejax._core.programs import program
from erasejax._core.status import failed
from erasejax._linalg.products import power_of_two, safe_reciprocal
from erasejax._linalg.sorting import sort_marked
from erasejax.rows import (
    Dataset,
    as_dataset,
    as_dataset_about,
    class_labels,
    codes,
    describe_concept,
    features_about,
    moved,
    rows_about,
)

__all__ = [
    "accuracy",
    "auroc",
    "balanced_accuracy",
    "damage",
    "log_loss",
    "majority_rate",
    "r2",
]


def accuracy(probe: Any, x: Any, z: Any = None, *, weights: Any = None) -> jax.Array:
    """Returns the share of rows whose label the probe predicts.

    Args:
      probe: a fitted classifier.
      x: (n, d) floats, or a `Dataset` and no z.
      z: (n,) integer labels.
      weights: (n,) row weights, or None.

    Returns:
      () in [0, 1]; NaN where the probe failed.

    Raises:
      TypeError: z is not class labels.

    Example:
      >>> dataset = ej.datasets.GaussianClasses(separation=9.0, rows=3, dims=2)
      >>> data = dataset.sample(jax.random.key(0))
      >>> probe = ej.probes.LDA().fit(data)
      >>> float(ej.metrics.accuracy(probe, data))
      1.0
      >>> float(ej.metrics.accuracy(probe, data.x, 1 - data.z))
      0.0
    """
    return _score(_accuracy, *labelled(probe, x, z, weights))


def _accuracy(probe: Any, data: Dataset) -> jax.Array:
    return _mean(probe.predict(data.x) == data.z, data)


def balanced_accuracy(probe: Any, x: Any, z: Any = None, *, weights: Any = None) -> jax.Array:
    """Returns the mean over the classes present of the share of their rows predicted right.

    Arguments and result as `accuracy`; chance is 1 / classes whatever their frequencies.

    Args:
      probe: a fitted classifier.
      x: (n, d) floats, or a `Dataset` and no z.
      z: (n,) integer labels.
      weights: (n,) row weights, or None.

    Returns:
      () in [0, 1]; NaN where the probe failed.

    Raises:
      TypeError: z is not class labels.

    Example:
      >>> dataset = ej.datasets.GaussianClasses(separation=9.0, rows=3, dims=2)
      >>> data = dataset.sample(jax.random.key(0))
      >>> probe = ej.probes.LDA().fit(data)
      >>> float(ej.metrics.balanced_accuracy(probe, data))
      1.0
    """
    return _score(_balanced_accuracy, *labelled(probe, x, z, weights))


def _balanced_accuracy(probe: Any, data: Dataset) -> jax.Array:
    members = _members(data)
    correct = (probe.predict(data.x) == data.z)[:, None]
    size = jnp.sum(members, axis=0)
    recall = jnp.sum(members * correct, axis=0) * safe_reciprocal(size, size > 0)
    return jnp.sum(recall) / jnp.sum(size > 0)


def auroc(probe: Any, x: Any, z: Any = None, *, weights: Any = None) -> jax.Array:
    """Returns the area under the ROC curve: how often a positive row outscores a negative one.

    Ties count half. With more than two classes the mean, over the classes present, of each class
    against the rest.

    Args:
      probe: a fitted classifier.
      x: (n, d) floats, or a `Dataset` and no z.
      z: (n,) integer labels.
      weights: (n,) row weights, or None.

    Returns:
      () in [0, 1], 0.5 for scores that say nothing; NaN where the probe failed or x has one class.

    Raises:
      TypeError: z is not class labels.

    Example:
      >>> dataset = ej.datasets.GaussianClasses(separation=9.0, rows=3, dims=2)
      >>> data = dataset.sample(jax.random.key(0))
      >>> probe = ej.probes.LDA().fit(data)
      >>> float(ej.metrics.auroc(probe, data))
      1.0
    """
    return _score(_auroc, *labelled(probe, x, z, weights))


def _auroc(probe: Any, data: Dataset) -> jax.Array:
    scores = probe.scores(data.x)
    if scores.ndim == 1:
        return _area(scores, data.z == 1, data.weights)
    positive = data.z[:, None] == jnp.arange(scores.shape[1])
    return jnp.nanmean(jax.vmap(_area, in_axes=(1, 1, None))(scores, positive, data.weights))


def _area(scores: jax.Array, positive: jax.Array, weights: jax.Array | None) -> jax.Array:
    """Returns the area under the ROC curve of scores (n,), ties counted half."""
    scores, positive, weights = sort_marked(scores, positive, weights)
    up, down = jnp.where(positive, weights, 0), jnp.where(positive, 0, weights)
    below = jnp.cumsum(down)
    first = jnp.concatenate([jnp.ones(1, bool), scores[1:] != scores[:-1]])
    last = jnp.concatenate([first[1:], jnp.ones(1, bool)])
    # Negatives strictly below a group of ties, and up to its end.
    before = jax.lax.cummax(jnp.where(first, below - down, 0))
    through = jax.lax.cummin(jnp.where(last, below, jnp.inf), reverse=True)
    total = jnp.sum(up) * jnp.sum(down)
    return jnp.sum(up * (before + through) / 2) / jnp.where(total > 0, total, jnp.nan)


def log_loss(probe: Any, x: Any, z: Any = None, *, weights: Any = None) -> jax.Array:
    """Returns the mean negative log-probability of the labels, in nats.

    Args:
      probe: a fitted classifier with a likelihood (`log_proba`).
      x: (n, d) floats, or a `Dataset` and no z.
      z: (n,) integer labels.
      weights: (n,) row weights, or None.

    Returns:
      () >= 0; NaN where the probe failed.

    Raises:
      TypeError: the probe has no likelihood, or z is not class labels.

    Example:
      >>> data = ej.datasets.GaussianClasses(rows=3, dims=2).sample(jax.random.key(0))
      >>> probe = ej.probes.LDA().fit(ej.LEACE().fit(data)(data.x), data.z)
      >>> round(float(ej.metrics.log_loss(probe, data)), 3)  # log 2: the probe knows nothing
      0.693
    """
    if not hasattr(probe, "log_proba"):
        raise TypeError(f"log_loss: {type(probe).__name__} has no likelihood (no log_proba)")
    return _score(_log_loss, *labelled(probe, x, z, weights))


def _log_loss(probe: Any, data: Dataset) -> jax.Array:
    return _mean(-jnp.take_along_axis(probe.log_proba(data.x), data.z[:, None], axis=1)[:, 0], data)


def r2(probe: Any, x: Any, z: Any = None, *, weights: Any = None) -> jax.Array:
    """Returns the share of the concept's variance that a regression explains: 1 - SSE / SST.

    Two classes are coded -1 and 1 as `LeastSquares` does, more are one-hot, and the squares are
    summed over the columns.

    Args:
      probe: a fitted `LeastSquares`, whose scores are predictions of the coded concept.
      x: (n, d) floats, or a `Dataset` and no z.
      z: (n,) integer labels, or (n,) or (n, k) real concepts.
      weights: (n,) row weights, or None.

    Returns:
      () at most 1, negative where the constant is better; NaN where the probe failed.

    Raises:
      ValueError: the shape of z does not match the probe.

    Example:
      >>> data = ej.datasets.GaussianClasses(rows=3, dims=2).sample(jax.random.key(0))
      >>> probe = ej.probes.LeastSquares().fit(data.x, data.x[:, 0])
      >>> round(float(ej.metrics.r2(probe, data.x, data.x[:, 0])), 3)
      1.0
    """
    return _score(_r2, *_rows(probe, x, z, weights))


def _r2(probe: Any, data: Dataset) -> jax.Array:
    scores = probe.scores(data.x)
    scores = scores[:, None] if scores.ndim == 1 else scores
    target, _ = codes(data, scores.dtype)
    if data.num_classes == 2:
        target = 2 * target[:, 1:] - 1
    if target.shape != scores.shape:
        raise ValueError(f"z: the probe predicts {scores.shape[1]} columns, got {target.shape[1]}")
    error = _mean(jnp.sum((scores - target) ** 2, axis=1), data)
    spread = _mean(jnp.sum((target - _mean(target, data)) ** 2, axis=1), data)
    return 1 - error / spread


def majority_rate(z: Any, *, weights: Any = None, num_classes: int | None = None) -> jax.Array:
    """Returns the share of the most frequent class: the accuracy of knowing nothing.

    Args:
      z: (n,) integer labels.
      weights: (n,) row weights, or None.
      num_classes: number of classes; required under jit.

    Returns:
      () in (0, 1].

    Raises:
      TypeError: z is not class labels.

    Example:
      >>> float(ej.metrics.majority_rate(jnp.array([0, 0, 0, 1])))
      0.75
    """
    z = class_labels(z)
    data = as_dataset(
        jnp.zeros((len(z), 1), jnp.float32), z, weights=weights, num_classes=num_classes
    )
    size = jnp.sum(_members(data), axis=0)
    return jnp.max(size) / jnp.sum(size)


def damage(x: Any, y: Any, *, weights: Any = None) -> jax.Array:
    """Returns what erasing cost: the mean of |x - y|^2 as a share of the variance of x.

    Args:
      x: (n, d) floats before.
      y: (n, d) floats after.
      weights: (n,) row weights, or None.

    Returns:
      () >= 0, the fraction of the total variance of x; 0 where nothing moved.

    Raises:
      ValueError: shapes differ.

    Example:
      >>> x = jnp.array([[-1.0, -1.0], [1.0, 1.0]])
      >>> round(float(ej.metrics.damage(x, x.at[:, 0].set(0.0))), 3)  # half of the variance is gone
      0.5
    """
    x, origin = features_about("x", x)
    y = rows_about("y", y, origin)
    if x.shape != y.shape:
        raise ValueError(f"y: expected the shape of x {x.shape}, got {y.shape}")
    dtype = inputs.compute_dtype(x, y)
    weights = inputs.row_weights(weights, x.shape[0], dtype)
    return _damage(Dataset(x=x.astype(dtype), z=y.astype(dtype), weights=weights))


@program
def _damage(pair: Dataset) -> jax.Array:
    seen = jnp.ones(len(pair.x), bool) if pair.weights is None else pair.weights != 0
    # One common scale, a power of two, before anything is added up.
    largest = power_of_two(jnp.max(jnp.where(seen[:, None], jnp.abs(pair.x), 0)))
    x, moved = (rows / jnp.where(largest > 0, largest, 1) for rows in (pair.x, pair.x - pair.z))
    centred = x - _mean(x, pair)
    # And squares neither overflow nor vanish.
    scale = jnp.max(jnp.where(seen[:, None], jnp.abs(centred), 0))
    inverse = safe_reciprocal(scale, scale > 0)
    moved = _mean(jnp.sum((moved * inverse) ** 2, axis=1), pair)
    return moved / _mean(jnp.sum((centred * inverse) ** 2, axis=1), pair)


def _rows(probe: Any, x: Any, z: Any, weights: Any) -> tuple[Any, Dataset]:
    """Returns the rows, with the number of classes the probe knows, and the probe for such rows."""
    classes = None
    if not isinstance(x, Dataset):
        z = as_jax_or_numpy("z", z)
        if z.ndim == 1 and not jnp.issubdtype(z.dtype, jnp.floating):
            classes = probe.num_classes
    options = {"weights": weights, "num_classes": classes, "decided": True}
    data, origin = as_dataset_about(x, z, of=probe, **options)
    return moved(probe, None if origin is None else -origin), data


def labelled(probe: Any, x: Any, z: Any, weights: Any) -> tuple[Any, Dataset]:
    """Returns a probe and rows, with as many classes as it tells apart.

    Of float64 rows both may be about an origin of their own.

    Raises:
      TypeError: z is not class labels.
    """
    probe, data = _rows(probe, x, z, weights)
    if not data.is_classes:
        raise TypeError(f"z: expected integer class labels (n,), got {describe_concept(data.z)}")
    return probe, data


@program(static_argnums=0)
def _score(core: Callable[[Any, Dataset], jax.Array], probe: Any, data: Dataset) -> jax.Array:
    """Returns core(probe, data), NaN where the probe failed."""
    return jnp.where(failed(probe.status), jnp.nan, core(probe, data))


def _members(data: Dataset) -> jax.Array:
    """Returns one-hot labels times the row weights, (n, k)."""
    members = codes(data, inputs.compute_dtype(data.x))[0]
    return members if data.weights is None else members * data.weights[:, None]


def _mean(rows: jax.Array, data: Dataset) -> jax.Array:
    """Returns the weighted mean over the first axis; rows of weight 0 are not read."""
    rows = rows.astype(inputs.compute_dtype(data.x))
    if data.weights is None:
        return jnp.mean(rows, axis=0)
    weights = data.weights.reshape(-1, *([1] * (rows.ndim - 1)))
    return jnp.sum(jnp.where(weights != 0, weights * rows, 0), axis=0) / jnp.sum(weights)
