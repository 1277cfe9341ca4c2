"""What erasing cost."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from erasejax._core import inputs
from erasejax._core.programs import program
from erasejax._core.types import Given
from erasejax._linalg.products import power_of_two, safe_reciprocal
from erasejax.metrics._base import Metric
from erasejax.metrics._scoring import mean
from erasejax.rows import Dataset, features_about, roomy, rows_about

__all__ = ["Damage", "damage"]


def damage(x: Given, y: Given, *, weights: Given | None = None) -> Float[Array, ""]:
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
    return _damage(roomy(Dataset(x=x.astype(dtype), z=y.astype(dtype), weights=weights)))


class Damage(Metric):
    """`damage` by its name.

    Example:
      >>> ej.metrics.Damage.name, ej.metrics.Damage.of
      ('damage', 'change')
    """

    name = "damage"
    of = "change"
    compute = staticmethod(damage)


@program
def _damage(pair: Dataset) -> jax.Array:
    seen = jnp.ones(len(pair.x), bool) if pair.weights is None else pair.weights != 0
    # One common scale, a power of two, before anything is added up.
    largest = power_of_two(jnp.max(jnp.where(seen[:, None], jnp.abs(pair.x), 0)))
    x, moved = (rows / jnp.where(largest > 0, largest, 1) for rows in (pair.x, pair.x - pair.z))
    centred = x - mean(x, pair)
    # And squares neither overflow nor vanish.
    scale = jnp.max(jnp.where(seen[:, None], jnp.abs(centred), 0))
    inverse = safe_reciprocal(scale, scale > 0)
    moved = mean(jnp.sum((moved * inverse) ** 2, axis=1), pair)
    return moved / mean(jnp.sum((centred * inverse) ** 2, axis=1), pair)
