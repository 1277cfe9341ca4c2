"""Classes whose means coincide and which can be told apart all the same."""

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.typing import ArrayLike

from erasejax._core.pytrees import static
from erasejax.datasets._base import Generator, class_sizes, labels
from erasejax.datasets._turning import turned
from erasejax.rows import Dataset

__all__ = ["SkewedClasses", "XorClasses"]


@struct.dataclass(kw_only=True)
class SkewedClasses(Generator[Dataset]):
    """Two classes of equal means that a threshold tells apart nine times in ten.

    In the first column class 1 is +1 in `ratio` rows out of `ratio + 1` and -`ratio` in the other;
    class 0 is the opposite. These are counts, not draws, and row i of either class has the same
    standard normal noise in the other columns: the class means of the drawn rows coincide, but for
    the rounding of their sums. There is nothing to erase and every probe trained by a convex loss
    returns the constant; the threshold 0 is right in a share ratio / (ratio + 1) of the rows.

    Attributes:
      scale: () size of the first column, in noise sd of the others.
      rows: static; rows of each class, a multiple of `ratio + 1`.
      dims: static; number of columns, at least 1.
      ratio: static; how many times more frequent the near value is than the far one.

    Example:
      >>> data = ej.datasets.SkewedClasses(rows=10, dims=2).sample(jax.random.key(0))
      >>> float(ej.metrics.linear_r2(data))  # there is nothing to erase
      0.0
      >>> round(float(((data.x[:, 0] > 0) == data.z).mean()), 3)  # and yet a threshold tells
      0.9
    """

    name: ClassVar[str] = "skewed-classes"

    scale: ArrayLike = 1.0
    rows: int = static(100)
    dims: int = static(2)
    ratio: int = static(9)

    def _sample(self, population: jax.Array, rows: jax.Array) -> Dataset:
        del population  # the column is fixed
        if self.ratio < 1 or self.dims < 1:
            raise ValueError(f"ratio, dims: expected at least 1, got {self.ratio} and {self.dims}")
        if self.rows < 1 or self.rows % (self.ratio + 1):
            raise ValueError(
                f"rows: expected a multiple of ratio + 1 = {self.ratio + 1}, got {self.rows}"
            )
        scale = jnp.asarray(self.scale)
        far = self.rows // (self.ratio + 1)
        column = np.repeat([1.0, -self.ratio], [self.rows - far, far])
        column = jnp.asarray(np.concatenate([-column, column]), scale.dtype)
        noise = jax.random.normal(rows, (self.rows, self.dims - 1), scale.dtype)
        x = jnp.concatenate([(scale * column)[:, None], jnp.tile(noise, (2, 1))], axis=1)
        return Dataset(x=x, z=labels((self.rows, self.rows)), num_classes=2)


@struct.dataclass(kw_only=True)
class XorClasses(Generator[Dataset]):
    """Two classes that differ in what no linear probe sees: an exclusive or, or the covariance.

    Along two directions a row has a sign each, and the label says whether they differ. So the
    classes have the same means, and the opposite covariance between the two directions. With
    `spread` other than 1 the noise of class 1 is wider too; at `separation` 0 that is all there is.
    A `gap` moves the class means apart along a third direction: what linear probes read, and what
    erasing removes.

    Probes trained by a convex loss are at chance once the gap is gone. The best threshold is not:
    it cuts off one of the four corners, and at a wide separation it is right in 3 rows of 4.

    Attributes:
      separation: () distance between the two signs along each of the two directions, in sd of the
        noise of class 0.
      spread: () noise of class 1 in units of that of class 0, > 0, in every direction.
      gap: () distance between the class means, along the third direction, in the same units.
      rows: static; rows of each class, one number for both or a tuple of two. Half of them (and one
        more of odd numbers) have a positive first sign.
      dims: static; number of features, at least 3.
      rotate: static; False keeps the three directions on the first axes.

    Example:
      >>> dataset = ej.datasets.XorClasses(separation=20.0, rows=4, dims=3, rotate=False)
      >>> data = dataset.sample(jax.random.key(0))
      >>> signs = np.sign(data.x[:, :2])
      >>> np.array_equal(signs[:, 0] != signs[:, 1], data.z)
      True
    """

    name: ClassVar[str] = "xor-classes"

    separation: ArrayLike = 4.0
    spread: ArrayLike = 1.0
    gap: ArrayLike = 0.0
    rows: int | tuple[int, ...] = static(100)
    dims: int = static(4)
    rotate: bool = static(True)

    def _sample(self, population: jax.Array, rows: jax.Array) -> Dataset:
        if self.dims < 3:
            raise ValueError(f"dims: expected at least 3, got {self.dims}")
        sizes = class_sizes(self.rows, 2)
        z = labels(sizes)
        separation = jnp.asarray(self.separation)
        dtype = separation.dtype
        first = np.concatenate([np.where(np.arange(n) % 2, -1, 1) for n in sizes])
        second = np.where(np.repeat([0, 1], sizes), -first, first)
        signs = jnp.asarray(np.stack([first, second], axis=1), dtype)
        means = jnp.concatenate(
            [separation * signs / 2, jnp.asarray(self.gap) * (z[:, None] - 0.5).astype(dtype)],
            axis=1,
        )
        noise = jax.random.normal(rows, (len(z), self.dims), dtype)
        noise = noise * jnp.where(z == 1, jnp.asarray(self.spread), 1).astype(dtype)[:, None]
        x = noise.at[:, :3].add(means)
        if self.rotate:
            x = turned(population, x, 3)
        return Dataset(x=x, z=z, num_classes=2)
