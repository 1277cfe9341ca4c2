"""Quadratic erasure: QLEACE, which reads the label when applied, and ALF-QLEACE, which does not."""

from typing import Annotated, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, UInt32

from erasejax import transport
from erasejax._core import inputs
from erasejax._core.programs import program
from erasejax._core.pytrees import Within, static
from erasejax._core.status import Status, check_single, flag, poison
from erasejax._core.types import DTypeLike, Given
from erasejax._core.views import Shown, number
from erasejax._linalg.products import product, safe_reciprocal
from erasejax.erasers._base import Eraser, F
from erasejax.erasers._leace import LEACE
from erasejax.projection import Projection, TracedProjection, erased_whole
from erasejax.rows import (
    Columned,
    Dataset,
    as_dataset_about,
    class_labels,
    describe_concept,
    move_point,
    row_by_row,
)
from erasejax.statistics import ClassMoments, concept_axes, concept_status

__all__ = ["ALFQLEACE", "QLEACE", "ClassTransport"]


@struct.dataclass
class ClassTransport(Shown, Columned):
    """The map r(x, j) = mu + T_j (x - mu_j) of the rows of class j. It is not idempotent.

    Attributes:
      maps: (k, d, d) T_j; the identity for a class without rows when fitting.
      class_means: (k, d) mu_j; mu for a class without rows.
      center: (d,) mu, the mean of all rows.
      rank: () int32, rank of the covariance of x with the labels.
      status: () uint32 bits, see `erasejax.Status`.
      rest: (k, d) what rounding took from the class means, or None for zeros.

    Example:
      >>> data = ej.datasets.GaussianClasses(rows=3, dims=2).sample(jax.random.key(0))
      >>> eraser = ej.QLEACE().fit(data)
      >>> eraser.maps.shape, eraser(data.x, data.z).shape
      ((2, 2, 2), (6, 2))
    """

    maps: Float[Array, "k d d"]
    class_means: Float[Array, "k d"]
    center: Float[Array, " d"]
    rank: Int[Array, ""]
    status: UInt32[Array, ""]
    rest: Float[Array, "k d"] | None = None

    needs_z = True

    @property
    def dims(self) -> int:
        """How many features the eraser was fitted on, d."""
        return self.class_means.shape[-1]

    def _facts(self, lane: Self) -> dict[str, object]:
        return {
            "directions removed": number(self.rank, self.status),
            "of features": lane.dims,
            "applied to": "rows and their labels",
        }

    def __call__(
        self, x: Given, z: Given, *, dtype: DTypeLike | None = None
    ) -> Float[Array, "n d"]:
        """Erases the concept from rows whose class is known.

        Args:
          x: (n, d) floats.
          z: (n,) integer class labels. A row with a label outside [0, k) becomes NaN.
          dtype: static; of the result, as for a `Projection`.

        Returns:
          (n, d) in that dtype; NaN where fitting failed.

        Raises:
          TypeError: x is not floating point, or z is not class labels.
          ValueError: shapes do not match the fit, or JAX does not keep the dtype.
        """
        check_single(self, "eraser(x, z)")
        k, d = self.class_means.shape[-2:]
        data, origin = as_dataset_about(x, class_labels(z), of=self, num_classes=k)
        if data.x.shape[1] != d:
            raise ValueError(f"x: this eraser was fitted on {d} features, got {data.x.shape}")
        return row_by_row(_apply, (self, origin), data, inputs.result_dtype(data.x, dtype))

    def _moved(self, origin: jax.Array) -> "ClassTransport":
        """Returns the same eraser for rows moved by an origin (2, d)."""
        means, rest = move_point(self.class_means, origin)
        return self.replace(
            class_means=means,
            center=move_point(self.center, origin)[0],
            rest=rest if self.rest is None else rest + self.rest,
        )


