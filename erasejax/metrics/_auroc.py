"""How well the scores of a probe order rows."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from erasejax._core.types import Given
from erasejax._linalg.products import power_of_two
from erasejax._linalg.sorting import sort_marked
from erasejax.metrics._base import Metric
from erasejax.metrics._scoring import Scorer, labelled, score
from erasejax.rows import Dataset

__all__ = ["AUROC", "auroc"]


def auroc(
    probe: Scorer, x: Given | Dataset, z: Given | None = None, *, weights: Given | None = None
) -> Float[Array, ""]:
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
    return score(_auroc, *labelled(probe, x, z, weights))


class AUROC(Metric):
    """`auroc` by its name.

    Example:
      >>> ej.metrics.AUROC.name, ej.metrics.AUROC.of
      ('auroc', 'probe')
    """

    name = "auroc"
    title = "AUROC"
    needs = frozenset({"classes"})
    compute = staticmethod(auroc)


def _auroc(probe: Scorer, data: Dataset) -> jax.Array:
    scores = probe.scores(data.x)
    if scores.ndim == 1:
        return _area(scores, data.z == 1, data)
    positive = data.z[:, None] == jnp.arange(scores.shape[1])
    return jnp.nanmean(jax.vmap(_area, in_axes=(1, 1, None))(scores, positive, data))


def _area(scores: jax.Array, positive: jax.Array, data: Dataset) -> jax.Array:
    """Returns the area under the ROC curve of scores (n,), ties counted half."""
    scores, positive, weights = sort_marked(scores, positive, data.own_weights, data.seen)
    # In units of their own, powers of two: products of small or large weights leave the floats.
    up, down = (_in_units(jnp.where(own, weights, 0)) for own in (positive, ~positive))
    below = jnp.cumsum(down)
    first = jnp.concatenate([jnp.ones(1, bool), scores[1:] != scores[:-1]])
    last = jnp.concatenate([first[1:], jnp.ones(1, bool)])
    # Negatives strictly below a group of ties, and up to its end.
    before = jax.lax.cummax(jnp.where(first, below - down, 0))
    through = jax.lax.cummin(jnp.where(last, below, jnp.inf), reverse=True)
    total = jnp.sum(up) * jnp.sum(down)
    return jnp.sum(up * (before + through) / 2) / jnp.where(total > 0, total, jnp.nan)


def _in_units(weights: jax.Array) -> jax.Array:
    """Returns weights (n,) divided by a power of two near the largest."""
    unit = power_of_two(jnp.max(jnp.abs(weights)))
    return weights / jnp.where((unit > 0) & jnp.isfinite(unit), unit, 1)
