"""Linear algebra in the precision the statistics need, written for one problem and vmapped.

Every product that makes a statistic or a projection runs at `HIGHEST` precision: the default is
TF32 on recent GPUs and bfloat16 on TPUs, and erasure would leak through it. Rank decisions are
masks, never slices, so shapes do not depend on data.
"""

import jax
import jax.numpy as jnp
from jax import lax

__all__ = [
    "column_norms",
    "equilibrate",
    "product",
    "right_basis",
    "small_pinv",
    "solve_covariance",
    "two_sum",
]

HIGHEST = lax.Precision.HIGHEST


def product(subscripts: str, *operands: jax.Array) -> jax.Array:
    """Returns `jnp.einsum` of the operands at HIGHEST precision."""
    return jnp.einsum(subscripts, *operands, precision=HIGHEST)


def two_sum(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns (s, e) with s = fl(a + b) and s + e = a + b exactly (Knuth's TwoSum)."""
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


def safe_reciprocal(a: jax.Array, mask: jax.Array) -> jax.Array:
    """Returns 1 / a where `mask` holds and 0 elsewhere, without dividing by zero anywhere."""
    return jnp.where(mask, 1, 0) / jnp.where(mask, a, 1)


def column_norms(matrix: jax.Array) -> jax.Array:
    """Returns the Euclidean norms of the columns, (m,), safe from overflow and underflow."""
    peak = jnp.max(jnp.abs(matrix), axis=0)
    scaled = matrix * safe_reciprocal(peak, peak > 0)
    return peak * jnp.sqrt(jnp.sum(scaled * scaled, axis=0))


def equilibrate(covariance: jax.Array, scale: jax.Array) -> jax.Array:
    """Returns D^-1 S D^-1 for S (d, d) and D = diag(scale); features of scale 0 become 0."""
    inverse = safe_reciprocal(scale, scale > 0)
    return inverse[:, None] * covariance * inverse[None, :]


def solve_covariance(covariance: jax.Array, rhs: jax.Array) -> jax.Array:
    """Returns S^+ B for a positive semi-definite S, by a Cholesky factorisation of scaled S.

    S is divided by its features' standard deviations first, so no scaling of the features changes
    the answer but for rounding. A ridge of 64 eps on the unit diagonal keeps the factorisation safe
    on rank-deficient data, and one step of iterative refinement takes its bias out again where S
    is well conditioned.

    Args:
      covariance: (d, d), symmetric positive semi-definite; constant features have a zero row.
      rhs: (d, m).

    Returns:
      (d, m), rows of constant features zero.
    """
    d = covariance.shape[0]
    scale = jnp.sqrt(jnp.maximum(jnp.diagonal(covariance), 0))
    varies = scale > 0
    unit = equilibrate(covariance, scale)
    ridge = 64 * jnp.finfo(covariance.dtype).eps
    diagonal = jnp.where(varies, 1 + ridge, 1).astype(covariance.dtype)
    factor = jnp.linalg.cholesky(jnp.where(jnp.eye(d, dtype=bool), diagonal, unit))
    inverse = safe_reciprocal(scale, varies)[:, None]

    def solve(b):
        half = lax.linalg.triangular_solve(factor, b, left_side=True, lower=True)
        return lax.linalg.triangular_solve(
            factor, half, left_side=True, lower=True, transpose_a=True
        )

    b = inverse * rhs
    first = solve(b)
    return inverse * (first + solve(b - product("de,em->dm", unit, first)))


def right_basis(matrix: jax.Array, cutoff: jax.Array | float) -> tuple[jax.Array, jax.Array]:
    """Returns a right transformation that makes the columns of a tall matrix orthonormal.

    With the singular value decomposition A = U S V^T the transformation is V S^+, so that
    A (V S^+) = U. It acts on columns only: each row of the product keeps the accuracy of that row
    of A, however differently the rows are scaled.

    Args:
      matrix: (d, m), m small.
      cutoff: () singular values at or below it count as zero.

    Returns:
      (transform, kept): (m, m), with zero columns where the singular value was cut, and (m,) bool.
    """
    if matrix.shape[1] == 1:
        singular = column_norms(matrix)
        kept = singular > cutoff
        return safe_reciprocal(singular, kept)[None, :], kept
    _, singular, vt = jnp.linalg.svd(jnp.linalg.qr(matrix, mode="r"), full_matrices=False)
    count, m = singular.shape[0], matrix.shape[1]  # count < m where there are fewer rows
    kept = singular > cutoff
    transform = vt.T * safe_reciprocal(singular, kept)[None, :]
    return (
        jnp.pad(transform, ((0, 0), (0, m - count))),
        jnp.pad(kept, (0, m - count)),
    )


def small_pinv(matrix: jax.Array, cutoff: jax.Array | float) -> jax.Array:
    """Returns the pseudo-inverse of a small (m, m) matrix, singular values <= cutoff as zero."""
    if matrix.shape == (1, 1):
        return safe_reciprocal(matrix, jnp.abs(matrix) > cutoff)
    u, singular, vt = jnp.linalg.svd(matrix, full_matrices=False)
    return product("ji,j,kj->ik", vt, safe_reciprocal(singular, singular > cutoff), u)
