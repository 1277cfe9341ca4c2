"""Rows that look like hidden states of a language model."""

from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import struct
from jax.typing import ArrayLike

from erasejax._core.pytrees import static
from erasejax.datasets._base import Generator
from erasejax.datasets._gaussian import GaussianClasses
from erasejax.rows import Dataset

__all__ = ["Activations"]


@struct.dataclass(kw_only=True)
class Activations(Generator[Dataset]):
    """Gaussian classes with the three habits of hidden states that break careless numerics.

    The covariance has a power-law spectrum, the mean is large against the spread, and a few single
    features are much larger than all others, in mean and spread. All this is one invertible affine
    map of spherical classes, the same for both parts of a sample: what a linear probe can reach is
    as if it were not there, two classes being told apart with accuracy Phi(separation / 2).

    Attributes:
      separation: () distance between the class means, in noise sd before the map (the Mahalanobis
        distance after it).
      decay: () exponent of the spectrum: eigenvalue j of the covariance is proportional to
        j^-decay, before the massive features are made so.
      mean: () sd of the features' means, in units of the root mean square of their noise.
      massive_scale: () how many times larger than the others the massive features are.
      rows: static; rows of each class, one number for all or a tuple with one a class.
      num_classes: static.
      dims: static; number of features, at least num_classes - 1.
      massive: static; how many features are massive; the key says which.

    Example:
      >>> data = ej.datasets.Activations(rows=3, dims=2, massive=1).sample(jax.random.key(0))
      >>> data.x.shape, data.z.tolist()
      ((6, 2), [0, 0, 0, 1, 1, 1])

    References:
      Ethayarajh 2019, arXiv 1909.00512 (common mean); Timkey and van Schijndel 2021, arXiv
      2109.04404 (a few features dominate); Sun et al. 2024, arXiv 2402.17762 (massive activations).
    """

    name: ClassVar[str] = "activations"

    separation: ArrayLike = 2.0
    decay: ArrayLike = 1.0
    mean: ArrayLike = 10.0
    massive_scale: ArrayLike = 100.0
    rows: int | tuple[int, ...] = static(100)
    num_classes: int = static(2)
    dims: int = static(64)
    massive: int = static(2)

    def _sample(self, population: jax.Array, rows: jax.Array) -> Dataset:
        if not 0 <= self.massive <= self.dims:
            raise ValueError(f"massive: expected 0 to dims={self.dims}, got {self.massive}")
        key_map, key_mean, key_massive = jax.random.split(population, 3)
        classes = GaussianClasses(
            separation=self.separation,
            decay=self.decay,
            rows=self.rows,
            num_classes=self.num_classes,
            dims=self.dims,
            directions=max(self.num_classes - 1, 1),
        )
        data = classes._sample(key_map, rows)
        center = jnp.asarray(self.mean) * jax.random.normal(key_mean, (self.dims,), data.x.dtype)
        place = jax.random.permutation(key_massive, self.dims)
        size = jnp.where(place < self.massive, jnp.asarray(self.massive_scale), 1)
        return data.replace(x=((data.x + center) * size).astype(data.x.dtype))
