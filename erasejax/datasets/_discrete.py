"""Discrete informative features among Gaussian noise: the experiment behind this library."""

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.typing import ArrayLike

from erasejax._core.pytrees import static
from erasejax.datasets._base import Generator, class_sizes, labels
from erasejax.rows import Dataset

__all__ = ["DiscreteFeatures"]

_TABLES = (
    ((0.6, 0.2, 0.1, 0.1, 0.0), (0.3, 0.3, 0.3, 0.1, 0.0)),
    ((0.0, 0.1, 0.2, 0.3, 0.4), (0.0, 0.05, 0.05, 0.1, 0.8)),
)
_VALUES = (-1.0, -0.5, 0.0, 0.5, 1.0)
_LANES = 8  # rows of a multiple of so many numbers are drawn by vector instructions on a CPU


@struct.dataclass(kw_only=True)
class DiscreteFeatures(Generator[Dataset]):
    """Classes that differ in a few discrete columns; the others are standard normal noise.

    By default two classes and two informative columns, either of which predicts the label on its
    own, so that the label can be read along many directions, and yet one projection hides it from
    every probe trained by a convex loss.

    Attributes:
      tables: (classes, columns, values) probabilities of each value, a row sums to 1.
      values: (values,) what the informative columns can be.
      rows: static; rows of each class, one number for all or a tuple with one a class.
      dims: static; number of columns, informative ones first.
      normalize: static; standardise each column over the drawn rows of all classes, each part by
        its own mean and deviation. The places of the values so differ a little from part to part,
        which a probe that cuts between two of them notices on fresh rows.

    Example:
      >>> data = ej.datasets.DiscreteFeatures(rows=3, dims=2).sample(jax.random.key(0))
      >>> set(np.unique(data.x).tolist()) <= {-1.0, -0.5, 0.0, 0.5, 1.0}
      True
    """

    name: ClassVar[str] = "discrete-features"

    tables: ArrayLike = struct.field(default_factory=lambda: np.asarray(_TABLES))
    values: ArrayLike = struct.field(default_factory=lambda: np.asarray(_VALUES))
    rows: int | tuple[int, ...] = static(100)
    dims: int = static(3)
    normalize: bool = static(False)

    def _sample(self, population: jax.Array, rows: jax.Array) -> Dataset:
        del population  # the tables are the population
        tables, values = jnp.asarray(self.tables), jnp.asarray(self.values)
        if tables.ndim != 3 or values.shape != tables.shape[2:]:
            raise ValueError(
                f"tables, values: expected (classes, columns, values) and (values,), got "
                f"{tables.shape} and {values.shape}"
            )
        classes, informative, _ = tables.shape
        if self.dims < informative:
            raise ValueError(
                f"dims: expected at least {informative}, the informative columns, got {self.dims}"
            )
        sizes = class_sizes(self.rows, classes)
        z = labels(sizes)
        key_values, key_noise = jax.random.split(rows)
        cdf = jnp.cumsum(tables, axis=-1)
        # Values past the last possible one are never drawn, whatever the rounding of the sum.
        eps = jnp.finfo(cdf.dtype).eps
        cdf = jnp.where(cdf >= cdf[..., -1:] * (1 - 8 * eps), jnp.inf, cdf)
        uniform = jax.random.uniform(key_values, (len(z), informative), values.dtype)
        # Rows of a class lie together. Comparisons, since looking values up takes far longer.
        x = jnp.full_like(uniform, values[0])
        below = jnp.concatenate([
            jnp.broadcast_to(cdf[c], (size, *cdf.shape[1:])) for c, size in enumerate(sizes)
        ])
        for j in range(1, len(values)):
            x = jnp.where(uniform >= below[..., j - 1], values[j], x)
        if self.dims % _LANES:
            noise = jax.random.normal(key_noise, (len(z), self.dims - informative), values.dtype)
            x = jnp.concatenate([x, noise], axis=1)
        else:
            # Whole rows, a class at a time: joined side by side they would be drawn number by
            # number, and not joined at all drawn again by each reader.
            members = jnp.split(x, np.cumsum(sizes)[:-1])
            keys = jax.random.split(key_noise, classes)
            x = jnp.concatenate([
                self._among_noise(own, key) for own, key in zip(members, keys, strict=True)
            ])
        if self.normalize:
            x = x - jnp.mean(x, axis=0)
            sd = jnp.sqrt(jnp.mean(x * x, axis=0))
            x = x / jnp.where(sd > 0, sd, 1)
        return Dataset(x=x, z=z, num_classes=classes)

    def _among_noise(self, informative: jax.Array, key: jax.Array) -> jax.Array:
        """Returns rows of noise (n, dims) whose first columns are these, (n, columns)."""
        n, columns = informative.shape
        x = jax.random.normal(key, (n, self.dims), informative.dtype)
        for j in range(columns):
            x = jnp.where(np.arange(self.dims) == j, informative[:, j : j + 1], x)
        return x
