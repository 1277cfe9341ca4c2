"""How much of the concept's variance a regression explains."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from erasejax._core.types import Given
from erasejax.metrics._base import Metric
from erasejax.metrics._scoring import Scorer, checked, mean, score
from erasejax.rows import Dataset, codes

__all__ = ["R2", "r2"]


def r2(
    probe: Scorer, x: Given | Dataset, z: Given | None = None, *, weights: Given | None = None
) -> Float[Array, ""]:
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
    return score(_r2, *checked(probe, x, z, weights))


class R2(Metric):
    """`r2` by its name.

    Example:
      >>> ej.metrics.R2.name, ej.metrics.R2.of
      ('r2', 'probe')
    """

    name = "r2"
    needs = frozenset({"values"})
    compute = staticmethod(r2)


def _r2(probe: Scorer, data: Dataset) -> jax.Array:
    scores = probe.scores(data.x)
    scores = scores[:, None] if scores.ndim == 1 else scores
    target, _ = codes(data, scores.dtype)
    if data.num_classes == 2:
        target = 2 * target[:, 1:] - 1
    if target.shape != scores.shape:
        raise ValueError(f"z: the probe predicts {scores.shape[1]} columns, got {target.shape[1]}")
    error = mean(jnp.sum((scores - target) ** 2, axis=1), data)
    spread = mean(jnp.sum((target - mean(target, data)) ** 2, axis=1), data)
    return 1 - error / spread
