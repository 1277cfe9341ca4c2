"""A regularised convex problem over rows, in standardised features."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from erasejax._linalg import platforms, products
from erasejax._linalg.products import product, safe_reciprocal
from erasejax.probes._convex.losses import Loss
from erasejax.rows import Dataset, centered, codes
from erasejax.statistics import Moments

__all__ = ["Point", "Problem", "standardized"]


class Point(NamedTuple):
    """Parameters: scores are x @ weight + offset."""

    weight: jax.Array  # (d, m) of standardised features
    offset: jax.Array  # (m,) the scores at the mean


class Problem(NamedTuple):
    """The mean loss of rows plus (l2 / 2) |weight|^2, with the weight in the units of the data."""

    x: jax.Array  # (n, d) in standard deviations from the mean; zero where a row does not count
    y: jax.Array  # (n, m) targets
    share: jax.Array  # (n,) weights of sum 1
    loss: Loss
    l2: jax.Array  # ()
    inverse_sd: jax.Array  # (d,) 0 where a feature is constant
    filled: jax.Array | None  # () how many of the leading rows there are, None for all

    def scores(self, point: Point) -> jax.Array:
        """Returns the scores, (n, m)."""
        return product("nd,dm->nm", self.x, point.weight) + point.offset

    def penalty(self) -> jax.Array:
        """Returns the second derivative of the penalty, (d + 1,), the offset's last.

        At most eps^-4, where a weight is eps^3 of the least that could be seen of it: beyond, the
        square of 1 / sd would overflow.
        """
        most = float(jnp.finfo(self.inverse_sd.dtype).eps) ** -2
        root = jnp.minimum(jnp.sqrt(self.l2) * self.inverse_sd, most)
        return jnp.append(root**2, 0)

    def value_and_gradient(self, point: Point) -> tuple[jax.Array, Point]:
        """Returns the objective, (), and its gradient, in one pass over the rows each way.

        Where there is little room, all of it is read: blocks would be copied first.
        """
        coarse = self.filled is not None and platforms.is_coarse(self.x.size)

        def part(x: jax.Array, y: jax.Array, share: jax.Array, fresh: jax.Array | None):
            if fresh is not None:
                share = jnp.where(fresh, share, 0)
            if coarse:
                x = jax.lax.optimization_barrier(x)  # or each product would walk down the columns
            scores = product("nd,dm->nm", x, point.weight) + point.offset
            residual = share[:, None] * self.loss.residual(scores, y)
            # Few columns on the left: the rows are read as they lie.
            slope = product("nm,nd->md", residual, x)
            return jnp.sum(share * self.loss.rows(scores, y)), slope, jnp.sum(residual, axis=0)

        rows = self.x, self.y, self.share
        value, slope, offset = products.sum_over_rows(
            part, rows, whole=not coarse, filled=self.filled
        )
        penalty = self.penalty()[:-1, None]
        value = value + jnp.sum(penalty * point.weight**2) / 2
        return value, Point(slope.T + penalty * point.weight, offset)


def standardized(data: Dataset, moments: Moments, loss: Loss, l2: jax.Array) -> Problem:
    """Returns the problem of a dataset with labels.

    Args:
      data: rows.
      moments: of the rows.
      loss: for as many classes.
      l2: () penalty, in squared units of x.
    """
    inverse = safe_reciprocal(moments.sd, moments.sd > 0)
    z, _ = codes(data, inverse.dtype)
    return Problem(
        x=centered(data, moments.mean).x * inverse,
        y=loss.targets(z),
        share=data.row_weights * safe_reciprocal(moments.total, moments.total > 0),
        loss=loss,
        l2=l2,
        inverse_sd=inverse,
        filled=data.filled,
    )
