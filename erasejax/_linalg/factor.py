"""Cholesky factors and triangular solves.

On a CPU a factorisation of middle size is blocked by hand, so that all but its diagonal blocks are
products, which use every core; which sizes those are says `erasejax._linalg.platforms`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from erasejax._linalg import platforms
from erasejax._linalg.products import product

__all__ = ["cholesky", "triangular_solve"]


_LOOSE = 32  # columns that are solved for in one call after the other, to the same end


class _Factor(NamedTuple):
    """A Cholesky factor L, (d, d), and its diagonal blocks with their inverses."""

    lower: jax.Array
    blocks: list[tuple[jax.Array, jax.Array]]


def cholesky(matrix: jax.Array) -> jax.Array:
    """Returns the Cholesky factor of a positive definite matrix (d, d)."""
    if platforms.is_blocked(matrix.shape[0]):
        return _halved(matrix).lower
    return _at_once(matrix)


def _at_once(matrix: jax.Array) -> jax.Array:
    """Returns the same in one call."""
    # LAPACK reads columns, and so the transpose, which is equal, as it lies.
    return jnp.linalg.cholesky(matrix.T if platforms.on_cpu() else matrix, symmetrize_input=False)


def _halved(matrix: jax.Array) -> _Factor:
    """Returns the same by halving down to blocks, and in products but for those."""
    d = matrix.shape[0]
    if d <= platforms.BLOCK:
        lower = _at_once(matrix)
        return _Factor(lower, [(lower, triangular_solve(lower, jnp.eye(d, dtype=lower.dtype)))])
    half = -(-d // (2 * platforms.BLOCK)) * platforms.BLOCK
    first = _halved(matrix[:half, :half])
    corner = _forward(first, matrix[:half, half:])
    second = _halved(matrix[half:, half:] - product("ki,kj->ij", corner, corner))
    lower = jnp.block([[first.lower, jnp.zeros_like(corner)], [corner.T, second.lower]])
    return _Factor(lower, first.blocks + second.blocks)


def _forward(factor: _Factor, rhs: jax.Array) -> jax.Array:
    """Returns L^-1 B for B (d, m) with many columns."""
    solved, start = rhs[:0], 0
    for block, inverse in factor.blocks:
        stop = start + block.shape[0]
        rest = rhs[start:stop] - product("ij,jm->im", factor.lower[start:stop, :start], solved)
        # A product with an inverse is backward stable only when corrected once: the block may be
        # as ill conditioned as the whole.
        own = product("ij,jm->im", inverse, rest)
        own = own + product("ij,jm->im", inverse, rest - product("ij,jm->im", block, own))
        solved, start = jnp.concatenate([solved, own]), stop
    return solved


def triangular_solve(lower: jax.Array, rhs: jax.Array, *, transpose: bool = False) -> jax.Array:
    """Returns L^-1 B, or L^-T B, for B (d, m); on a CPU a few columns at a time, in one thread."""

    def solve(factor, b):
        return lax.linalg.triangular_solve(
            factor, b, left_side=True, lower=True, transpose_a=transpose
        )

    d, m = rhs.shape
    few = platforms.columns_at_once(d, m)
    if m <= few:
        return solve(lower, rhs)
    if m <= _LOOSE:
        parts = [solve(lower, rhs[:, j : j + few]) for j in range(0, m, few)]
        return jnp.concatenate(parts, axis=1)
    if d > platforms.BLOCK:
        return solve(lower, rhs)
    groups = jnp.pad(rhs, ((0, 0), (0, -m % few))).reshape(d, -1, few)
    # Copies, since one factor for all groups would make them one solve again.
    copies = jnp.broadcast_to(lower, (groups.shape[1], d, d))
    solved = jax.vmap(solve, in_axes=(0, 1), out_axes=1)(copies, groups)
    return solved.reshape(d, -1)[:, :m]
