"""L-BFGS with a preconditioner, for convex problems of many parameters."""

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp

from erasejax._linalg import products, solves
from erasejax._linalg.products import product, safe_reciprocal
from erasejax.probes._convex.losses import Null
from erasejax.probes._convex.problem import Point, Problem
from erasejax.statistics import Moments

__all__ = ["Prepared", "Start", "Until", "begin", "prepare", "search"]

T = TypeVar("T")

_RUN = 20  # iterations before the Hessian is taken anew
_MEMORY = 10  # pairs of steps and changes of the gradient
_TRIALS = 20  # points along one line
_FLAT = 0.9  # share of the slope that may be left along a line, either way


class _Factors(NamedTuple):
    """A Hessian that falls apart into a (d + 1, d + 1) matrix a column of the turned parameters.

    The last row is the offset's. Until `whole` is set it is a diagonal.
    """

    lower: jax.Array  # (m, d + 1, d + 1) Cholesky factors
    turn: jax.Array  # (m, m) orthogonal: columns of scores from these columns
    diagonal: jax.Array | None = None  # (d + 1, m) of the factor; None where it is always whole
    whole: jax.Array | None = None  # () bool

    def solve(self, columns: jax.Array, *, transpose: bool = False) -> jax.Array:
        """Returns L^-1 b, or L^-T b, of each column b with its own L: (d + 1, m)."""

        def one(lower, b):
            return solves.triangular_solve(lower, b[:, None], transpose=transpose)[:, 0]

        def solved():
            return _each(one, self.lower, columns.T).T

        if self.whole is None:
            return solved()
        return _once(self.whole, solved, columns / self.diagonal)

    def back(self, columns: jax.Array) -> jax.Array:
        """Returns L^T b of each column b (d + 1, m) with its own L."""
        found = product("aqp,qa->pa", self.lower, columns)
        if self.whole is None:
            return found
        return jnp.where(self.whole, found, self.diagonal * columns)


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
    factors: _Factors
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
        lower = _each(lambda value: _factor(value * unit, penalty), null.curvature)
        return Prepared(problem, moments, null, _Factors(lower, null.turn))
    p, m = len(penalty), len(null.curvature)
    diagonal = jnp.sqrt(null.curvature + penalty[:, None])
    lower = jnp.zeros((m, p, p), diagonal.dtype)
    return Prepared(problem, moments, null, _Factors(lower, null.turn, diagonal, jnp.bool_(False)))


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
    least = eps if until is None else jnp.maximum(until.tolerance, eps)
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

        def renewed() -> _Factors:
            return _factors_at(problem, run.point, run.factors)

        return run._replace(factors=_once(unfinished(run), renewed, run.factors))

    start = _first_run(prepared, start, has_basis=basis.shape[1] > 0)
    last = jax.lax.while_loop(unfinished, again, start._replace(left=~idle))
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
    tolerance: jax.Array | float,
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
    bars = _barred(factors, scaled)
    origin = run.point
    if bars is not None:
        origin = _moved(factors, origin, -_along(bars, _unmoved(factors, origin)))

    def place(u):
        return _moved(factors, origin, _free(bars, u))

    def slope_of(change):
        both = jnp.concatenate([change.weight, change.offset[None]])
        return _free(bars, factors.solve(product("pb,ba->pa", both, factors.turn)))

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
    inner = product("ipm,jpm->ij", steps, turns)
    along = jnp.diagonal(inner)
    upper = jnp.triu(inner) + jnp.diag(jnp.where(along > 0, 0, 1).astype(slope.dtype))
    taken = jax.lax.linalg.triangular_solve(
        upper, product("ipm,pm->i", steps, slope)[:, None], left_side=True, lower=False
    )[:, 0]
    size = jnp.sum(turns[-1] ** 2)
    scale = jnp.where(size > 0, along[-1] / jnp.where(size > 0, size, 1), 1)
    found = scale * (slope - product("ipm,i->pm", turns, taken))
    given = along * taken - product("ipm,pm->i", turns, found)
    given = jax.lax.linalg.triangular_solve(
        upper, given[:, None], left_side=True, lower=False, transpose_a=True
    )[:, 0]
    return found + product("ipm,i->pm", steps, given)


def _null_pull(prepared: Prepared) -> jax.Array:
    """Returns minus the gradient at the null model, (d, m): the covariance of x and the labels."""
    return prepared.problem.loss.pull(prepared.moments.standard_xz)


def _factors_at(problem: Problem, point: Point, before: _Factors) -> _Factors:
    """Returns the Hessian at a point, without what it has between different columns.

    Args:
      problem: the problem.
      point: where.
      before: factors of the same kind.
    """

    def part(x: jax.Array, y: jax.Array, share: jax.Array, fresh: jax.Array | None) -> jax.Array:
        scores = product("nd,dm->nm", x, point.weight) + point.offset
        share = share if fresh is None else jnp.where(fresh, share, 0)
        heavy = share[:, None] * problem.loss.curvature(scores, y)
        x = jnp.concatenate([x, jnp.ones_like(x[:, :1])], axis=1)
        return _each(lambda one: products.gram(x, x * one[:, None]), heavy.T)

    rows = problem.x, problem.y, problem.share
    hessians = products.sum_over_rows(part, rows, filled=problem.filled)
    lower = _each(lambda hessian: _factor(hessian, problem.penalty()), hessians)
    turn = jnp.eye(len(hessians), dtype=lower.dtype)
    return before._replace(lower=lower, turn=turn, whole=None if before.whole is None else True)


def _once(condition: jax.Array, function: Callable[[], T], otherwise: T) -> T:
    """Returns function() if a condition () holds, else `otherwise`.

    A loop of one turn at most: of `vmap`, unlike a branch, it stays one, that is run where a lane
    asks for it.
    """

    def body(_):
        return jnp.bool_(False), jax.tree.map(
            lambda new, old: jnp.asarray(new, jnp.asarray(old).dtype), function(), otherwise
        )

    return jax.lax.while_loop(lambda carry: carry[0], body, (condition, otherwise))[1]


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
    return factors.back(product("pb,ba->pa", both, factors.turn))


def _barred(factors: _Factors, basis: jax.Array) -> jax.Array | None:
    """Returns orthonormal columns for L^-1 B, (m, d + 1, r): what L^-T u may not hold of u."""
    if basis.shape[1] == 0:
        return None

    def one(lower, diagonal):
        solved = basis / diagonal[:, None]
        if factors.whole is None:
            solved = solves.triangular_solve(lower, basis)
        else:
            solved = _once(factors.whole, lambda: solves.triangular_solve(lower, basis), solved)
        transform, _ = products.right_basis(solved, 0)
        return product("dr,rs->ds", solved, transform)

    lower, diagonal = factors.lower, factors.diagonal
    return _each(one, lower, jnp.ones_like(lower[:, 0]) if diagonal is None else diagonal.T)


def _along(bars: jax.Array, u: jax.Array) -> jax.Array:
    """Returns the part of u (p, m) in the spans of the orthonormal columns of `bars` (m, p, r)."""
    return product("mpr,mqr,qm->pm", bars, bars, u)


def _free(bars: jax.Array | None, u: jax.Array) -> jax.Array:
    """Returns u (p, m) without its part in those spans."""
    return u if bars is None else u - _along(bars, u)
