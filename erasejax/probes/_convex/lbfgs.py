"""L-BFGS with a preconditioner, for convex problems of many parameters."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from erasejax._linalg.products import product
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
from erasejax.probes._descent import begin_at, descend
from erasejax.statistics import Moments

__all__ = ["Prepared", "Start", "Until", "begin", "prepare", "search"]

_RUN = 20  # iterations before the Hessian is taken anew


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

    def evaluate(u):
        value, change = problem.value_and_gradient(place(u))
        return value, change, slope_of(change)

    first = begin_at(run.value, run.change, slope_of(run.change), run.count)
    last = descend(evaluate, first, stop, tolerance, floor)
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


def _null_pull(prepared: Prepared) -> jax.Array:
    """Returns minus the gradient at the null model, (d, m): the covariance of x and the labels."""
    return prepared.problem.loss.pull(prepared.moments.standard_xz)
