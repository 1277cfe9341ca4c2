"""Whether a projection leaves enough of every feature for its own rounding not to show."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, UInt32

from erasejax._core.status import Status, flag
from erasejax._linalg.products import product, safe_reciprocal
from erasejax.projection._projection import Projection
from erasejax.rows import Dataset

__all__ = ["small_rests"]

_ROWS = 128  # enough to tell a mean size to a tenth
_UNSEEN = 1e-4  # deviations: a difference of class means that would take 1e8 rows to be seen


def small_rests(projection: Projection, data: Dataset) -> UInt32[Array, ""]:
    """Returns UNRESOLVED where rounding of the kernel may leave of a concept what a probe can see.

    An entry K_i of the kernel is rounded three times or four, by e_i of up to 2 eps |K_i|, and what
    the projection leaves of e, P e, stays in every row, times T^T (x - b), which is the concept.
    With independent e_j its size in feature i is the root of sum_j P_ij^2 e_j^2. That counts beside
    the little that is left of features that are copies of each other but for some thousandths of
    their size, or less. Where nothing is left but a constant there is nothing to be seen.

    Args:
      projection: what was fitted.
      data: the rows that it was fitted to, of which the first with a weight are read.
    """
    kernel, test = projection.kernel, projection.test
    if data.own_weights is None:
        rows, seen = data.x[:_ROWS], data.row_weights[:_ROWS] != 0
    else:
        counts = (data.row_weights != 0).astype(jnp.int32)
        found, places = jax.lax.top_k(counts, min(_ROWS, len(counts)))  # of equal ones the first
        rows, seen = data.x[places], found != 0
    lag = jnp.where(seen[:, None], rows.astype(kernel.dtype) - projection.center, 0)
    each = safe_reciprocal(jnp.sum(seen).astype(kernel.dtype), seen.any())
    lag = jnp.concatenate([lag, each * jnp.sum(lag, axis=0, keepdims=True)])  # and their mean
    read = product("nd,dr->nr", lag, test)
    left = lag - projection._share * product("nr,dr->nd", read, kernel)
    eps = float(jnp.finfo(kernel.dtype).eps)
    # What an eraser takes for rounding it sets to the centre.
    taken = product("nr,dr->nd", jnp.abs(read[:-1]), jnp.abs(kernel))
    varies = seen[:, None] & (jnp.abs(left[:-1]) >= 8 * eps * taken)
    if projection.flat is not None:
        varies &= ~projection.flat
    left = jnp.sum(jnp.where(varies, jnp.abs(left[:-1] - left[-1]), 0), axis=0)
    read = jnp.sum(jnp.where(seen[:, None], jnp.abs(read[:-1] - read[-1]), 0), axis=0)
    # In units of e, which for features of other units may be far from 1.
    most = jnp.max(read, initial=0)
    size = jnp.sum(jnp.abs(kernel) * (read * safe_reciprocal(most, most > 0)), axis=1)
    unit = size[:, None]
    reader, kept = test * unit, kernel * safe_reciprocal(unit, unit > 0)
    other = product("dr,rs,ds->d", kept, product("dr,ds->rs", reader, reader), kept)
    rest = jnp.sqrt(jnp.maximum(1 - 2 * jnp.sum(kernel * test, axis=1) + other, 0))
    bound = 2 * eps / _UNSEEN * size * rest
    small = (left > 0) & (left * safe_reciprocal(most, most > 0) < bound)
    return flag(small.any(), Status.UNRESOLVED)
