"""A concept that is a real number."""

from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import struct
from jax.typing import ArrayLike

from erasejax._core.pytrees import static
from erasejax.datasets._base import Generator
from erasejax.datasets._turning import turned
from erasejax.rows import Dataset

__all__ = ["ContinuousConcept"]


@struct.dataclass(kw_only=True)
class ContinuousConcept(Generator[Dataset]):
    """A standard normal concept, shown along one direction, and its square along another.

    Least squares on all features explains strength^2 / (1 + strength^2) of the concept's variance.
    The square has no covariance with the concept and so survives erasing, which leaves the size of
    the concept readable, though not its sign.

    Attributes:
      strength: () how far one unit of the concept moves a row along its direction, in noise sd.
      curvature: () how far one unit of (z^2 - 1) / sqrt(2), a variable of variance 1, moves it
        along a second direction, in noise sd.
      rows: static; number of rows.
      dims: static; number of features, at least 2.
      rotate: static; False keeps the two directions on the first axes.

    Example:
      >>> data = ej.datasets.ContinuousConcept(rows=6, dims=2).sample(jax.random.key(0))
      >>> data.x.shape, data.z.shape, data.is_classes
      ((6, 2), (6,), False)
    """

    name: ClassVar[str] = "continuous-concept"

    strength: ArrayLike = 1.0
    curvature: ArrayLike = 0.0
    rows: int = static(200)
    dims: int = static(8)
    rotate: bool = static(True)

    def _sample(self, population: jax.Array, rows: jax.Array) -> Dataset:
        if self.dims < 2 or self.rows < 1:
            raise ValueError(
                f"dims, rows: expected at least 2 and 1, got {self.dims} and {self.rows}"
            )
        strength = jnp.asarray(self.strength)
        dtype = strength.dtype
        key_concept, key_noise = jax.random.split(rows)
        z = jax.random.normal(key_concept, (self.rows,), dtype)
        x = jax.random.normal(key_noise, (self.rows, self.dims), dtype)
        square = (z**2 - 1) / jnp.sqrt(jnp.asarray(2, dtype))
        shown = jnp.stack([strength * z, jnp.asarray(self.curvature) * square], axis=1)
        x = x.at[:, :2].add(shown)
        if self.rotate:
            x = turned(population, x, 2)
        return Dataset(x=x, z=z)
