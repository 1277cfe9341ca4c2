"""Logistic regression, binary and multinomial."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.scipy.linalg import cho_solve
from jax.typing import ArrayLike

from erasejax import checks
from erasejax.canonical import concept_axes, is_null
from erasejax.checks import Status
from erasejax.data import Dataset, centered, codes
from erasejax.linalg import product, safe_reciprocal
from erasejax.moments import Moments
from erasejax.probes.base import LinearLikelihood, Probe
from erasejax.probes.logistic_search import (
    Prepared,
    prepare,
    probability,
    row_nats,
    search,
)
from erasejax.projection import Projection

__all__ = ["Logistic"]

_NEWTON_PARAMETERS = 128


@struct.dataclass(kw_only=True)
class Logistic(Probe):
    """Logistic regression: minimises the mean log-loss in nats plus (l2 / 2) |weight|^2.

    The bias is not penalised. scikit-learn's C is 1 / (l2 n). Two classes have one weight vector;
    k > 2 have k, penalised alike, whose sum over the classes is zero at the optimum.

    Up to 128 parameters Newton's method with backtracking, which takes about seven iterations;
    beyond them L-BFGS (optax) in variables that make the Hessian of the null model the identity:
    one Gram matrix and one factorisation, then a pass over the rows an iteration. Features are
    standardised inside, the penalty is not: the optimum is that of the formula above. Where the
    classes' means coincide the answer is the null model (zero weights, the log-odds of the classes
    in the bias) without an iteration.

    Attributes:
      l2: () penalty, >= 0. At 0 separable classes have no optimum and NOT_CONVERGED may be set.
      max_steps: static; bound on the iterations.
    """

    l2: ArrayLike = 1e-3
    max_steps: int = struct.field(pytree_node=False, default=100)

    def _fit(self, data: Dataset, key: jax.Array | None) -> LinearLikelihood:
        if not self._is_small(data):
            return self._search(self._prepare(data), None)
        moments = Moments.of(data, covariance=False)
        problem = _standardise(data, moments, jnp.asarray(self.l2))
        offset, idle, status = _null_model(moments, problem.contrasts)
        start = jnp.zeros((problem.x.shape[1], len(offset)), offset.dtype).at[-1].set(offset)
        solution, converged = _newton(problem, start, idle, self.max_steps)
        weight = solution[:-1] * safe_reciprocal(moments.sd, moments.sd > 0)[:, None]
        status = status | checks.flag(~converged & ~idle, Status.NOT_CONVERGED)
        return _fitted(weight, solution[-1], problem.contrasts, moments, idle, status)

    def _is_small(self, data: Dataset) -> bool:
        classes = data.num_classes or 2
        return (data.x.shape[1] + 1) * (classes - 1) <= _NEWTON_PARAMETERS

    def _prepare(self, data: Dataset) -> Any:
        if self._is_small(data):
            return None
        contrasts = jnp.asarray(_contrasts(data.num_classes or 2), checks.compute_dtype(data.x))
        return prepare(data, jnp.asarray(self.l2), contrasts)

    def _fit_through(
        self, prepared: Any, data: Dataset, through: Projection, key: jax.Array | None
    ) -> LinearLikelihood:
        if prepared is None:
            return super()._fit_through(prepared, data, through, key)
        return self._search(prepared, through.kernel)

    def _search(self, prepared: Prepared, basis: jax.Array | None) -> LinearLikelihood:
        """Returns the fit by L-BFGS to weights orthogonal to a basis (d, r)."""
        moments = prepared.moments
        if basis is None:
            basis = moments.xz[:, :0]
        free = moments.xz - product("dr,er,ek->dk", basis, basis, moments.xz)
        seen = moments.replace(xz=free)  # pyright: ignore[reportAttributeAccessIssue]
        offset, idle, status = _null_model(seen, prepared.contrasts)
        weight, offset, converged = search(prepared, basis, offset, idle, 10 * self.max_steps)
        status = status | checks.flag(~converged & ~idle, Status.NOT_CONVERGED)
        return _fitted(weight, offset, prepared.contrasts, moments, idle, status)


def _null_model(moments: Moments, contrasts: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns the null model's offset in contrasts, (m,), whether it is the answer, and a status.

    The offset is the log-odds of the classes.
    """
    _, status = concept_axes(moments)
    centred = contrasts - contrasts.mean(axis=0)
    unfold = jnp.linalg.pinv(centred) if centred.shape[1] > 1 else jnp.array([[-1.0, 1.0]])
    offset = product("mk,k->m", unfold.astype(contrasts.dtype), _log_share(moments))
    return offset, is_null(moments) | checks.failed(status), status


