"""SPLINCE: erase one concept, keep another."""

from collections.abc import Mapping
from typing import Annotated, ClassVar

import jax
import jax.numpy as jnp
from flax import struct
from jax.typing import ArrayLike

from erasejax._core.pytrees import Within, static
from erasejax._core.status import Status, flag
from erasejax._linalg.products import product, safe_reciprocal
from erasejax.erasers._base import ClosedForm
from erasejax.projection import Projection, oblique
from erasejax.rows import Dataset
from erasejax.statistics import (
    Moments,
    ShrinkageRule,
    Solved,
    check_shrinkage,
    place,
    solve_data,
    solve_moments,
)

__all__ = ["SPLINCE"]


@struct.dataclass(kw_only=True)
class SPLINCE(ClosedForm[Projection]):
    """Erases z and keeps the covariance of x with a task y exactly: T^T Sigma_xy = 0.

    K = C and T = S^+ (C - D (D^T S^+ D)^+ D^T S^+ C), with C = Sigma_xz and D = Sigma_xy: what
    reads the concept is made blind to the task. It does the least damage of all maps that do both,
    and more than `LEACE`, the more the smaller the angle between the whitened spans of C and D.
    Where the sine of that angle is at most 8 sqrt(eps), rounding hides whether there is an angle at
    all: there erasure wins, LEACE's test is used, and the warning TASK_GIVEN_UP says so.

    `fit` takes the task as `task=`, (n,) or (n, t), or from the `Dataset`.

    Attributes:
      shrinkage: as in `LEACE`.
      shrinkage_rule: static; as in `LEACE`.
      keep_mean: static; True projects about the mean of the rows, False about the origin.

    Example:
      >>> data = ej.datasets.TwoConcepts(rows=3, dims=2).sample(jax.random.key(0))
      >>> erased = ej.SPLINCE().fit(data)(data.x)
      >>> task = data.task - data.task.mean()
      >>> np.allclose(task.T @ erased, task.T @ data.x, atol=1e-3)  # what the task reads is kept
      True
      >>> float(ej.metrics.linear_r2(erased, data.z))
      0.0

    References:
      Holstege et al. 2025 (SPLINCE), arXiv 2506.10703.
    """

    name: ClassVar[str] = "splince"
    needs_task = True

    shrinkage: Annotated[ArrayLike, Within(0, 1)] = 0.0
    shrinkage_rule: ShrinkageRule = static("fixed")
    keep_mean: bool = static(True)

    @classmethod
    def check_options(cls, given: Mapping[str, object]) -> None:
        """Checks that weight and rule of the shrinkage go together."""
        check_shrinkage(given)

    def _fit(self, data: Dataset, key: jax.Array | None) -> Projection:
        if data.task is None:
            raise TypeError("task: missing; SPLINCE keeps a task, fit(x, z, task=y)")
        return self._read(
            solve_data(data, rule=self.shrinkage_rule, shrinkage=self.shrinkage, task=True)
        )

    def _solve(self, moments: Moments) -> Projection:
        if not moments.task:
            raise ValueError(
                "task: these moments hold none; make them with Moments.init(d, k, task=t)"
            )
        return self._read(
            solve_moments(moments, rule=self.shrinkage_rule, shrinkage=self.shrinkage)
        )

    def _read(self, solved: Solved) -> Projection:
        moments = solved.moments
        about = place(moments, keep_mean=self.keep_mean)
        axes, test, given_up = blind(solved)
        return oblique(
            axes,
            test,
            scale=moments.sd,
            center=about.center,
            status=solved.status | about.status | flag(given_up, Status.TASK_GIVEN_UP),
            flat=about.flat,
        )


def blind(solved: Solved) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns (axes, tests, whether a direction of the task was given up).

    In the whitened space C and D have orthonormal bases; the singular values of their product are
    the cosines of the angles between the two spans. Along each principal direction of C its shadow
    in the span of D is taken off the test, where an angle is left.
    """
    eps = jnp.finfo(solved.axes.dtype).eps
    concept = _orthonormal(solved.axes, solved.solved)
    task = _orthonormal(solved.task_axes, solved.task_solved)
    axes, test = (product("dr,rs->ds", a, concept) for a in (solved.axes, solved.solved))
    task_axes, task_test = (
        product("dt,ts->ds", a, task) for a in (solved.task_axes, solved.task_solved)
    )
    u, cosines, vt = jnp.linalg.svd(product("dt,dr->tr", task_axes, test), full_matrices=False)
    # An angle is known to about the root of the rounding of its cosine.
    clash = 1 - cosines**2 <= 64 * eps
    shadow = product("dt,ts,s,sr->dr", task_test, u, jnp.where(clash, 0, cosines), vt)
    # Directions of C that clash keep LEACE's test whole.
    return axes, test - shadow, clash.any()


def _orthonormal(axes: jax.Array, solved: jax.Array) -> jax.Array:
    """Returns B (r, r) so that axes @ B is orthonormal in the metric S^+; zero columns if less."""
    squares = product("dr,ds->rs", axes, solved)
    values, vectors = jnp.linalg.eigh((squares + squares.T) / 2)
    eps = jnp.finfo(axes.dtype).eps
    kept = values > 64 * eps * jnp.maximum(jnp.max(values), 0) * len(values)
    return vectors * safe_reciprocal(jnp.sqrt(jnp.maximum(values, 0)), kept)
