"""How many positive rows a probe finds at a rate of false alarms that can be afforded."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from erasejax._core import inputs
from erasejax._core.programs import program
from erasejax._core.status import failed
from erasejax._core.types import Given
from erasejax._linalg.products import ratio
from erasejax._linalg.sorting import sort_marked
from erasejax.metrics._base import Metric
from erasejax.metrics._scoring import Scorer, labelled
from erasejax.rows import Dataset, roomy

__all__ = ["RecallAtFPR", "recall_at_fpr"]


def recall_at_fpr(
    probe: Scorer,
    x: Given | Dataset,
    z: Given | None = None,
    *,
    fpr: ArrayLike = 0.01,
    weights: Given | None = None,
) -> Float[Array, ""]:
    """Returns the share of positive rows found where at most a share `fpr` of the others is.

    The threshold is the lowest score at or above which no more than that share of the negative rows
    lies, as points of scikit-learn's `roc_curve` are: equal scores are on one side of it, and there
    is nothing between two points. With fewer than 1 / fpr negative rows no false alarm is allowed.

    Args:
      probe: a fitted classifier of two classes.
      x: (n, d) floats, or a `Dataset` and no z.
      z: (n,) integer labels, 1 for positive.
      fpr: () in [0, 1], the largest rate of false positives.
      weights: (n,) row weights, or None.

    Returns:
      () in [0, 1]; NaN where the probe failed, a score is NaN, x has one class, or fpr is no share.

    Raises:
      TypeError: z is not class labels.
      ValueError: the probe tells more than two classes apart.

    Under jit: pure; fpr may be traced.

    Example:
      >>> dataset = ej.datasets.GaussianClasses(separation=9.0, rows=3, dims=2)
      >>> data = dataset.sample(jax.random.key(0))
      >>> probe = ej.probes.LDA().fit(data)
      >>> float(ej.metrics.recall_at_fpr(probe, data, fpr=0.01))
      1.0
    """
    if probe.num_classes != 2:
        raise ValueError(f"probe: expected one of two classes, got one of {probe.num_classes}")
    probe, data = labelled(probe, x, z, weights)
    return _recall(probe, roomy(data), inputs.as_array("fpr", fpr, inputs.compute_dtype(data.x)))


class RecallAtFPR(Metric):
    """`recall_at_fpr` by its name, at a rate of 0.01; NaN with more than two classes.

    Example:
      >>> ej.metrics.RecallAtFPR.name, ej.metrics.RecallAtFPR.of
      ('recall_at_fpr', 'probe')
    """

    name = "recall_at_fpr"
    needs = frozenset({"classes"})

    def compute(self, probe: Scorer, rows: Dataset) -> jax.Array:
        """Returns the number for the rows."""
        if probe.num_classes != 2:
            return jnp.asarray(jnp.nan, inputs.compute_dtype(rows.x))
        return recall_at_fpr(probe, rows)


@program
def _recall(probe: Scorer, data: Dataset, fpr: jax.Array) -> jax.Array:
    scores = probe.scores(data.x)
    unknown = jnp.isnan(scores) if data.seen is None else data.seen & jnp.isnan(scores)
    wrong = failed(probe.status) | unknown.any() | ~((fpr >= 0) & (fpr <= 1))
    scores, positive, weights = sort_marked(scores, data.z == 1, data.own_weights, data.seen)
    # What lies at or above each score, from the highest down.
    found = jax.lax.cumsum(jnp.where(positive, weights, 0), reverse=True)
    alarms = jax.lax.cumsum(jnp.where(positive, 0, weights), reverse=True)
    first = jnp.concatenate([jnp.ones(1, bool), scores[1:] != scores[:-1]])
    # A count that is the bound itself is allowed, however the rate and this product are rounded.
    slack = 4 * jnp.finfo(fpr.dtype).eps
    allowed = first & (alarms <= fpr * alarms[0] * (1 + slack))
    total = jnp.where((found[0] > 0) & (alarms[0] > 0) & ~wrong, found[0], jnp.nan)
    return ratio(jnp.max(jnp.where(allowed, found, 0)), total)
