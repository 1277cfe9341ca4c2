"""Least-squares concept erasure (LEACE)."""

from collections.abc import Mapping
from typing import Annotated, ClassVar

import jax
from flax import struct
from jax.typing import ArrayLike

from erasejax._core.pytrees import Within, static
from erasejax.erasers._base import ClosedForm
from erasejax.projection import Projection, oblique
from erasejax.rows import Dataset
from erasejax.statistics import (
    Conditional,
    Moments,
    ShrinkageRule,
    Solved,
    check_shrinkage,
    place,
    solve_data,
    solve_moments,
)

__all__ = ["LEACE"]


@struct.dataclass(kw_only=True)
class LEACE(ClosedForm[Projection]):
    """The least damaging affine eraser: K = Sigma_xz, T = S^+ Sigma_xz.

    Of all affine maps r with Cov(r(x), z) = 0 it minimises E |r(x) - x|^2 in every norm of x at
    once. It costs one Cholesky factorisation of the smaller of a (d, d) and an (n, n) matrix; from
    `Moments` always (d, d).

    Shrinkage changes what reads the concept, never that it is erased: it raises the damage on the
    fitting rows, and lowers it on fresh ones where rows are few. Near n = d it is needed: without
    it the damage to fresh rows is 3 to 270 times as much. From n = 4 d on it gains up to a quarter
    where features are hardly correlated, and costs up to an eighth where some directions have
    almost no variance, which are the ones to read. Of the two estimates "oas" shrinks more, which
    is better for n <= d and uncorrelated features; "schaefer-strimmer" is better for correlated
    ones from n = 2 d on, most of all for few; see docs/shrinkage.md.

    Where S is singular (fewer rows than features), erasers agree on the fitting rows and differ off
    them; here S^+ is the pseudo-inverse for features divided by their standard deviations.

    Attributes:
      shrinkage: () in [0, 1], weight s of the identity in the correlation matrix (1 - s) R + s I.
      shrinkage_rule: static; "fixed" takes `shrinkage`, "none" is 0, "schaefer-strimmer" estimates
        the weight for Gaussian correlations, "oas" as for a covariance.
      keep_mean: static; True projects about the mean of the rows, False about the origin.
      given: static; what erasing leaves alone of the concept, because a task y says so, `fit(x, z,
        task=y)`. "none": nothing, Cov(r(x), z) = 0. "pooled": the mean over y of Cov(r(x), z | y)
        becomes 0, at k - 1 directions. "each": Cov(r(x), z | y) becomes 0 for every y, at up to
        m (k - 1) directions. Demographic parity wants the first, equalised odds the second, which
        is mostly enough, or the last.

    Example:
      >>> data = ej.datasets.GaussianClasses(rows=3, dims=2).sample(jax.random.key(0))
      >>> eraser = ej.LEACE().fit(data)
      >>> float(ej.metrics.linear_r2(data)) > 0.1
      True
      >>> float(ej.metrics.linear_r2(eraser(data.x), data.z))
      0.0

    References:
      Belrose et al. 2023, arXiv 2306.03819; Schaefer and Strimmer 2005, doi
      10.2202/1544-6115.1175; Chen et al. 2010 (OAS), arXiv 0907.4698.
    """

    name: ClassVar[str] = "leace"

    shrinkage: Annotated[ArrayLike, Within(0, 1)] = 0.0
    shrinkage_rule: ShrinkageRule = static("fixed")
    keep_mean: bool = static(True)
    given: Conditional = static("none")

    shared_covariance = True

    @classmethod
    def check_options(cls, given: Mapping[str, object]) -> None:
        """Checks that weight and rule of the shrinkage go together."""
        check_shrinkage(given)

    def _fit(self, data: Dataset, key: jax.Array | None) -> Projection:
        data = self.concept(data)
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
