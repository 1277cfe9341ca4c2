"""Linear probes in closed form: least squares, linear discriminant, nearest class mean."""

from typing import Annotated, ClassVar

import jax
import jax.numpy as jnp
from flax import struct
from jax.typing import ArrayLike

from erasejax._core.pytrees import Within
from erasejax._linalg.products import product, safe_reciprocal
from erasejax._linalg.solves import solve_correlation
from erasejax.probes._base import (
    LinearClassifier,
    LinearLikelihood,
    LinearRegressor,
    Probe,
    linear_classifier,
    linear_probe,
)
from erasejax.rows import Dataset
from erasejax.statistics import Moments, class_gaps, null_model, whitening, within_classes

__all__ = ["LDA", "LeastSquares", "MeanDifferenceProbe"]


@struct.dataclass(kw_only=True)
class LeastSquares(Probe[LinearClassifier | LinearRegressor]):
    """Linear regression, ridge if `l2` > 0.

    Minimises the mean of half the squared error plus (l2 / 2) |weight|^2, bias unpenalised. Two
    classes are coded -1 and 1, so that the sign of the score decides; more are one-hot. Real
    concepts are regressed as they are and give a `LinearRegressor`.

    Attributes:
      l2: () penalty, >= 0, in squared units of x.

    Example:
      >>> dataset = ej.datasets.GaussianClasses(separation=9.0, rows=3, dims=2)
      >>> data = dataset.sample(jax.random.key(0))
      >>> probe = ej.probes.LeastSquares(l2=0.1).fit(data)
      >>> probe.predict(data.x).tolist(), float(ej.metrics.r2(probe, data)) > 0.8
      ([0, 0, 0, 1, 1, 1], True)
    """

    name: ClassVar[str] = "least-squares"

    l2: Annotated[ArrayLike, Within(0)] = 0.0

    shared_covariance = True
    real_concepts = True

    def _fit(self, data: Dataset, key: jax.Array | None) -> LinearClassifier | LinearRegressor:
        moments = Moments.of(data)
        _, status = whitening(moments)
        sd = moments.sd
        scale = _raised(sd, self.l2)
        ratio = (sd * safe_reciprocal(scale, scale > 0))[:, None]
        weight = _solve(ratio * moments.correlation * ratio.T, ratio * moments.standard_xz, scale)
        mean_z = moments.concept_mean
        null, unresolved = null_model(moments)
        weight = jnp.where(null, 0, weight)
        kind = LinearRegressor
        if data.is_classes:
            kind = LinearClassifier
            if data.num_classes == 2:
                weight, mean_z = 2 * weight[:, 1], mean_z[1] - mean_z[0]
        elif data.z.ndim == 1:
            weight, mean_z = weight[:, 0], mean_z[0]
        return linear_probe(kind, weight, mean_z, moments, status | unresolved)


@struct.dataclass(kw_only=True)
class LDA(Probe[LinearLikelihood]):
    """Linear discriminant analysis: Gaussian classes of one covariance, maximum likelihood.

    The within-class covariance divides by the total weight. Its log-odds are a likelihood.

    A feature that is constant within every class, and not over them, tells the classes apart
    without error. It counts as varying by eps of the largest class mean, the least that could be
    seen of it; so the likelihood is finite, and as sure as this dtype can say.

    Attributes:
      l2: () added to the diagonal of the within-class covariance, >= 0, in squared units of x.

    Example:
      >>> dataset = ej.datasets.GaussianClasses(separation=9.0, rows=3, dims=2)
      >>> data = dataset.sample(jax.random.key(0))
      >>> probe = ej.probes.LDA().fit(data)
      >>> probe.predict(data.x).tolist(), probe.log_proba(data.x).shape
      ([0, 0, 0, 1, 1, 1], (6, 2))
    """

    name: ClassVar[str] = "lda"

    l2: Annotated[ArrayLike, Within(0)] = 0.0

    shared_covariance = False

    def _fit(self, data: Dataset, key: jax.Array | None) -> LinearLikelihood:
        moments = Moments.of(data, covariance=False)
        _, status = whitening(moments)
        gaps, share = class_gaps(moments)
        sd, correlation = within_classes(data, moments)
        scale = _raised(sd, self.l2)
        ratio = (sd * safe_reciprocal(scale, scale > 0))[:, None]
        gaps = gaps * (moments.sd * safe_reciprocal(scale, scale > 0))[:, None]
        unit = _solve(ratio * correlation * ratio.T, gaps, jnp.ones_like(scale))
        offset = jnp.log(share) - product("dk,dk->k", gaps, unit) / 2
        weight = unit * safe_reciprocal(scale, scale > 0)[:, None]
        return linear_classifier(LinearLikelihood, weight, offset, moments, share, status)


@struct.dataclass(kw_only=True)
class MeanDifferenceProbe(Probe[LinearClassifier]):
    """Nearest class mean: the weight is the difference of the means, the threshold half way.

    Euclidean, so it depends on the features' scales. It has no likelihood.

    Example:
      >>> data = ej.datasets.GaussianClasses(rows=3, dims=2).sample(jax.random.key(0))
      >>> probe = ej.probes.MeanDifferenceProbe().fit(data)
      >>> gap = data.x[3:].mean(axis=0) - data.x[:3].mean(axis=0)
      >>> np.allclose(probe.weight, gap, atol=1e-5)
      True
    """

    name: ClassVar[str] = "mean-difference"

    shared_covariance = False

    def _fit(self, data: Dataset, key: jax.Array | None) -> LinearClassifier:
        moments = Moments.of(data, covariance=False)
        _, status = whitening(moments)
        gaps, share = class_gaps(moments)
        gaps = gaps * moments.sd[:, None]
        offset = jnp.where(share > 0, -product("dk,dk->k", gaps, gaps) / 2, -jnp.inf)
        return linear_classifier(LinearClassifier, gaps, offset, moments, share, status)


def _raised(sd: jax.Array, l2: ArrayLike) -> jax.Array:
    """Returns the square roots (d,) of variances with a penalty added; 0 where x is constant."""
    root = jnp.sqrt(jnp.asarray(l2, sd.dtype))
    return jnp.where(sd > 0, jnp.hypot(sd, root), 0)


def _solve(unit: jax.Array, rhs: jax.Array, scale: jax.Array) -> jax.Array:
    """Returns D^-1 R^+ B, (d, m), for the scales D of features; 0 for constant features.

    Refined once more than an eraser's: a probe is compared with its optimum, an eraser is exact
    anyway.
    """
    inverse = safe_reciprocal(scale, scale > 0)[:, None]
    return inverse * solve_correlation(unit, rhs, refinements=2)
