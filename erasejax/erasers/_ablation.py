"""Ablation of given directions."""

from typing import ClassVar

import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float

from erasejax._core.pytrees import static
from erasejax._core.status import Status, flag
from erasejax.erasers._base import ClosedForm
from erasejax.projection import Projection, oblique
from erasejax.statistics import Moments

__all__ = ["Ablation"]


@struct.dataclass(kw_only=True)
class Ablation(ClosedForm[Projection]):
    """Projects out the span of directions that the caller names: K = T = V.

    The concept plays no part in it. Whether the label can still be read is for a probe to say.

    Attributes:
      directions: (d,) or (d, r), any lengths; dependent columns count once. Required.
      keep_mean: static; True projects about the mean of the rows, False about the origin.

    Example:
      >>> data = ej.datasets.GaussianClasses(rows=3, dims=2).sample(jax.random.key(0))
      >>> eraser = ej.Ablation(directions=jnp.array([1.0, 0.0])).fit(data)
      >>> float(jnp.ptp(eraser(data.x)[:, 0]))  # nothing varies along the direction any more
      0.0

    References:
      Arditi et al. 2024 (directional ablation), arXiv 2406.11717.
    """

    name: ClassVar[str] = "ablation"

    directions: Float[Array, " d *r"] | None = None
    keep_mean: bool = static(True)

    needs_covariance = False

    def _solve(self, moments: Moments) -> Projection:
        if self.directions is None:
            raise TypeError("directions: missing; Ablation(directions=V) with V (d,) or (d, r)")
        basis = self.directions[:, None] if self.directions.ndim == 1 else self.directions
        if basis.ndim != 2 or basis.shape[0] != moments.xz.shape[0]:
            raise ValueError(
                f"directions: expected ({moments.xz.shape[0]},) or ({moments.xz.shape[0]}, r) to "
                f"match x, got {self.directions.shape}"
            )
        return ablate(basis, moments, keep_mean=self.keep_mean)


def ablate(basis: Float[Array, "d r"], moments: Moments, *, keep_mean: bool) -> Projection:
    """Returns the orthogonal projection that removes span(basis), (d, r), about mean or origin."""
    center = moments.mean if keep_mean else jnp.zeros_like(moments.mean)
    length = jnp.max(jnp.abs(basis), axis=0)
    basis = basis / jnp.where(length > 0, length, 1)
    status = moments.outcome & ~jnp.uint32(Status.LABEL_RANGE)  # the labels are not used
    status = status | flag(~jnp.isfinite(basis).all(), Status.NONFINITE)
    return oblique(basis, basis, scale=jnp.ones_like(center), center=center, status=status)
