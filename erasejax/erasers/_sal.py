"""Spectral attribute removal (SAL)."""

from typing import ClassVar

from flax import struct

from erasejax.erasers._mean_difference import MeanDifference

__all__ = ["SAL"]


@struct.dataclass(kw_only=True)
class SAL(MeanDifference):
    """Projects out the span of the covariance of x with the concept: K = T = Sigma_xz.

    For classes that is the span of the class-mean differences: `MeanDifference` is SAL. It is
    orthogonal, needs no covariance of x, and moves x further than `LEACE` where features are
    correlated.

    Attributes:
      keep_mean: static; True projects about the mean of the rows, False about the origin.
      given: static; as in `LEACE`: within the classes of a task.

    Example:
      >>> data = ej.datasets.GaussianClasses(rows=3, dims=2).sample(jax.random.key(0))
      >>> eraser = ej.SAL().fit(data)
      >>> np.allclose(eraser(data.x), ej.MeanDifference().fit(data)(data.x), atol=1e-5)
      True

    References:
      Shao, Ziser and Cohen 2023, arXiv 2203.07893.
    """

    name: ClassVar[str] = "sal"
