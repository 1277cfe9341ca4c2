"""A projection that was found step by step, with an account of the steps."""

from typing import Self

from flax import struct
from jaxtyping import Array, Float, Int

from erasejax._core.views import number
from erasejax.projection._projection import Projection

__all__ = ["TracedProjection"]


@struct.dataclass
class TracedProjection(Projection):
    """A projection found step by step, with an account of the steps.

    `then` and `restrict` return a plain `Projection`: the account is of the whole search.

    Attributes:
      steps: () int32, how many directions or rounds were taken.
      trace: (m,) a number a step, whose meaning the eraser says; NaN beyond the last.

    Example:
      >>> data = ej.datasets.GaussianClasses(rows=3, dims=2).sample(jax.random.key(0))
      >>> eraser = ej.INLP(rounds=2, probe=ej.probes.LeastSquares()).fit(data)
      >>> isinstance(eraser, ej.TracedProjection), eraser.trace.shape
      (True, (2,))
    """

    steps: Int[Array, ""] = struct.field(kw_only=True)
    trace: Float[Array, " m"] = struct.field(kw_only=True)

    def _facts(self, lane: Self) -> dict[str, object]:
        return super()._facts(lane) | {"steps taken": number(self.steps, self.status)}

    @classmethod
    def of(
        cls, found: Projection, *, steps: Int[Array, ""], trace: Float[Array, " m"]
    ) -> "TracedProjection":
        """Returns a projection with the account of how it was found.

        Args:
          found: the projection.
          steps: see the attribute.
          trace: see the attribute.
        """
        return cls(
            kernel=found.kernel,
            test=found.test,
            center=found.center,
            rank=found.rank,
            status=found.status,
            flat=found.flat,
            strength=found.strength,
            steps=steps,
            trace=trace,
        )
