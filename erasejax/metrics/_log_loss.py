"""How far the probabilities of a probe are from the labels."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from erasejax._core.types import Given
from erasejax.metrics._base import Metric
from erasejax.metrics._scoring import Likelihood, labelled, mean, score
from erasejax.rows import Dataset

__all__ = ["LogLoss", "log_loss"]


def log_loss(
    probe: Likelihood, x: Given | Dataset, z: Given | None = None, *, weights: Given | None = None
) -> Float[Array, ""]:
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
    return score(_log_loss, *labelled(probe, x, z, weights))


class LogLoss(Metric):
    """`log_loss` by its name, in nats.

    Example:
      >>> ej.metrics.LogLoss.name, ej.metrics.LogLoss.of
      ('log_loss', 'probe')
    """

    name = "log_loss"
    title = "log-loss (nats)"
    needs = frozenset({"classes", "likelihood"})
    compute = staticmethod(log_loss)


def _log_loss(probe: Likelihood, data: Dataset) -> jax.Array:
    return mean(-jnp.take_along_axis(probe.log_proba(data.x), data.z[:, None], axis=1)[:, 0], data)
