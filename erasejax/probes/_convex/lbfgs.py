"""L-BFGS with a preconditioner, for convex problems of many parameters."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from erasejax._linalg import products, solves
from erasejax._linalg.products import product, safe_reciprocal
from erasejax.probes._convex.losses import Null
from erasejax.probes._convex.problem import Point, Problem
from erasejax.statistics import Moments

__all__ = ["Prepared", "Start", "Until", "begin", "prepare", "search"]

_RUN = 20  # iterations before the Hessian is taken anew


class _Factors(NamedTuple):
    """A Hessian that falls apart into a (d + 1, d + 1) matrix a column of the turned parameters.

    The last row is the offset's.
    """

    lower: jax.Array  # (m, d + 1, d + 1) Cholesky factors, or (m, d + 1) of diagonals alone
    turn: jax.Array  # (m, m) orthogonal: columns of scores from these columns

    def solve(self, columns: jax.Array, *, transpose: bool = False) -> jax.Array:
        """Returns L^-1 b, or L^-T b, of each column b with its own L: (d + 1, m)."""
        if self.lower.ndim == 2:
            return columns / self.lower.T

        def one(lower, b):
            return solves.triangular_solve(lower, b[:, None], transpose=transpose)[:, 0]

        return _each(one, self.lower, columns.T).T


class Prepared(NamedTuple):
    """A problem, and the Hessian of its null model in factors."""

    problem: Problem
    moments: Moments
    null: Null
    factors: _Factors


class Start(NamedTuple):
    """Where a search begins, or ended.

    Attributes:
      point: near the optimum.
      factors: of a Hessian near that point.
    """

    point: Point
    factors: _Factors


class Until(NamedTuple):
    """When a search may end early.

    Attributes:
      tolerance: () share of the loss that may be left to gain; no less than rounding.
      floor: () loss below which nobody asks for the optimum.
    """

    tolerance: jax.Array
    floor: jax.Array


class _State(NamedTuple):
    u: jax.Array  # (d + 1, m)
    value: jax.Array
    gradient: jax.Array  # (d + 1, m)
    pairs: object  # of the steps so far
    found: object  # by the last line search
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
        lower = _each(lambda value: _factor(value * unit, penalty), null.curvature)
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


def begin(prepared: Prepared) -> Start:
    """Returns the Newton step from the null model, without a pass over the rows.

    The step is shortened where the curvature of the null model does not bound that of the loss.

    Args:
      prepared: with the whole Hessian of the null model.
    """
    null, factors = prepared.null, prepared.factors
    slopes = jnp.pad(product("dm,ma->da", _null_pull(prepared), factors.turn), ((0, 1), (0, 0)))
    point = Point(jnp.zeros_like(slopes[:-1]), null.offset)
    return Start(_moved(factors, point, factors.solve(slopes) * null.safe), factors)


def search(
    prepared: Prepared,
    basis: jax.Array,
    idle: jax.Array,
    max_steps: int,
    start: Start | None = None,
    until: Until | None = None,
) -> tuple[Point, jax.Array, Start | None]:
    """Returns the optimum, whether the search converged, and where another one may begin.

    The variables u are those in which the Hessian, on weights orthogonal to the basis, is the
    identity: at first that of the start, or the diagonal of the null model's. With the whole of the
    null model's the search starts from the step that is optimal for it, about a linear
    discriminant. An iteration is a pass over the rows each way. Where a run of them does not
    suffice, as on separable classes or correlated features, the Hessian at that point takes its
    place.

    In u the gradient bounds what is left to gain: by half its square over the smallest curvature,
    near one where the Hessian is whole. The least curvature along the steps of a run stands for it.
    The last step is taken on trust.

    Args:
      prepared: problem and factors.
      basis: (d, r) orthonormal or zero columns that the weights are orthogonal to; r may be 0.
      idle: (), whether the null model is the answer.
      max_steps: bound on the iterations.
      start: where a search of the same rows through another basis, or with another penalty, ended;
        None for the null model.
      until: when to end early; None for at the optimum.
    """
    import optax  # when it is needed: it takes a while

    problem, null = prepared.problem, prepared.null
    eps = jnp.finfo(null.offset.dtype).eps
    least = eps if until is None else jnp.maximum(until.tolerance, eps)
    floor = -jnp.inf if until is None else until.floor
    p, m = len(basis) + 1, len(null.offset)
    # The weights of standardised features are orthogonal to this.
    scaled = jnp.pad(problem.inverse_sd[:, None] * basis, ((0, 1), (0, 0)))
    memory: Any = optax.scale_by_lbfgs(memory_size=10)
    line: Any = optax.scale_by_zoom_linesearch(20, initial_guess_strategy="one")

    def run(factors, point, seen, count, length):
        """Searches from a point, for as long as one Hessian is good for.

        Returns the end, whether it is the optimum, whether there is more to gain, and the count.
        `seen` is the value and the gradient at the point, where they are known.
        """
        bars = _barred(factors, scaled)
        stop = jnp.minimum(count + length, max_steps)
        if bars is not None:
            point = _moved(factors, point, -_along(bars, _unmoved(factors, point)))

        def place(u):
            return _moved(factors, point, _free(bars, u))

        def slope(change):
            both = jnp.concatenate([change.weight, change.offset[None]])
            turned = product("pb,ba->pa", both, factors.turn)
            return _free(bars, factors.solve(turned))

        def value_and_slope(u):
            value, change = problem.value_and_gradient(place(u))
            return value, slope(change)

        @jax.custom_vjp
        def loss(u):
            return value_and_slope(u)[0]

        loss.defvjp(value_and_slope, lambda gradient, g: (g * gradient,))

        def running(state: _State):
            more = (state.rest > least * (state.value + eps**0.5)) & (state.value >= floor)
            return more & (state.count < stop)

        def body(state: _State) -> _State:
            downhill, pairs = memory.update(state.gradient, state.pairs, state.u)
            change, found = line.update(
                -downhill,
                state.found,
                state.u,
                value=state.value,
                grad=state.gradient,
                value_fn=loss,
            )
            gradient, moved = found.grad, jnp.sum(change * change)
            along = jnp.sum(change * (gradient - state.gradient))
            along = along * safe_reciprocal(moved, moved > 0)
            least = jnp.where(along > 0, jnp.minimum(state.least, along), state.least)
            squares = jnp.sum(gradient * gradient)
            # Without a step that went anywhere nothing is known of the rest.
            bound = squares / (2 * jnp.where(least < jnp.inf, least, 0))
            return _State(
                u=state.u + change,
                value=found.value,
                gradient=gradient,
                pairs=pairs,
                found=found,
                least=least,
                rest=jnp.where(squares == 0, 0, bound),
                count=state.count + 1,
            )

        value, gradient = value_and_slope(at_rest) if seen is None else (seen[0], slope(seen[1]))
        large = jnp.full((), jnp.inf, value.dtype)
        first = _State(
            u=at_rest,
            value=value,
            gradient=gradient,
            pairs=memory.init(at_rest),
            found=line.init(at_rest),
            least=large,
            rest=jnp.where(idle, 0, large),
            count=count,
        )
        last = jax.lax.while_loop(running, body, first)
        enough = least * (last.value + eps**0.5)
        downhill, _ = memory.update(last.gradient, last.pairs, last.u)
        near = last.rest <= enough
        end = place(jnp.where(near, last.u - downhill, last.u))
        # A run that gains nothing, with the Hessian of where it began, ends in rounding.
        stuck = (factors.lower.ndim > 2) & (value - last.value <= 16 * eps * last.value)
        # Not what is not near: a lane of NaN has nothing left, and is not there either.
        left = (last.rest > enough) & ~stuck & (last.value >= floor)
        return end, near | stuck, left, last.count

    def unfinished(carry):
        (_, _, left, count), _ = carry
        return left & (count < max_steps)

    def again(carry):
        (point, *_, count), factors = carry
        renewed = _factors_at(problem, point)
        return run(renewed, point, None, count, _RUN), None if factors is None else renewed

    at_rest = jnp.zeros((p, m), null.offset.dtype)
    none, kept = jnp.int32(0), None if start is None else start.factors
    if prepared.factors.lower.ndim > 2:
        start = begin(prepared) if start is None else start
        first = run(start.factors, start.point, None, none, _RUN)
    else:
        scores = jnp.broadcast_to(null.offset, problem.y.shape)
        value = jnp.sum(problem.share * problem.loss.rows(scores, problem.y))
        seen = value, Point(-_null_pull(prepared), jnp.zeros_like(null.offset))
        point = Point(at_rest[:-1], null.offset)
        # As many iterations as cost about what the Hessian does.
        first = run(prepared.factors, point, seen, none, _RUN + p // 8)
    (end, done, *_), kept = jax.lax.while_loop(unfinished, again, (first, kept))
    weight = jnp.where(idle, 0, end.weight)
    point = Point(weight, jnp.where(idle, null.offset, end.offset))
    return point, done, None if kept is None else Start(end, kept)


def _null_pull(prepared: Prepared) -> jax.Array:
    """Returns minus the gradient at the null model, (d, m): the covariance of x and the labels."""
    return prepared.problem.loss.pull(prepared.moments.standard_xz)


def _factors_at(problem: Problem, point: Point) -> _Factors:
    """Returns the Hessian at a point, without what it has between different columns."""

    def part(x: jax.Array, y: jax.Array, share: jax.Array, fresh: jax.Array | None) -> jax.Array:
        scores = product("nd,dm->nm", x, point.weight) + point.offset
        share = share if fresh is None else jnp.where(fresh, share, 0)
        heavy = share[:, None] * problem.loss.curvature(scores, y)
        x = jnp.concatenate([x, jnp.ones_like(x[:, :1])], axis=1)
        return _each(lambda one: products.gram(x, x * one[:, None]), heavy.T)

    hessians = products.sum_over_rows(part, (problem.x, problem.y, problem.share))
    lower = _each(lambda hessian: _factor(hessian, problem.penalty()), hessians)
    return _Factors(lower, jnp.eye(len(hessians), dtype=lower.dtype))


def _each(function: Callable[..., jax.Array], *stacks: jax.Array) -> jax.Array:
    """Returns a function of each column's own, stacked: a loop, since copies are each compiled."""
    if len(stacks[0]) == 1:
        return function(*(stack[0] for stack in stacks))[None]
    return jax.lax.map(lambda own: function(*own), stacks)


