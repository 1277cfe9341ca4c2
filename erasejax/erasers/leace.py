"""Least-squares concept erasure (LEACE)."""

import jax
from flax import struct
from jax.typing import ArrayLike

from erasejax.canonical import Solved, place, solve_data, solve_moments
from erasejax.data import Dataset
from erasejax.erasers.base import ClosedForm
from erasejax.moments import Moments
from erasejax.projection import Projection, oblique

__all__ = ["LEACE"]


@struct.dataclass(kw_only=True)
class LEACE(ClosedForm):
    """The least damaging affine eraser: K = Sigma_xz, T = S^+ Sigma_xz.

    Of all affine maps r with Cov(r(x), z) = 0 it minimises E |r(x) - x|^2 in every norm of x at
    once. It costs one Cholesky factorisation, of the smaller of (d, d) and (n, n); from `Moments`
    always (d, d). Shrinkage changes what reads the concept, never that it is erased: it raises the
    damage on the fitting rows, and may lower it on fresh ones.

    Where S is singular (fewer rows than features), erasers agree on the fitting rows and differ off
    them; here S^+ is the pseudo-inverse for features divided by their standard deviations.

    Attributes:
      shrinkage: () in [0, 1], weight s of the identity in the correlation matrix (1 - s) R + s I.
      shrinkage_rule: static; "fixed" takes `shrinkage`, "none" is 0, "oas" estimates it.
      keep_mean: static; True projects about the mean of the rows, False about the origin.

    References:
      Belrose et al. 2023, arXiv 2306.03819; Chen et al. 2010 (OAS), arXiv 0907.4698.
    """

    shrinkage: ArrayLike = 0.0
    shrinkage_rule: str = struct.field(pytree_node=False, default="fixed")
    keep_mean: bool = struct.field(pytree_node=False, default=True)

    def _fit(self, data: Dataset, key: jax.Array | None) -> Projection:
        return self._read(solve_data(data, rule=self.shrinkage_rule, shrinkage=self.shrinkage))

    def _solve(self, moments: Moments) -> Projection:
        return self._read(
            solve_moments(moments, rule=self.shrinkage_rule, shrinkage=self.shrinkage)
        )

    def _read(self, solved: Solved) -> Projection:
        moments = solved.moments
        about = place(moments, keep_mean=self.keep_mean)
        return oblique(
            solved.axes,
            solved.solved,
            scale=moments.sd,
            center=about.center,
            status=solved.status | about.status,
            flat=about.flat,
        )
