"""Linear algebra in the precision the statistics need, written for one problem and vmapped.

Every product that makes a statistic or a projection runs at `HIGHEST` precision: the default is
TF32 on recent GPUs and bfloat16 on TPUs, and erasure would leak through it. Rank decisions are
masks, never slices, so shapes do not depend on data.
"""

import itertools
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import jax
import jax.numpy as jnp
from jax import lax

from erasejax._linalg import platforms

__all__ = [
    "column_norms",
    "gram",
    "joint_grams",
    "narrow_product",
    "power_of_two",
    "product",
    "ratio",
    "right_basis",
    "row_sum",
    "row_sums",
    "safe_reciprocal",
    "small_pinv",
    "sum_over_rows",
    "two_sum",
    "weighted_sum",
]

T = TypeVar("T")

HIGHEST = lax.Precision.HIGHEST


def product(subscripts: str, *operands: jax.Array) -> jax.Array:
    """Returns `jnp.einsum` of the operands at HIGHEST precision."""
    return jnp.einsum(subscripts, *operands, precision=HIGHEST)


def row_sum(a: jax.Array, *, block: int = 16) -> jax.Array:
    """Returns the sum of the rows of a (n, ...), added in blocks of blocks of rows.

    A running sum of equal addends, such as labels, rounds the same way every time and drifts by
    n eps; this one stays near log(n) eps.
    """
    while a.shape[0] > 1:
        a = jnp.sum(_cut(a, block), axis=1)
    return a[0]


def row_sums(a: jax.Array, b: jax.Array, *, block: int = 16) -> jax.Array:
    """Returns a^T b for a (n, j) and b (n, k), few columns, added as `row_sum` does."""
    return row_sum(product("bnj,bnk->bjk", _cut(a, block), _cut(b, block)), block=block)


def _cut(rows: jax.Array, block: int) -> jax.Array:
    """Returns rows (n, ...) in blocks, (b, block, ...), the last one filled with zeros."""
    size = min(block, rows.shape[0])
    rest = -rows.shape[0] % size
    rows = jnp.pad(rows, ((0, rest),) + ((0, 0),) * (rows.ndim - 1)) if rest else rows
    return rows.reshape(-1, size, *rows.shape[1:])


def narrow_product(a: jax.Array, b: jax.Array) -> jax.Array:
    """Returns a^T b, (k, d), for a (n, k) of few columns and b (n, d).

    Of a few numbers as a sum: under vmap a product is a call for each of them, which takes longer.
    """
    if a.shape[1] * b.shape[1] <= _FEW:
        return jnp.sum(a[:, :, None] * b[:, None, :], axis=0)
    return product("nk,nd->kd", a, b)


_WIDTH = 128  # columns in a block, at least
_NARROW = _WIDTH // 4  # fewer columns than that are cheap to add one by one
_FEW = 16  # entries of a product


def joint_grams(
    a: jax.Array, b: jax.Array, weights: jax.Array | None
) -> tuple[jax.Array, jax.Array]:
    """Returns b^T W a, (k, d), and a^T W a, (d, d), for many columns a (n, d) and few b (n, k).

    One product makes both where a is narrow: it costs as much as the reading, and a few columns
    more spare it strides of a power of two. They come first: behind, their place is asked for at
    each number of a, in programs that are compiled quickly.
    """
    d, k = a.shape[1], b.shape[1]
    if _NARROW <= d < 2 * _WIDTH:
        a = jnp.concatenate([b, a], axis=1)
        both = product("ni,nj->ij", a, a if weights is None else a * weights[:, None])
        return both[:k, k:], both[k:, k:]
    heavy = a if weights is None else a * weights[:, None]
    # The sums the other way round would cost a pass over a transposed.
    return product("nk,nd->kd", b, heavy), gram(a, None if weights is None else heavy)


def weighted_sum(a: jax.Array, weights: jax.Array) -> jax.Array:
    """Returns the sum (d,) of the rows of a (n, d), weighed by the last column of `weights` (n, k).

    Of many columns as the last row of the whole product: a sum, or a product with one column, is
    compiled to a walk down each column of a.
    """
    if a.shape[1] < _NARROW:
        return jnp.sum(a * weights[:, -1:], axis=0)
    return product("nk,nd->kd", weights, a)[-1]


def gram(a: jax.Array, b: jax.Array | None = None) -> jax.Array:
    """Returns a^T b, (d, d), for a and b (n, d) whose product is symmetric, such as b = w a.

    Of a few blocks of columns only those on and below the diagonal are multiplied: up to three
    eighths less work than the whole product, and a result that is symmetric to the last bit; but
    on a TPU all of it at once.

    Args:
      a: (n, d).
      b: (n, d), or None for a.
    """
    if a.shape[1] < 2 * _WIDTH:
        return _gram_at_once(a, b)
    return platforms.choose(a, b, cpu=_gram_in_blocks, gpu=_gram_in_blocks, tpu=_gram_at_once)


def _gram_at_once(a: jax.Array, b: jax.Array | None) -> jax.Array:
    """Returns the same as one product, which a TPU's compiler makes a fifteenth as large."""
    return product("ni,nj->ij", a, a if b is None else b)


