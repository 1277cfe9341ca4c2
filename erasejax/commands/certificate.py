"""What erasing does to the rows it was fitted on, computed from their moments: no second pass."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from erasejax import canonical, checks, metrics
from erasejax.data import Dataset
from erasejax.erasers.oracle_leace import OracleProjection
from erasejax.linalg import product, safe_reciprocal, two_sum
from erasejax.moments import Moments
from erasejax.programs import program
from erasejax.projection import Projection

__all__ = ["Certificate", "certify", "certify_rows", "erased_moments"]


class Certificate(NamedTuple):
    """What erasing cost and what least squares can read, on the fitting rows.

    Attributes:
      damage: the mean of |r(x) - x|^2 as a share of the variance of x; None if not computed.
      before: `metrics.linear_r2` of the concept from x, or None.
      after: the same from r(x).
    """

    damage: Any
    before: Any
    after: Any


def certify(eraser: Any, moments: Moments) -> Certificate:
    """Returns the certificate of an eraser on the rows of `moments`.

    Without the covariance linear_r2 is not computed, nor, but for `OracleProjection`, the damage.

    Args:
      eraser: `Projection` or `OracleProjection`.
      moments: of the rows, with or without a task.
    """
    oracle = isinstance(eraser, OracleProjection)
    if moments.xx.ndim == 2:
        return _certify(eraser, moments)
    return Certificate(_damage(eraser, _concept_only(moments)) if oracle else None, None, None)


def certify_rows(eraser: Any, data: Dataset) -> Certificate:
    """Returns the certificate of an eraser on rows in memory.

    Args:
      eraser: a fitted eraser.
      data: the rows, in at least float32.
    """
    erased = eraser(data.x, data.z) if eraser.needs_z else eraser(data.x)
    return Certificate(
        metrics.damage(data.x, erased),
        metrics.linear_r2(data.replace(task=None)),  # pyright: ignore[reportAttributeAccessIssue]
        metrics.linear_r2(data.replace(x=erased, task=None)),  # pyright: ignore[reportAttributeAccessIssue]
    )


def erased_moments(eraser: Any, moments: Moments) -> Moments:
    """Returns the moments of r(x) from those of x: they are linear.

    With P = I - K T^T the covariances of x with the concept become P Sigma_xz, and S becomes
    P S P^T; `OracleProjection` subtracts B^T z.

    Args:
      eraser: `Projection` or `OracleProjection`.
      moments: with the covariance, without a task.

    Under jit: pure.
    """
    if isinstance(eraser, OracleProjection):
        back = product("kd,ke->de", eraser.slopes, moments.xz.T)
        both = product("kd,kj,je->de", eraser.slopes, moments.zz, eraser.slopes)
        xz = moments.xz - product("kd,kj->dj", eraser.slopes, moments.zz)
        shift = product("k,kd->d", _mean_z(moments) - eraser.mean_z, eraser.slopes)
    else:
        kernel, test = eraser.kernel, eraser.test
        read = product("dr,de->re", test, moments.xx)
        back = product("dr,re->de", kernel, read)
        both = product("dr,re,es,fs->df", kernel, read, test, kernel)
        xz = moments.xz - product("dr,er,ek->dk", kernel, test, moments.xz)
        shift = product("dr,er,e->d", kernel, test, moments.mean - eraser.center)
    high, low = two_sum(moments.mean_x[0], -shift)
    return moments.replace(  # pyright: ignore[reportAttributeAccessIssue]
        mean_x=jnp.stack(two_sum(high, low + moments.mean_x[1])),
        xx=moments.xx - (back + back.T) + both,
        xz=xz,
        status=moments.status | eraser.status,
    )


@program
def _certify(eraser: Any, moments: Moments) -> Certificate:
    moments = _concept_only(moments)
    erased = erased_moments(eraser, moments)
    # A feature that is erased whole has no spread left: its rounding is measured by what it had.
    null = canonical.is_null(erased) | canonical.is_null(erased.replace(xx=moments.xx))  # pyright: ignore[reportAttributeAccessIssue]
    return Certificate(
        _damage(eraser, moments),
        _linear_r2(moments, canonical.is_null(moments)),
        _linear_r2(erased, null),
    )


def _concept_only(moments: Moments) -> Moments:
    """Returns the same moments without the task."""
    k = moments.zz.shape[0] - moments.task
    return moments.replace(  # pyright: ignore[reportAttributeAccessIssue]
        mean_z=moments.mean_z[:, :k], xz=moments.xz[:, :k], zz=moments.zz[:k, :k], task=0
    )


def _linear_r2(moments: Moments, null: jax.Array) -> jax.Array:
    """Returns what `metrics.linear_r2` does, from moments."""
    solved = canonical.solve_moments(moments, rule="none", shrinkage=0.0)
    whiten, _ = canonical.whitening(moments)
    rank = jnp.sum((whiten != 0).any(axis=0))
    r2 = jnp.where(null, 0, jnp.sum(canonical.correlations(solved) ** 2) / rank)
    return jnp.where(checks.failed(solved.status), jnp.nan, r2)


def _damage(eraser: Projection | OracleProjection, moments: Moments) -> jax.Array:
    """Returns what `metrics.damage` does, from moments."""
    inverse_n = safe_reciprocal(moments.total, moments.total > 0)
    if isinstance(eraser, OracleProjection):
        moved = product("kd,kj,jd->", eraser.slopes, moments.zz, eraser.slopes) * inverse_n
        shift = product("k,kd->d", _mean_z(moments) - eraser.mean_z, eraser.slopes)
    else:
        read = product("dr,de,es->rs", eraser.test, moments.covariance, eraser.test)
        moved = product("rs,dr,ds->", read, eraser.kernel, eraser.kernel)
        lag = moments.mean - eraser.center
        shift = product("dr,er,e->d", eraser.kernel, eraser.test, lag)
    squares = jnp.diagonal(moments.xx) if moments.xx.ndim == 2 else moments.xx
    variance = jnp.sum(squares) * inverse_n
    return (jnp.maximum(moved, 0) + jnp.sum(shift**2)) / variance


def _mean_z(moments: Moments) -> jax.Array:
    return moments.concept_mean
