"""Projection along random directions: the control of every ablation."""

from typing import ClassVar

import jax
from flax import struct

from erasejax._core.pytrees import static
from erasejax.erasers._ablation import ablate
from erasejax.erasers._base import Eraser
from erasejax.projection import Projection
from erasejax.rows import Dataset
from erasejax.statistics import Moments

__all__ = ["RandomDirections"]


@struct.dataclass(kw_only=True)
class RandomDirections(Eraser[Projection]):
    """Projects out a uniformly random subspace; `fit` needs a key.

    Attributes:
      rank: static number of directions.
      keep_mean: static; True projects about the mean of the rows, False about the origin.

    Example:
      >>> data = ej.datasets.GaussianClasses(rows=3, dims=2).sample(jax.random.key(0))
      >>> eraser = ej.RandomDirections(rank=1).fit(data, key=jax.random.key(1))
      >>> eraser.kernel.shape, int(eraser.rank)
      ((2, 1), 1)
    """

    name: ClassVar[str] = "random-directions"

    rank: int = static(1)
    keep_mean: bool = static(True)

    needs_key = True

    def _fit(self, data: Dataset, key: jax.Array | None) -> Projection:
        moments = Moments.of(data, covariance=False)
        d, dtype = moments.xz.shape[0], moments.xz.dtype
        if not 1 <= self.rank <= d:
            raise ValueError(f"rank: expected 1 to {d} directions for x, got {self.rank}")
        assert key is not None
        # Gaussian columns span a uniformly random subspace.
        return ablate(
            jax.random.normal(key, (d, self.rank), dtype), moments, keep_mean=self.keep_mean
        )
