"""The linear support vector machine with the squared hinge loss."""

from typing import Annotated, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.typing import ArrayLike

from erasejax._core.pytrees import Within, static
from erasejax.probes._base import LinearClassifier
from erasejax.probes._convex.classifier import ConvexClassifier
from erasejax.probes._convex.losses import SquaredHinge, squared_hinge
from erasejax.statistics import Moments

__all__ = ["LinearSVM"]


@struct.dataclass(kw_only=True)
class LinearSVM(ConvexClassifier[LinearClassifier]):
    """Minimises the mean of max(0, 1 - y score)^2, with y -1 or 1, plus (l2 / 2) |weight|^2.

    The bias is not penalised; scikit-learn's `LinearSVC`, whose C is 1 / (l2 n), penalises it as a
    weight of a feature that is constant (its `intercept_scaling`). More than two classes are each
    told from the rest, and the largest score decides. It has no likelihood.

    Solvers and null model as in `Logistic`. A plain hinge may have its optimum at the constant
    although the class means differ, so that finding nothing proves nothing; squared, it has not.

    Attributes:
      l2: () penalty, >= 0.
      max_steps: static; bound on the iterations of Newton's method, a tenth of that of L-BFGS.

    Example:
      >>> dataset = ej.datasets.GaussianClasses(separation=9.0, rows=3, dims=2)
      >>> data = dataset.sample(jax.random.key(0))
      >>> probe = ej.probes.LinearSVM(l2=0.1).fit(data)
      >>> probe.predict(data.x).tolist(), probe.weight.shape
      ([0, 0, 0, 1, 1, 1], (2,))
    """

    name: ClassVar[str] = "linear-svm"

    l2: Annotated[ArrayLike, Within(0)] = 1e-3
    max_steps: int = static(100)

    def _loss(self, classes: int, dtype: np.dtype) -> SquaredHinge:
        return squared_hinge(classes, dtype)

    def _fitted(
        self, weight: jax.Array, offset: jax.Array, moments: Moments, idle: jax.Array
    ) -> LinearClassifier:
        if weight.shape[1] == 1:
            weight, offset = weight[:, 0], offset[0]
        return LinearClassifier(
            weight=weight, offset=offset, center=moments.mean, status=jnp.uint32(0)
        )
