"""What erasing does to the rows it was fitted on, and what rounding them brings back.

Erasing is linear, so the moments of erased rows follow from those of the rows, without a second
pass. Rounding is not: where the dtype that is written matters, the rounded rows are read.
"""

from collections.abc import Iterable
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from erasejax._core import inputs
from erasejax._core.programs import program
from erasejax._core.status import failed
from erasejax._core.types import FittedEraser
from erasejax.metrics._damage import damage
from erasejax.metrics._linear_r2 import linear_r2, vanishes
from erasejax.metrics._rounding import erase, is_rounded
from erasejax.rows import Dataset, check_columns
from erasejax.statistics import Moments, correlations, solve_moments, whitening

__all__ = ["Certificate", "certify", "certify_rows", "rounding_shows"]


class Certificate(NamedTuple):
    """What erasing cost, and what least squares can still read, on the fitting rows.

    Attributes:
      damage: the mean of |r(x) - x|^2 as a share of the variance of x; None if not computed.
      before: `metrics.linear_r2` of the concept from x, or None.
      after: the same from r(x) as it will be written, rounded to its dtype.
      unrounded: the same from r(x) in float32.

    Example:
      >>> data = ej.datasets.GaussianClasses(rows=3, dims=2).sample(jax.random.key(0))
      >>> found = ej.metrics.certify(ej.LEACE().fit(data), ej.Moments.of(data))
      >>> float(found.before) > 0.1, float(found.after), 0 < float(found.damage) < 1
      (True, 0.0, True)
    """

    damage: Float[Array, ""] | None
    before: Float[Array, ""] | None
    after: Float[Array, ""] | None
    unrounded: Float[Array, ""] | None


class Certifiable(FittedEraser, Protocol):
    """A fitted eraser that says from moments alone what it does."""

    def erased_moments(self, moments: Moments) -> Moments:
        """Returns the moments of erased rows."""
        ...

    def damage(self, moments: Moments) -> Float[Array, ""]:
        """Returns what `metrics.damage` does of the rows."""
        ...


def rounding_shows(moments: Moments, dtype: np.dtype) -> bool:
    """Returns whether rows rounded to a dtype may differ from what their moments say of them.

    In float16 and bfloat16 always. In float32 where a mean is so far out that the spacing of
    numbers there exceeds what `statistics.null_model` counts as rounding by arithmetic.

    Args:
      moments: of the rows.
      dtype: in which they will be written.
    """
    if is_rounded(dtype):
        return True
    return dtype.itemsize == 4 and bool(_is_far(moments))


@program
def _is_far(moments: Moments) -> jax.Array:
    least = 16 * max(moments.xz.shape[1], 2) * moments.sd
    return (least < jnp.abs(moments.mean)).any()


def certify(
    eraser: Certifiable,
    moments: Moments,
    *,
    dtype: np.dtype | None = None,
    blocks: Iterable[Dataset] = (),
) -> Certificate:
    """Returns the certificate of an eraser on the rows of `moments`.

    Without the covariance linear_r2 is not computed, nor the damage of erasers that do not read
    the concept.

    Args:
      eraser: a fitted eraser with `erased_moments` and `damage`.
      moments: of the rows, with or without a task.
      dtype: in which erased rows will be written; None for one that rounds nothing.
      blocks: the rows again, read only where `rounding_shows`.

    Raises:
      ValueError: a value is too large for the dtype.

    Example:
      >>> data = ej.datasets.GaussianClasses(rows=3, dims=2).sample(jax.random.key(0))
      >>> found = ej.metrics.certify(ej.Identity().fit(data), ej.Moments.of(data))
      >>> bool(found.before == found.after), float(found.damage)
      (True, 0.0)
    """
    if moments.xx.ndim == 1:
        cost = eraser.damage(_concept_only(moments)) if eraser.needs_z else None
        return Certificate(cost, None, None, None)
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
    return certified._replace(after=_rounded(rounded))


def certify_rows(eraser: FittedEraser, data: Dataset, *, dtype: np.dtype) -> Certificate:
    """Returns the certificate of an eraser on rows in memory.

    Args:
      eraser: a fitted eraser.
      data: the rows.
      dtype: in which erased rows will be written.

    Raises:
      TypeError: data are no `Dataset`.
      ValueError: a value is too large for the dtype.

    Example:
      >>> data = ej.datasets.GaussianClasses(rows=3, dims=2).sample(jax.random.key(0))
      >>> found = ej.metrics.certify_rows(ej.LEACE().fit(data), data, dtype=np.dtype("float16"))
      >>> float(found.unrounded), 0 <= float(found.after) < 0.1
      (0.0, True)
    """
    if not isinstance(data, Dataset):
        raise TypeError(
            f"data: expected a Dataset, got {type(data).__name__}; pass "
            "ej.Dataset(x=x, z=z, num_classes=2), or without num_classes where z is not classes"
        )
    check_columns("data.x", data.x, eraser)
    x = np.asarray(data.x)
    wide = np.dtype(inputs.compute_dtype(x))

    def r2(x: np.ndarray) -> jax.Array:
        # At least float32: what is rounded is the rows, not the reading of them.
        x = x.astype(np.promote_types(x.dtype, np.float32) if x.dtype.kind == "f" else np.float32)
        return linear_r2(data.replace(x=x, task=None))

    erased = erase(eraser, x, data.z, wide)
    after = unrounded = r2(erased)
    if dtype != wide:
        after = r2(erase(eraser, x, data.z, dtype))
    return Certificate(damage(x, erased), r2(x), after, unrounded)


@program
def _certify(eraser: Certifiable, moments: Moments) -> Certificate:
    moments = _concept_only(moments)
    erased = eraser.erased_moments(moments)
    # A feature that is erased whole has no spread left: its rounding is measured by what it had.
    null = vanishes(erased) | vanishes(erased.replace(xx=moments.xx))
    # One after the other, in one loop: side by side both would be compiled.
    both = jax.tree.map(lambda *pair: jnp.stack(pair), moments, erased)
    nulls = jnp.stack([vanishes(moments), null])
    before, after = jax.lax.map(lambda each: _linear_r2(*each), (both, nulls))
    return Certificate(eraser.damage(moments), before, after, after)


@program
def _rounded(moments: Moments) -> jax.Array:
    return _linear_r2(moments, vanishes(moments))


def _concept_only(moments: Moments) -> Moments:
    """Returns the same moments without the task."""
    k = moments.zz.shape[0] - moments.task
    return moments.replace(
        mean_z=moments.mean_z[:, :k], xz=moments.xz[:, :k], zz=moments.zz[:k, :k], task=0
    )


def _linear_r2(moments: Moments, null: jax.Array) -> jax.Array:
    """Returns what `metrics.linear_r2` does, from moments."""
    solved = solve_moments(moments, rule="none", shrinkage=0.0)
    whiten, _ = whitening(moments)
    rank = jnp.sum((whiten != 0).any(axis=0))
    r2 = jnp.where(null, 0, jnp.sum(correlations(solved) ** 2) / rank)
    return jnp.where(failed(solved.status), jnp.nan, r2)
