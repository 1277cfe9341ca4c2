"""How often a probe predicts the label."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from erasejax._core.types import Given
from erasejax._linalg.products import ratio
from erasejax.metrics._base import Metric
from erasejax.metrics._scoring import Predictor, labelled, members, score, share
from erasejax.rows import Dataset, Pairs

__all__ = ["Accuracy", "BalancedAccuracy", "accuracy", "balanced_accuracy"]


def accuracy(
    probe: Predictor, x: Given | Dataset, z: Given | None = None, *, weights: Given | None = None
) -> Float[Array, ""]:
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
    return score(_accuracy, *labelled(probe, x, z, weights))


class Accuracy(Metric):
    """`accuracy` by its name; of contrast pairs with the sign that the probe has.

    Example:
      >>> ej.metrics.Accuracy.name, ej.metrics.Accuracy.of
      ('accuracy', 'probe')
    """

    name = "accuracy"
    title = "accuracy"
    needs = frozenset({"classes"})
    of_pairs = True

    def compute(self, probe: Any, rows: Dataset | Pairs) -> jax.Array:
        """Returns the share of rows, or pairs, whose label the probe predicts."""
        if isinstance(rows, Pairs):
            return probe.accuracy(rows, sign="kept")
        return accuracy(probe, rows)


def _accuracy(probe: Predictor, data: Dataset) -> jax.Array:
    return share(probe.predict(data.x) == data.z, data)


def balanced_accuracy(
    probe: Predictor, x: Given | Dataset, z: Given | None = None, *, weights: Given | None = None
) -> Float[Array, ""]:
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
    return score(_balanced_accuracy, *labelled(probe, x, z, weights))


class BalancedAccuracy(Metric):
    """`balanced_accuracy` by its name.

    Example:
      >>> ej.metrics.BalancedAccuracy.name, ej.metrics.BalancedAccuracy.of
      ('balanced_accuracy', 'probe')
    """

    name = "balanced_accuracy"
    title = "balanced accuracy"
    needs = frozenset({"classes"})
    compute = staticmethod(balanced_accuracy)


def _balanced_accuracy(probe: Predictor, data: Dataset) -> jax.Array:
    own = members(data)
    correct = (probe.predict(data.x) == data.z)[:, None]
    size = jnp.sum(own, axis=0)
    recall = jnp.where(size > 0, ratio(jnp.sum(own * correct, axis=0), size), 0)
    return ratio(jnp.sum(recall), jnp.sum(size > 0).astype(recall.dtype))
