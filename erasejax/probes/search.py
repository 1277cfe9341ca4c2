"""L-BFGS with a preconditioner, for convex problems of many parameters."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from erasejax import linalg, solves
from erasejax.linalg import product, safe_reciprocal
from erasejax.moments import Moments
from erasejax.probes.losses import Null
from erasejax.probes.problem import Point, Problem

__all__ = ["Prepared", "prepare", "search"]

_RUN = 20  # iterations before the Hessian is taken anew


class _Factors(NamedTuple):
    """A Hessian that falls apart into a (d + 1, d + 1) matrix a column of the turned parameters.

    The last row is the offset's.
    """

    lower: jax.Array  # (m, d + 1, d + 1) Cholesky factors, or (m, d + 1) of diagonals alone
    turn: jax.Array  # (m, m) orthogonal: columns of scores from these columns

    def solve(self, column: int, rhs: jax.Array, *, transpose: bool = False) -> jax.Array:
        """Returns L^-1 B, or L^-T B, (d + 1, r)."""
        lower = self.lower[column]
        if lower.ndim == 1:
            return rhs / lower[:, None]
        return solves.triangular_solve(lower, rhs, transpose=transpose)


class Prepared(NamedTuple):
    """A problem, and the Hessian of its null model in factors."""

    problem: Problem
    moments: Moments
    null: Null
    factors: _Factors


def prepare(problem: Problem, moments: Moments, *, whole: bool) -> Prepared:
    """Returns what a search needs to begin.

    The Hessian of the null model is C x S + the penalty, with S the covariance of x, and C that of
    the loss. The eigenvectors of C turn it into one matrix a column.

    Args:
      problem: the problem.
      moments: of its rows, with the covariance where `whole`.
      whole: whether to factorise that Hessian, which pays where several searches share it, or its
        diagonal only.
    """
    null = problem.loss.null(moments.concept_mean)
    penalty = problem.penalty()
    if whole:
        unit = solves.equilibrate(moments.covariance, moments.sd)
        unit = jnp.pad(unit, (0, 1)).at[-1, -1].set(1)
        lower = jnp.stack([_factor(value * unit, penalty) for value in null.curvature])
    else:
        lower = jnp.sqrt(null.curvature[:, None] + penalty)
    return Prepared(problem, moments, null, _Factors(lower, null.turn))


def _factor(hessian: jax.Array, penalty: jax.Array) -> jax.Array:
    """Returns the Cholesky factor of a Hessian (p, p) with a penalty (p,) and a ridge."""
    diagonal = jnp.diagonal(hessian)
    whole = diagonal * (1 + 64 * jnp.finfo(hessian.dtype).eps) + penalty
    whole = jnp.where(whole > 0, whole, 1)  # a constant feature
    eye = jnp.eye(len(whole), dtype=bool)
    return solves.cholesky(jnp.where(eye, whole, hessian))  # pyright: ignore


def search(
    prepared: Prepared, basis: jax.Array, idle: jax.Array, max_steps: int
) -> tuple[Point, jax.Array]:
    """Returns the optimum, and whether the search converged.

    The variables u are those in which the Hessian, on weights orthogonal to the basis, is the
    identity: at first that of the null model, or its diagonal. With the whole of it the search
    starts from the step that is optimal for it, about a linear discriminant. An iteration is a pass
    over the rows each way. Where a run of them does not suffice, as on separable classes or
    correlated features, the Hessian at that point takes its place.

    In u the gradient bounds the distance to the optimum by the smallest eigenvalue of the Hessian:
    near one, or for the diagonal the penalty's share of it, at least.

    Args:
      prepared: problem and factors.
      basis: (d, r) orthonormal or zero columns that the weights are orthogonal to; r may be 0.
      idle: (), whether the null model is the answer.
      max_steps: bound on the iterations.
    """
    problem, null = prepared.problem, prepared.null
    eps = jnp.finfo(null.offset.dtype).eps
    p, m = len(basis) + 1, len(null.offset)
    # The weights of standardised features are orthogonal to this.
    scaled = jnp.pad(problem.inverse_sd[:, None] * basis, ((0, 1), (0, 0)))
    solver = optax.lbfgs(memory_size=10)

    @jax.custom_vjp
    def objective(point):
        return problem.value_and_gradient(point)[0]

    objective.defvjp(
        problem.value_and_gradient,
        lambda slope, g: (Point(g * slope.weight, g * slope.offset),),
    )

    def unfold(factors, bars, point, u):
        columns = [
            factors.solve(j, _free(bar, u[:, j : j + 1]), transpose=True)
            for j, bar in enumerate(bars)
        ]
        change = product("pa,ba->pb", jnp.concatenate(columns, axis=1), factors.turn)
        return Point(point.weight + change[:-1], point.offset + change[-1])

    def run(factors, point, u, start, count, length, enough):
        """Searches from a point, for as long as one Hessian is good for."""
        bars = [_barred(factors, j, scaled) for j in range(m)]
        stop = jnp.minimum(count + length, max_steps)

        def loss(u):
            return objective(unfold(factors, bars, point, u))

        value_and_grad = optax.value_and_grad_from_state(loss)

        def running(carry):
            *_, size, count = carry
            return (size > enough) & (count < stop)

        def body(carry):
            u, state, _, _, count = carry
            value, gradient = value_and_grad(u, state=state)
            updates, state = solver.update(
                gradient, state, u, value=value, grad=gradient, value_fn=loss
            )
            size = jnp.linalg.norm(jnp.asarray(gradient)) / (eps**0.5 + value)
            # At the optimum the last step is rounding.
            u = jnp.where(size > enough, optax.apply_updates(u, updates), u)  # pyright: ignore
            return u, state, value, size, count + 1

        size = jnp.where(idle, 0, jnp.inf).astype(start.dtype)
        u, _, value, size, count = jax.lax.while_loop(
            running, body, (u, solver.init(u), start, size, count)
        )
        point = unfold(factors, bars, point, u)
        # A run that gains nothing, with the Hessian of where it began, ends in rounding.
        stuck = (factors.lower.ndim > 2) & (start - value <= 16 * eps * value)
        return point, value, (size <= enough) | stuck, count

    def unfinished(carry):
        *_, done, count = carry
        return ~done & (count < max_steps)

    def again(carry):
        point, value, _, count = carry
        at_rest = jnp.zeros((p, m), value.dtype)
        factors = _factors_at(problem, point)
        return run(factors, point, at_rest, value, count, _RUN, eps**0.5)

    point = Point(jnp.zeros((p - 1, m), null.offset.dtype), null.offset)
    length, enough, u = _RUN, jnp.asarray(eps**0.5, point.offset.dtype), None
    if prepared.factors.lower.ndim > 2:
        u = _first_step(prepared)
    else:
        # As many as cost about what the Hessian does.
        length, u = _RUN + p // 8, jnp.zeros((p, m), point.offset.dtype)
        varies = problem.inverse_sd > 0
        penalty = problem.penalty()[:-1]
        part = penalty / (jnp.max(null.curvature) + penalty)
        enough = enough * jnp.sqrt(jnp.min(jnp.where(varies, part, 1)))
    worst = jnp.full((), jnp.inf, point.offset.dtype)
    first = run(prepared.factors, point, u, worst, jnp.int32(0), length, enough)
    point, _, done, _ = jax.lax.while_loop(unfinished, again, first)
    weight = jnp.where(idle, 0, point.weight)
    return Point(weight, jnp.where(idle, null.offset, point.offset)), done  # pyright: ignore


def _first_step(prepared: Prepared) -> jax.Array:
    """Returns the Newton step from the null model, (d + 1, m), without a pass over the rows.

    The gradient there is the covariance of x and the labels. The step is shortened where the
    curvature of the null model does not bound that of the loss.
    """
    problem, moments, factors = prepared.problem, prepared.moments, prepared.factors
    slopes = product("dm,ma->da", problem.loss.pull(moments.xz), factors.turn)
    slopes = slopes * safe_reciprocal(moments.total, moments.total > 0)
    slopes = jnp.pad(problem.inverse_sd[:, None] * slopes, ((0, 1), (0, 0)))
    steps = [factors.solve(j, slopes[:, j : j + 1]) for j in range(slopes.shape[1])]
    return jnp.concatenate(steps, axis=1) * prepared.null.safe


def _factors_at(problem: Problem, point: Point) -> _Factors:
    """Returns the Hessian at a point, without what it has between different columns."""

    def part(x, y, share, fresh):
        scores = product("nd,dm->nm", x, point.weight) + point.offset
        share = share if fresh is None else jnp.where(fresh, share, 0)
        heavy = share[:, None] * problem.loss.curvature(scores, y)  # pyright: ignore
        x = jnp.concatenate([x, jnp.ones_like(x[:, :1])], axis=1)
        return [linalg.gram(x, x * one[:, None]) for one in heavy.T]

    hessians = linalg.sum_over_rows(part, (problem.x, problem.y, problem.share))
    lower = jnp.stack([_factor(hessian, problem.penalty()) for hessian in hessians])
    return _Factors(lower, jnp.eye(len(hessians), dtype=lower.dtype))


def _free(bar: jax.Array, u: jax.Array) -> jax.Array:
    """Returns u (p, m) without its part in the span of the orthonormal columns of `bar`."""
    return u - product("pr,qr,qm->pm", bar, bar, u)


def _barred(factors: _Factors, column: int, basis: jax.Array) -> jax.Array:
    """Returns orthonormal columns for L^-1 B, (d + 1, r): what L^-T u may not hold of u."""
    if basis.shape[1] == 0:
        return basis
    solved = factors.solve(column, basis)
    transform, _ = linalg.right_basis(solved, 0)
    return product("dr,rs->ds", solved, transform)
