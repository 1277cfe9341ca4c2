"""The eraser that erases nothing: the baseline of every comparison."""

from typing import ClassVar

import jax.numpy as jnp
from flax import struct

from erasejax.erasers._base import ClosedForm
from erasejax.projection import Projection
from erasejax.statistics import Moments

__all__ = ["Identity"]


@struct.dataclass
class Identity(ClosedForm[Projection]):
    """r(x) = x, as a projection of rank 0 with (d, 0) factors.

    Example:
      >>> data = ej.datasets.GaussianClasses(rows=3, dims=2).sample(jax.random.key(0))
      >>> eraser = ej.Identity().fit(data)
      >>> int(eraser.rank), bool((eraser(data.x) == data.x).all())
      (0, True)
    """

    name: ClassVar[str] = "identity"

    needs_covariance = False

    def _solve(self, moments: Moments) -> Projection:
        d = moments.xz.shape[0]
        nothing = jnp.zeros((d, 0), moments.xz.dtype)
        return Projection(
            kernel=nothing,
            test=nothing,
            center=jnp.zeros(d, moments.xz.dtype),
            rank=jnp.int32(0),
            status=jnp.uint32(0),
        )
