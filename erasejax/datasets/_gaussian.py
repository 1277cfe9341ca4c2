"""Gaussian classes with a known number of informative directions."""

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.typing import ArrayLike

from erasejax._core.pytrees import static
from erasejax.datasets._base import Generator, class_sizes, labels
from erasejax.datasets._turning import mixed, turned
from erasejax.rows import Dataset

__all__ = ["GaussianClasses"]


@struct.dataclass(kw_only=True)
class GaussianClasses(Generator[Dataset]):
    """Classes that differ in mean along `directions` orthogonal directions of equal noise.

    Along each of them the means of two classes lie `separation` noise standard deviations apart
    (the corners of a regular simplex for more than two, one coordinate a direction, in turn).
    `redundancy` is the correlation of the noise between the informative directions: at 0 each
    brings evidence of its own, at 1 they are copies of each other, and any one of them is enough.
    The key fixes a uniformly random orthonormal frame that hides where the directions are.

    `decay` > 0 makes the noise correlated: the rows are scaled along another random basis by a
    power-law spectrum, eigenvalue j proportional to j^-decay. That is an invertible linear map, so
    what a linear probe can reach stays the same, while the difference of the means is no longer the
    discriminant. The 16 leading eigenvectors of the covariance, or all of up to 16 features, are a
    uniformly random orthonormal frame. The others are, but for what those take of them, vectors of
    a Hartley transform with random signs, each spread evenly over the features.

    Attributes:
      separation: () distance between the class means along one direction, in noise sd.
      redundancy: () in [0, 1].
      decay: () exponent of the spectrum, 0 for isotropic noise.
      rows: static; rows of each class, one number for all or a tuple with one a class.
      num_classes: static.
      dims: static; number of features.
      directions: static; how many directions carry the label, 1 to dims.
      rotate: static; False keeps the informative directions on the first axes (decay 0 only).

    Example:
      >>> dataset = ej.datasets.GaussianClasses(rows=3, dims=2)
      >>> data = dataset.sample(jax.random.key(0))
      >>> data.x.shape, data.z.tolist()
      ((6, 2), [0, 0, 0, 1, 1, 1])
      >>> fresh = dataset.sample(jax.random.key(0), part=1)  # other rows of the same classes
      >>> bool((fresh.x == data.x).any())
      False
    """

    name: ClassVar[str] = "gaussian-classes"

    separation: ArrayLike = 2.0
    redundancy: ArrayLike = 0.0
    decay: ArrayLike = 0.0
    rows: int | tuple[int, ...] = static(100)
    num_classes: int = static(2)
    dims: int = static(16)
    directions: int = static(1)
    rotate: bool = static(True)

    def _sample(self, population: jax.Array, rows: jax.Array) -> Dataset:
        k, d, m = self.num_classes, self.dims, self.directions
        if k < 2 or not 1 <= m <= d:
            raise ValueError(
                f"num_classes, directions: expected at least 2 classes and 1 to dims={d} "
                f"directions, got {k} and {m}"
            )
        z = labels(class_sizes(self.rows, k))
        separation = jnp.asarray(self.separation)
        dtype = separation.dtype
        key_own, key_shared = jax.random.split(rows)
        noise = jax.random.normal(key_own, (len(z), d), dtype)
        shared = jax.random.normal(key_shared, (len(z), 1), dtype)
        redundancy = jnp.asarray(self.redundancy, dtype)
        informative = jnp.sqrt(redundancy) * shared + jnp.sqrt(1 - redundancy) * noise[:, :m]
        corners = jnp.asarray(_simplex(k), dtype)[:, np.arange(m) % (k - 1)]
        x = jnp.concatenate([informative + separation * corners[z], noise[:, m:]], axis=1)
        if self.rotate:
            key_in, key_out = jax.random.split(population)
            decay = jnp.asarray(self.decay, dtype)

            def correlated(x):
                spectrum = jnp.arange(1, d + 1, dtype=dtype) ** (-decay / 2)
                return mixed(key_out, x * (spectrum / jnp.sqrt(jnp.mean(spectrum**2))))

            # Isotropic noise has no axes to mix.
            x = jax.lax.cond(decay == 0, lambda x: x, correlated, turned(key_in, x, m))
        return Dataset(x=x, z=z, num_classes=k)


def _simplex(k: int) -> np.ndarray:
    """Returns the k corners of a regular simplex with unit edges around 0, (k, k - 1)."""
    corners = np.zeros((k, k - 1))
    for i in range(1, k):  # Helmert contrasts: row i stands against rows 0 to i - 1
        corners[:i, i - 1] = -1
        corners[i, i - 1] = i
        corners[:, i - 1] /= np.sqrt(2 * i * (i + 1))
    return corners
