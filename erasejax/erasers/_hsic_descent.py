"""Erasing what a Gaussian kernel sees: descent on HSIC over projections."""

from typing import Annotated, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct
from jax.typing import ArrayLike

from erasejax._core.pytrees import Within, static
from erasejax._core.status import Status, poison
from erasejax._linalg.products import product, safe_reciprocal
from erasejax.erasers._base import Eraser
from erasejax.erasers._leace import LEACE
from erasejax.projection import TracedProjection
from erasejax.rows import Dataset, codes
from erasejax.statistics import FourierMap, Moments, median_distance, standardized

__all__ = ["HSICDescent"]

_RATE = 0.05  # of Adam, on a unit sphere


@struct.dataclass(kw_only=True)
class HSICDescent(Eraser[TracedProjection]):
    """LEACE, and the directions without which a Gaussian kernel sees least of the concept.

    A projection of x and not of features of it, so that what it removes is removed for every
    kernel and every probe. Rows that no eraser in feature space guards are guarded where the
    concept lies in few directions, linearly or not; of an exclusive or, one of its two.

    Directions u = V^T w of the whitened rows w, after LEACE, are sought such that
    sum_j |Cov(phi(w less u), z_j)|^2, the Hilbert-Schmidt independence criterion (HSIC) of a linear
    kernel of z and D random cosines phi of a Gaussian kernel of the standardised rows, is least.
    The result is LEACE for the concept (z, u): of all affine maps with Cov(r(x), z) = 0 and
    Cov(r(x), u) = 0 the least damaging. Cov(r(x), z) = 0 is exact whatever was found.

    The criterion has local minima: of `starts` descents by Adam on the orthonormal V, with steps
    that fall to zero, the lowest end counts. A step costs n D (rank + 1) multiplications, whatever
    d is. `trace` of the result is the criterion before each of its steps, as a share of what LEACE
    alone leaves. It never is 0: independent rows have a criterion of about 1 / n.

    Attributes:
      bandwidth: () b > 0; the kernel is exp(-|x - y|^2 / (2 b^2 m^2)) with m the median distance of
        two standardised rows.
      rank: static; how many directions beyond LEACE's.
      features: static; D, how many cosines.
      starts: static; descents from random directions.
      steps: static; of each.

    Example:
      >>> data = ej.datasets.XorClasses(rows=100, dims=3).sample(jax.random.key(1))
      >>> eraser = ej.HSICDescent(features=32, starts=4).fit(data, key=jax.random.key(1))
      >>> int(eraser.rank), bool(eraser.trace[-1] < 0.1 * eraser.trace[0])
      (2, True)

    References:
      Gretton et al. 2005, Measuring statistical dependence with Hilbert-Schmidt norms, ALT;
      Fukumizu, Bach and Jordan 2009, Kernel dimension reduction in regression, arXiv 0908.1854.
    """

    name: ClassVar[str] = "hsic-descent"

    bandwidth: Annotated[ArrayLike, Within(0, ends=False)] = 0.5
    rank: int = static(1)
    features: int = static(256)
    starts: int = static(8)
    steps: int = static(100)

    needs_key = True
    passes = 256

    def _fit(self, data: Dataset, key: jax.Array | None) -> TracedProjection:
        d = data.x.shape[1]
        if not 1 <= self.rank <= d:
            raise ValueError(f"rank: expected 1 to {d}, the number of features, got {self.rank}")
        for name in ("features", "starts", "steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected a positive number, got {getattr(self, name)}")
        assert key is not None
        leace = LEACE()._fit(data, None)
        dtype = leace.kernel.dtype
        left = data.replace(x=leace(data.x, dtype=dtype))
        moments = Moments.of(left)
        rows = standardized(left, moments)
        whiten, back = _roots(moments.correlation)
        white = product("nd,de->ne", rows, whiten)
        found = self._descend(left, moments, white, back, key)
        concept, _ = codes(data, dtype)
        along = product("nd,dr->nr", white, found.basis)
        both = jnp.concatenate([concept, along], axis=1)
        final = LEACE()._fit(data.replace(z=both, num_classes=None), None)
        # That LEACE alone had nothing to remove is no warning: this has.
        status = final.status | (leace.status & ~jnp.uint32(Status.RANK_ZERO))
        traced = TracedProjection.of(
            final.replace(status=status), steps=jnp.int32(self.steps), trace=found.trace
        )
        return poison(traced, status)

    def _descend(
        self, data: Dataset, moments: Moments, white: jax.Array, back: jax.Array, key: jax.Array
    ) -> "_Found":
        """Returns the best of the descents.

        Args:
          data: rows after LEACE.
          moments: of these.
          white: (n, d) the rows, white.
          back: (d, d) from there to standard deviations.
          key: for the cosines and the starts.
        """
        import optax  # when it is needed: it takes a while

        pairs, drawn, starts = jax.random.split(key, 3)
        width = jnp.asarray(self.bandwidth, white.dtype) * median_distance(pairs, data, moments)
        kernel = FourierMap.draw(drawn, moments, width, self.features)
        # One product for all steps: a step turns the rows' phases, and reads no feature.
        turn = product("de,df->ef", back, kernel.frequencies * moments.sd[:, None])
        phases = product("nd,df->nf", white, turn) + kernel.phases
        concept = _concept(data, moments)

        def criterion(basis: jax.Array) -> jax.Array:
            along = product("nd,dr->nr", white, basis)
            erased = product("nr,dr,df->nf", along, basis, turn)
            seen = product("nk,nf->kf", concept, jnp.cos(phases - erased))
            return jnp.sum(seen * seen)

        alone = criterion(jnp.zeros((white.shape[1], self.rank), white.dtype))
        share = safe_reciprocal(alone, alone > 0)
        optimiser = optax.adam(optax.cosine_decay_schedule(_RATE, self.steps))

        def step(carry, _):
            basis, state = carry
            value, slope = jax.value_and_grad(criterion)(basis)
            slope = slope - product("dr,er,es->ds", basis, basis, slope)
            updates, state = optimiser.update(slope * share, state)
            basis = _orthonormal(basis + updates)
            return (basis, state), value * share

        def descent(key):
            shape = (white.shape[1], self.rank)
            basis = jax.random.normal(key, shape, white.dtype)
            basis = _orthonormal(basis * (back != 0).any(axis=0)[:, None])
            (basis, _), trace = jax.lax.scan(
                step, (basis, optimiser.init(basis)), None, length=self.steps
            )
            return _Found(basis, trace)

        found = jax.lax.map(descent, jax.random.split(starts, self.starts))
        best = jnp.argmin(found.trace[:, -1])
        return jax.tree.map(lambda leaf: leaf[best], found)


