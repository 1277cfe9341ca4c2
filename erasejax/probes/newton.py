"""Newton's method with backtracking, for problems of few parameters."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.linalg import cho_solve

from erasejax.linalg import product, safe_reciprocal
from erasejax.probes.problem import Point, Problem

__all__ = ["newton"]


class _State(NamedTuple):
    v: jax.Array  # (d + 1, m)
    loss: jax.Array
    step: jax.Array
    length: jax.Array
    gap: jax.Array  # () half the squared Newton decrement: what the step should gain
    count: jax.Array


def newton(
    problem: Problem, offset: jax.Array, idle: jax.Array, max_steps: int
) -> tuple[Point, jax.Array]:
    """Returns the optimum, and whether it was reached.

    One iteration evaluates one trial point: taken if the loss falls enough, else the step is cut to
    a quarter. The last step, whose expected gain is below eps, is taken on trust.

    Args:
      problem: with (d + 1) m parameters.
      offset: (m,) to start from, with weights of zero.
      idle: (), whether that is the answer.
      max_steps: bound on the iterations.
    """
    eps = jnp.finfo(offset.dtype).eps
    x = jnp.concatenate([problem.x, jnp.ones_like(problem.x[:, :1])], axis=1)
    # A constant feature is all zeros: any positive penalty keeps its weight there.
    penalty = jnp.append(jnp.where(problem.inverse_sd > 0, problem.penalty()[:-1], 1), 0)

    def evaluate(v):
        scores = product("np,pm->nm", x, v)
        nats = jnp.sum(problem.share * problem.loss.rows(scores, problem.y))
        return nats + jnp.sum(penalty[:, None] * v * v) / 2, scores

    def running(state: _State):
        return (state.gap > eps) & (state.count < max_steps)

    def body(state: _State) -> _State:
        trial = state.v + state.length * state.step
        loss, scores = evaluate(trial)
        enough = state.loss - state.length * state.gap / 4 + 8 * eps * state.loss
        taken = (loss <= enough) | (state.count == 0)
        gradient, hessian = _derivatives(problem, x, penalty, trial, scores)
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

    one = jnp.ones((), offset.dtype)
    start = jnp.zeros((x.shape[1], len(offset)), offset.dtype).at[-1].set(offset)
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
    v = jnp.where(converged, last.v + last.step, last.v)
    return Point(v[:-1], v[-1]), converged


def _derivatives(
    problem: Problem, x: jax.Array, penalty: jax.Array, v: jax.Array, scores: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Returns the gradient (p, m) and the Hessian (p m, p m)."""
    p, m = v.shape
    share = problem.share[:, None]
    residual = share * problem.loss.residual(scores, problem.y)
    gradient = product("np,nm->pm", x, residual) + penalty[:, None] * v
    second = share[:, :, None] * problem.loss.hessian(scores, problem.y)
    if m == 1:
        hessian = product("ni,nj->ij", x * second[:, 0], x)
    else:
        spread = (x[:, :, None, None] * second[:, None]).reshape(-1, p * m, m)
        hessian = product("nab,nj->ajb", spread, x).reshape(p * m, p * m)
    return gradient, hessian + jnp.diag(jnp.repeat(penalty, m))


def _solve_positive(matrix: jax.Array, rhs: jax.Array) -> jax.Array:
    """Returns A^-1 b for a positive definite A (p, p), equilibrated, with a ridge of p eps."""
    p = len(rhs)
    diagonal = jnp.diagonal(matrix)
    inverse = safe_reciprocal(jnp.sqrt(diagonal), diagonal > 0)
    ridge = 1 + p * jnp.finfo(matrix.dtype).eps
    unit = matrix * inverse[:, None] * inverse[None, :]
    unit = jnp.where(jnp.eye(p, dtype=bool), ridge, unit)
    return inverse * cho_solve((jnp.linalg.cholesky(unit), True), inverse * rhs)
