"""Whether a projection leaves enough of every feature for its own rounding not to show."""

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
    With independent e_j its size in feature i is the root of sum_j P_ij^2 e_j^2. Beside what is
    left of a feature on purpose that counts where features are copies of each other but for some
    thousandths of their size, or less. Features that are set to the centre are out of question.

    Args:
      projection: of full or of partial strength.
      data: the rows that it was fitted to, of which the first are read.
    """
    kernel, test = projection.kernel, projection.test
    lag = data.x[:_ROWS].astype(kernel.dtype) - projection.center
    lag = jnp.where(data.row_weights[:_ROWS, None] > 0, lag, 0)
    peak = jnp.max(jnp.abs(lag))
    lag = lag * safe_reciprocal(peak, peak > 0)  # for no square to overflow
    read = product("nd,dr->nr", lag, test)
    left = jnp.sum(jnp.abs(lag - product("nr,dr->nd", read, kernel)), axis=0)
    off = jnp.sum(jnp.abs(kernel) * jnp.sum(jnp.abs(read), axis=0), axis=1)  # e, in 2 eps
    spread = product("dr,d,ds->rs", test, off**2, test)
    rest = off**2 * (1 - 2 * jnp.sum(kernel * test, axis=1))
    rest = rest + product("dr,rs,ds->d", kernel, spread, kernel)
    small = left < 2 * float(jnp.finfo(lag.dtype).eps) / _UNSEEN * jnp.sqrt(jnp.maximum(rest, 0))
    if projection.flat is not None:
        small &= ~projection.flat
    return flag(small.any(), Status.UNRESOLVED)
