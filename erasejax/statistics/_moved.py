"""Moments of rows that were moved, and how far."""

import jax.numpy as jnp
from jaxtyping import Array, Float, UInt32

from erasejax._linalg.products import safe_reciprocal, two_sum
from erasejax.statistics._moments import Moments

__all__ = ["moments_after", "relative_spread", "share_of_variance"]


def moments_after(
    moments: Moments,
    xx: Float[Array, "d d"],
    xz: Float[Array, "d k"],
    *,
    shift: Float[Array, " d"],
    status: UInt32[Array, ""],
) -> Moments:
    """Returns the moments of erased rows.

    Args:
      moments: before.
      xx: (d, d) of the erased rows, in units of `moments`.
      xz: (d, k) of the erased rows.
      shift: (d,) how far the mean has moved back.
      status: () of the eraser.
    """
    high, low = two_sum(moments.mean_x[0], -shift)
    return moments.replace(
        mean_x=jnp.stack(two_sum(high, low + moments.mean_x[1])),
        xx=xx,
        xz=xz,
        status=moments.status | status,
    )


def relative_spread(moments: Moments) -> tuple[Float[Array, " d"], Float[Array, ""]]:
    """Returns deviations (d,) in units of the largest, and 1 / the largest, ().

    Squares of what is in these units neither overflow nor vanish.
    """
    spread = moments.spread
    largest = jnp.max(spread)
    share = safe_reciprocal(largest, largest > 0)
    return spread * share, share


def share_of_variance(
    moved: Float[Array, " d"], shift: Float[Array, " d"], spread: Float[Array, " d"]
) -> Float[Array, ""]:
    """Returns the mean square of moves as a share of the variance, ().

    Args:
      moved: (d,) mean squares of the moves of each feature about their mean.
      shift: (d,) their mean.
      spread: (d,) deviations, in the same units.
    """
    return (jnp.sum(jnp.maximum(moved, 0)) + jnp.sum(shift**2)) / jnp.sum(spread**2)
