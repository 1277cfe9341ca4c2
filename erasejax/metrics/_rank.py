"""How many directions an eraser removes."""

from jaxtyping import Array, Int

from erasejax._core.types import FittedEraser
from erasejax.metrics._base import Metric

__all__ = ["Rank"]


class Rank(Metric):
    """How many directions an eraser removes.

    Example:
      >>> ej.metrics.Rank.name, ej.metrics.Rank.of
      ('rank', 'eraser')
    """

    name = "rank"
    of = "eraser"

    def compute(self, eraser: FittedEraser) -> Int[Array, ""]:
        """Returns the rank of a fitted eraser."""
        return eraser.rank
