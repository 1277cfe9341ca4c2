"""Linear algebra in the precision the statistics need, written for one problem and vmapped.

Every product that makes a statistic or a projection runs at `HIGHEST` precision: the default is
TF32 on recent GPUs and bfloat16 on TPUs, and erasure would leak through it. Rank decisions are
masks, never slices, so shapes do not depend on data.
"""

import itertools

import jax
import jax.numpy as jnp
from jax import lax

__all__ = [
    "column_norms",
    "equilibrate",
    "gram",
    "product",
    "right_basis",
    "row_sums",
    "safe_reciprocal",
    "small_pinv",
    "solve_correlation",
    "solve_covariance",
    "solve_gram",
    "two_sum",
]

HIGHEST = lax.Precision.HIGHEST


def product(subscripts: str, *operands: jax.Array) -> jax.Array:
    """Returns `jnp.einsum` of the operands at HIGHEST precision."""
    return jnp.einsum(subscripts, *operands, precision=HIGHEST)


def row_sums(a: jax.Array, b: jax.Array, *, block: int = 16) -> jax.Array:
    """Returns a^T b for a (n, j) and b (n, k), few columns, added in blocks of blocks of rows.

    A running sum of equal addends, such as products of labels, rounds the same way every time and
    drifts by n eps; this one stays near log(n) eps.
    """

    def cut(rows):
        size = min(block, rows.shape[0])
        rest = -rows.shape[0] % size
        rows = jnp.pad(rows, ((0, rest),) + ((0, 0),) * (rows.ndim - 1)) if rest else rows
        return rows.reshape(-1, size, *rows.shape[1:])

    sums = product("bnj,bnk->bjk", cut(a), cut(b))
    while sums.shape[0] > 1:
        sums = jnp.sum(cut(sums), axis=1)
    return sums[0]


def gram(a: jax.Array, b: jax.Array | None = None) -> jax.Array:
    """Returns a^T b, (d, d), for a and b (n, d) whose product is symmetric, such as b = w a.

    Of a few blocks of columns only those on and below the diagonal are multiplied: up to three
    eighths less work than the whole product, and a result that is symmetric to the last bit.

    Args:
      a: (n, d).
      b: (n, d), or None for a.
    """
    d = a.shape[1]
    count = max(min(d // 128, 4), 1)
    cuts = [round(d * i / count) for i in range(count + 1)]

    def columns(x):
        return [lax.optimization_barrier(x[:, i:j]) for i, j in itertools.pairwise(cuts)]

    if count == 1:
        return product("ni,nj->ij", a, a if b is None else b)
    left = columns(a)
    right = left if b is None else columns(b)
    low = {
        (i, j): product("ni,nj->ij", left[i], right[j]) for i in range(count) for j in range(i + 1)
    }
    return jnp.block([
        [low[i, j] if j <= i else low[j, i].T for j in range(count)] for i in range(count)
    ])


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
    """Returns S^+ B for a covariance S, through the correlation matrix; see `solve_correlation`.

    Args:
      covariance: (d, d), symmetric positive semi-definite; constant features have a zero row.
      rhs: (d, m).

    Returns:
      (d, m), rows of constant features zero.
    """
    scale = jnp.sqrt(jnp.maximum(jnp.diagonal(covariance), 0))
    inverse = safe_reciprocal(scale, scale > 0)[:, None]
    return inverse * solve_correlation(equilibrate(covariance, scale), inverse * rhs)


def solve_correlation(
    correlation: jax.Array, rhs: jax.Array, *, shrinkage: jax.Array | float = 0.0
) -> jax.Array:
    """Returns ((1 - s) R + s I)^+ B for a correlation matrix R, by Cholesky factorisation.

    Features divided by their standard deviations, no scaling of them changes the answer but for
    rounding. A ridge of 64 eps on the unit diagonal keeps the factorisation safe on rank-deficient
    data, and one step of iterative refinement takes its bias out again where R is well conditioned.

    Args:
      correlation: (d, d), ones on the diagonal; zero rows for constant features.
      rhs: (d, m), zero rows for constant features.
      shrinkage: () s in [0, 1].

    Returns:
      (d, m).
    """
    d = correlation.shape[0]
    eye = jnp.eye(d, dtype=bool)
    unit = jnp.where(eye, 1, (1 - jnp.asarray(shrinkage, correlation.dtype)) * correlation)
    return _solve_refined(unit, rhs, 64 * float(jnp.finfo(unit.dtype).eps))


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


def _solve_refined(matrix: jax.Array, rhs: jax.Array, ridge: jax.Array | float) -> jax.Array:
    """Returns A^-1 B with a ridge for the factorisation and one step of refinement against it."""
    eye = jnp.eye(matrix.shape[0], dtype=bool)
    factor = jnp.linalg.cholesky(jnp.where(eye, matrix + ridge, matrix), symmetrize_input=False)

    def solve(b):
        half = lax.linalg.triangular_solve(factor, b, left_side=True, lower=True)
        return lax.linalg.triangular_solve(
            factor, half, left_side=True, lower=True, transpose_a=True
        )

    first = solve(rhs)
    return first + solve(rhs - product("de,em->dm", matrix, first))


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
