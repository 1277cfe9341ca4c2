"""L-BFGS with a line search, one loop that evaluates one point an iteration."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from erasejax._linalg import solves
from erasejax._linalg.products import product, safe_reciprocal

__all__ = ["Search", "begin_at", "descend"]

_MEMORY = 10  # pairs of steps and changes of the gradient
_TRIALS = 20  # points along one line
_FLAT = 0.9  # share of the slope that may be left along a line, either way


class Search(NamedTuple):
    """Where a search stands: at a point, with a step to take from there."""

    u: jax.Array  # (p, m)
    value: jax.Array
    change: Any  # what `evaluate` says beside the slope
    slope: jax.Array  # (p, m) the gradient
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


def begin_at(value: jax.Array, change: Any, slope: jax.Array, count: jax.Array) -> Search:
    """Returns a search that stands at zero.

    Args:
      value: () there; infinity where it is not known yet, and then the slope is not read.
      change: as `evaluate` returns it.
      slope: (p, m) there.
      count: () of steps taken before.
    """
    one, none = jnp.ones((), value.dtype), jnp.zeros((_MEMORY, *slope.shape), value.dtype)
    return Search(
        u=jnp.zeros_like(slope),
        value=value,
        change=change,
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
        count=count,
    )


def descend(
    evaluate: Callable[[jax.Array], tuple[jax.Array, Any, jax.Array]],
    first: Search,
    stop: jax.Array | int,
    tolerance: jax.Array | float,
    floor: jax.Array | float = -jnp.inf,
) -> Search:
    """Returns where a search ends.

    One iteration evaluates one trial point. It is taken if the value falls enough and its slope
    does, too; else the slopes at both ends say which length to try next. Half the square of the
    slope over the least curvature along the steps stands for what is left to gain.

    Args:
      evaluate: maps a point (p, m) to the value there, (), anything, and the slope, (p, m).
      first: where it begins.
      stop: () the count of steps at which it ends.
      tolerance: () share of the value that may be left to gain.
      floor: () value below which it ends.
    """
    eps = jnp.finfo(first.value.dtype).eps

    def running(state: Search):
        more = (state.rest > tolerance * (state.value + eps**0.5)) & (state.value >= floor)
        more |= state.value == jnp.inf  # not known yet
        return more & (state.count < stop) & (state.trials < _TRIALS)

    def body(state: Search) -> Search:
        trial = state.u + state.length * state.step
        value, change, slope = evaluate(trial)
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
        new = Search(
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

    return jax.lax.while_loop(running, body, first)


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
