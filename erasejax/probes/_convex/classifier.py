"""Linear classifiers fitted to the optimum of a convex loss: which solver, and the null model."""

from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from erasejax._core.status import Status, failed, flag, poison
from erasejax._linalg.lanes import in_turn
from erasejax._linalg.products import safe_reciprocal
from erasejax.probes._base import LinearClassifier, Probe
from erasejax.probes._convex.lbfgs import Prepared, Start, Until, begin, prepare, search
from erasejax.probes._convex.losses import Loss
from erasejax.probes._convex.newton import newton
from erasejax.probes._convex.problem import Point, Problem, standardized
from erasejax.projection import Projection
from erasejax.rows import Dataset
from erasejax.statistics import Moments, knowing, known_moments, null_model, whitening

__all__ = ["ConvexClassifier"]

C = TypeVar("C", bound=LinearClassifier, covariant=True)

_NEWTON_PARAMETERS = 128
# In a Hessian. Beyond it a fit is slower by a millisecond and more, and some hundred of them by
# what L-BFGS takes longer to compile.
_NEWTON_PRODUCTS = 2**23


class ConvexClassifier(Probe[C]):
    """A probe that minimises the mean of a convex loss plus (l2 / 2) |weight|^2, bias free.

    By Newton's method with backtracking where a Hessian costs little, n p^2 up to eight million for
    n rows and p parameters, at most 128 of them; else by L-BFGS. Subclasses have fields `l2` and
    `max_steps`, and write `_loss` and `_fitted`.
    """

    shared_covariance = False

    l2: ArrayLike
    max_steps: int

    def _loss(self, classes: int, dtype: np.dtype) -> Loss:
        raise NotImplementedError

    def _fitted(self, weight: jax.Array, offset: jax.Array, moments: Moments, idle: jax.Array) -> C:
        """Returns the probe from weight (d, m) and offset (m,), with a status of 0.

        Args:
          weight: of the features as they are.
          offset: scores at the mean.
          moments: of the fitting rows.
          idle: (), whether this is the null model.
        """
        raise NotImplementedError

    def _fit(self, data: Dataset, key: jax.Array | None) -> C:
        return _fit_in_turn(self, data, known_moments(data))

    def _fit_alone(self, data: Dataset) -> C:
        small = self._is_small(data)
        moments = Moments.of(data, covariance=False)
        problem = self._problem(data, moments)
        idle, status = _null(moments)
        if small:
            offset = problem.loss.null(moments.concept_mean).offset
            point, converged = newton(problem, offset, idle, self.max_steps)
        else:
            nothing = moments.xz[:, :0]
            ready = prepare(problem, moments, whole=False)
            point, converged, _ = search(ready, nothing, idle, 10 * self.max_steps)
        return self._assemble(point, converged, moments, idle, status)

    def _prepare(self, data: Dataset) -> Prepared | None:
        if self._is_small(data):
            return None
        moments = Moments.of(data)
        return prepare(self._problem(data, moments), moments, whole=True)

    def _begin(self, prepared: Prepared | None) -> Start | None:
        return None if prepared is None else begin(prepared)

    def _fit_through(
        self, prepared: Prepared | None, data: Dataset, through: Projection, key: jax.Array | None
    ) -> C:
        if prepared is None:
            return super()._fit_through(prepared, data, through, key)
        return self._search_through(prepared, through, None, None)[0]

    def _follow_through(
        self,
        prepared: Prepared | None,
        data: Dataset,
        through: Projection,
        start: Start | None,
        until: Until | None,
    ) -> tuple[C, Start | None]:
        if prepared is None:
            return super()._follow_through(prepared, data, through, start, until)
        problem = prepared.problem._replace(l2=jnp.asarray(self.l2))
        return self._search_through(prepared._replace(problem=problem), through, start, until)

    def _search_through(
        self,
        prepared: Prepared,
        through: Projection,
        start: Start | None,
        until: Until | None,
    ) -> tuple[C, Start | None]:
        moments, basis = prepared.moments, through.kernel
        idle, status = _null(moments._off(basis))
        most = 10 * self.max_steps
        point, converged, end = search(prepared, basis, idle, most, start, until)
        return self._assemble(point, converged, moments, idle, status), end

    def _is_small(self, data: Dataset) -> bool:
        columns = self._loss(data.num_classes or 2, np.dtype(jnp.float32)).columns
        rows, dims = data.x.shape
        parameters = (dims + 1) * columns
        return parameters <= _NEWTON_PARAMETERS and rows * parameters**2 <= _NEWTON_PRODUCTS

    def _problem(self, data: Dataset, moments: Moments) -> Problem:
        loss = self._loss(data.num_classes or 2, moments.xz.dtype)
        return standardized(data, moments, loss, jnp.asarray(self.l2))

    def _assemble(
        self,
        point: Point,
        converged: jax.Array,
        moments: Moments,
        idle: jax.Array,
        status: jax.Array,
    ) -> C:
        inverse = safe_reciprocal(moments.sd, moments.sd > 0)[:, None]
        probe = self._fitted(inverse * point.weight, point.offset, moments, idle)
        status = status | flag(~converged & ~idle, Status.NOT_CONVERGED)
        status = status | flag(~jnp.isfinite(probe.weight).all(), Status.NONFINITE)
        return poison(probe.replace(status=status), status)


@in_turn
def _fit_in_turn(probe: ConvexClassifier[C], data: Dataset, moments: Moments | None) -> C:
    with knowing(data, moments):
        return probe._fit_alone(data)


def _null(moments: Moments) -> tuple[jax.Array, jax.Array]:
    """Returns whether there is nothing to fit, and the status of the rows.

    Where the class means coincide the constant is optimal, whatever the convex loss.
    """
    _, status = whitening(moments)
    null, unresolved = null_model(moments)
    return null | failed(status), status | unresolved
