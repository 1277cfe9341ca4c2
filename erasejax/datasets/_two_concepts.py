"""A concept to erase and a task to keep, correlated."""

from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import struct
from jax.typing import ArrayLike

from erasejax._core.pytrees import static
from erasejax.datasets._base import Generator, class_sizes, labels
from erasejax.datasets._turning import turned
from erasejax.rows import Dataset

__all__ = ["TwoConcepts"]


@struct.dataclass(kw_only=True)
class TwoConcepts(Generator[Dataset]):
    """A binary concept and a binary task, each shown along a direction of its own.

    The labels agree with probability (1 + correlation) / 2. Each moves the rows along its direction
    by its strength; the two directions have a cosine of `overlap`, and the noise along them a
    correlation of `noise_correlation`. With correlated noise an eraser that leaves the task's
    direction alone may still cost the task much of what could be read.

    The concept is the label `z`; the task is the `task` of the dataset, one column of 0 and 1.

    Attributes:
      correlation: () of concept and task, in [-1, 1]; exact in expectation for classes of one size.
      strength: () distance between the class means of the concept, in noise sd, for a given task.
      task_strength: () the same of the task.
      overlap: () cosine of the angle between the two directions, in [-1, 1].
      noise_correlation: () of the noise along the concept's direction and at a right angle to it in
        the plane of the two, in (-1, 1).
      rows: static; rows of each class of the concept, one number for both or a tuple of two.
      dims: static; number of features, at least 2.
      rotate: static; False keeps the two directions in the plane of the first axes, the concept's
        on the first.

    Example:
      >>> data = ej.datasets.TwoConcepts(rows=3, dims=2, correlation=1.0).sample(jax.random.key(0))
      >>> np.array_equal(data.task[:, 0], data.z)
      True
    """

    name: ClassVar[str] = "two-concepts"

    correlation: ArrayLike = 0.5
    strength: ArrayLike = 2.0
    task_strength: ArrayLike = 2.0
    overlap: ArrayLike = 0.0
    noise_correlation: ArrayLike = 0.0
    rows: int | tuple[int, ...] = static(100)
    dims: int = static(8)
    rotate: bool = static(True)

    def _sample(self, population: jax.Array, rows: jax.Array) -> Dataset:
        if self.dims < 2:
            raise ValueError(f"dims: expected at least 2, got {self.dims}")
        z = labels(class_sizes(self.rows, 2))
        overlap = jnp.asarray(self.overlap)
        dtype = overlap.dtype
        key_task, key_noise = jax.random.split(rows)
        agree = jax.random.uniform(key_task, z.shape, dtype) < (1 + self.correlation) / 2
        task = jnp.where(agree, z, 1 - z)
        noise = jax.random.normal(key_noise, (len(z), self.dims), dtype)
        shared = jnp.asarray(self.noise_correlation)
        second = shared * noise[:, 0] + jnp.sqrt(1 - shared**2) * noise[:, 1]
        signal = jnp.asarray(self.task_strength) * (task - 0.5).astype(dtype)
        concept = jnp.asarray(self.strength) * (z - 0.5).astype(dtype)
        first = noise[:, 0] + concept + signal * overlap
        second = second + signal * jnp.sqrt(1 - overlap**2)
        x = jnp.concatenate([jnp.stack([first, second], axis=1), noise[:, 2:]], axis=1)
        if self.rotate:
            x = turned(population, x, 2)
        return Dataset(x=x, z=z, num_classes=2, task=task[:, None].astype(dtype))
