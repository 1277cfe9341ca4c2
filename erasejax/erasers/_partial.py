"""Erasing in part: any linear eraser at a strength."""

from typing import ClassVar

import jax
from flax import struct
from jax.typing import ArrayLike

from erasejax.erasers._base import Eraser
from erasejax.erasers._leace import LEACE
from erasejax.projection import Projection
from erasejax.rows import Dataset

__all__ = ["Partial"]


@struct.dataclass(kw_only=True)
class Partial(Eraser[Projection]):
    """Fits another eraser and applies a share of it, see `Projection.with_strength`.

    So that a sweep has the strength as an axis, beside erasers in full.

    Attributes:
      of: configuration of an eraser whose `fit` returns a `Projection`.
      strength: () a; 0 leaves rows as they are, 1 erases.

    Example:
      >>> data = ej.datasets.GaussianClasses(rows=3, dims=2).sample(jax.random.key(0))
      >>> half = ej.erasers.Partial(of=ej.LEACE(), strength=0.5).fit(data)
      >>> np.allclose(half(data.x), (data.x + ej.LEACE().fit(data)(data.x)) / 2, atol=1e-6)
      True
      >>> table = {"name": "partial", "of": "sal", "strength": [0.0, 0.5, 1.0]}
      >>> grid = ej.sweep.grid({"dataset": "xor-classes", "eraser": table})
    """

    name: ClassVar[str] = "partial"

    of: Eraser = struct.field(default_factory=LEACE)
    strength: ArrayLike = 1.0

    @property
    def needs_key(self) -> bool:
        """Whether `fit` needs a key: where that one does."""
        return self.of.needs_key

    @property
    def reads_task(self) -> bool:
        """Whether `fit` needs a task: where that one does."""
        return self.of.reads_task

    @property
    def passes(self) -> int:
        """Of a fit over all rows, about: those of that one."""
        return self.of.passes

    @property
    def keep_mean(self) -> bool:
        """Whether the mean of the rows stays where it is, as that one has it."""
        return getattr(self.of, "keep_mean", True)

    def _check(self, data: Dataset) -> None:
        self.of._check(data)

    def _fit(self, data: Dataset, key: jax.Array | None) -> Projection:
        fitted = self.of._fit(data, key)
        if not isinstance(fitted, Projection):
            raise TypeError(
                f"of: expected an eraser that fits a Projection, got {type(self.of).__name__}"
            )
        return fitted.with_strength(self.strength)
