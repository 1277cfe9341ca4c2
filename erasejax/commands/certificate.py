"""What erasing does to the rows it was fitted on, and what rounding them brings back.

Erasing is linear, so the moments of erased rows follow from those of the rows, without a second
pass. Rounding is not: where the dtype that is written matters, the rounded rows are read.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from erasejax import canonical, checks, metrics
from erasejax.commands.erasing import erase, is_rounded
from erasejax.data import Dataset
from erasejax.erasers.oracle_leace import OracleProjection
from erasejax.linalg import product, safe_reciprocal, two_sum
from erasejax.metrics.guardedness import vanishes
from erasejax.moments import Moments
from erasejax.programs import program
from erasejax.projection import Projection

__all__ = ["Certificate", "certify", "certify_rows", "erased_moments", "rounding_shows"]


class Certificate(NamedTuple):
    """What erasing cost and what least squares can read, on the fitting rows.

    Attributes:
      damage: the mean of |r(x) - x|^2 as a share of the variance of x; None if not computed.
      before: `metrics.linear_r2` of the concept from x, or None.
      after: the same from r(x) as it will be written, rounded to its dtype.
      unrounded: the same from r(x) in float32.
    """

    damage: Any
    before: Any
    after: Any
    unrounded: Any


def rounding_shows(moments: Moments, dtype: np.dtype) -> bool:
    """Returns whether rows rounded to a dtype may differ from what their moments say of them.

    In float16 and bfloat16 always. In float32 where a mean is so far out that the spacing of
    numbers there exceeds what `canonical.null_model` counts as rounding by arithmetic.

    Args:
      moments: of the rows.
      dtype: in which they will be written.
    """
    if is_rounded(dtype):
        return True
    far = 16 * max(moments.xz.shape[1], 2) * moments.sd < jnp.abs(moments.mean)
    return dtype.itemsize == 4 and bool(far.any())


def certify(
    eraser: Any,
    moments: Moments,
    *,
    dtype: np.dtype | None = None,
    blocks: Iterable[Dataset] = (),
) -> Certificate:
    """Returns the certificate of an eraser on the rows of `moments`.

    Without the covariance linear_r2 is not computed, nor, but for `OracleProjection`, the damage.

    Args:
      eraser: `Projection` or `OracleProjection`.
      moments: of the rows, with or without a task.
      dtype: in which erased rows will be written; None for one that rounds nothing.
      blocks: the rows again, read only where `rounding_shows`.

    Raises:
      ValueError: a value is too large for the dtype.
    """
    oracle = isinstance(eraser, OracleProjection)
    if moments.xx.ndim == 1:
        damage = _damage(eraser, _concept_only(moments)) if oracle else None
        return Certificate(damage, None, None, None)
    certified = _certify(eraser, moments)
    if dtype is None or not rounding_shows(moments, dtype):
        return certified
    rounded = Moments.init(
        moments.mean.shape[0],
        moments.zz.shape[0] - moments.task,
        dtype=moments.mean.dtype,
        one_hot=moments.one_hot,
    )
    for block in blocks:
        erased = erase(eraser, np.asarray(block.x), block.z, dtype)
        rounded = rounded.update(erased, block.z, block.weights)
    return certified._replace(after=_linear_r2(rounded, vanishes(rounded)))


def certify_rows(eraser: Any, data: Dataset, *, dtype: np.dtype) -> Certificate:
    """Returns the certificate of an eraser on rows in memory.

    Args:
      eraser: a fitted eraser.
      data: the rows.
      dtype: in which erased rows will be written.

    Raises:
      ValueError: a value is too large for the dtype.
    """
    x = np.asarray(data.x)
    wide = np.dtype(checks.compute_dtype(x))

    def r2(x: np.ndarray) -> jax.Array:
        # At least float32: what is rounded is the rows, not the reading of them.
        x = x.astype(np.promote_types(x.dtype, np.float32) if x.dtype.kind == "f" else np.float32)
        return metrics.linear_r2(data.replace(x=x, task=None))  # pyright: ignore[reportAttributeAccessIssue]

    erased = erase(eraser, x, data.z, wide)
    after = unrounded = r2(erased)
    if dtype != wide:
        after = r2(erase(eraser, x, data.z, dtype))
    return Certificate(metrics.damage(x, erased), r2(x), after, unrounded)


def erased_moments(eraser: Any, moments: Moments) -> Moments:
    """Returns the moments of r(x) from those of x: they are linear.

    With P = I - K T^T the covariances of x with the concept become P Sigma_xz, and S becomes
    P S P^T; `OracleProjection` subtracts B^T z. Features that are set to the centre are constant.

    Args:
      eraser: `Projection` or `OracleProjection`.
      moments: with the covariance, without a task.

    Under jit: pure.
    """
    unit, flat = moments.unit, jnp.zeros(moments.mean.shape, bool)
    if isinstance(eraser, OracleProjection):
        slopes = eraser.slopes / unit
        back = product("kd,ke->de", slopes, moments.xz.T)
        both = product("kd,kj,je->de", slopes, moments.zz, slopes)
        xz = moments.xz - product("kd,kj->dj", slopes, moments.zz)
        shift = product("k,kd->d", _mean_z(moments) - eraser.mean_z, eraser.slopes)
    else:
        flat = flat if eraser.flat is None else eraser.flat
        kernel, test = eraser.kernel / unit[:, None], eraser.test * unit[:, None]
        read = product("dr,de->re", test, moments.xx)
        back = product("dr,re->de", kernel, read)
        both = product("dr,re,es,fs->df", kernel, read, test, kernel)
        xz = moments.xz - product("dr,er,ek->dk", kernel, test, moments.xz)
        shift = _shift(eraser, moments)
    high, low = two_sum(moments.mean_x[0], -shift)
    return moments.replace(  # pyright: ignore[reportAttributeAccessIssue]
        mean_x=jnp.stack(two_sum(high, low + moments.mean_x[1])),
        xx=jnp.where(flat[:, None] | flat, 0, moments.xx - (back + back.T) + both),
        xz=jnp.where(flat[:, None], 0, xz),
        status=moments.status | eraser.status,
    )


@program
def _certify(eraser: Any, moments: Moments) -> Certificate:
    moments = _concept_only(moments)
    erased = erased_moments(eraser, moments)
    # A feature that is erased whole has no spread left: its rounding is measured by what it had.
    null = vanishes(erased) | vanishes(erased.replace(xx=moments.xx))  # pyright: ignore[reportAttributeAccessIssue]
    after = _linear_r2(erased, null)
    before = _linear_r2(moments, vanishes(moments))
    return Certificate(_damage(eraser, moments), before, after, after)


def _concept_only(moments: Moments) -> Moments:
    """Returns the same moments without the task."""
    k = moments.zz.shape[0] - moments.task
    return moments.replace(  # pyright: ignore[reportAttributeAccessIssue]
        mean_z=moments.mean_z[:, :k], xz=moments.xz[:, :k], zz=moments.zz[:k, :k], task=0
    )


@program
def _linear_r2(moments: Moments, null: jax.Array) -> jax.Array:
    """Returns what `metrics.linear_r2` does, from moments."""
    solved = canonical.solve_moments(moments, rule="none", shrinkage=0.0)
    whiten, _ = canonical.whitening(moments)
    rank = jnp.sum((whiten != 0).any(axis=0))
    r2 = jnp.where(null, 0, jnp.sum(canonical.correlations(solved) ** 2) / rank)
    return jnp.where(checks.failed(solved.status), jnp.nan, r2)


def _damage(eraser: Projection | OracleProjection, moments: Moments) -> jax.Array:
    """Returns what `metrics.damage` does, from moments."""
    # In units of the largest deviation: squares neither overflow nor vanish.
    spread = moments.spread
    largest = jnp.max(spread)
    share = safe_reciprocal(largest, largest > 0)
    if isinstance(eraser, OracleProjection):
        inverse_n = safe_reciprocal(moments.total, moments.total > 0)
        slopes = eraser.slopes * share
        moved = product("kd,kj,jd->d", slopes, moments.zz * inverse_n, slopes)
        shift = product("k,kd->d", _mean_z(moments) - eraser.mean_z, slopes)
    else:
        sd = moments.sd[:, None]
        test, kernel = eraser.test * sd, eraser.kernel * share
        read = product("dr,de,es->rs", test, moments.correlation, test)
        moved = product("rs,dr,ds->d", read, kernel, kernel)
        shift = _shift(eraser, moments) * share
        if eraser.flat is not None:
            moved = jnp.where(eraser.flat, (spread * share) ** 2, moved)
    variance = jnp.sum((spread * share) ** 2)
    return (jnp.sum(jnp.maximum(moved, 0)) + jnp.sum(shift**2)) / variance


def _shift(eraser: Projection, moments: Moments) -> jax.Array:
    """Returns how far erasing moves the mean back, (d,)."""
    lag = moments.mean - eraser.center
    shift = product("dr,er,e->d", eraser.kernel, eraser.test, lag)
    return shift if eraser.flat is None else jnp.where(eraser.flat, lag, shift)


def _mean_z(moments: Moments) -> jax.Array:
    return moments.concept_mean
