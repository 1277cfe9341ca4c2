"""Linear probes in closed form: least squares, linear discriminant, nearest class mean."""

import jax
import jax.numpy as jnp
from flax import struct
from jax.typing import ArrayLike

from erasejax import checks
from erasejax.canonical import class_gaps, concept_axes, is_null
from erasejax.data import Dataset
from erasejax.linalg import product, safe_reciprocal
from erasejax.moments import Moments
from erasejax.probes.base import (
    LinearClassifier,
    LinearLikelihood,
    LinearRegressor,
    Probe,
    linear_classifier,
)
from erasejax.solves import solve_covariance

__all__ = ["LDA", "LeastSquares", "MeanDifferenceProbe"]


@struct.dataclass(kw_only=True)
class LeastSquares(Probe):
    """Linear regression, ridge if `l2` > 0.

    Minimises the mean of half the squared error plus (l2 / 2) |weight|^2, bias unpenalised. Two
    classes are coded -1 and 1, so that the sign of the score decides; more are one-hot. Real
    concepts are regressed as they are and give a `LinearRegressor`.

    Attributes:
      l2: () penalty, >= 0, in squared units of x.
    """

    l2: ArrayLike = 0.0

    real_concepts = True

    def _fit(self, data: Dataset, key: jax.Array | None) -> LinearClassifier | LinearRegressor:
        moments = Moments.of(data)
        _, status = concept_axes(moments)
        inverse_n = safe_reciprocal(moments.total, moments.total > 0)
        penalty = jnp.asarray(self.l2) * (moments.sd > 0)
        weight = solve_covariance(moments.covariance + jnp.diag(penalty), moments.xz * inverse_n)
        mean_z = moments.concept_mean
        null = is_null(moments)
        weight = jnp.where(null, 0, weight)
        kind = LinearRegressor
        if data.is_classes:
            kind = LinearClassifier
            if data.num_classes == 2:
                weight, mean_z = 2 * weight[:, 1], mean_z[1] - mean_z[0]
        elif data.z.ndim == 1:
            weight, mean_z = weight[:, 0], mean_z[0]
        probe = kind(weight=weight, offset=mean_z, center=moments.mean, status=status)
        return checks.poison(probe, status)


@struct.dataclass(kw_only=True)
class LDA(Probe):
    """Linear discriminant analysis: Gaussian classes of one covariance, maximum likelihood.

    The within-class covariance divides by the total weight. Its log-odds are a likelihood.

    Attributes:
      l2: () added to the diagonal of the within-class covariance, >= 0, in squared units of x.
    """

    l2: ArrayLike = 0.0

    def _fit(self, data: Dataset, key: jax.Array | None) -> LinearLikelihood:
        moments = Moments.of(data)
        _, status = concept_axes(moments)
        gaps, share = class_gaps(moments)
        between = product("dk,k,ek->de", gaps, share, gaps)
        penalty = jnp.asarray(self.l2) * (moments.sd > 0)
        within = moments.covariance - between + jnp.diag(penalty)
        weight = solve_covariance(within, gaps)
        offset = jnp.log(share) - product("dk,dk->k", gaps, weight) / 2
        return linear_classifier(LinearLikelihood, weight, offset, moments, share, status)


@struct.dataclass(kw_only=True)
class MeanDifferenceProbe(Probe):
    """Nearest class mean: the weight is the difference of the means, the threshold half way.

    Euclidean, so it depends on the features' scales. It has no likelihood.
    """

    def _fit(self, data: Dataset, key: jax.Array | None) -> LinearClassifier:
        moments = Moments.of(data, covariance=False)
        _, status = concept_axes(moments)
        gaps, share = class_gaps(moments)
        offset = jnp.where(share > 0, -product("dk,dk->k", gaps, gaps) / 2, -jnp.inf)
        return linear_classifier(LinearClassifier, gaps, offset, moments, share, status)
