"""A first estimate of the rows, from a few thousand of them, that moments are then taken about.

What is left of the rows then sums without drifting, wherever they lie and however they are sorted,
and its squares neither overflow nor vanish, whatever the features are measured in.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from erasejax._linalg import products, solves
from erasejax._linalg.products import product, safe_reciprocal

__all__ = ["Provisional", "combine_columns", "provisional_fit", "units"]

_RUN = 16  # rows
_SAMPLE = 4096
_FEW = 64  # rows are enough for a shift; what is left of the mean is found next
_SPREAD = 512  # rows tell how large deviations are


class Provisional(NamedTuple):
    """What rows are about: x is near shift + rest + scale * (slopes^T (z - shift_z)).

    The mean of x comes in two parts: far from zero the first, rounded, may be a deviation off.

    Attributes:
      shift: (d,).
      rest: (d,).
      shift_z: (k,) 0 for one-hot labels: their sums are exact, so classes of one size stay tied.
      scale: (d,) units of the features, see `units`.
      slopes: (k, d) of x on z in these units; 0 for a task.
    """

    shift: jax.Array
    rest: jax.Array
    shift_z: jax.Array
    scale: jax.Array
    slopes: jax.Array


def units(spread: jax.Array) -> jax.Array:
    """Returns the units (d,) in which features of given spreads are squared and summed.

    Powers of two, so nothing is rounded: 1 for spreads within 2^-40 to 2^40 (float32), and beyond
    them what brings the spread there. A hundred thousand rows a million times as far out still have
    squares that are finite, and squares of the spread are far above the smallest float.
    """
    info = jnp.finfo(spread.dtype)
    limit = 2.0 ** (info.maxexp * 5 // 16)
    size = products.power_of_two(spread)
    inside = jnp.clip(size, 1 / limit, limit)
    return jnp.where((size > 0) & jnp.isfinite(size), size / inside, 1)


def _some(n: int, filled: jax.Array | None) -> slice | np.ndarray | jax.Array:
    """Returns where runs of rows lie all over n rows: labels may come sorted, or take turns."""
    if filled is not None:  # how many of the leading rows there are
        runs = min(max(n // (8 * _RUN), 4), _SAMPLE // _RUN)
        # In float32, whose rounding moves a run by a row: of integers the product would overflow.
        share = jnp.arange(runs, dtype=jnp.float32) / (runs - 1)
        starts = (share * jnp.maximum(filled - _RUN, 0)).astype(jnp.int32)
        places = (starts[:, None] + jnp.arange(_RUN)).reshape(-1)
        return jnp.minimum(places, filled - 1)
    period = _RUN * max(n // _SAMPLE, 4)
    count = n // period
    if count < 2:
        return slice(None)
    return (np.arange(count)[:, None] * period + np.arange(_RUN)).reshape(-1)


def provisional_fit(
    x: jax.Array,
    z: jax.Array,
    weights: jax.Array | None,
    concept: int,
    one_hot: bool,
    filled: jax.Array | None = None,
) -> Provisional:
    """Returns means of x and z, and slopes of x on z, near enough to shift by, from some rows.

    Args:
      x: (n, d).
      z: (n, k) the concept in columns, and then the task.
      weights: (n,) or None.
      concept: static; how many columns of z are the concept.
      one_hot: static; whether they are class labels.
      filled: () how many of the leading rows there are, None for all.
    """
    some = _some(x.shape[0], filled)
    some_x, some_z = x[some].astype(z.dtype), z[some]
    row = jnp.ones(len(some_z), z.dtype)
    if weights is not None:
        row = weights[some]
        some_x = jnp.where((row != 0)[:, None], some_x, 0)
    total = jnp.sum(row)
    inverse_n = safe_reciprocal(total, total != 0)

    def center(some: jax.Array, row: jax.Array, every: jax.Array) -> jax.Array:
        total = jnp.sum(row)
        # Shares first: a sum of the largest floats would overflow.
        share = row * safe_reciprocal(total, total != 0)
        near = jnp.sum(some * share[:, None], axis=0)
        if weights is not None:
            # All weight may lie between the rows; then any that counts is near enough.
            counts = weights != 0
            other = jnp.where(counts.any(), every[jnp.argmax(counts)].astype(near.dtype), 0)
            near = jnp.where(total != 0, near, other)
        return _rounded(near)

    few = slice(None, None, max(len(row) // _FEW, 1))
    shift = center(some_x[few], row[few], x)
    shift_z = center(some_z, row, z)
    shift_z = jnp.where((jnp.arange(z.shape[1]) < concept) & one_hot, 0, shift_z)
    z = (some_z - shift_z)[:, :concept]
    heavy = z * row[:, None]
    x = some_x - shift
    marks = jnp.concatenate([heavy, row[:, None]], axis=1) * inverse_n
    rest = _rounded(products.weighted_sum(x, marks))
    x = x - rest
    if weights is not None:
        x = jnp.where((row != 0)[:, None], x, 0)
    scale = units(jnp.max(jnp.abs(x[:: max(len(row) // _SPREAD, 1)]), axis=0))
    x = x / scale
    zx = products.narrow_product(heavy, x)
    if one_hot:
        size = jnp.sum(heavy, axis=0)
        slopes = zx * safe_reciprocal(size, size != 0)[:, None]
    else:
        # Shrunk, so that columns of z that depend on each other get no large opposite slopes.
        zz = product("nj,nk->jk", heavy, z)
        length = jnp.sqrt(jnp.maximum(jnp.diagonal(zz), 0))
        inverse = safe_reciprocal(length, length > 0)[:, None]
        slopes = inverse * solves.solve_correlation(
            solves.equilibrate(zz, length),
            inverse * zx,
            shrinkage=float(jnp.finfo(x.dtype).eps) ** 0.5,
        )
    # Infinities stay in x alone, and are found there.
    slopes = _rounded(jnp.where(jnp.isfinite(slopes), slopes, 0))
    slopes = jnp.pad(slopes, ((0, shift_z.shape[0] - concept), (0, 0)))
    return Provisional(shift=shift, rest=rest, shift_z=shift_z, scale=scale, slopes=slopes)


def combine_columns(z: jax.Array, slopes: jax.Array) -> jax.Array:
    """Returns z @ slopes, (n, d); for a few columns as sums that fuse with what uses them."""
    if z.shape[1] > 8:
        return product("nk,kd->nd", z, slopes)
    return sum(z[:, j : j + 1] * slopes[j] for j in range(z.shape[1]))  # pyright: ignore


def _rounded(mean: jax.Array) -> jax.Array:
    """Returns a provisional number rounded to half its mantissa.

    The compiler may contract x - sum / n into one fused multiply-add, and so subtract another
    number than the one that is kept as the mean. It cannot do that across a rounding.
    """
    info = jnp.finfo(mean.dtype)
    return jnp.asarray(jax.lax.reduce_precision(mean, info.nexp, info.nmant // 2))
