"""Logistic regression, binary and multinomial."""

from typing import Annotated, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.typing import ArrayLike

from erasejax._core.pytrees import Within, static
from erasejax._linalg.products import product
from erasejax.probes._base import LinearLikelihood
from erasejax.probes._convex.classifier import ConvexClassifier
from erasejax.probes._convex.losses import LogLoss, log_loss
from erasejax.statistics import Moments

__all__ = ["Logistic"]


@struct.dataclass(kw_only=True)
class Logistic(ConvexClassifier[LinearLikelihood]):
    """Logistic regression: minimises the mean log-loss in nats plus (l2 / 2) |weight|^2.

    The bias is not penalised. scikit-learn's C is 1 / (l2 n). Two classes have one weight vector;
    k > 2 have k, penalised alike, whose sum over the classes is zero at the optimum.

    Newton's method with backtracking, in about seven iterations, where a Hessian costs little: n
    p^2 up to eight million for n rows and p parameters, at most 128 of them. Else L-BFGS, a pass
    over the rows an iteration, preconditioned by the Hessian where its diagonal alone does not lead
    to the optimum soon. Features are standardised inside, the penalty is not: the optimum is that
    of the formula above. Where the classes' means coincide the answer is the null model (zero
    weights, the log-odds of the classes in the bias) without an iteration.

    Attributes:
      l2: () penalty, >= 0. At 0 separable classes have no optimum and NOT_CONVERGED may be set.
      max_steps: static; bound on the iterations of Newton's method, a tenth of that of L-BFGS.

    Example:
      >>> dataset = ej.datasets.GaussianClasses(separation=9.0, rows=3, dims=2)
      >>> data = dataset.sample(jax.random.key(0))
      >>> probe = ej.probes.Logistic(l2=0.1).fit(data)
      >>> probe.predict(data.x).tolist(), probe.log_proba(data.x).shape
      ([0, 0, 0, 1, 1, 1], (6, 2))
    """

    name: ClassVar[str] = "logistic"

    l2: Annotated[ArrayLike, Within(0)] = 1e-3
    max_steps: int = static(100)

    def _loss(self, classes: int, dtype: np.dtype) -> LogLoss:
        return log_loss(classes, dtype)

    def _fitted(
        self, weight: jax.Array, offset: jax.Array, moments: Moments, idle: jax.Array
    ) -> LinearLikelihood:
        share = moments.concept_mean
        contrasts = log_loss(len(share), share.dtype).contrasts
        weight = product("dm,km->dk", weight, contrasts)
        prior = jnp.log(jnp.maximum(share, jnp.finfo(share.dtype).eps))
        offset = jnp.where(idle, prior, product("m,km->k", offset, contrasts))
        # A class without rows has no finite optimum: the constant gives it probability zero.
        offset = jnp.where(share > 0, offset, -jnp.inf)
        if len(share) == 2:
            weight, offset = weight[:, 1] - weight[:, 0], offset[1] - offset[0]
        return LinearLikelihood(
            weight=weight, offset=offset, center=moments.mean, status=jnp.uint32(0)
        )
