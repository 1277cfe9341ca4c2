"""Projection, the one form every linear eraser has."""

import functools
from typing import Self, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int, UInt32

from erasejax._core import inputs
from erasejax._core.programs import program
from erasejax._core.status import check_single, failed, poison
from erasejax._core.types import DTypeLike, Given
from erasejax._core.views import Shown, known, number
from erasejax._linalg.products import (
    column_norms,
    product,
    safe_reciprocal,
    small_pinv,
)
from erasejax.rows import (
    Columned,
    features_about,
    move_point,
    remember_columns,
    row_by_row,
)
from erasejax.statistics import Moments, moments_after, relative_spread, share_of_variance

__all__ = ["Projection"]

E = TypeVar("E", bound="Projection")


@struct.dataclass
class Projection(Shown, Columned):
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
      strength: () a, see `with_strength`; None for all of it, 1.

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
    strength: Float[Array, ""] | None = None

    needs_z = False

    @property
    def dims(self) -> int:
        """How many features the eraser was fitted on, d."""
        return self.kernel.shape[-2]

    @property
    def bias(self) -> Float[Array, " d"]:
        """(d,) r(0), so that r(x) = matrix() @ x + bias."""
        return self._share * self._read_back(self.center)

    def _facts(self, lane: Self) -> dict[str, object]:
        facts: dict[str, object] = {
            "directions removed": number(self.rank, self.status),
            "features": lane.dims,
        }
        flat = known(self.flat)
        if flat is not None and flat.any():
            facts["features set to the centre"] = number(flat.sum(-1), self.status)
        if self.strength is not None:
            facts["strength"] = number(self.strength, self.status)
        return facts

    def matrix(self) -> Float[Array, "d d"]:
        """Returns P = I - a K T^T, (d, d); of features set to the centre 1 - a is left, or 0."""
        eye = jnp.eye(self.kernel.shape[-2], dtype=self.kernel.dtype)
        p = eye - self._share * product("dr,er->de", self.kernel, self.test)
        return p if self.flat is None else jnp.where(self.flat[:, None], self._left * eye, p)

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
          ValueError: the numbers of features or their names differ, or one erases in part, see
            `with_strength`.
        """
        d = self.kernel.shape[-2]
        if not (self.strength is None and other.strength is None):
            raise ValueError(
                "then: expected erasers of full strength; apply one to what the other leaves"
            )
        if other.kernel.shape[-2] != d:
            raise ValueError(f"then: fitted on {d} and on {other.kernel.shape[-2]} features")
        if None not in (self.columns, other.columns) and self.columns != other.columns:
            raise ValueError("then: fitted on other columns, or on the same in another order")
        return remember_columns(_then(self, other), self.columns or other.columns)

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
        found = Projection(
            kernel=self.kernel[..., :rank],
            test=self.test[..., :rank],
            center=self.center,
            rank=jnp.where(failed(self.status), -1, jnp.minimum(self.rank, rank)),
            status=self.status,
            flat=self.flat if rank == columns else None,
            strength=self.strength,
        )
        return remember_columns(found, self.columns)

    def with_strength(self, strength: ArrayLike) -> Self:
        """Returns the eraser that takes a share a of what this one takes, x - a K T^T (x - b).

        It leaves 1 - a of every difference of class means, and of every covariance with the
        concept: a = 0 nothing happens and a = 1 erases, both exactly. Beyond 0 to 1 it is not
        erasing: a < 0 makes the concept stronger, a = 2 mirrors it.

        Args:
          strength: () a, in place of the strength that this eraser has.

        Raises:
          ValueError: it is more than one number; `vmap` sweeps several.

        Example:
          >>> data = ej.datasets.GaussianClasses(rows=3, dims=2).sample(jax.random.key(0))
          >>> eraser = ej.LEACE().fit(data)
          >>> strengths = jnp.linspace(0, 1, 5)
          >>> jax.vmap(lambda a: eraser.with_strength(a)(data.x))(strengths).shape
          (5, 6, 2)
        """
        a = inputs.as_array("strength", strength, self.kernel.dtype)
        if a.shape != ():
            raise ValueError(f"strength: expected one number, got shape {a.shape}; vmap over them")
        return remember_columns(self.replace(strength=a), self.columns)

    def towards(self, point: Given) -> Self:
        """Returns the eraser after which every row has the erased part of a point p.

        r(x) + K T^T (p - b) = x - K T^T (x - p): affine concept editing. All rows still look alike
        to the concept, and they look like p, such as the mean of a class. With a strength a each
        row goes the share a of the way.

        Args:
          point: (d,) p.

        Raises:
          TypeError: the point is not floating point.
          ValueError: it has not d features.

        References:
          Marshall et al. 2024, arXiv 2411.09003.

        Example:
          >>> data = ej.datasets.GaussianClasses(rows=3, dims=2).sample(jax.random.key(0))
          >>> point = data.x[data.z == 1].mean(axis=0)
          >>> rows = ej.MeanDifference().fit(data).towards(point)(data.x)
          >>> np.allclose(rows.mean(axis=0) @ (c := data.x[data.z == 0].mean(0) - point), point @ c)
          True
        """
        p = inputs.features("point", point, ndim=1)
        if p.shape != (self.dims,):
            raise ValueError(f"point: expected ({self.dims},) features, got shape {p.shape}")
        return remember_columns(_towards(self, p), self.columns)

    def __call__(
        self, x: Given, *, dtype: DTypeLike | None = None, keep_norm: bool = False
    ) -> Float[Array, "*batch d"]:
        """Erases the concept from x.

        A dtype of few digits brings a part of the concept back: rounding to bfloat16 moves an entry
        by up to 2^-9 of it, and a probe of more features than rows adds that up. Certify what was
        rounded, `metrics.linear_r2(eraser(x, dtype=jnp.bfloat16), z)`, or ask for float32.

        Args:
          x: (..., d) floats. float16 and bfloat16 are computed in float32.
          dtype: static; of the result, None for that of x. Larger numbers than it has become
            infinite.
          keep_norm: static; whether every row is scaled to the length it had. That gives up the
            guarantee: lengths differ from row to row, so the class means differ again, see (g) in
            docs/claims.md. Certify what it leaves.

        Returns:
          (..., d) in that dtype; NaN where fitting failed.

        Raises:
          TypeError: x is not floating point.
          ValueError: the last axis of x is not d, or JAX does not keep the dtype.
        """
        check_single(self, "eraser(x)")
        x, origin = features_about("x", x, ndim=None, of=self)
        d = self.kernel.shape[-2]
        if x.ndim < 1 or x.shape[-1] != d:
            raise ValueError(f"x: this eraser was fitted on {d} features, got shape {x.shape}")
        rows = x if x.ndim == 2 else x.reshape(-1, d)
        found = row_by_row(_apply, (self, origin), rows, inputs.result_dtype(x, dtype), keep_norm)
        return found if x.ndim == 2 else found.reshape(x.shape)

    def erased_moments(self, moments: Moments) -> Moments:
        """Returns the moments of r(x) from those of x: they are linear.

        With P = I - K T^T the covariances of x with the concept become P Sigma_xz, and S becomes
        P S P^T. Features that are set to the centre are constant. A strength a is the mixture
        (1 - a) I + a P.

        Args:
          moments: of d features, with their covariance.

        Under jit: pure.
        """
        unit = moments.unit
        kernel, test = self.kernel / unit[:, None], self.test * unit[:, None]
        half, xx, xz = moments.xx, moments.xx, moments.xz
        for reader in (test, self._second_test * unit[:, None]):  # twice, as in `_taken`
            half = half - product("dr,er,ef->df", kernel, reader, half)
            xz = xz - product("dr,er,ek->dk", kernel, reader, xz)
            read = product("dr,de->re", reader, xx)
            back = product("dr,re->de", kernel, read)
            both = product("dr,re,es,fs->df", kernel, read, reader, kernel)
            xx = xx - (back + back.T) + both
        if self.flat is not None:
            half = jnp.where(self.flat[:, None], 0, half)
            xx = jnp.where(self.flat[:, None] | self.flat, 0, xx)
            xz = jnp.where(self.flat[:, None], 0, xz)
        if self.strength is not None:
            a, left = self._share, self._left
            xx = left * (left * moments.xx + a * (half + half.T)) + a**2 * xx
            xz = left * moments.xz + a * xz
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
        return share_of_variance(self._share**2 * moved, self._shift(moments) * share, spread)

    @property
    def _share(self) -> jax.Array | float:
        """() a, the strength."""
        return 1.0 if self.strength is None else self.strength

    @property
    def _left(self) -> jax.Array | float:
        """() 1 - a."""
        return 1 - self._share

    def _shift(self, moments: Moments) -> jax.Array:
        """Returns how far erasing moves the mean back, (d,)."""
        return self._share * self._read_back(moments.mean - self.center)

    def _read_back(self, lag: jax.Array) -> jax.Array:
        """Returns the part (..., d) of vectors that erasing takes at full strength."""
        part = self._taken(lag)
        return part if self.flat is None else jnp.where(self.flat, lag, part)

    def _taken(self, lag: jax.Array) -> jax.Array:
        """Returns (..., d) K T^T of vectors, with what is left of them free of its rounding.

        Where little of a feature is left, that little carries the rounding of all that was taken,
        which follows the concept: of a hundredth of the deviation it is a hundred times eps. So
        what is left is read once more, and that reading, eps of what is left, is taken, too: twice
        is enough, as for Gram and Schmidt (Giraud et al. 2005, doi 10.1007/s00211-005-0615-4).
        """
        read = product("...d,dr->...r", lag, self.test)
        taken = product("...r,dr->...d", read, self.kernel)
        again = product("...d,dr->...r", lag - taken, self._second_test)
        taken = taken + product("...r,dr->...d", again, self.kernel)
        # What is left of a number may still be no more than its rounding: then nothing is. The
        # slope stays that of what is taken: that of a row at the centre is P as well.
        size = product("...r,dr->...d", jnp.abs(read), jnp.abs(self.kernel))
        whole = jax.lax.stop_gradient(lag) + (taken - jax.lax.stop_gradient(taken))
        return jnp.where(jnp.abs(lag - taken) < 8 * jnp.finfo(lag.dtype).eps * size, whole, taken)

    @property
    def _second_test(self) -> jax.Array:
        """(d, r) T as it reads what is left: the columns that read nothing of it, T_i^T K = e_i.

        They are all of one projection; of two, see `then`, those of the later one.
        """
        seen = product("dr,ds->rs", self.test, self.kernel)
        size = product("dr,ds->rs", jnp.abs(self.test), jnp.abs(self.kernel))
        d, r = self.kernel.shape
        off = jnp.abs(seen - jnp.eye(r, dtype=seen.dtype))
        settled = (off <= 8 * jnp.finfo(seen.dtype).eps * d**0.5 * size).all(axis=1)
        return jnp.where(settled, self.test, 0)

    def _moved(self, origin: jax.Array) -> "Projection":
        """Returns the same eraser for rows moved by an origin (2, d)."""
        return self.replace(center=move_point(self.center, origin)[0])


def _apply(
    shared: tuple[Projection, jax.Array | None],
    x: jax.Array,
    result_dtype: np.dtype,
    keep_norm: bool,
) -> jax.Array:
    projection, origin = shared
    if origin is not None:
        projection = projection._moved(-origin)
    dtype = inputs.compute_dtype(x, projection.kernel)
    wide = x.astype(dtype)
    centred = wide - projection.center
    erased = projection._share * projection._taken(centred)
    # Feature by feature: left alone, x to the last bit, but for numbers too small to compute with.
    touched = (projection.kernel != 0).any(axis=-1)
    if projection.flat is not None:
        erased = jnp.where(projection.flat, projection._share * centred, erased)
        touched |= projection.flat
    touched &= projection._share != 0
    wide = jnp.where(jnp.abs(wide) < jnp.finfo(dtype).tiny, 0, wide)
    result = jnp.where(touched, projection.center + (centred - erased), wide)
    if origin is not None:
        result, wide = (origin[0] + (origin[1] + rows) for rows in (result, wide))
    if keep_norm:
        length = column_norms(result.T)
        result *= (column_norms(wide.T) * safe_reciprocal(length, length > 0))[:, None]
    return result.astype(result_dtype)


@program
def _towards(eraser: E, point: jax.Array) -> E:
    # Only the erased part of the point counts: the rest would be rounded into every row.
    lag = point.astype(eraser.center.dtype) - eraser.center
    return eraser.replace(center=eraser.center + eraser._read_back(lag))


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
