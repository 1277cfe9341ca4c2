"""What all datasets share: how `sample` separates the population from the rows."""

import zlib
from typing import Generic, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from erasejax._core import inputs
from erasejax._core.programs import program
from erasejax._core.pytrees import Tree
from erasejax._core.types import Key
from erasejax.names import Named
from erasejax.rows import Dataset, Pairs

__all__ = ["Generator"]

R = TypeVar("R", bound=Dataset | Pairs, covariant=True)


class Generator(Named, Tree, Generic[R]):
    """A synthetic dataset before it is drawn: its options, and `sample`.

    Subclasses write `_sample(population, rows)`, of a key for what all parts share, such as the
    directions, and a key for the rows of one part.

    Draws depend on the key, the part and the configuration alone, never on what else is running.

    Example:
      >>> from flax import struct
      >>> @struct.dataclass
      ... class Coins(ej.datasets.Generator):
      ...     def _sample(self, population, rows):
      ...         x = jax.random.normal(rows, (6, 2))
      ...         return ej.Dataset(x=x, z=jnp.arange(6) % 2, num_classes=2)
      >>> Coins().sample(jax.random.key(0)).x.shape
      (6, 2)
    """

    role = "dataset"

    def sample(self, key: Key, *, part: int | jax.Array = 0) -> R:
        """Draws rows.

        Args:
          key: a typed `jax.random.key`. It fixes the population (directions, covariances) as well
            as the rows.
          part: which independent set of rows of that population. An eraser is fitted on one part,
            a probe on another and scored on a third.

        Returns:
          `Dataset` with float32 x (float64 where jax's x64 mode is on), sorted by label.

        Raises:
          TypeError: key is no key.
          ValueError: it is several.

        Under jit: pure; vmap over keys, parts or numeric fields.
        """
        key = inputs.as_key(key)
        dtype = jax.dtypes.canonicalize_dtype(float)
        return _sample(inputs.numbers(self, dtype), key, part)

    def _draw(self, key: jax.Array, part: int | jax.Array) -> R:
        population = jax.random.fold_in(key, zlib.crc32(b"population"))
        rows = jax.random.fold_in(jax.random.fold_in(key, zlib.crc32(b"rows")), part)
        return self._sample(population, rows)

    def _sample(self, population: jax.Array, rows: jax.Array) -> R:
        raise NotImplementedError


@program
def _sample(generator: Generator[R], key: jax.Array, part: int | jax.Array) -> R:
    return generator._draw(key, part)


def labels(rows: tuple[int, ...]) -> jax.Array:
    """Returns (n,) int32 labels, `rows[j]` rows of class j, sorted."""
    return jnp.asarray(np.repeat(np.arange(len(rows)), rows), jnp.int32)


def class_sizes(rows: int | tuple[int, ...], classes: int) -> tuple[int, ...]:
    """Returns the number of rows of each class, from one number for all or one a class.

    Raises:
      ValueError: not one positive size a class.
    """
    sizes = rows if isinstance(rows, tuple) else (rows,) * classes
    if len(sizes) != classes or min(sizes) < 1:
        raise ValueError(f"rows: expected {classes} positive sizes, got {rows}")
    return sizes
