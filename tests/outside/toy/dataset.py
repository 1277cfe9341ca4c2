"""A dataset of coins."""

from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import struct
from jax.typing import ArrayLike

import erasejax as ej


@struct.dataclass(kw_only=True)
class Coins(ej.datasets.Generator):
    """Features that are coins, of which the first is biased by the label.

    Attributes:
      bias: () in [0, 1], how much more often the first coin shows heads in class 1.
      rows: static; rows of each class.
      dims: static; coins.
    """

    name: ClassVar[str] = "coins"

    bias: ArrayLike = 0.5
    rows: int = struct.field(pytree_node=False, default=20)
    dims: int = struct.field(pytree_node=False, default=3)

    def _sample(self, population: jax.Array, rows: jax.Array) -> ej.Dataset:
        z = jnp.repeat(jnp.arange(2, dtype=jnp.int32), self.rows, total_repeat_length=2 * self.rows)
        bias = jnp.asarray(self.bias)
        heads = jnp.full((2 * self.rows, self.dims), 0.5, bias.dtype)
        heads = heads.at[:, 0].add((z - 0.5).astype(bias.dtype) * bias)
        x = (jax.random.uniform(rows, heads.shape, bias.dtype) < heads).astype(bias.dtype)
        return ej.Dataset(x=x, z=z, num_classes=2)
