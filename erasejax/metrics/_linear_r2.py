"""What least squares could read of rows, without fitting a probe."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from erasejax._core.programs import program
from erasejax._core.status import failed
from erasejax._core.types import Given
from erasejax.metrics._base import Metric
from erasejax.rows import Dataset, as_dataset_about, roomy
from erasejax.statistics import (
    Moments,
    correlations,
    knowing,
    null_model,
    shared_moments,
    solve_data,
    whitening,
)

__all__ = ["LinearR2", "canonical_correlations", "linear_r2", "vanishes"]


def canonical_correlations(
    x: Given | Dataset,
    z: Given | None = None,
    *,
    weights: Given | None = None,
    num_classes: int | None = None,
) -> Float[Array, " r"]:
    """Returns the canonical correlations of x and the concept on these rows.

    The largest is the correlation of the best linear read-out with the best contrast of the
    concept. Erased, all are 0. With no more rows than features all are 1 on any data: in sample
    they then say nothing.

    Args:
      x: (n, d) floats, or a `Dataset` and no z.
      z: the concept, as for `fit` of an eraser.
      weights: (n,) row weights, or None.
      num_classes: number of classes; required under jit.

    Returns:
      (r,) descending, in [0, 1], r = k - 1 for k classes and k for other concepts; exactly 0 where
      the covariances vanish but for rounding; NaN where the rows cannot be used.

    Raises:
      TypeError: x is not floating point, or z is missing.
      ValueError: shapes do not match, or num_classes is missing.

    Example:
      >>> data = ej.datasets.GaussianClasses(rows=3, dims=2).sample(jax.random.key(0))
      >>> ej.metrics.canonical_correlations(data).shape
      (1,)
      >>> ej.metrics.canonical_correlations(ej.LEACE().fit(data)(data.x), data.z).tolist()
      [0.0]
    """
    rows, _ = as_dataset_about(x, z, weights=weights, num_classes=num_classes)
    return _linear_of(rows)[1]


def linear_r2(
    x: Given | Dataset,
    z: Given | None = None,
    *,
    weights: Given | None = None,
    num_classes: int | None = None,
) -> Float[Array, ""]:
    """Returns the share of the concept's variance that least squares explains on these rows.

    It is the mean of the squared canonical correlations over the rank of the concept's covariance.
    A mean can hide one class that is read well: look at `canonical_correlations` too.

    Args:
      x: (n, d) floats, or a `Dataset` and no z.
      z: the concept, as for `fit` of an eraser.
      weights: (n,) row weights, or None.
      num_classes: number of classes; required under jit.

    Returns:
      () in [0, 1], exactly 0 where the covariances vanish but for rounding; NaN where the rows
      cannot be used.

    Raises:
      TypeError: x is not floating point, or z is missing.
      ValueError: shapes do not match, or num_classes is missing.

    Example:
      >>> data = ej.datasets.GaussianClasses(rows=3, dims=2).sample(jax.random.key(0))
      >>> float(ej.metrics.linear_r2(data)) > 0.1
      True
      >>> float(ej.metrics.linear_r2(ej.LEACE().fit(data)(data.x), data.z))
      0.0
    """
    rows, _ = as_dataset_about(x, z, weights=weights, num_classes=num_classes)
    return _linear_of(rows)[0]


class LinearR2(Metric):
    """`linear_r2` by its name.

    Example:
      >>> ej.metrics.LinearR2.name, ej.metrics.LinearR2.of
      ('linear_r2', 'rows')
    """

    name = "linear_r2"
    of = "rows"
    compute = staticmethod(linear_r2)


def _linear_of(data: Dataset) -> tuple[jax.Array, jax.Array]:
    """Returns R^2 and the canonical correlations, which nearly all of the work is common to."""
    data = roomy(data)
    return _linear(data, shared_moments(data, covariance=True))


@program
def _linear(data: Dataset, moments: Moments | None) -> tuple[jax.Array, jax.Array]:
    with knowing(data, moments):
        solved = solve_data(data, rule="none", shrinkage=0.0)
    whiten, _ = whitening(solved.moments)
    rank = jnp.sum((whiten != 0).any(axis=0))
    found = jnp.where(vanishes(solved.moments), 0, correlations(solved))
    r2 = jnp.sum(found**2) / rank
    failure = failed(solved.status)
    return jnp.where(failure, jnp.nan, r2), jnp.where(failure, jnp.nan, found)


def vanishes(moments: Moments) -> jax.Array:
    """Returns whether the covariances are what independent rounding of the rows explains: ().

    Unlike a probe, which would fit what may be rounding, a number can say how much there is of it.
    """
    null, unresolved = null_model(moments)
    return null & (unresolved == 0)
