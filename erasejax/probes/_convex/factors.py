"""The metric of a search: a Hessian in factors, and the variables in which it is the identity."""

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp

from erasejax._linalg import products, solves
from erasejax._linalg.products import product
from erasejax.probes._convex.problem import Point, Problem

__all__ = [
    "Factors",
    "barred_part",
    "bars_of",
    "each",
    "factor",
    "factors_at",
    "free_part",
    "once",
    "step_from",
    "whereabouts",
]

T = TypeVar("T")


class Factors(NamedTuple):
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
            return each(one, self.lower, columns.T).T

        if self.whole is None or self.diagonal is None:
            return solved()
        return once(self.whole, solved, columns / self.diagonal)

    def back(self, columns: jax.Array) -> jax.Array:
        """Returns L^T b of each column b (d + 1, m) with its own L."""
        found = product("aqp,qa->pa", self.lower, columns)
        if self.whole is None or self.diagonal is None:
            return found
        return jnp.where(self.whole, found, self.diagonal * columns)


def factor(hessian: jax.Array, penalty: jax.Array) -> jax.Array:
    """Returns the Cholesky factor of a Hessian (p, p) with a penalty (p,) and a ridge."""
    diagonal = jnp.diagonal(hessian)
    whole = diagonal * (1 + 64 * jnp.finfo(hessian.dtype).eps) + penalty
    whole = jnp.where(whole > 0, whole, 1)  # a constant feature
    eye = jnp.eye(len(whole), dtype=bool)
    return solves.cholesky(jnp.where(eye, whole, hessian))  # pyright: ignore


def factors_at(problem: Problem, point: Point, before: Factors) -> Factors:
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
        return each(lambda one: products.gram(x, x * one[:, None]), heavy.T)

    rows = problem.x, problem.y, problem.share
    hessians = products.sum_over_rows(part, rows, filled=problem.filled)
    lower = each(lambda hessian: factor(hessian, problem.penalty()), hessians)
    turn = jnp.eye(len(hessians), dtype=lower.dtype)
    return before._replace(lower=lower, turn=turn, whole=None if before.whole is None else True)


def once(condition: jax.Array, function: Callable[[], T], otherwise: T) -> T:
    """Returns function() if a condition () holds, else `otherwise`.

    A loop of one turn at most: of `vmap`, unlike a branch, it stays one, that is run where a lane
    asks for it.
    """

    def body(_):
        return jnp.bool_(False), jax.tree.map(
            lambda new, old: jnp.asarray(new, jnp.asarray(old).dtype), function(), otherwise
        )

    return jax.lax.while_loop(lambda carry: carry[0], body, (condition, otherwise))[1]


def each(function: Callable[..., jax.Array], *stacks: jax.Array) -> jax.Array:
    """Returns a function of each column's own, stacked: a loop, since copies are each compiled."""
    if len(stacks[0]) == 1:
        return function(*(stack[0] for stack in stacks))[None]
    return jax.lax.map(lambda own: function(*own), stacks)


def step_from(factors: Factors, point: Point, u: jax.Array) -> Point:
    """Returns the point that lies u (p, m) from another one."""
    change = product("pa,ba->pb", factors.solve(u, transpose=True), factors.turn)
    return Point(point.weight + change[:-1], point.offset + change[-1])


def whereabouts(factors: Factors, point: Point) -> jax.Array:
    """Returns how far a point lies from zero, u (p, m)."""
    both = jnp.concatenate([point.weight, point.offset[None]])
    return factors.back(product("pb,ba->pa", both, factors.turn))


def bars_of(factors: Factors, basis: jax.Array) -> jax.Array | None:
    """Returns orthonormal columns for L^-1 B, (m, d + 1, r): what L^-T u may not hold of u."""
    if basis.shape[1] == 0:
        return None

    def one(lower, diagonal):
        solved = basis / diagonal[:, None]
        if factors.whole is None:
            solved = solves.triangular_solve(lower, basis)
        else:
            solved = once(factors.whole, lambda: solves.triangular_solve(lower, basis), solved)
        transform, _ = products.right_basis(solved, 0)
        return product("dr,rs->ds", solved, transform)

    lower, diagonal = factors.lower, factors.diagonal
    return each(one, lower, jnp.ones_like(lower[:, 0]) if diagonal is None else diagonal.T)


def barred_part(bars: jax.Array, u: jax.Array) -> jax.Array:
    """Returns the part of u (p, m) in the spans of the orthonormal columns of `bars` (m, p, r)."""
    return product("mpr,mqr,qm->pm", bars, bars, u)


def free_part(bars: jax.Array | None, u: jax.Array) -> jax.Array:
    """Returns u (p, m) without its part in those spans."""
    return u if bars is None else u - barred_part(bars, u)