def _log_share(moments: Moments) -> jax.Array:
    share = moments.concept_mean
    return jnp.log(jnp.maximum(share, jnp.finfo(share.dtype).eps))


def _fitted(weight, offset, contrasts, moments: Moments, idle, status) -> LinearLikelihood:
    """Returns the probe from weight (d, m) and offset (m,) in contrasts."""
    weight = product("dm,km->dk", weight, contrasts)
    offset = jnp.where(idle, _log_share(moments), product("m,km->k", offset, contrasts))
    # A class without rows has no finite optimum: the constant gives it probability zero.
    offset = jnp.where(moments.concept_mean > 0, offset, -jnp.inf)
    if contrasts.shape[1] == 1:
        weight, offset = weight[:, 1] - weight[:, 0], offset[1] - offset[0]
    probe = LinearLikelihood(weight=weight, offset=offset, center=moments.mean, status=status)
    return checks.poison(probe, status)


class _Problem(NamedTuple):
    """A logistic problem in standardised features.

    Scores are x @ v @ contrasts^T for parameters v (p, m); the classes' contrasts remove the
    direction that no probability depends on, so the optimum is unique.
    """

    x: jax.Array  # (n, p), the last column ones
    y: jax.Array  # (n, m), one-hot labels in contrasts
    contrasts: jax.Array  # (k, m)
    weights: jax.Array | None  # (n,), sum 1; None for 1 / n each
    penalty: jax.Array  # (p,)

    def logits(self, v: jax.Array) -> jax.Array:
        return product("np,pm->nm", self.x, v)

    def loss(self, v: jax.Array, logits: jax.Array) -> jax.Array:
        """Returns mean nats plus penalty, ()."""
        nats = row_nats(logits, self.y, self.contrasts)
        return self.mean(nats) + jnp.sum(self.penalty[:, None] * v * v) / 2

    def mean(self, rows: jax.Array) -> jax.Array:
        return jnp.mean(rows) if self.weights is None else jnp.sum(self.weights * rows)

    def weigh(self, rows: jax.Array) -> jax.Array:
        """Returns rows (n, m) times their weights."""
        if self.weights is None:
            return rows / rows.shape[0]
        return rows * self.weights[:, None]

    def gradient_hessian(self, v, logits) -> tuple[jax.Array, jax.Array]:
        """Returns the gradient (p, m) and the Hessian (p m, p m)."""
        p, m = v.shape
        mean = probability(logits, self.contrasts)
        if m == 1:
            curvature = self.weigh(mean * (1 - mean))
            hessian = product("ni,nj->ij", self.x * curvature, self.x)
        else:
            shares = jax.nn.softmax(product("nm,km->nk", logits, self.contrasts), axis=1)
            second = product("nk,ka,kb->nab", shares, self.contrasts, self.contrasts)
            second = second - mean[:, :, None] * mean[:, None, :]
            second = self.weigh(second.reshape(-1, m * m)).reshape(-1, m, m)
            spread = (self.x[:, :, None, None] * second[:, None]).reshape(-1, p * m, m)
            hessian = product("nab,nj->ajb", spread, self.x).reshape(p * m, p * m)
        residual = self.weigh(mean - self.y)
        gradient = product("np,nm->pm", self.x, residual) + self.penalty[:, None] * v
        return gradient, hessian + jnp.diag(jnp.repeat(self.penalty, m))