def _apply(
    shared: tuple[ClassTransport, jax.Array | None], data: Dataset, result_dtype: np.dtype
) -> jax.Array:
    eraser, origin = shared
    if origin is not None:
        eraser = eraser._moved(-origin)
    dtype = inputs.compute_dtype(data.x, eraser.maps)
    x = data.x.astype(dtype)
    rest = jnp.zeros_like(eraser.class_means) if eraser.rest is None else eraser.rest

    def one(j: jax.Array, erased: jax.Array) -> jax.Array:
        own = data.z == j
        # Rows of other classes are not multiplied: far from this mean they could overflow.
        centred = jnp.where(own[:, None], (x - eraser.class_means[j]) - rest[j], 0)
        moved = eraser.center + product("nd,ed->ne", centred, eraser.maps[j])
        return jnp.where(own[:, None], moved, erased)

    result = lax.fori_loop(0, eraser.maps.shape[0], one, jnp.full_like(x, jnp.nan))
    if origin is not None:
        result = origin[0] + (origin[1] + result)
    return result.astype(result_dtype)


class _ClassForm(Eraser[F]):
    """An eraser that needs the moments of the classes only. Subclasses write `_solve`."""

    def solve(self, moments: ClassMoments) -> F:
        """Returns the eraser of the rows that `moments` has seen.

        Args:
          moments: of any number of rows, streamed or merged.

        Returns:
          The fitted eraser, the same as `fit` on the rows, up to rounding.

        Under jit: pure.
        """
        return _solve(inputs.numbers(self, moments.classes.xz.dtype), moments)

    def _check(self, data: Dataset) -> None:
        if not data.is_classes:
            name, got = type(self).__name__, describe_concept(data.z)
            raise TypeError(f"z: {name} erases class labels, integers (n,); got {got}")

    def _fit(self, data: Dataset, key: jax.Array | None) -> F:
        return self._solve(ClassMoments.of(data))

    def _solve(self, moments: ClassMoments) -> F:
        raise NotImplementedError


@program
def _solve(method: _ClassForm[F], moments: ClassMoments) -> F:
    return method._solve(moments)


@struct.dataclass(kw_only=True)
class QLEACE(_ClassForm[ClassTransport]):
    """Makes the means and the covariances of all classes equal; the eraser reads z when applied.

    r(x, j) = mu + T_j (x - mu_j) with T_j S_j T_j^T = B, for the Wasserstein barycentre B of the
    class covariances S_j, weighted by class frequency, and T_j the optimal transport onto it: of
    all such maps those that move x least. mu is the mean of all rows, so E[x] stays.

    With Cholesky factors S_j = L_j L_j^T and B = L L^T, T_j = L Q L_j^{-1} for any orthogonal Q
    makes the covariances equal; the transport is the Q of a polar decomposition. So erasure is
    exact by construction, whatever the accuracy of B and Q: these decide only the damage.

    Least damage is meant in units of x, as `metrics.damage` measures it. Features of less than
    eps^(1/6) of the largest standard deviation (7% in float32) count as that large, since nothing
    about them could be told from rounding otherwise. A class with no more rows than features lacks
    dimensions that others have, and no affine map can make it equal to them: it is transported
    within the span that it has, and the warning UNEQUAL_RANK says so.

    The covariances that it makes equal divide by the weight of the class. Divided by that less one,
    as in scikit-learn's QDA until 1.7, those of two classes of n_0 and n_1 rows then differ by a
    share of 1/n_0 - 1/n_1: of 40 and 400 rows by 2%, which shows as posteriors of 0.898 to 0.914
    where the frequency is 0.909.

    It costs a few dozen eigendecompositions (d, d) a class.

    Example:
      >>> data = ej.datasets.GaussianClasses(rows=3, dims=2).sample(jax.random.key(0))
      >>> erased = ej.QLEACE().fit(data)(data.x, data.z)
      >>> zeros, ones = (np.cov(rows, rowvar=False) for rows in (erased[:3], erased[3:]))
      >>> np.allclose(zeros, ones, atol=1e-4)  # both classes have one covariance
      True

    References:
      Belrose et al. 2023, arXiv 2306.03819, for LEACE, and its library concept-erasure for QLEACE;
      Alvarez-Esteban et al. 2016, arXiv 1511.05355, for the barycentre.
    """

    name: ClassVar[str] = "qleace"

    def _solve(self, moments: ClassMoments) -> ClassTransport:
        overall, share = moments.overall, moments.share
        present = share > 0
        scale = moments.sd
        varies = scale > 0
        inverse = safe_reciprocal(scale, varies)
        unit = moments._unit_covariances(scale)
        maps, unequal = _equalising(unit, share, scale)
        d = scale.shape[0]
        eye = jnp.eye(d, dtype=unit.dtype)
        maps = jnp.where(jnp.outer(varies, varies), scale[:, None] * maps * inverse, eye)
        # Too close to each other for this dtype to move them by their differences: the centre.
        maps = jnp.where(overall.flat[:, None], 0, maps)

        axes, _ = concept_axes(overall)
        singular = jnp.linalg.svd(axes, compute_uv=False)
        eps = float(jnp.finfo(unit.dtype).eps)
        status = concept_status(moments, overall) | flag(unequal, Status.UNEQUAL_RANK)
        status = status | flag(~jnp.isfinite(maps).all(), Status.NONFINITE)
        return poison(
            ClassTransport(
                maps=jnp.where(present[:, None, None], maps, eye),
                class_means=jnp.where(present[:, None], moments.means, overall.mean),
                center=overall.mean,
                rank=jnp.sum(singular > 8 * eps * d**0.5).astype(jnp.int32),
                status=status,
                rest=jnp.where(present[:, None], moments.rest, 0),
            ),
            status,
        )


