"""Iterative null-space projection (INLP)."""

from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import struct
from jax.typing import ArrayLike

from erasejax._core.pytrees import static
from erasejax._core.status import Status, flag
from erasejax.erasers._base import Eraser
from erasejax.probes import Logistic, Probe, recurse
from erasejax.projection import TracedProjection
from erasejax.rows import Dataset

__all__ = ["INLP"]


@struct.dataclass(kw_only=True)
class INLP(Eraser[TracedProjection]):
    """Projects out the weights of a linear probe, then those of one fitted to what is left, ...

    Every round fits the probe to the original rows, seen through the orthogonal projection off all
    weights found so far (one orthonormal basis of them, never a product of projections). It ends
    with a probe that predicts no better than the largest class; or after `rounds`, with the warning
    NOT_CONVERGED where the last of them still found something and the class means differ yet.

    Where features carry the label redundantly it takes many rounds: a weight follows the features
    that separate best for their noise, not the difference of the class means. That difference alone
    (`MeanDifference`) leaves nothing to a probe trained by a convex loss on the same rows.

    The result is a `TracedProjection`: its `trace` is the accuracy of each round's probe on the
    fitting rows (R^2 for real concepts), `steps` the rounds whose weights are projected out.

    Attributes:
      rounds: static; the most rounds.
      probe: configuration of a linear probe; one that draws gets `fold_in(key, round)`.
      stop_at: () accuracy, or R^2, at or below which to stop; None for the share of the largest
        class, and for an R^2 of 0.
      keep_mean: static; True projects about the mean of the rows, False about the origin.

    Example:
      >>> data = ej.datasets.GaussianClasses(rows=3, dims=2).sample(jax.random.key(0))
      >>> eraser = ej.INLP(rounds=2, probe=ej.probes.LeastSquares()).fit(data)
      >>> eraser.trace.shape, int(eraser.rank) == int(eraser.steps)
      ((2,), True)

    References:
      Ravfogel et al. 2020, arXiv 2004.07667.
    """

    name: ClassVar[str] = "inlp"

    rounds: int = static(20)
    probe: Probe = struct.field(default_factory=Logistic)
    stop_at: ArrayLike | None = None
    keep_mean: bool = static(True)

    @property
    def needs_key(self) -> bool:
        """Whether `fit` needs a key: where the probe does."""
        return self.probe.needs_key

    def remarks(self, fitted: TracedProjection) -> list[str]:
        """Returns what the last probe read, where the rounds ran out."""
        if int(fitted.steps) < self.rounds:
            return []
        left = f"{float(fitted.trace[-1]):.4g}"
        return [f"the probe of the last of {self.rounds} rounds read {left}"]

    def _check(self, data: Dataset) -> None:
        self.probe._check_concept(data)

    def _fit(self, data: Dataset, key: jax.Array | None) -> TracedProjection:
        found = recurse(self.probe, self.stop_at, data, key, self.rounds)
        rank = jnp.sum((found.basis != 0).any(axis=0)).astype(jnp.int32)
        return TracedProjection(
            kernel=found.basis,
            test=found.basis,
            center=found.center if self.keep_mean else 0 * found.center,
            rank=rank,
            # Of rows without any direction left only rounding would be, which follows the concept.
            flat=jnp.full(len(found.basis), rank == len(found.basis)),
            status=found.status | flag(found.steps == 0, Status.RANK_ZERO),
            trace=found.trace,
            steps=found.steps,
        )
