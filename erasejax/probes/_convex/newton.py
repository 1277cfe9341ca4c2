"""Newton's method with backtracking, for problems of few parameters."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from erasejax._linalg import products, solves
from erasejax._linalg.products import product, safe_reciprocal
from erasejax.probes._convex.problem import Point, Problem

__all__ = ["newton"]


class _State(NamedTuple):
    v: jax.Array  # (d + 1, m)
    loss: jax.Array
    scores: jax.Array  # (n, m)
    step: jax.Array
    turn: jax.Array  # (n, m) what the step adds to the scores
    length: jax.Array
    gap: jax.Array  # () half the squared Newton decrement: what the step should gain
    rest: jax.Array  # () what should be left to gain after it
    count: jax.Array


def newton(
    problem: Problem, offset: jax.Array, idle: jax.Array, max_steps: int
) -> tuple[Point, jax.Array]:
    """Returns the optimum, and whether it was reached.

    One iteration evaluates one trial point: taken if the loss falls enough, else the step is cut to
    a quarter. The last step is taken on trust: one that changes curvatures by a share of t leaves
    about t^2 of its gain.

    Args:
      problem: with (d + 1) m parameters.
      offset: (m,) to start from, with weights of zero.
      idle: (), whether that is the answer.
      max_steps: bound on the iterations.
    """
    eps = jnp.finfo(offset.dtype).eps
    # Features first: of small problems side by side, the Hessian so takes half the time.
    x = jnp.concatenate([problem.x, jnp.ones_like(problem.x[:, :1])], axis=1).T
    # A constant feature is all zeros: any positive penalty keeps its weight there.
    penalty = jnp.append(jnp.where(problem.inverse_sd > 0, problem.penalty()[:-1], 1), 0)

    def running(state: _State):
        return (state.rest > eps) & (state.count < max_steps)

    def body(state: _State) -> _State:
        trial = state.v + state.length * state.step
        scores = state.scores + state.length * state.turn
        loss = jnp.sum(problem.share * problem.loss.rows(scores, problem.y))
        loss = loss + jnp.sum(penalty[:, None] * trial * trial) / 2
        enough = state.loss - state.length * state.gap / 4 + 8 * eps * state.loss
        taken = (loss <= enough) | (state.count == 0)
        gradient, hessian = _derivatives(problem, x, penalty, trial, scores)
        step = -_solve_positive(hessian, gradient.reshape(-1)).reshape(gradient.shape)
        gap = -jnp.sum(step * gradient) / 2
        turn = product("pn,pm->nm", x, step)
        largest = jnp.max(jnp.where(problem.share[:, None] != 0, jnp.abs(turn), 0))
        rest = gap * problem.loss.bend(largest) ** 2
        return _State(
            v=jnp.where(taken, trial, state.v),
            loss=jnp.where(taken, loss, state.loss),
            scores=jnp.where(taken, scores, state.scores),
            step=jnp.where(taken, step, state.step),
            turn=jnp.where(taken, turn, state.turn),
            length=jnp.where(
                state.count == 0, problem.loss.reach(gap), jnp.where(taken, 1, state.length / 4)
            ),
            gap=jnp.where(taken, gap, state.gap),
            rest=jnp.where(taken, rest, state.rest),
            count=state.count + 1,
        )

    one = jnp.ones((), offset.dtype)
    start = jnp.zeros((x.shape[0], len(offset)), offset.dtype).at[-1].set(offset)
    scores = jnp.broadcast_to(offset, problem.y.shape)
    first = _State(
        v=start,
        loss=one,
        scores=scores,
        step=jnp.zeros_like(start),
        turn=jnp.zeros_like(scores),
        length=one,
        gap=jnp.zeros_like(one),
        rest=jnp.where(idle, 0, jnp.inf).astype(start.dtype),
        count=jnp.int32(0),
    )
    last = jax.lax.while_loop(running, body, first)
    converged = last.rest <= eps
    v = jnp.where(converged, last.v + last.step, last.v)
    return Point(v[:-1], v[-1]), converged


def _derivatives(
    problem: Problem, x: jax.Array, penalty: jax.Array, v: jax.Array, scores: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Returns the gradient (p, m) and the Hessian (p m, p m), of features first, x (p, n)."""
    p, m = v.shape

    def part(x: jax.Array, scores: jax.Array, y: jax.Array, share: jax.Array, fresh):
        share = (share if fresh is None else jnp.where(fresh, share, 0))[:, None]
        residual = share * problem.loss.residual(scores.T, y.T)
        second = share[:, :, None] * problem.loss.hessian(scores.T, y.T)
        spread = (x[:, None, None] * second.transpose(1, 2, 0)).reshape(p * m * m, -1)
        return product("pn,nm->pm", x, residual), product("an,jn->aj", spread, x)

    rows = x, scores.T, problem.y.T, problem.share
    whole, filled = problem.filled is None, problem.filled
    gradient, hessian = products.sum_over_rows(part, rows, whole=whole, filled=filled, axis=-1)
    hessian = hessian.reshape(p, m, m, p).transpose(0, 1, 3, 2).reshape(p * m, p * m)
    return gradient + penalty[:, None] * v, hessian + jnp.diag(jnp.repeat(penalty, m))


def _solve_positive(matrix: jax.Array, rhs: jax.Array) -> jax.Array:
    """Returns A^-1 b for a positive definite A (p, p), equilibrated, with a ridge of p eps."""
    p = len(rhs)
    diagonal = jnp.diagonal(matrix)
    inverse = safe_reciprocal(jnp.sqrt(diagonal), diagonal > 0)
    ridge = 1 + p * jnp.finfo(matrix.dtype).eps
    unit = matrix * inverse[:, None] * inverse[None, :]
    unit = jnp.where(jnp.eye(p, dtype=bool), ridge, unit)
    lower = solves.cholesky(unit)
    half = solves.triangular_solve(lower, (inverse * rhs)[:, None])
    return inverse * solves.triangular_solve(lower, half, transpose=True)[:, 0]
