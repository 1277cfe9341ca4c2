"""Solving with covariance, correlation and Gram matrices."""

import jax
import jax.numpy as jnp
from jax import lax

from erasejax._linalg.factor import cholesky, triangular_solve
from erasejax._linalg.products import product, safe_reciprocal

__all__ = ["equilibrate", "solve_correlation", "solve_gram"]


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

    def refine(_, found):
        return found + solve(rhs - product("de,em->dm", matrix, found))

    # The first step is the solution, from nothing, on each device where A differs between them.
    nothing = jnp.zeros_like(rhs) + jnp.zeros_like(matrix[:, :1])
    return lax.fori_loop(0, refinements + 1, refine, nothing)