def _gram_in_blocks(a: jax.Array, b: jax.Array | None) -> jax.Array:
    """Returns the same of up to four blocks of columns."""
    d = a.shape[1]
    count = min(d // _WIDTH, 4)
    cuts = [round(d * i / count) for i in range(count + 1)]

    def columns(x):
        return [lax.optimization_barrier(x[:, i:j]) for i, j in itertools.pairwise(cuts)]

    left = columns(a)
    right = left if b is None else columns(b)
    low = {
        (i, j): product("ni,nj->ij", left[i], right[j]) for i in range(count) for j in range(i + 1)
    }
    return jnp.block([
        [low[i, j] if j <= i else low[j, i].T for j in range(count)] for i in range(count)
    ])


def sum_over_rows(
    part: Callable[..., T],
    rows: tuple[jax.Array | None, ...],
    *,
    limit: int = 1 << 11,
    filled: jax.Array | None = None,
    whole: bool = False,
    axis: int = 0,
) -> T:
    """Returns the sum of a function of rows over blocks of rows, each read once while in cache.

    Blocks have one size. Where that does not divide n, the last starts early, and `fresh` says
    which of its rows are new.

    Args:
      part: maps blocks of `rows`, and fresh, (m,) bool or None for all, to a pytree of sums. It is
        traced once.
      rows: arrays (n, ...), or None where `part` takes None.
      limit: most rows in a block on a CPU; elsewhere many more.
      filled: () how many of the leading rows there are in a buffer of `platforms.rows_of_room`;
        only their blocks are read. None for all.
      whole: static; all rows at once.
      axis: static; along which the rows lie.
    """
    n = next(a for a in rows if a is not None).shape[axis]
    block = limit if filled is None else min(platforms.rows_in_block(n), limit)
    if whole or n <= block:
        return part(*rows, None if filled is None else jnp.arange(n) < filled)

    own, elsewhere = (
        partial(_sum_blocks, part, limit=most, axis=axis)
        for most in (block, platforms.ROWS_ELSEWHERE)
    )
    return platforms.choose(rows, filled, cpu=own, gpu=elsewhere, tpu=elsewhere)


def _sum_blocks(
    part: Callable[..., T],
    rows: tuple[jax.Array | None, ...],
    filled: jax.Array | None,
    *,
    limit: int,
    axis: int,
) -> T:
    """Returns the same in blocks of at most `limit` rows."""
    n = next(a for a in rows if a is not None).shape[axis]
    count = -(-n // limit)
    if count == 1:
        return part(*rows, None if filled is None else jnp.arange(n) < filled)
    size = -(-n // count)
    if filled is not None:
        count = (filled + size - 1) // size

    def block(i):
        start = jnp.minimum(i * size, n - size)
        cut = [a if a is None else lax.dynamic_slice_in_dim(a, start, size, axis) for a in rows]
        place = start + jnp.arange(size)
        fresh = place >= i * size
        return part(*cut, fresh if filled is None else fresh & (place < filled))

    def add(i, total):
        return jax.tree.map(jnp.add, total, block(i))

    nothing = jax.tree.map(jnp.zeros_like, jax.eval_shape(block, 0))
    return lax.fori_loop(0, count, add, nothing)


def two_sum(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns (s, e) with s = fl(a + b) and s + e = a + b exactly (Knuth's TwoSum)."""
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


def safe_reciprocal(a: jax.Array, mask: jax.Array) -> jax.Array:
    """Returns 1 / a where `mask` holds and 0 elsewhere, without dividing by zero anywhere."""
    return jnp.where(mask, 1, 0) / jnp.where(mask, a, 1)


def ratio(part: jax.Array, whole: jax.Array) -> jax.Array:
    """Returns part / whole of two sums of weights: exactly 1 where they are the same, NaN for 0.

    The compiler makes a product with 1 / whole of a division by what it knows, and 41 / 41 less
    than 1; on a GPU every division may be off in the last place.
    """
    none = whole == 0
    found = part / jnp.where(none, 1, whole)
    found = jnp.where((part == whole) & jnp.isfinite(whole), 1, found)
    return jnp.where(none, jnp.nan, found)


def power_of_two(a: jax.Array) -> jax.Array:
    """Returns the largest power of two that is at most |a|: 0 for 0 and subnormal numbers."""
    info = jnp.finfo(a.dtype)
    bits = jnp.int64 if a.dtype == jnp.float64 else jnp.int32
    exponent = ((1 << info.nexp) - 1) << info.nmant
    return lax.bitcast_convert_type(
        lax.bitcast_convert_type(a, bits) & jnp.asarray(exponent, bits), a.dtype
    )


def column_norms(matrix: jax.Array) -> jax.Array:
    """Returns the Euclidean norms of the columns, (m,), safe from overflow and underflow."""
    peak = jnp.max(jnp.abs(matrix), axis=0)
    scaled = matrix * safe_reciprocal(peak, peak > 0)
    return peak * jnp.sqrt(jnp.sum(scaled * scaled, axis=0))


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