class _Found(NamedTuple):
    """What a descent found.

    Attributes:
      basis: (d, rank) orthonormal, of white rows.
      trace: (steps,) the criterion.
    """

    basis: jax.Array
    trace: jax.Array


def _concept(data: Dataset, moments: Moments) -> jax.Array:
    """Returns the weight of each row times its concept about the mean, in deviations, (n, k)."""
    inverse_n = safe_reciprocal(moments.total, moments.total > 0)
    z, _ = codes(data, moments.xz.dtype)
    sd = jnp.sqrt(jnp.diagonal(moments.zz) * inverse_n)
    centred = (z - moments.concept_mean) * safe_reciprocal(sd, sd > 0)
    weight = data.row_weights * inverse_n
    return jnp.where((weight != 0)[:, None], weight[:, None] * centred, 0)


def _roots(correlation: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns R^{-1/2} and R^{1/2}, as (d, d) with w = x R^{-1/2} and x = w (R^{1/2})^T."""
    values, vectors = jnp.linalg.eigh(correlation)
    eps = float(jnp.finfo(values.dtype).eps)
    kept = values > 64 * eps * values.shape[0] ** 0.5 * jnp.max(values)
    root = jnp.sqrt(jnp.asarray(jnp.where(kept, values, 0)))
    return vectors * safe_reciprocal(root, kept), vectors * root


def _orthonormal(basis: jax.Array) -> jax.Array:
    q, r = jnp.linalg.qr(basis)
    # Near what was given: a column that changed its sign would undo the optimiser's momentum.
    return jnp.where(jnp.diagonal(r) < 0, -q, q)
