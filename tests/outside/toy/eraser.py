"""An eraser that goes a part of the way."""

from typing import Annotated, Any, ClassVar

import jax
import jax.numpy as jnp
from flax import struct
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, UInt32

import erasejax as ej


@struct.dataclass
class PartlyErased:
    """What `Partly` fits: x moved by a share of the way to what `projection` makes of it."""

    projection: ej.Projection
    share: Float[Array, ""]
    rank: Int[Array, ""]
    status: UInt32[Array, ""]

    needs_z = False

    @property
    def dims(self) -> int:
        """How many features it was fitted on."""
        return self.projection.dims

    def __call__(self, x: Any, *, dtype: Any = None) -> jax.Array:
        """Erases a part of the concept."""
        x = jnp.asarray(x)
        whole = self.projection(x, dtype=dtype)
        return (x + self.share.astype(x.dtype) * (whole - x)).astype(whole.dtype)


@struct.dataclass(kw_only=True)
class Partly(ej.erasers.Eraser):
    """Moves rows a share of the way that LEACE would.

    Attributes:
      share: () in [0, 1], how far to go.
    """

    name: ClassVar[str] = "partly"

    share: Annotated[ArrayLike, "of the way"] = 0.5

    def _fit(self, data: ej.Dataset, key: jax.Array | None) -> PartlyErased:
        whole = ej.LEACE().solve(ej.Moments.of(data))
        share = jnp.asarray(self.share, whole.kernel.dtype)
        share = jnp.where(jnp.isnan(whole.center).any(), jnp.nan, share)
        return PartlyErased(whole, share, whole.rank, whole.status)
