"""Solving with covariance, correlation and Gram matrices.

On a CPU a factorisation of middle size is blocked by hand, so that all but its diagonal blocks are
products. LAPACK itself is no slower, but the threads that its BLAS starts go on spinning for some
30 ms after each call, on the cores that the next program wants.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from erasejax.linalg import on_cpu, product, safe_reciprocal

__all__ = [
    "cholesky",
    "equilibrate",
    "solve_correlation",
    "solve_gram",
    "triangular_solve",
]


def equilibrate(covariance: jax.Array, scale: jax.Array) -> jax.Array:
    """Returns D^-1 S D^-1 for S (d, d) and D = diag(scale); features of scale 0 become 0."""
    inverse = safe_reciprocal(scale, scale > 0)
    return inverse[:, None] * covariance * inverse[None, :]


def solve_correlation(
    correlation: jax.Array,
    rhs: jax.Array,
    *,
    shrinkage: jax.Array | float = 0.0,
    refinements: int = 1,
) -> jax.Array:
    """Returns ((1 - s) R + s I)^+ B for a correlation matrix R, by Cholesky factorisation.

    Features divided by their standard deviations, no scaling of them changes the answer but for
    rounding. A ridge of 64 eps on the unit diagonal keeps the factorisation safe on rank-deficient
    data, and iterative refinement takes its bias out again where R is well conditioned.

    Args:
      correlation: (d, d), ones on the diagonal; zero rows for constant features.
      rhs: (d, m), zero rows for constant features.
      shrinkage: () s in [0, 1].
      refinements: steps of it, each about two products with R.

    Returns:
      (d, m).
    """
    d = correlation.shape[0]
    eye = jnp.eye(d, dtype=bool)
    unit = jnp.where(eye, 1, (1 - jnp.asarray(shrinkage, correlation.dtype)) * correlation)
    return _solve_refined(unit, rhs, 64 * float(jnp.finfo(unit.dtype).eps), refinements)


def solve_gram(
    gram: jax.Array, null: jax.Array, rhs: jax.Array, *, shrinkage: jax.Array | float = 0.0
) -> jax.Array:
    """Returns ((1 - s) G + s I)^+ B for the Gram matrix G of centred rows, by Cholesky.

    G has one null vector that is known, since the rows are centred: c times its outer product is
    added, with c the mean diagonal, which leaves the answer for centred B as it is and makes G
    definite.

    Args:
      gram: (n, n); zero rows for rows of weight zero.
      null: (n,) the unit null vector: root weights, 0 for rows of weight zero.
      rhs: (n, m) with null^T B = 0.
      shrinkage: () s in [0, 1].

    Returns:
      (n, m).
    """
    n = gram.shape[0]
    mean = jnp.trace(gram) / jnp.maximum(jnp.sum(null > 0), 1)
    mean = jnp.where(mean > 0, mean, 1)
    weight = jnp.asarray(shrinkage, gram.dtype)
    matrix = (1 - weight) * gram + mean * jnp.outer(null, null)
    diagonal = jnp.where(null > 0, weight, mean)
    matrix = matrix + jnp.where(jnp.eye(n, dtype=bool), diagonal[:, None], 0)
    return _solve_refined(matrix, rhs, 64 * jnp.finfo(gram.dtype).eps * mean)


def _solve_refined(
    matrix: jax.Array, rhs: jax.Array, ridge: jax.Array | float, refinements: int = 1
) -> jax.Array:
    """Returns A^-1 B with a ridge for the factorisation and refinement against it."""
    eye = jnp.eye(matrix.shape[0], dtype=bool)
    lower = cholesky(jnp.where(eye, matrix + ridge, matrix))

    def solve(b):
        return triangular_solve(lower, triangular_solve(lower, b), transpose=True)

    found = solve(rhs)
    for _ in range(refinements):
        found = found + solve(rhs - product("de,em->dm", matrix, found))
    return found


_BLOCK = 192  # LAPACK factorises so many columns in one thread
_LARGE = 1024  # beyond it the work outlasts the spinning, and many blocks are slow to compile
_COLUMNS = 4  # right-hand sides of a block that the BLAS solves for in one thread
_LOOSE = 32  # columns that are solved for in one call after the other, to the same end


class _Factor(NamedTuple):
    """A Cholesky factor L, (d, d), and its diagonal blocks with their inverses."""

    lower: jax.Array
    blocks: list[tuple[jax.Array, jax.Array]]


def cholesky(matrix: jax.Array) -> jax.Array:
    """Returns the Cholesky factor of a positive definite matrix (d, d)."""
    if on_cpu() and _BLOCK < matrix.shape[0] <= _LARGE:
        return _halved(matrix).lower
    return _at_once(matrix)


def _at_once(matrix: jax.Array) -> jax.Array:
    """Returns the same in one call."""
    # LAPACK reads columns, and so the transpose, which is equal, as it lies.
    return jnp.linalg.cholesky(matrix.T if on_cpu() else matrix, symmetrize_input=False)


def _halved(matrix: jax.Array) -> _Factor:
    """Returns the same by halving down to blocks, and in products but for those."""
    d = matrix.shape[0]
    if d <= _BLOCK:
        lower = _at_once(matrix)
        return _Factor(lower, [(lower, triangular_solve(lower, jnp.eye(d, dtype=lower.dtype)))])
    half = -(-d // (2 * _BLOCK)) * _BLOCK
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
    few = _COLUMNS if d <= _BLOCK else 1
    if m <= few or not on_cpu():
        return solve(lower, rhs)
    if m <= _LOOSE:
        parts = [solve(lower, rhs[:, j : j + few]) for j in range(0, m, few)]
        return jnp.concatenate(parts, axis=1)
    if d > _BLOCK:
        return solve(lower, rhs)
    groups = jnp.pad(rhs, ((0, 0), (0, -m % few))).reshape(d, -1, few)
    # Copies, since one factor for all groups would make them one solve again.
    copies = jnp.broadcast_to(lower, (groups.shape[1], d, d))
    solved = jax.vmap(solve, in_axes=(0, 1), out_axes=1)(copies, groups)
    return solved.reshape(d, -1)[:, :m]
