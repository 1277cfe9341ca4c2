"""What knowing nothing but the frequencies of the classes is worth."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from erasejax._core.programs import program
from erasejax._core.types import Given
from erasejax.metrics._base import Metric
from erasejax.metrics._scoring import members
from erasejax.rows import Dataset, as_dataset, class_labels, roomy

__all__ = ["MajorityRate", "majority_rate"]


def majority_rate(
    z: Given, *, weights: Given | None = None, num_classes: int | None = None
) -> Float[Array, ""]:
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
    nothing = np.zeros((len(z), 1), np.float32)
    return _majority(roomy(as_dataset(nothing, z, weights=weights, num_classes=num_classes)))


class MajorityRate(Metric):
    """`majority_rate` by its name.

    Example:
      >>> ej.metrics.MajorityRate.name, ej.metrics.MajorityRate.of
      ('majority_rate', 'labels')
    """

    name = "majority_rate"
    of = "labels"
    needs = frozenset({"classes"})

    def compute(self, rows: Dataset) -> jax.Array:
        """Returns the share of the most frequent class."""
        return majority_rate(rows.z, weights=rows.weights, num_classes=rows.num_classes)


@program
def _majority(data: Dataset) -> jax.Array:
    size = jnp.sum(members(data), axis=0)
    return jnp.max(size) / jnp.sum(size)
