"""The quadratic probe: Gaussian classes, each with a covariance of its own."""

from typing import Annotated, ClassVar

import jax
import jax.numpy as jnp
from flax import struct
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, UInt32

from erasejax._core import inputs
from erasejax._core.pytrees import Within
from erasejax._core.status import Status, flag, poison
from erasejax._linalg.products import product, safe_reciprocal
from erasejax.probes._base import Likelihood, Probe
from erasejax.rows import Dataset, move_point
from erasejax.statistics import ClassMoments, concept_status, null_model_of_classes

__all__ = ["QDA", "QuadraticClassifier"]


@struct.dataclass
class QuadraticClassifier(Likelihood):
    """A fitted `QDA`: its scores are offset_j - |W_j (x - mu_j)|^2 / 2, Gaussian log-densities.

    mu_j is `means` + `rest`: of two numbers, since far from zero one is rounded by a deviation.

    Attributes:
      whiten: (k, d, d) W_j with W_j S_j W_j^T = I, but for dimensions that are not read; zero in
        the null model.
      means: (k, d) class means.
      offset: (k,) log p_j + log det W_j, but for a constant that all classes share.
      status: () uint32 bits, see `erasejax.Status`.
      rest: (k, d) what rounding took from the means, or None for zeros.

    Example:
      >>> dataset = ej.datasets.GaussianClasses(separation=9.0, rows=3, dims=2)
      >>> data = dataset.sample(jax.random.key(0))
      >>> probe = ej.probes.QDA(l2=0.1).fit(data)
      >>> probe.whiten.shape, probe.means.shape, probe.offset.shape
      ((2, 2, 2), (2, 2), (2,))
    """

    whiten: Float[Array, "k d d"]
    means: Float[Array, "k d"]
    offset: Float[Array, " k"]
    status: UInt32[Array, ""]
    rest: Float[Array, "k d"] | None = None

    @property
    def num_classes(self) -> int:
        """The number of classes, k."""
        return self.offset.shape[-1]

    @property
    def dims(self) -> int:
        """How many features the probe was fitted on, d."""
        return self.means.shape[1]

    def _moved(self, origin: jax.Array) -> "QuadraticClassifier":
        means, rest = move_point(self.means, origin)
        rest = rest if self.rest is None else rest + self.rest
        return self.replace(means=means, rest=rest)

    def _scores(self, x: jax.Array) -> jax.Array:
        x = x.astype(inputs.compute_dtype(x, self.whiten))
        rest = jnp.zeros_like(self.means) if self.rest is None else self.rest

        def one(member: tuple[jax.Array, ...]) -> jax.Array:
            whiten, mean, rest, offset = member
            unit = product("nd,ed->ne", (x - mean) - rest, whiten)
            return offset - jnp.sum(unit * unit, axis=1) / 2

        scores = lax.map(one, (self.whiten, self.means, rest, self.offset)).T
        return scores[:, 1] - scores[:, 0] if scores.shape[1] == 2 else scores


@struct.dataclass(kw_only=True)
class QDA(Probe[QuadraticClassifier]):
    """Quadratic discriminant analysis: Gaussian classes, maximum likelihood.

    The covariance of a class divides by its weight, as scikit-learn's does from 1.8 on; before, it
    divides by the weight less one, and finds a trace of order 1/n after `QLEACE`. Its log-odds are
    a likelihood.

    Everything is decided in coordinates in which the pooled covariance within the classes is the
    identity. Dimensions that it lacks (16 eps sqrt(d) of the largest eigenvalue, in units of the
    features' deviations) are not read: those that an eraser took, constant features. A class with
    no more rows than features has no density: along what it lacks alone its variance counts as 64
    eps of the pooled, so its likelihood is finite and far too sure. Use `l2` there. A feature that
    is constant within every class, and not over them, counts as varying by eps of its largest class
    mean in each. Where means and covariances of all classes coincide up to rounding, the answer is
    the class frequencies, exactly, for every x.

    Attributes:
      l2: () added to the diagonal of every class covariance, >= 0, in squared units of x.

    Example:
      >>> dataset = ej.datasets.GaussianClasses(separation=9.0, rows=3, dims=2)
      >>> data = dataset.sample(jax.random.key(0))
      >>> probe = ej.probes.QDA(l2=0.1).fit(data)
      >>> probe.predict(data.x).tolist()
      [0, 0, 0, 1, 1, 1]
    """

    name: ClassVar[str] = "qda"

    l2: Annotated[ArrayLike, Within(0)] = 0.0

    def _fit(self, data: Dataset, key: jax.Array | None) -> QuadraticClassifier:
        moments = ClassMoments.of(data)
        overall = moments.overall
        status, share = concept_status(moments, overall), moments.share
        own, varies = moments.sd, overall.sd > 0
        least = jnp.where(varies & (own == 0), moments.least, 0)
        root = jnp.hypot(least, jnp.sqrt(jnp.asarray(self.l2, own.dtype)))
        scale = jnp.where(varies, jnp.hypot(own, root), 0)
        inverse = safe_reciprocal(scale, varies)
        unit = moments._unit_covariances(scale) + jnp.diag((root * inverse) ** 2)
        d = scale.shape[0]
        eye = jnp.eye(d, dtype=unit.dtype)
        eps = float(jnp.finfo(unit.dtype).eps)
        values, vectors = jnp.linalg.eigh(product("k,kij->ij", share, unit))
        kept = values > 16 * eps * d**0.5 * jnp.max(values)
        pooled = (vectors * safe_reciprocal(jnp.sqrt(jnp.maximum(values, 0)), kept)).T
        unit = product("ij,kjl,ml->kim", pooled, unit, pooled)
        bare = jnp.linalg.cholesky(unit + jnp.where(eye > 0, jnp.where(kept, 0, 1), 0))
        # A class that has all dimensions needs no ridge.
        full = (jnp.diagonal(bare, axis1=1, axis2=2) ** 2 > 256 * eps).all(axis=1)
        ridge = jnp.where(eye > 0, jnp.where(kept, 64 * eps, 1), 0)
        lower = jnp.where(full[:, None, None], bare, jnp.linalg.cholesky(unit + ridge))
        whiten = lax.linalg.triangular_solve(
            lower, jnp.broadcast_to(pooled, lower.shape), left_side=True, lower=True
        )
        spread = jnp.log(jnp.diagonal(lower, axis1=1, axis2=2))
        null, unresolved = null_model_of_classes(moments, overall)
        status = status | unresolved
        used = (share > 0)[:, None, None] & ~null
        whiten = jnp.where(used, whiten * inverse, 0)
        status = status | flag(~jnp.isfinite(whiten).all(), Status.NONFINITE)
        probe = QuadraticClassifier(
            whiten=whiten,
            means=moments.means,
            offset=jnp.log(share) - jnp.where(null, 0, jnp.sum(spread, axis=1)),
            status=status,
            rest=moments.rest,
        )
        return poison(probe, status)
