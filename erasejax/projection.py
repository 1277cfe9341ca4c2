"""Projection, the one form every linear eraser has, and `oblique`, the one way to make it.

r(x) = x - K T^T (x - b) with T^T K = I. The columns of the kernel K span what is destroyed, the
test directions T read it, b is the point that stays where it is. Whatever T is, r destroys the span
of K exactly: an inexact T costs damage, never guardedness.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, Int, UInt32

from erasejax._core import inputs
from erasejax._core.programs import program
from erasejax._core.pytrees import Tree
from erasejax._core.status import Status, check_single, failed, flag, poison
from erasejax._core.types import DTypeLike, Given
from erasejax._linalg.products import (
    column_norms,
    product,
    right_basis,
    safe_reciprocal,
    small_pinv,
    two_sum,
)
from erasejax.rows import features_about, move_point, row_by_row
from erasejax.statistics import Moments

__all__ = [
    "Projection",
    "TracedProjection",
    "erased_whole",
    "moments_after",
    "oblique",
    "relative_spread",
    "share_of_variance",
]


@struct.dataclass
class Projection(Tree):
    """The affine map r(x) = x - K T^T (x - b).

    Attributes:
      kernel: (d, r) K, unit columns; columns beyond `rank` are zero.
      test: (d, r) T, with T^T K = I on the first `rank` columns.
      center: (d,) b: the mean of the fitting rows, or zero.
      rank: () int32, the number of directions removed.
      status: () uint32 bits, see `erasejax.Status`.
      flat: (d,) bool, features that are set to the centre: those of which no more than rounding
        would be left, and those whose values are too close to each other, or to zero, for this
        dtype to take anything out of them. None for none.

    Example:
      >>> data = ej.datasets.GaussianClasses(rows=3, dims=2).sample(jax.random.key(0))
      >>> eraser = ej.MeanDifference().fit(data)
      >>> eraser.kernel.shape, int(eraser.rank)
      ((2, 1), 1)
      >>> np.allclose(eraser(eraser(data.x)), eraser(data.x), atol=1e-5)  # twice is once
      True
    """

    kernel: Float[Array, "d r"]
    test: Float[Array, "d r"]
    center: Float[Array, " d"]
    rank: Int[Array, ""]
    status: UInt32[Array, ""]
    flat: Bool[Array, " d"] | None = None

    needs_z = False

    @property
    def dims(self) -> int:
        """How many features the eraser was fitted on, d."""
        return self.kernel.shape[-2]

    @property
    def bias(self) -> Float[Array, " d"]:
        """(d,) r(0), so that r(x) = matrix() @ x + bias."""
        bias = product("dr,er,e->d", self.kernel, self.test, self.center)
        return bias if self.flat is None else jnp.where(self.flat, self.center, bias)

    def matrix(self) -> Float[Array, "d d"]:
        """Returns P = I - K T^T, (d, d); rows of features that are set to the centre are zero."""
        eye = jnp.eye(self.kernel.shape[-2], dtype=self.kernel.dtype)
        p = eye - product("dr,er->de", self.kernel, self.test)
        return p if self.flat is None else jnp.where(self.flat[:, None], 0, p)

    def affine(self) -> tuple[Float[Array, "d d"], Float[Array, " d"]]:
        """Returns (P, bias), (d, d) and (d,), with r(x) = P x + bias: the eraser in full."""
        return self.matrix(), self.bias

    def then(self, other: "Projection") -> "Projection":
        """Returns the eraser that applies this one first and `other` to its result.

        It destroys what either destroys. It is a projection itself only where the two commute; to
        erase two concepts by one projection, fit it to both at once, as columns of z.

        Args:
          other: fitted on rows of as many features, usually on those that this one has erased.

        Returns:
          `Projection` of rank `self.rank + other.rank`, which need not be idempotent.

        Raises:
          ValueError: the numbers of features differ.
        """
        d = self.kernel.shape[-2]
        if other.kernel.shape[-2] != d:
            raise ValueError(f"then: fitted on {d} and on {other.kernel.shape[-2]} features")
        return _then(self, other)

    def restrict(self, rank: int) -> "Projection":
        """Returns the eraser of the `rank` strongest directions of the kernel only.

        Directions are ordered by how strongly the concept shows in them (singular values in units
        of the features' standard deviations).

        Args:
          rank: static, from 0 to the number of columns of the kernel.

        Returns:
          `Projection`, an idempotent one.

        Raises:
          ValueError: rank is out of range.
        """
        columns = self.kernel.shape[-1]
        if not 0 <= rank <= columns:
            raise ValueError(f"rank: expected 0 to {columns}, got {rank}")
        return Projection(
            kernel=self.kernel[..., :rank],
            test=self.test[..., :rank],
            center=self.center,
            rank=jnp.where(failed(self.status), -1, jnp.minimum(self.rank, rank)),
            status=self.status,
            flat=self.flat if rank == columns else None,
        )

    def __call__(self, x: Given, *, dtype: DTypeLike | None = None) -> Float[Array, "*batch d"]:
        """Erases the concept from x.

        A dtype of few digits brings a part of the concept back: rounding to bfloat16 moves an entry
        by up to 2^-9 of it, and a probe of more features than rows adds that up. Certify what was
        rounded, `metrics.linear_r2(eraser(x, dtype=jnp.bfloat16), z)`, or ask for float32.

        Args:
          x: (..., d) floats. float16 and bfloat16 are computed in float32.
          dtype: static; of the result, None for that of x. Larger numbers than it has become
            infinite.

        Returns:
          (..., d) in that dtype; NaN where fitting failed.

        Raises:
          TypeError: x is not floating point.
          ValueError: the last axis of x is not d, or JAX does not keep the dtype.
        """
        check_single(self, "eraser(x)")
        x, origin = features_about("x", x, ndim=None)
        d = self.kernel.shape[-2]
        if x.ndim < 1 or x.shape[-1] != d:
            raise ValueError(f"x: this eraser was fitted on {d} features, got shape {x.shape}")
        rows = x if x.ndim == 2 else x.reshape(-1, d)
        found = row_by_row(_apply, (self, origin), rows, inputs.result_dtype(x, dtype))
        return found if x.ndim == 2 else found.reshape(x.shape)

    def erased_moments(self, moments: Moments) -> Moments:
        """Returns the moments of r(x) from those of x: they are linear.

        With P = I - K T^T the covariances of x with the concept become P Sigma_xz, and S becomes
        P S P^T. Features that are set to the centre are constant.

        Args:
          moments: of d features, with their covariance.

        Under jit: pure.
        """
        unit = moments.unit
        kernel, test = self.kernel / unit[:, None], self.test * unit[:, None]
        read = product("dr,de->re", test, moments.xx)
        back = product("dr,re->de", kernel, read)
        both = product("dr,re,es,fs->df", kernel, read, test, kernel)
        xx = moments.xx - (back + back.T) + both
        xz = moments.xz - product("dr,er,ek->dk", kernel, test, moments.xz)
        if self.flat is not None:
            xx = jnp.where(self.flat[:, None] | self.flat, 0, xx)
            xz = jnp.where(self.flat[:, None], 0, xz)
        return moments_after(moments, xx, xz, shift=self._shift(moments), status=self.status)

    def damage(self, moments: Moments) -> Float[Array, ""]:
        """Returns what `metrics.damage` does of the rows of `moments` and of what is left of them.

        Args:
          moments: of d features, with their covariance.

        Under jit: pure.
        """
        spread, share = relative_spread(moments)
        sd = moments.sd[:, None]
        test, kernel = self.test * sd, self.kernel * share
        read = product("dr,de,es->rs", test, moments.correlation, test)
        moved = product("rs,dr,ds->d", read, kernel, kernel)
        if self.flat is not None:
            moved = jnp.where(self.flat, spread**2, moved)
        return share_of_variance(moved, self._shift(moments) * share, spread)

    def _shift(self, moments: Moments) -> jax.Array:
        """Returns how far erasing moves the mean back, (d,)."""
        lag = moments.mean - self.center
        shift = product("dr,er,e->d", self.kernel, self.test, lag)
        return shift if self.flat is None else jnp.where(self.flat, lag, shift)

    def _moved(self, origin: jax.Array) -> "Projection":
        """Returns the same eraser for rows moved by an origin (2, d)."""
        return self.replace(center=move_point(self.center, origin)[0])


@struct.dataclass
class TracedProjection(Projection):
    """A projection found step by step, with an account of the steps.

    `then` and `restrict` return a plain `Projection`: the account is of the whole search.

    Attributes:
      steps: () int32, how many directions or rounds were taken.
      trace: (m,) a number a step, whose meaning the eraser says; NaN beyond the last.

    Example:
      >>> data = ej.datasets.GaussianClasses(rows=3, dims=2).sample(jax.random.key(0))
      >>> eraser = ej.INLP(rounds=2, probe=ej.probes.LeastSquares()).fit(data)
      >>> isinstance(eraser, ej.TracedProjection), eraser.trace.shape
      (True, (2,))
    """

    steps: Int[Array, ""] = struct.field(kw_only=True)
    trace: Float[Array, " m"] = struct.field(kw_only=True)

    @classmethod
    def of(
        cls, found: Projection, *, steps: Int[Array, ""], trace: Float[Array, " m"]
    ) -> "TracedProjection":
        """Returns a projection with the account of how it was found.

        Args:
          found: the projection.
          steps: see the attribute.
          trace: see the attribute.
        """
        return cls(
            kernel=found.kernel,
            test=found.test,
            center=found.center,
            rank=found.rank,
            status=found.status,
            flat=found.flat,
            steps=steps,
            trace=trace,
        )


def _apply(
    shared: tuple[Projection, jax.Array | None], x: jax.Array, result_dtype: np.dtype
) -> jax.Array:
    projection, origin = shared
    if origin is not None:
        projection = projection._moved(-origin)
    dtype = inputs.compute_dtype(x, projection.kernel)
    wide = x.astype(dtype)
    centred = wide - projection.center
    read = product("...d,dr->...r", centred, projection.test)
    erased = product("...r,dr->...d", read, projection.kernel)
    # Feature by feature: left alone, x to the last bit, but for numbers too small to compute with.
    touched = (projection.kernel != 0).any(axis=-1)
    wide = jnp.where(jnp.abs(wide) < jnp.finfo(dtype).tiny, 0, wide)
    result = jnp.where(touched, projection.center + (centred - erased), wide)
    if projection.flat is not None:
        result = jnp.where(projection.flat, projection.center, result)
    if origin is not None:
        result = origin[0] + (origin[1] + result)
    return result.astype(result_dtype)


@program
def _then(first: Projection, second: Projection) -> Projection:
    seen = product("dr,ds->rs", second.test, first.kernel)
    kernel = first.kernel - product("dr,rs->ds", second.kernel, seen)
    test = jnp.concatenate([first.test, second.test], axis=1)
    # One centre for both: where each test reads what it would read at its own.
    lag = product("dr,d->r", second.test, second.center - first.center)
    lag = jnp.concatenate([jnp.zeros(first.test.shape[1], lag.dtype), lag])
    length = column_norms(test)
    unit = test * safe_reciprocal(length, length > 0)
    gram = small_pinv(product("dr,ds->rs", unit, unit), 64 * float(jnp.finfo(test.dtype).eps))
    step = product("dr,rs,s->d", unit, gram, lag * safe_reciprocal(length, length > 0))
    status = first.status | second.status
    flats = [one.flat for one in (first, second) if one.flat is not None]
    result = Projection(
        kernel=jnp.concatenate([kernel, second.kernel], axis=1),
        test=test,
        center=first.center + step,
        rank=first.rank + second.rank,
        status=status,
        flat=functools.reduce(jnp.logical_or, flats) if flats else None,
    )
    return poison(result, status)


def moments_after(
    moments: Moments,
    xx: Float[Array, "d d"],
    xz: Float[Array, "d k"],
    *,
    shift: Float[Array, " d"],
    status: UInt32[Array, ""],
) -> Moments:
    """Returns the moments of erased rows.

    Args:
      moments: before.
      xx: (d, d) of the erased rows, in units of `moments`.
      xz: (d, k) of the erased rows.
      shift: (d,) how far the mean has moved back.
      status: () of the eraser.
    """
    high, low = two_sum(moments.mean_x[0], -shift)
    return moments.replace(
        mean_x=jnp.stack(two_sum(high, low + moments.mean_x[1])),
        xx=xx,
        xz=xz,
        status=moments.status | status,
    )


def relative_spread(moments: Moments) -> tuple[Float[Array, " d"], Float[Array, ""]]:
    """Returns deviations (d,) in units of the largest, and 1 / the largest, ().

    Squares of what is in these units neither overflow nor vanish.
    """
    spread = moments.spread
    largest = jnp.max(spread)
    share = safe_reciprocal(largest, largest > 0)
    return spread * share, share


def share_of_variance(
    moved: Float[Array, " d"], shift: Float[Array, " d"], spread: Float[Array, " d"]
) -> Float[Array, ""]:
    """Returns the mean square of moves as a share of the variance, ().

    Args:
      moved: (d,) mean squares of the moves of each feature about their mean.
      shift: (d,) their mean.
      spread: (d,) deviations, in the same units.
    """
    return (jnp.sum(jnp.maximum(moved, 0)) + jnp.sum(shift**2)) / jnp.sum(spread**2)


def erased_whole(kernel: Float[Array, "d r"], test: Float[Array, "d r"]) -> Bool[Array, " d"]:
    """Returns the features (d,) of which I - K T^T leaves no more than rounding, bool.

    Those whose row of it has a square of at most 64 eps, which is what the sum for it is rounded
    to. What is left of them, divided by its deviation, would be rounding that follows the concept.

    Args:
      kernel: (d, r) K of features in standard deviations.
      test: (d, r) T of the same.
    """
    both = product("dr,rs,ds->d", kernel, product("dr,ds->rs", test, test), kernel)
    rest = 1 - 2 * jnp.sum(kernel * test, axis=1) + both
    return rest <= 64 * jnp.finfo(kernel.dtype).eps


def oblique(
    kernel: Float[Array, "d m"],
    test: Float[Array, "d m"],
    *,
    scale: Float[Array, " d"],
    center: Float[Array, " d"],
    status: UInt32[Array, ""],
    flat: Bool[Array, " d"] | None = None,
) -> Projection:
    r"""Returns the projection that destroys span(kernel), read through span(test).

    Kernel and test act on features divided by `scale`, so nothing here has units: with D the scales
    and P' = I - C (A^T C)^+ A^T for the kernel C and the test directions A, P = D P' D^-1. With the
    axes of `statistics.concept_axes` and the features' standard deviations the entries of C are
    correlations: a direction of C with a singular value of at most 8 eps sqrt(d) is rounding noise
    and is not removed. The columns of C and A are combined, never the rows, so features of any
    scales are erased alike.

    Where A does not see a direction u of C (the cosine between them is at most sqrt(eps)), u itself
    reads it: erasure comes first, at the price of damage.

    A feature of which nothing would be left but rounding is set to the centre, see `erased_whole`.

    Args:
      kernel: (d, m) C.
      test: (d, m) A, column i paired with column i of C.
      scale: (d,) positive scales of the features; 0 where a feature is constant.
      center: (d,) b.
      status: () status bits so far. An error makes the projection NaN.
      flat: (d,) bool, features to set to the centre in any case, or None.

    Returns:
      `Projection` with r = m columns, rank decided by the data.

    References:
      Belrose et al. 2023, arXiv 2306.03819, theorem 4.3, for test directions S^+ C.
    """
    d, m = kernel.shape
    info = jnp.finfo(kernel.dtype)
    eps = float(info.eps)
    varies = scale > 0

    kernel = jnp.where(varies[:, None], kernel, 0)
    transform, kept = right_basis(kernel, 8 * eps * d**0.5)
    unit = product("dm,mr->dr", kernel, transform)
    peak = jnp.max(jnp.abs(test))
    seen = product("dm,mr->dr", test * safe_reciprocal(peak, peak > 0), transform)
    length = column_norms(seen)
    seen = seen * safe_reciprocal(length, length > 0)
    overlap = product("dm,dr->mr", unit, seen)
    inverse = small_pinv(overlap, eps**0.5)
    reader = product("dr,rm->dm", seen, inverse)
    unseen = jnp.eye(m, dtype=unit.dtype) - product("mr,rn->mn", overlap, inverse)
    reader = reader + product("dr,rm->dm", unit, unseen)
    # The kernel is corrected by T^T U as computed, so that what the reader reads is destroyed.
    identity = jnp.where(
        jnp.outer(kept, kept),
        product("dr,dm->rm", reader, unit),
        jnp.eye(m, dtype=unit.dtype),
    )
    unit = product("dr,rm->dm", unit, jnp.linalg.inv(identity) if m > 1 else 1 / identity)
    unit, reader = jnp.where(kept, unit, 0), jnp.where(kept, reader, 0)
    whole = varies & erased_whole(unit, reader)

    # Unit columns, unless features differ so much that the smallest would vanish from them: then
    # tests have what digits they can spare. What is smaller still is set to the centre.
    largest = jnp.max(scale)
    relative = scale * safe_reciprocal(largest, largest > 0)
    spare = float(info.tiny) / eps
    wide = jnp.min(jnp.where(varies, relative, 1)) < spare / eps
    base = jnp.where(wide, scale * safe_reciprocal(largest * spare, largest > 0), relative)
    columns = unit * base[:, None]
    length = jnp.where(wide, 1, column_norms(columns))
    whole |= varies & (base < spare)
    rank = jnp.sum(kept).astype(jnp.int32)
    status = status | flag(rank == 0, Status.RANK_ZERO)
    return poison(
        Projection(
            kernel=columns * safe_reciprocal(length, kept),
            test=reader * length * safe_reciprocal(base, varies)[:, None],
            center=center,
            rank=rank,
            status=status,
            flat=whole if flat is None else whole | flat,
        ),
        status,
    )