def _standardise(data: Dataset, moments: Moments, l2: jax.Array) -> _Problem:
    """Returns the problem in standardised features."""
    dtype = moments.xz.dtype
    sd = moments.sd
    inverse = safe_reciprocal(sd, sd > 0)
    x = centered(data, moments.mean).x * inverse
    z, _ = codes(data, dtype)
    weights = None
    if data.weights is not None:
        weights = data.weights * safe_reciprocal(moments.total, moments.total > 0)
    x = jnp.concatenate([x, jnp.ones((x.shape[0], 1), dtype)], axis=1)
    contrasts = jnp.asarray(_contrasts(z.shape[1]), dtype)
    # A constant feature is all zeros here: any positive penalty keeps its weight at zero.
    penalty = jnp.append(jnp.where(sd > 0, l2 * inverse**2, 1), 0)
    return _Problem(x, product("nk,km->nm", z, contrasts), contrasts, weights, penalty)


def _contrasts(k: int) -> np.ndarray:
    """Returns what turns parameters into class scores, (k, m): scores = x @ v @ contrasts^T.

    Two classes have scores (0, x . v). More have orthonormal contrasts, so that the penalty on v is
    the penalty on the k weight vectors.
    """
    if k == 2:
        return np.array([[0.0], [1.0]])
    return np.linalg.svd(np.eye(k) - 1 / k)[0][:, : k - 1]


class _State(NamedTuple):
    v: jax.Array
    loss: jax.Array
    step: jax.Array
    length: jax.Array
    gap: jax.Array  # () half the squared Newton decrement: nats that the step should gain
    count: jax.Array


def _newton(problem: _Problem, start, idle, max_steps: int):
    """Returns (solution, converged) by Newton's method with backtracking.

    One iteration evaluates one trial point: taken if the loss falls enough, else the step is cut to
    a quarter. The last step, whose expected gain is below eps nats, is taken on trust.
    """
    eps = jnp.finfo(start.dtype).eps

    def running(state: _State):
        return (state.gap > eps) & (state.count < max_steps)

    def body(state: _State) -> _State:
        trial = state.v + state.length * state.step
        logits = problem.logits(trial)
        loss = problem.loss(trial, logits)
        enough = state.loss - state.length * state.gap / 4 + 8 * eps * state.loss
        taken = (loss <= enough) | (state.count == 0)
        gradient, hessian = problem.gradient_hessian(trial, logits)
        step = -_solve_positive(hessian, gradient.reshape(-1)).reshape(gradient.shape)
        gap = -jnp.sum(step * gradient) / 2
        return _State(
            v=jnp.where(taken, trial, state.v),
            loss=jnp.where(taken, loss, state.loss),
            step=jnp.where(taken, step, state.step),
            length=jnp.where(taken, 1, state.length / 4),
            gap=jnp.where(taken, gap, state.gap),
            count=state.count + 1,
        )

    one = jnp.ones((), start.dtype)
    first = _State(
        v=start,
        loss=one,
        step=jnp.zeros_like(start),
        length=one,
        gap=jnp.where(idle, 0, jnp.inf).astype(start.dtype),
        count=jnp.int32(0),
    )
    last = jax.lax.while_loop(running, body, first)
    converged = last.gap <= eps
    return jnp.where(converged, last.v + last.step, last.v), converged


def _solve_positive(matrix: jax.Array, rhs: jax.Array) -> jax.Array:
    """Returns A^-1 b for a positive definite A (p, p), equilibrated, with a ridge of p eps."""
    p = len(rhs)
    diagonal = jnp.diagonal(matrix)
    inverse = safe_reciprocal(jnp.sqrt(diagonal), diagonal > 0)
    ridge = 1 + p * jnp.finfo(matrix.dtype).eps
    unit = matrix * inverse[:, None] * inverse[None, :]
    unit = jnp.where(jnp.eye(p, dtype=bool), ridge, unit)
    return inverse * cho_solve((jnp.linalg.cholesky(unit), True), inverse * rhs)