_ROUNDS = 2


def _equalising(unit: jax.Array, share: jax.Array, scale: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns T_j (k, d, d) with T_j S_j T_j^T the same for all classes, and whether they are not.

    Everything is in units of the features' pooled standard deviations.

    Args:
      unit: (k, d, d) S_j; zero rows for constant features.
      share: (k,) class frequencies.
      scale: (d,) what the units are, which decides what damage is.
    """
    eps = float(jnp.finfo(unit.dtype).eps)
    present = share > 0
    largest = jnp.max(scale)
    # The metric: how much a unit of each feature weighs in the damage.
    metric = jnp.maximum(scale * safe_reciprocal(largest, largest > 0), eps ** (1 / 6))
    both = jnp.outer(metric, metric)

    ridge = _ridge(unit, eps)
    raised = unit + ridge
    mean = transport.barycenter(unit * both, share, tolerance=eps**0.5)
    # Where the barycentre is lost to rounding the mean covariance takes its place.
    _, _, null = transport._roots(mean)
    pooled = product("k,kij->ij", share, unit)
    mean = (mean + product("ij,jk,kl->il", null, pooled * both, null)) / both
    mean = mean + _ridge(mean, eps)
    lower, lower_mean = jnp.linalg.cholesky(raised), jnp.linalg.cholesky(mean)
    crossed = product("kji,j,jl->kil", lower, metric**2, lower_mean)
    u, _, vt = jnp.linalg.svd(crossed)
    maps = _right_solve(product("ij,klj,kml->kim", lower_mean, vt, u), lower)

    ridge_pooled = _ridge(pooled, eps)
    lost = _lost(jnp.linalg.cholesky(pooled + ridge_pooled), ridge_pooled)
    short = _lost(lower, ridge) > lost + 0.5
    full = present & ~short
    weight = jnp.where(full, share, 0)
    weight = weight * safe_reciprocal(jnp.sum(weight), full.any())

    def equalise(_: jax.Array, state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        maps, _ = state
        reached = _congruent(maps, unit)
        target = product("k,kij->ij", weight, jnp.where(full[:, None, None], reached, 0))
        ridge = _ridge(target, eps)
        step = _right_solve(
            jnp.broadcast_to(jnp.linalg.cholesky(target + ridge), maps.shape),
            jnp.linalg.cholesky(jnp.where(full[:, None, None], reached, target) + ridge),
        )
        maps = jnp.where(full[:, None, None], product("kij,kjl->kil", step, maps), maps)
        return maps, target

    # What the ridge left unequal: each round squares it.
    maps, target = lax.fori_loop(0, _ROUNDS, equalise, (maps, mean))
    target = jnp.asarray(jnp.where(full.any(), target, mean))
    within = jax.vmap(transport._transport, in_axes=(0, None))(unit * both, target * both)
    fallback = (within[0] + within[2]) * (metric[None, :] / metric[:, None])
    maps = jnp.asarray(jnp.where(full[:, None, None], maps, fallback))
    gap = jnp.where(present[:, None, None], _congruent(maps, unit) - target, 0)
    residual = jnp.max(jnp.linalg.norm(gap, axis=(1, 2)))
    limit = eps**0.5 * jnp.linalg.norm(target)
    return maps, (present & short).any() | ~(residual <= limit)


def _ridge(matrix: jax.Array, eps: float) -> jax.Array:
    """Returns 64 eps of the diagonal as diagonal matrices; of 1 where it is 0."""
    diagonal = jnp.diagonal(matrix, axis1=-2, axis2=-1)
    diagonal = diagonal + (diagonal <= 0)
    return 64 * eps * diagonal[..., None] * jnp.eye(matrix.shape[-1], dtype=matrix.dtype)


def _lost(lower: jax.Array, ridge: jax.Array) -> jax.Array:
    """Returns how many dimensions are the ridge's: the trace of (S + R)^{-1} R."""
    root = jnp.sqrt(ridge)
    solved = lax.linalg.triangular_solve(lower, root, left_side=True, lower=True)
    return jnp.sum(solved * solved, axis=(-2, -1))


def _right_solve(rhs: jax.Array, lower: jax.Array) -> jax.Array:
    """Returns B L^{-1}, (k, d, d)."""
    return lax.linalg.triangular_solve(lower, rhs, left_side=False, lower=True)


def _congruent(maps: jax.Array, matrix: jax.Array) -> jax.Array:
    """Returns T_j S_j T_j^T, (k, d, d)."""
    moved = product("kij,kjl->kil", maps, matrix)
    result = product("kil,kml->kim", moved, maps)
    return (result + _transposed(result)) / 2


def _transposed(matrix: jax.Array) -> jax.Array:
    return jnp.swapaxes(matrix, -1, -2)


@struct.dataclass(kw_only=True)
class ALFQLEACE(_ClassForm[TracedProjection]):
    """Approximate label-free quadratic erasure: LEACE, then directions of unequal covariance.

    After `LEACE` the class covariances S_j still differ from their mean S. The direction v along
    which the erased rows differ most, the eigenvector of the largest |eigenvalue| of any S_j - S,
    is projected out orthogonally, in units of x, again and again, until the largest spectral norm
    of those differences has dropped by the share `target`. The result is one projection that reads
    no labels; it is idempotent, since every v lies in the range of the LEACE projection.

    Where `max_rank` directions do not suffice the warning NOT_CONVERGED says so. Differences that
    are rounding (8 eps sqrt(d) of S) are left.

    `trace` of the result is the largest spectral norm after i directions, i = 0 to max_rank, in
    squared units of x.

    Attributes:
      target: () in [0, 1], share of the norm to remove; 1 removes all differences.
      max_rank: static; at most so many directions beyond LEACE's; None for the smaller of d and 32.

    Example:
      >>> data = ej.datasets.GaussianClasses(rows=3, dims=2).sample(jax.random.key(0))
      >>> eraser = ej.ALFQLEACE(target=1.0, max_rank=1).fit(data)  # the means, then one direction
      >>> int(eraser.rank), eraser.trace.shape
      (2, (2,))

    References:
      Belrose et al. 2023, arXiv 2306.03819, for LEACE, and its library concept-erasure.
    """

    name: ClassVar[str] = "alf-qleace"

    target: Annotated[ArrayLike, Within(0, 1)] = 0.9
    max_rank: int | None = static(None)

    def _solve(self, moments: ClassMoments) -> TracedProjection:
        overall = moments.overall
        d = overall.xx.shape[0]
        rounds = min(d, 32) if self.max_rank is None else self.max_rank
        if not 0 <= rounds <= d:
            raise ValueError(f"max_rank: expected 0 to {d}, the number of features, got {rounds}")
        leace = LEACE()._solve(overall)
        eps = float(jnp.finfo(overall.xx.dtype).eps)
        # One common scale: squares neither overflow nor vanish.
        sd = overall.sd
        largest = jnp.where(jnp.max(sd) > 0, jnp.max(sd), 1)
        p, share = leace.matrix(), moments.share
        common = jnp.full_like(sd, largest)
        covariances = product("ij,kjl,ml->kim", p, moments._unit_covariances(common), p)
        mean = product("k,kij->ij", share, covariances)
        gaps = jnp.where((share > 0)[:, None, None], covariances - mean, 0)
        noise = 8 * eps * d**0.5 * jnp.linalg.norm(mean)

        def top(gaps: jax.Array) -> tuple[jax.Array, jax.Array]:
            values, vectors = jnp.linalg.eigh(gaps)
            ends = jnp.abs(values[:, jnp.array([0, -1])])
            j, end = jnp.unravel_index(jnp.argmax(ends), ends.shape)
            return ends[j, end], vectors[j][:, jnp.array([0, -1])[end]]

        norm, vector = top(gaps)
        limit = jnp.maximum((1 - jnp.clip(jnp.asarray(self.target, p.dtype), 0, 1)) * norm, noise)

        def take(i, state):
            gaps, basis, trace, norm, vector = state

            def off(_: jax.Array, vector: jax.Array) -> jax.Array:
                vector = product("ij,j->i", p, vector)
                vector = vector - product("ir,jr,j->i", basis, basis, vector)
                return vector / jnp.linalg.norm(vector)

            def without(_: jax.Array, gaps: jax.Array) -> jax.Array:
                read = product("i,kij->kj", vector, gaps)
                return _transposed(gaps - vector[:, None] * read[:, None, :])

            # The second time for what rounding left of the first.
            vector = lax.fori_loop(0, 2, off, vector)
            gaps = lax.fori_loop(0, 2, without, gaps)
            norm, vector_next = top(gaps)
            basis = basis.at[:, i].set(vector)
            return gaps, basis, trace.at[i + 1].set(norm), norm, vector_next

        def body(state, i):
            return lax.cond(state[3] > limit, lambda s: take(i, s), lambda s: s, state), None

        trace = jnp.full(rounds + 1, jnp.nan, p.dtype).at[0].set(norm)
        state = gaps, jnp.zeros((d, rounds), p.dtype), trace, norm, vector
        (_, basis, trace, norm, _), _ = lax.scan(body, state, jnp.arange(rounds))
        steps = jnp.sum((basis != 0).any(axis=0)).astype(jnp.int32)
        second = Projection(
            kernel=basis, test=basis, center=leace.center, rank=steps, status=jnp.uint32(0)
        )
        status = leace.status & jnp.where(steps > 0, ~jnp.uint32(Status.RANK_ZERO), ~jnp.uint32(0))
        status = status | concept_status(moments, overall)
        status = status | flag(norm > limit, Status.NOT_CONVERGED)
        both = leace.then(second)
        unit = jnp.where(sd > 0, sd, 1)[:, None]
        flat = erased_whole(both.kernel / unit, both.test * unit) & (sd > 0)
        flat = flat if both.flat is None else both.flat | flat
        both = both.replace(status=status, flat=flat)
        traced = TracedProjection.of(both, steps=steps, trace=trace * largest**2)
        return poison(traced, status)
