"""L-BFGS with a preconditioner, for convex problems of many parameters."""

from typing import Any, NamedTuple

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


class _State(NamedTuple):
    u: jax.Array  # (d + 1, m)
    value: jax.Array
    gradient: jax.Array  # (d + 1, m)
    pairs: Any  # of the steps so far
    found: Any  # by the last line search
    least: jax.Array  # () curvature along any step so far
    rest: jax.Array  # () what should be left to gain
    count: jax.Array


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
        unit = jnp.pad(moments.correlation, (0, 1)).at[-1, -1].set(1)
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

    In u the gradient bounds what is left to gain: by half its square over the smallest curvature,
    near one where the Hessian is whole. The least curvature along the steps of a run stands for it.
    The last step is taken on trust.

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
    memory = optax.scale_by_lbfgs(memory_size=10)
    line = optax.scale_by_zoom_linesearch(20, initial_guess_strategy="one")

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

    def run(factors, point, u, seen, count, length):
        """Searches from a point, for as long as one Hessian is good for.

        Returns the end, whether it is the optimum, whether there is more to gain, and the count.
        `seen` is the value and the gradient at u, where they are known.
        """
        bars = [_barred(factors, j, scaled) for j in range(m)]
        stop = jnp.minimum(count + length, max_steps)

        def place(u):
            return unfold(factors, bars, point, u)

        def loss(u):
            return objective(place(u))

        def running(state: _State):
            return (state.rest > eps * (state.value + eps**0.5)) & (state.count < stop)

        def body(state: _State) -> _State:
            downhill, pairs = memory.update(state.gradient, state.pairs, state.u)
            change, found = line.update(
                -downhill,  # pyright: ignore
                state.found,
                state.u,
                value=state.value,
                grad=state.gradient,
                value_fn=loss,
            )
            gradient, moved = found.grad, jnp.sum(change * change)  # pyright: ignore
            along = jnp.sum(change * (gradient - state.gradient))  # pyright: ignore
            along = along * safe_reciprocal(moved, moved > 0)
            least = jnp.where(along > 0, jnp.minimum(state.least, along), state.least)
            squares = jnp.sum(gradient * gradient)  # pyright: ignore
            # Without a step that went anywhere nothing is known of the rest.
            bound = squares / (2 * jnp.where(least < jnp.inf, least, 0))
            return _State(
                u=state.u + change,  # pyright: ignore
                value=found.value,  # pyright: ignore
                gradient=gradient,
                pairs=pairs,
                found=found,
                least=least,
                rest=jnp.where(squares == 0, 0, bound),
                count=state.count + 1,
            )

        value, slope = problem.value_and_gradient(place(u)) if seen is None else seen
        (gradient,) = jax.vjp(place, u)[1](slope)
        large = jnp.full((), jnp.inf, value.dtype)
        first = _State(
            u=u,
            value=value,
            gradient=gradient,
            pairs=memory.init(u),
            found=line.init(u),
            least=large,
            rest=jnp.where(idle, 0, large),
            count=count,
        )
        last = jax.lax.while_loop(running, body, first)
        enough = eps * (last.value + eps**0.5)
        downhill, _ = memory.update(last.gradient, last.pairs, last.u)
        near = last.rest <= enough
        end = place(jnp.where(near, last.u - downhill, last.u))  # pyright: ignore
        # A run that gains nothing, with the Hessian of where it began, ends in rounding.
        stuck = (factors.lower.ndim > 2) & (value - last.value <= 16 * eps * last.value)
        # Not what is not near: a lane of NaN has nothing left, and is not there either.
        return end, near | stuck, (last.rest > enough) & ~stuck, last.count

    def unfinished(carry):
        *_, left, count = carry
        return left & (count < max_steps)

    def again(carry):
        point, *_, count = carry
        return run(_factors_at(problem, point), point, at_rest, None, count, _RUN)

    point = Point(jnp.zeros((p - 1, m), null.offset.dtype), null.offset)
    at_rest = jnp.zeros((p, m), null.offset.dtype)
    none = jnp.int32(0)
    if prepared.factors.lower.ndim > 2:
        first = run(prepared.factors, point, _first_step(prepared), None, none, _RUN)
    else:
        scores = jnp.broadcast_to(null.offset, problem.y.shape)
        value = jnp.sum(problem.share * problem.loss.rows(scores, problem.y))
        seen = value, Point(-_null_pull(prepared), jnp.zeros_like(null.offset))
        # As many iterations as cost about what the Hessian does.
        first = run(prepared.factors, point, at_rest, seen, none, _RUN + p // 8)
    point, done, *_ = jax.lax.while_loop(unfinished, again, first)
    weight = jnp.where(idle, 0, point.weight)
    return Point(weight, jnp.where(idle, null.offset, point.offset)), done  # pyright: ignore


def _null_pull(prepared: Prepared) -> jax.Array:
    """Returns minus the gradient at the null model, (d, m): the covariance of x and the labels."""
    return prepared.problem.loss.pull(prepared.moments.standard_xz)


def _first_step(prepared: Prepared) -> jax.Array:
    """Returns the Newton step from the null model, (d + 1, m), without a pass over the rows.

    The step is shortened where the curvature of the null model does not bound that of the loss.
    """
    factors = prepared.factors
    slopes = product("dm,ma->da", _null_pull(prepared), factors.turn)
    slopes = jnp.pad(slopes, ((0, 1), (0, 0)))
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
