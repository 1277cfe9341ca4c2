"""L-BFGS with a preconditioner, for convex problems of many parameters."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from erasejax._linalg import solves
from erasejax._linalg.products import product, safe_reciprocal
from erasejax.probes._convex.factors import (
    Factors,
    barred_part,
    bars_of,
    each,
    factor,
    factors_at,
    free_part,
    once,
    step_from,
    whereabouts,
)
from erasejax.probes._convex.losses import Null
from erasejax.probes._convex.problem import Point, Problem
from erasejax.statistics import Moments

__all__ = ["Prepared", "Start", "Until", "begin", "prepare", "search"]

_RUN = 20  # iterations before the Hessian is taken anew
_MEMORY = 10  # pairs of steps and changes of the gradient
_TRIALS = 20  # points along one line
_FLAT = 0.9  # share of the slope that may be left along a line, either way


class Prepared(NamedTuple):
    """A problem, and the Hessian of its null model in factors."""

    problem: Problem
    moments: Moments
    null: Null
    factors: Factors


class Start(NamedTuple):
    """Where a search begins, or ended.

    Attributes:
      point: near the optimum.
      factors: of a Hessian near that point.
    """

    point: Point
    factors: Factors


class Until(NamedTuple):
    """When a search may end early.

    Attributes:
      tolerance: () share of the loss that may be left to gain; no less than rounding.
      floor: () loss below which nobody asks for the optimum.
    """

    tolerance: jax.Array
    floor: jax.Array


class _Search(NamedTuple):
    """Where a run stands: at a point, with a step to take from there."""

    u: jax.Array  # (p, m)
    value: jax.Array
    change: Point  # the gradient
    slope: jax.Array  # (p, m) the gradient in u
    steps: jax.Array  # (memory, p, m) the latest last; zero where there is none
    turns: jax.Array  # (memory, p, m) changes of the slope along them
    step: jax.Array  # (p, m)
    length: jax.Array  # of the step to try
    low: jax.Array  # a length that is too short
    high: jax.Array  # one that is too long
    trials: jax.Array  # along this step
    least: jax.Array  # () curvature along any step so far
    rest: jax.Array  # () what should be left to gain
    count: jax.Array  # of steps taken


class _Run(NamedTuple):
    """Where a search stands: between runs."""

    point: Point
    value: jax.Array
    change: Point
    factors: Factors
    done: jax.Array
    left: jax.Array  # whether there is more to gain
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
        lower = each(lambda value: factor(value * unit, penalty), null.curvature)
        return Prepared(problem, moments, null, Factors(lower, null.turn))
    p, m = len(penalty), len(null.curvature)
    diagonal = jnp.sqrt(null.curvature + penalty[:, None])
    lower = jnp.zeros((m, p, p), diagonal.dtype)
    return Prepared(problem, moments, null, Factors(lower, null.turn, diagonal, jnp.bool_(False)))


def begin(prepared: Prepared) -> Start:
    """Returns the Newton step from the null model, without a pass over the rows.

    The step is shortened where the curvature of the null model does not bound that of the loss.

    Args:
      prepared: with the whole Hessian of the null model.
    """
    null, factors = prepared.null, prepared.factors
    slopes = jnp.pad(product("dm,ma->da", _null_pull(prepared), factors.turn), ((0, 1), (0, 0)))
    point = Point(jnp.zeros_like(slopes[:-1]), null.offset)
    return Start(step_from(factors, point, factors.solve(slopes) * null.safe), factors)


def search(
    prepared: Prepared,
    basis: jax.Array,
    idle: jax.Array,
    max_steps: int,
    start: Start | None = None,
    until: Until | None = None,
) -> tuple[Point, jax.Array, Start]:
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
    problem, null = prepared.problem, prepared.null
    eps = jnp.finfo(null.offset.dtype).eps
    least = jnp.asarray(eps) if until is None else jnp.maximum(until.tolerance, eps)
    floor = -jnp.inf if until is None else until.floor
    # The weights of standardised features are orthogonal to this.
    # Not padded: jaxlib 0.9 crashes when it compiles a padded product of shape (140, 8), say.
    scaled = jnp.concatenate([basis, basis[-1:]])
    scaled = jnp.append(problem.inverse_sd, 0)[:, None] * scaled
    # As many iterations as cost about what the Hessian does.
    first = _RUN if prepared.factors.whole is None else _RUN + len(scaled) // 8

    def unfinished(run: _Run):
        return run.left & (run.count < max_steps)

    def again(run: _Run) -> _Run:
        length = jnp.where(run.count == 0, first, _RUN)
        stop = jnp.minimum(run.count + length, max_steps)
        run = _descend(problem, scaled, run, stop, least, floor)

        def renewed() -> Factors:
            return factors_at(problem, run.point, run.factors)

        return run._replace(factors=once(unfinished(run), renewed, run.factors))

    run = _first_run(prepared, start, has_basis=basis.shape[1] > 0)
    last = jax.lax.while_loop(unfinished, again, run._replace(left=~idle))
    weight = jnp.where(idle, 0, last.point.weight)
    offset = jnp.where(idle, null.offset, last.point.offset)
    return Point(weight, offset), last.done, Start(last.point, last.factors)


def _first_run(prepared: Prepared, start: Start | None, *, has_basis: bool) -> _Run:
    """Returns where a search begins; value and gradient where they are known without a pass."""
    problem, null = prepared.problem, prepared.null
    pull = _null_pull(prepared)
    progress = {"done": jnp.bool_(False), "left": jnp.bool_(True), "count": jnp.int32(0)}
    if prepared.factors.whole is None or has_basis:
        start = begin(prepared) if start is None else start
        nothing = Point(jnp.zeros_like(pull), jnp.zeros_like(null.offset))
        value = jnp.asarray(jnp.inf, null.offset.dtype)
        return _Run(start.point, value, nothing, start.factors, **progress)
    scores = jnp.broadcast_to(null.offset, problem.y.shape)
    value = jnp.sum(problem.share * problem.loss.rows(scores, problem.y))
    point = Point(jnp.zeros_like(pull), null.offset)
    change = Point(-pull, jnp.zeros_like(null.offset))
    return _Run(point, value, change, prepared.factors, **progress)


def _descend(
    problem: Problem,
    scaled: jax.Array,
    run: _Run,
    stop: jax.Array,
    tolerance: jax.Array,
    floor: jax.Array | float,
) -> _Run:
    """Returns where a run ends that searches for as long as one Hessian is good for.

    One iteration evaluates one trial point. It is taken if the loss falls enough and its slope
    does, too; else the slopes at both ends say which length to try next.

    Args:
      problem: the problem.
      scaled: (d + 1, r) columns that the parameters are orthogonal to.
      run: where it begins.
      stop: () the count of steps at which it ends.
      tolerance: () share of the loss that may be left to gain.
      floor: () loss below which the search ends.
    """
    factors, dtype = run.factors, run.value.dtype
    eps = jnp.finfo(dtype).eps
    bars = bars_of(factors, scaled)
    origin = run.point
    if bars is not None:
        origin = step_from(factors, origin, -barred_part(bars, whereabouts(factors, origin)))

    def place(u):
        return step_from(factors, origin, free_part(bars, u))

    def slope_of(change):
        both = jnp.concatenate([change.weight, change.offset[None]])
        return free_part(bars, factors.solve(product("pb,ba->pa", both, factors.turn)))

    def running(state: _Search):
        more = (state.rest > tolerance * (state.value + eps**0.5)) & (state.value >= floor)
        more |= state.value == jnp.inf  # not known yet
        return more & (state.count < stop) & (state.trials < _TRIALS)

    def body(state: _Search) -> _Search:
        trial = state.u + state.length * state.step
        value, change = problem.value_and_gradient(place(trial))
        slope = slope_of(change)
        before, after = jnp.sum(state.step * state.slope), jnp.sum(state.step * slope)
        fallen = value <= state.value + 1e-4 * state.length * before + 8 * eps * state.value
        short, long = after < _FLAT * before, ~fallen | (after > -_FLAT * before)
        # The value at the beginning may be unknown, and then nothing has been tried yet.
        unknown = state.value == jnp.inf
        taken = (fallen & ~short & ~long) | unknown
        low = jnp.where(long, state.low, state.length)
        high = jnp.where(long, state.length, state.high)
        # Where a parabola with these two slopes is flat.
        best = state.length * before / jnp.where(before < after, before - after, -jnp.inf)
        best = jnp.where(best > 0, best, 10 * state.length)
        width = jnp.where(high < jnp.inf, high - low, 9 * state.length)
        length = jnp.clip(best, low + width / 10, low + width * 0.9)
        moved = state.length * state.step
        turn = jnp.where(unknown, 0, slope - state.slope)
        along, moved_sq = jnp.sum(moved * turn), jnp.sum(moved * moved)
        bends = along > 0
        curvature = along * safe_reciprocal(moved_sq, bends)
        least = jnp.where(bends, jnp.minimum(state.least, curvature), state.least)
        steps, turns = state.steps, state.turns
        steps = jnp.where(bends, jnp.concatenate([steps[1:], moved[None]]), steps)
        turns = jnp.where(bends, jnp.concatenate([turns[1:], turn[None]]), turns)
        squares = jnp.sum(slope * slope)
        # Without a step that went anywhere nothing is known of the rest.
        bound = squares / (2 * jnp.where(least < jnp.inf, least, 0))
        one = jnp.ones_like(length)
        new = _Search(
            u=trial,
            value=value,
            change=change,
            slope=slope,
            steps=steps,
            turns=turns,
            step=-_inverse_times(steps, turns, slope),
            length=jnp.where(unknown, _first_length(slope), 1),
            low=0 * one,
            high=jnp.inf * one,
            trials=jnp.int32(0),
            least=least,
            rest=jnp.where(squares == 0, 0, bound),
            count=state.count + 1,
        )
        old = state._replace(
            length=length,
            low=low,
            high=high,
            trials=state.trials + 1,
            rest=jnp.where(jnp.isnan(value), jnp.nan, state.rest),  # and the search ends
        )
        return jax.tree.map(lambda a, b: jnp.where(taken, a, b), new, old)

    slope = slope_of(run.change)
    one, none = jnp.ones((), dtype), jnp.zeros((_MEMORY, *slope.shape), dtype)
    first = _Search(
        u=jnp.zeros_like(slope),
        value=run.value,
        change=run.change,
        slope=slope,
        steps=none,
        turns=none,
        step=-slope,
        length=_first_length(slope),
        low=0 * one,
        high=jnp.inf * one,
        trials=jnp.int32(0),
        least=jnp.inf * one,
        rest=jnp.inf * one,
        count=run.count,
    )
    last = jax.lax.while_loop(running, body, first)
    gained = last.count > run.count
    enough = tolerance * (last.value + eps**0.5)
    # The last step is taken on trust.
    near = last.rest <= enough
    end = place(jnp.where(near, last.u + last.step, last.u))
    point = jax.tree.map(lambda new, old: jnp.where(gained, new, old), end, run.point)
    # A run that gains nothing, with the Hessian of where it began, ends in rounding.
    stuck = run.value - last.value <= 16 * eps * last.value
    if factors.whole is not None:
        stuck &= factors.whole
    # Not what is not near: a lane of NaN has nothing left, and is not there either.
    left = (last.rest > enough) & ~stuck & (last.value >= floor)
    return _Run(point, last.value, last.change, factors, near | stuck, left, last.count)


def _first_length(slope: jax.Array) -> jax.Array:
    """Returns the length () of a first step down a slope (p, m): where nothing is known, one in u.

    There the Hessian is the identity, and the curvature of the loss changes within about as much.
    """
    return jax.lax.rsqrt(jnp.maximum(jnp.sum(slope * slope), 1))


def _inverse_times(steps: jax.Array, turns: jax.Array, slope: jax.Array) -> jax.Array:
    """Returns the inverse Hessian of L-BFGS times a slope (p, m).

    The two loops over the pairs are two triangular solves with their inner products: backwards for
    what each step takes from the slope, and forwards for what it gives back.

    Args:
      steps: (memory, p, m), the latest last; zero where there is none.
      turns: (memory, p, m) changes of the slope along them.
      slope: (p, m).

    References:
      Nocedal 1980, doi 10.1090/S0025-5718-1980-0572855-7.
    """
    inner = product("ipm,jpm->ji", steps, turns)
    along = jnp.diagonal(inner)
    lower = jnp.tril(inner) + jnp.diag(jnp.where(along > 0, 0, 1).astype(slope.dtype))
    taken = product("ipm,pm->i", steps, slope)
    taken = solves.triangular_solve(lower, taken[:, None], transpose=True)[:, 0]
    size = jnp.sum(turns[-1] ** 2)
    scale = along[-1] * safe_reciprocal(size, size > 0) + (size == 0)
    found = (slope - product("ipm,i->pm", turns, taken)) * scale
    given = along * taken - product("ipm,pm->i", turns, found)
    given = solves.triangular_solve(lower, given[:, None])[:, 0]
    return found + product("ipm,i->pm", steps, given)


def _null_pull(prepared: Prepared) -> jax.Array:
    """Returns minus the gradient at the null model, (d, m): the covariance of x and the labels."""
    return prepared.problem.loss.pull(prepared.moments.standard_xz)
