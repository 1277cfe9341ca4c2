"""Mean-difference projection."""

from typing import ClassVar

import jax.numpy as jnp
from flax import struct

from erasejax._core.pytrees import static
from erasejax._linalg.products import safe_reciprocal
from erasejax.erasers._base import ClosedForm
from erasejax.projection import Projection, oblique
from erasejax.statistics import Conditional, Moments, concept_axes, place

__all__ = ["MeanDifference"]


@struct.dataclass(kw_only=True)
class MeanDifference(ClosedForm[Projection]):
    """Projects out the differences of the class means: K = T = their span.

    Two classes lose one direction, u = delta / |delta|: r(x) = x - u u^T (x - b). k classes lose
    the span of all differences, k - 1 directions. Real concepts lose the span of their covariances
    with x. On the fitting rows nothing trained by a convex loss predicts the classes afterwards,
    however many directions were predictive before. For classes this is SAL.

    Costs O(n d) and needs no covariance of x.

    Attributes:
      keep_mean: static; True projects about the mean of the rows, which stays where it is; False
        about the origin.
      given: static; as in `LEACE`: within the classes of a task.

    Example:
      >>> data = ej.datasets.GaussianClasses(rows=3, dims=2).sample(jax.random.key(0))
      >>> eraser = ej.MeanDifference().fit(data)
      >>> erased = eraser(data.x)  # rows 0 to 2 are of class 0, the others of class 1
      >>> int(eraser.rank), np.allclose(erased[:3].mean(axis=0), erased[3:].mean(axis=0), atol=1e-5)
      (1, True)

    References:
      Shao, Ziser and Cohen 2023 (SAL), arXiv 2203.07893; Belrose et al. 2023, arXiv 2306.03819.
    """

    name: ClassVar[str] = "mean-difference"

    keep_mean: bool = static(True)
    given: Conditional = static("none")

    needs_covariance = False
    shared_covariance = False

    def _solve(self, moments: Moments) -> Projection:
        return span_projection(moments, keep_mean=self.keep_mean)


def span_projection(moments: Moments, *, keep_mean: bool) -> Projection:
    """Returns the orthogonal projection off the covariances of x with the concept.

    Orthogonal in x as it is: what reads features in standard deviations weighs each by its
    variance.

    Args:
      moments: of the rows.
      keep_mean: static; about their mean, else about the origin.
    """
    about = place(moments, keep_mean=keep_mean)
    axes, status = concept_axes(moments)
    sd = moments.sd
    largest = jnp.max(sd)
    relative = sd * safe_reciprocal(largest, largest > 0)
    reader = axes * relative[:, None] ** 2
    status = status | about.status
    return oblique(axes, reader, scale=sd, center=about.center, status=status, flat=about.flat)
