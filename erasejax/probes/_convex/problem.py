"""A regularised convex problem over rows, in standardised features."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

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

        Room is read with the rows, and counts for nothing: cut into blocks they would be copied,
        which takes as long as both products several times.
        """
        scores = self.scores(point)
        residual = self.share[:, None] * self.loss.residual(scores, self.y)
        # Few columns on the left: the rows are read as they lie.
        slope = product("nm,nd->md", residual, self.x)
        penalty = self.penalty()[:-1, None]
        loss = jnp.sum(self.share * self.loss.rows(scores, self.y))
        value = loss + jnp.sum(penalty * point.weight**2) / 2
        return value, Point(slope.T + penalty * point.weight, jnp.sum(residual, axis=0))


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