def _moved(factors: _Factors, point: Point, u: jax.Array) -> Point:
    """Returns the point that lies u (p, m) from another one."""
    change = product("pa,ba->pb", factors.solve(u, transpose=True), factors.turn)
    return Point(point.weight + change[:-1], point.offset + change[-1])


def _unmoved(factors: _Factors, point: Point) -> jax.Array:
    """Returns how far a point lies from zero, u (p, m)."""
    both = jnp.concatenate([point.weight, point.offset[None]])
    turned = product("pb,ba->pa", both, factors.turn)
    return product("aqp,qa->pa", factors.lower, turned)


def _barred(factors: _Factors, basis: jax.Array) -> jax.Array | None:
    """Returns orthonormal columns for L^-1 B, (m, d + 1, r): what L^-T u may not hold of u."""
    if basis.shape[1] == 0:
        return None

    def one(lower):
        solved = solves.triangular_solve(lower, basis)
        transform, _ = products.right_basis(solved, 0)
        return product("dr,rs->ds", solved, transform)

    return _each(one, factors.lower)


def _along(bars: jax.Array, u: jax.Array) -> jax.Array:
    """Returns the part of u (p, m) in the spans of the orthonormal columns of `bars` (m, p, r)."""
    return product("mpr,mqr,qm->pm", bars, bars, u)


def _free(bars: jax.Array | None, u: jax.Array) -> jax.Array:
    """Returns u (p, m) without its part in those spans."""
    return u if bars is None else u - _along(bars, u)
