"""How often a probe predicts the label."""

from typing import Any

import jax
import jax.numpy as jnp

from erasejax._linalg.products import safe_reciprocal
from erasejax.metrics._base import Metric
from erasejax.metrics._scoring import labelled, mean, members, score
from erasejax.rows import Dataset, Pairs

__all__ = ["Accuracy", "BalancedAccuracy", "accuracy", "balanced_accuracy"]


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
    """
    return score(_accuracy, *labelled(probe, x, z, weights))


class Accuracy(Metric):
    """`accuracy`; of contrast pairs with the sign that the probe has."""

    name = "accuracy"
    title = "accuracy"
    needs = frozenset({"classes"})
    of_pairs = True

    def compute(self, probe: Any, rows: Dataset | Pairs) -> jax.Array:
        """Returns the share of rows, or pairs, whose label the probe predicts."""
        if isinstance(rows, Pairs):
            return probe.accuracy(rows, sign="kept")
        return accuracy(probe, rows)


def _accuracy(probe: Any, data: Dataset) -> jax.Array:
    return mean(probe.predict(data.x) == data.z, data)


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
    """
    return score(_balanced_accuracy, *labelled(probe, x, z, weights))


class BalancedAccuracy(Metric):
    """`balanced_accuracy`."""

    name = "balanced_accuracy"
    title = "balanced accuracy"
    needs = frozenset({"classes"})
    compute = staticmethod(balanced_accuracy)


def _balanced_accuracy(probe: Any, data: Dataset) -> jax.Array:
    share = members(data)
    correct = (probe.predict(data.x) == data.z)[:, None]
    size = jnp.sum(share, axis=0)
    recall = jnp.sum(share * correct, axis=0) * safe_reciprocal(size, size > 0)
    return jnp.sum(recall) / jnp.sum(size > 0)
