"""Distributions of statistics of Cov(x, z) when the signs of rows about their mean are random.

Where Cov(x, z) = 0 the products of centred x and z have mean zero, whatever the covariances of the
classes. If rows also lie symmetrically about the mean given z, then turning rows round, x - mean to
-(x - mean), leaves their joint distribution as it is, with the covariance of every class; so the
rows as they are rank uniformly among their turned copies. Permuting labels is different: it makes
the covariances of the classes equal, and so tests that too.

Neither statistic takes another factorisation for another set of signs.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from erasejax._linalg.products import product, safe_reciprocal

__all__ = ["Sums", "norm_p_value", "trace_p_value"]

# Signs at a time. A quarter of that takes twice as long on a CPU, in one thread; of a thousand
# problems side by side they take a gigabyte.
_CHUNK = 1 << 18


def trace_p_value(
    basis: jax.Array,
    concept: jax.Array,
    root: jax.Array,
    key: jax.Array,
    *,
    flips: int,
    signs: int,
) -> jax.Array:
    """Returns how often Pillai's trace is at least as large with random signs of the rows.

    The trace is that of a regression on rows as they are after turning, with a mean of their own.
    Turning leaves second moments about the old centre as they are; the new mean c takes one rank
    from them, so the inverse follows by the formula of Sherman and Morrison.

    Args:
      basis: (n, m) orthonormal columns (or zeros) that span the centred and weighted rows of x.
      concept: (n, r) the same of the concept.
      root: (n,) what the mean of x is multiplied by in each row: square roots of the shares of the
        rows in the total weight.
      key: typed key.
      flips: static, how many sets of signs.
      signs: static, how many signs in a set; rows i, i + signs, ... have the same one.

    Returns:
      () p-value, the rows as they are counted among the sets.
    """
    share = root**2
    squares = jnp.sum(basis**2, axis=1)
    heavy = _center_weights(squares, share, jnp.sum(squares))
    shift = product("n,nm->m", heavy * root, basis)
    moved = basis - root[:, None] * shift
    # Orthonormal again: (I + s s^T)^(-1/2) is I less a multiple of s s^T.
    size = jnp.sum(shift**2)
    less = safe_reciprocal(size, size > 0) * (1 - lax.rsqrt(1 + size))
    moved = moved - less * product("nm,m,k->nk", moved, shift, shift)
    columns = jnp.concatenate([root[:, None], concept], axis=1)

    def trace(drawn):
        read = _read(drawn, columns, moved)
        center, cross = read[:, 0], read[:, 1:]
        left = 1 - jnp.sum(center**2, axis=1)
        both = product("brm,bm->br", cross, center)
        more = jnp.sum(both**2, axis=1) * safe_reciprocal(left, left > 0)
        found = jnp.sum(cross**2, axis=(1, 2)) + more
        return found, found

    return _p_value(trace, signs, root.dtype, key, flips)[1]


class Sums(NamedTuple):
    """Sums over the rows of each of n groups; or of n rows, each a group.

    Of features x about their mean, of unit variance, of the whitened concept z, and of the shares q
    of the rows in the total weight.

    Attributes:
      products: (n, r, d) sums of q z x.
      concept: (n, r) sums of q z.
      features: (n, d) sums of q x.
      share: (n,) sums of q.
    """

    products: jax.Array
    concept: jax.Array
    features: jax.Array
    share: jax.Array


def norm_p_value(
    sums: Sums, variance: jax.Array, key: jax.Array, *, flips: int
) -> tuple[jax.Array, jax.Array]:
    """Returns an unbiased square of the norm of the covariance, and how often it is as large.

    The square is a sum over pairs of different groups of rows (or rows, each a group), so their
    noise has mean zero however many features there are; what the estimated mean of x does to them
    is made up for. Each feature is divided by its variance, that of the rows as they are after
    turning.

    With products u, concept t, features v and share w of a group, and c the mean of x, it is
    E |u|^2 that must be left out, and u - t c and v - w c that are seen. The means of their squares
    and products are linear in E |u|^2, E u v and E v^2, and solved for them.

    Centred rows, too, have products of mean below zero, which counts where d is near n^2. It is
    added to what the turned rows give.

    Args:
      sums: of groups of rows.
      variance: (d,) of the features: 1, or 0.
      key: typed key.
      flips: static, how many sets of signs.

    Returns:
      () the square in units of the standard deviation that it has with random signs, () p-value.

    References:
      Chen and Qin 2010, arXiv 1002.4547: such a sum for two classes.
    """
    products, reads, means, share = sums
    lengths = jnp.sum(means**2, axis=1) * safe_reciprocal(share, share > 0)
    heavy = _center_weights(lengths, share, jnp.sum(lengths) / 10)
    about = heavy * share
    center = product("n,nd->d", heavy, means)
    products = products - reads[:, :, None] * center
    means = means - share[:, None] * center
    variance = variance + center**2

    pairs, rest, other = (
        jnp.sum(reads**2, axis=1),
        _reciprocal_rest(share),
        _reciprocal_other(share),
    )
    slope = jnp.sum(pairs * rest) / (1 + jnp.sum(share**2 * rest))
    own = (2 * pairs * other - slope) * rest
    toward = product("nr,nrd->nd", reads, products)
    mixing = other[:, None] * toward + (pairs * other + own * share)[:, None] * means
    single = jnp.sum(products**2, axis=(0, 1)) + jnp.sum(
        2 * other[:, None] * toward * means + own[:, None] * means**2, axis=0
    )
    of_square = jnp.sum(pairs * (1 + 2 * other * share) + own * share**2)
    columns = jnp.concatenate([means[:, None], mixing[:, None], products], axis=1)

    def square(drawn):
        read = product("bn,nm->bm", drawn, columns.reshape(len(columns), -1))
        read = read.reshape(len(drawn), *columns.shape[1:])
        center, mixed, cross = read[:, 0], read[:, 1], read[:, 2:]
        noise = single - 2 * center * mixed + center**2 * of_square
        left = variance - center**2
        return jnp.sum((jnp.sum(cross**2, axis=1) - noise) * safe_reciprocal(left, left > 0), 1)

    squares, rest = jnp.sum(means**2, axis=1), _reciprocal_rest(about)
    of_mean = jnp.sum(heavy**2 * squares * rest) / (1 + jnp.sum(about**2 * rest))
    own = (squares - share**2 * of_mean) * rest
    lost = product("nrd,nd->nr", products, means) + reads * (heavy * own - share * of_mean)[:, None]
    lost = lost * (heavy * _reciprocal_other(about))[:, None]

    def corrected(drawn):
        one = product("bn,nr->br", drawn, reads)
        two = product("bn,nr->br", drawn, lost)
        both = jnp.sum((2 * two - of_mean * one) * one, axis=1)
        plain = square(drawn)
        return plain, plain + both - jnp.sum(reads * (2 * lost - of_mean * reads))

    return _p_value(corrected, len(share), share.dtype, key, flips)


def _shared(rows: jax.Array, signs: int) -> jax.Array:
    """Returns the sums (signs, ...) of rows that have one sign."""
    return jnp.sum(rows.reshape(-1, signs, *rows.shape[1:]), axis=0)


def _read(drawn: jax.Array, columns: jax.Array, rows: jax.Array) -> jax.Array:
    """Returns columns^T diag(signs) rows, (b, k, m), for sets (b, signs), (n, k), (n, m)."""
    both = (columns[:, :, None] * rows[:, None, :]).reshape(len(rows), -1)
    both = product("bn,nm->bm", drawn, _shared(both, drawn.shape[1]))
    return both.reshape(len(drawn), columns.shape[1], -1)


def _center_weights(squares: jax.Array, share: jax.Array, least: jax.Array) -> jax.Array:
    """Returns weights of a centre that rows far out do not pull to themselves, per share: (n,).

    Of a plain mean a few rows of a large spread would be a part, and turned about it no longer be
    as they were.

    Args:
      squares: (n,) squared lengths of the rows times their shares.
      share: (n,).
      least: () added to the squared lengths.
    """
    spread = squares + least * share
    heavy = share * safe_reciprocal(spread, spread > 0)
    total = jnp.sum(heavy * share)
    return jnp.where(total > 0, heavy * safe_reciprocal(total, total > 0), 1)


def _reciprocal_rest(share: jax.Array) -> jax.Array:
    """Returns 1 / (1 - 2 q) for shares q (n,), and 0 where half of all lies on one row."""
    rest = 1 - 2 * share
    return safe_reciprocal(rest, rest > 0)


def _reciprocal_other(share: jax.Array) -> jax.Array:
    """Returns 1 / (1 - q) for shares q (n,), and 0 where all lies on one row."""
    return safe_reciprocal(1 - share, share < 1)


def _p_value(
    statistic: Callable[[jax.Array], tuple[jax.Array, jax.Array]],
    n: int,
    dtype: np.dtype,
    key: jax.Array,
    flips: int,
) -> tuple[jax.Array, jax.Array]:
    """Returns the observed statistic in standard deviations of the drawn ones, and a p-value.

    Args:
      statistic: of sets of signs (b, n), (b,), as it is observed and as drawn ones are compared.
      n: static, signs in a set.
      dtype: of the signs.
      key: typed key.
      flips: static.
    """
    size = min(flips + 1, max(_CHUNK // n, 32))
    words = _words(key, flips, n)

    def chunk(i, found):
        # The last chunk starts early.
        start = jnp.minimum(i * size, flips + 1 - size)
        signs = _signs(lax.dynamic_slice_in_dim(words, start, size, 1), n).astype(dtype)
        both = jnp.stack(statistic(signs))
        return lax.dynamic_update_slice_in_dim(found, both, start, 1)

    found = lax.fori_loop(0, -(-(flips + 1) // size), chunk, jnp.zeros((2, flips + 1), dtype))
    observed, drawn = found[0, 0], found[1, 1:]
    # Sets of signs that are the rows as they are, but for rounding, count as such.
    bar = observed - 64 * jnp.finfo(dtype).eps * jnp.abs(observed)
    scale = jnp.sqrt(jnp.sum(drawn**2) / flips)
    p_value = ((1 + jnp.sum(drawn >= bar)) / (1 + flips)).astype(dtype)
    return observed * safe_reciprocal(scale, scale > 0), p_value


def _words(key: jax.Array, flips: int, n: int) -> jax.Array:
    """Returns the bits of sets of n random signs, (words, 1 + flips); the first set has no minus.

    Words come first, so that a set has the same first signs whatever n is.
    """
    drawn = jax.random.bits(key, (-(-n // 32), flips), jnp.uint32)
    return jnp.pad(drawn, ((0, 0), (1, 0)))


def _signs(words: jax.Array, n: int) -> jax.Array:
    """Returns sets of signs (size, n) from their bits (words, size)."""
    bits = (words.T[:, :, None] >> jnp.arange(32, dtype=words.dtype)) & 1
    return 1 - 2 * bits.reshape(words.shape[1], -1)[:, :n].astype(jnp.int8)
