"""Distributions of statistics of Cov(x, z) when the signs of rows about their mean are random.

Where Cov(x, z) = 0 the products of centred x and z have mean zero, whatever the covariances of the
classes. If rows also lie symmetrically about the mean given z, then turning rows round, x - mean to
-(x - mean), leaves their joint distribution as it is, with the covariance of every class; so the
rows as they are rank uniformly among their turned copies. Permuting labels is different: it makes
the covariances of the classes equal, and so tests that too.

Neither statistic takes another factorisation for another set of signs.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from erasejax.linalg import product, safe_reciprocal

__all__ = ["norm_form", "norm_p_value", "trace_p_value"]

_CHUNK = 1 << 16  # signs at a time, so that a thousand problems side by side fit into memory


def trace_p_value(
    basis: jax.Array, concept: jax.Array, root: jax.Array, key: jax.Array, *, flips: int
) -> jax.Array:
    """Returns how often Pillai's trace is at least as large with random signs of the rows.

    The trace is that of a regression on rows as they are after turning, with a mean of their own.
    Turning leaves second moments about the old mean as they are; the new mean c takes one rank from
    them, so the inverse follows by the formula of Sherman and Morrison.

    Args:
      basis: (n, m) orthonormal columns (or zeros) that span the centred and weighted rows of x.
      concept: (n, r) the same of the concept.
      root: (n,) square roots of the shares of the rows in the total weight.
      key: typed key.
      flips: static, how many sets of signs.

    Returns:
      () p-value, the rows as they are counted among the sets.
    """
    columns = jnp.concatenate([root[:, None], concept], axis=1)

    def trace(signs):
        turned = (signs[:, None, :] * columns.T).reshape(-1, signs.shape[1])
        read = product("bn,nm->bm", turned, basis).reshape(len(signs), columns.shape[1], -1)
        center, cross = read[:, 0], read[:, 1:]
        left = 1 - jnp.sum(center**2, axis=1)
        both = product("brm,bm->br", cross, center)
        more = jnp.sum(both**2, axis=1) * safe_reciprocal(left, left > 0)
        return jnp.sum(cross**2, axis=(1, 2)) + more

    observed = jnp.sum(product("nm,nr->mr", basis, concept) ** 2)
    return _p_value(trace, observed, root, key, flips)


def norm_form(rows: jax.Array, concept: jax.Array, root: jax.Array) -> jax.Array:
    """Returns the matrix M whose sum estimates |Cov(x, z)|^2 without bias: (n, n), diagonal zero.

    The sum runs over pairs of different rows, so their noise has mean zero however many features
    there are. Centred by an estimated mean, products of different rows have a small mean of their
    own, -(q_i v_i + q_j v_j) + sum of q_l^2 v_l for rows of variances v and shares q, which counts
    where d is near n^2; it is taken out.

    Args:
      rows: (n, d) centred features.
      concept: (n, r) centred concept, times `root`.
      root: (n,) square roots of the shares of the rows.

    References:
      Chen and Qin 2010, arXiv 1002.4547: the statistic for two classes.
    """
    inner = product("nd,md->nm", rows, rows)
    share = root**2
    left = 1 - 2 * share
    inverse = safe_reciprocal(left, left > 0)
    squares = jnp.diagonal(inner)
    of_mean = jnp.sum(share**2 * squares * inverse) / (1 + jnp.sum(share**2 * inverse))
    lost = share * (squares - of_mean) * inverse
    heavy = concept * root[:, None]
    between = product("nr,mr->nm", heavy, heavy)
    form = between * (inner + lost[:, None] + lost[None, :] - of_mean)
    return jnp.where(jnp.eye(len(rows), dtype=bool), 0, form)


def norm_p_value(form: jax.Array, root: jax.Array, key: jax.Array, *, flips: int) -> jax.Array:
    """Returns how often signs^T M signs is at least the sum of M, (n, n), with random signs: ()."""

    def quadratic(signs):
        return jnp.sum(product("bn,nm->bm", signs, form) * signs, axis=1)

    return _p_value(quadratic, jnp.sum(form), root, key, flips)


def _p_value(
    statistic: Callable[[jax.Array], jax.Array],
    observed: jax.Array,
    root: jax.Array,
    key: jax.Array,
    flips: int,
) -> jax.Array:
    n = len(root)
    size = min(flips, max(_CHUNK // n, 32))
    # Sets of signs that are the rows as they are, but for rounding, count as such.
    bar = observed - 64 * jnp.finfo(root.dtype).eps * jnp.abs(observed)

    def chunk(i):
        index = i * size + jnp.arange(size)
        drawn = statistic(_signs(key, index, n).astype(root.dtype))
        return jnp.sum((drawn >= bar) & (index < flips))

    larger = jnp.sum(lax.map(chunk, jnp.arange(-(-flips // size))))
    return ((1 + larger) / (1 + flips)).astype(root.dtype)


def _signs(key: jax.Array, index: jax.Array, n: int) -> jax.Array:
    """Returns sets of random signs, (b, n), those of number `index` whatever the chunk."""
    words = jax.vmap(lambda i: jax.random.bits(jax.random.fold_in(key, i), (-(-n // 32),)))(index)
    bits = (words[:, :, None] >> jnp.arange(32, dtype=words.dtype)) & 1
    return 1 - 2 * bits.reshape(len(index), -1)[:, :n].astype(jnp.int8)
