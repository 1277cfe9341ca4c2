"""Certificates: how much a linear probe could read, without fitting one."""

from typing import Any

import jax
import jax.numpy as jnp

from erasejax import canonical, checks
from erasejax.data import Dataset, as_dataset

__all__ = ["canonical_correlations", "linear_r2"]


def canonical_correlations(
    x: Any, z: Any = None, *, weights: Any = None, num_classes: int | None = None
) -> jax.Array:
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
    """
    return _correlations(as_dataset(x, z, weights=weights, num_classes=num_classes))


def linear_r2(
    x: Any, z: Any = None, *, weights: Any = None, num_classes: int | None = None
) -> jax.Array:
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
    """
    return _linear_r2(as_dataset(x, z, weights=weights, num_classes=num_classes))


@jax.jit
def _correlations(data: Dataset) -> jax.Array:
    solved = canonical.solve_data(data, rule="none", shrinkage=0.0)
    found = jnp.where(canonical.is_null(solved.moments), 0, canonical.correlations(solved))
    return jnp.where(checks.failed(solved.status), jnp.nan, found)


@jax.jit
def _linear_r2(data: Dataset) -> jax.Array:
    solved = canonical.solve_data(data, rule="none", shrinkage=0.0)
    whiten, _ = canonical.whitening(solved.moments)
    rank = jnp.sum((whiten != 0).any(axis=0))
    r2 = jnp.sum(canonical.correlations(solved) ** 2) / rank
    r2 = jnp.where(canonical.is_null(solved.moments), 0, r2)
    return jnp.where(checks.failed(solved.status), jnp.nan, r2)
