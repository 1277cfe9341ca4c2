"""Features whose products are about a Gaussian kernel: random cosines, and landmarks."""

import jax
import jax.numpy as jnp
from flax import struct
from jax import lax
from jaxtyping import Array, Float

from erasejax._core.pytrees import Tree
from erasejax._linalg.products import product, safe_reciprocal
from erasejax.rows import Dataset, centered, move_point
from erasejax.statistics._moments import Moments

__all__ = ["FourierMap", "LandmarkMap", "median_distance"]

_PAIRS = 1024


@struct.dataclass
class FourierMap(Tree):
    """Random Fourier features sqrt(2 / D) cos((x - center) W + phase).

    Attributes:
      frequencies: (d, D) W.
      phases: (D,) in [0, 2 pi).
      center: (d,) mean of the fitting rows.

    References:
      Rahimi and Recht 2007, Random features for large-scale kernel machines, NIPS 20.
    """

    frequencies: Float[Array, "d f"]
    phases: Float[Array, " f"]
    center: Float[Array, " d"]

    @classmethod
    def draw(
        cls, key: jax.Array, moments: Moments, width: jax.Array, features: int
    ) -> "FourierMap":
        """Draws the features of a kernel.

        Args:
          key: a typed key.
          moments: of the rows; features are measured in their standard deviations.
          width: () of the kernel exp(-|x - y|^2 / (2 width^2)), in those units.
          features: static; D.
        """
        sd = moments.sd
        first, second = jax.random.split(key)
        drawn = jax.random.normal(first, (len(sd), features), sd.dtype)
        return cls(
            frequencies=drawn * safe_reciprocal(sd, sd > 0)[:, None] / width,
            phases=jax.random.uniform(second, (features,), sd.dtype, maxval=2 * jnp.pi),
            center=moments.mean,
        )

    def of(self, x: Float[Array, "n d"]) -> Float[Array, "n f"]:
        """Returns the features of rows (n, d), given less the centre."""
        scale = (2 / len(self.phases)) ** 0.5
        return scale * jnp.cos(product("nd,df->nf", x, self.frequencies) + self.phases)

    def _moved(self, origin: jax.Array) -> "FourierMap":
        center, lag = move_point(self.center, origin)
        phases = self.phases - product("d,df->f", lag, self.frequencies)
        return self.replace(center=center, phases=phases)


@struct.dataclass
class LandmarkMap(Tree):
    """Nystroem features: the kernel with D of the rows, times the inverse root of theirs.

    Attributes:
      scale: (d,) what a row less the centre is multiplied by, 1 / (sd width); 0 where constant.
      landmarks: (D, d) rows in those units.
      root: (D, D) symmetric inverse square root of the landmarks' kernel. Of all roots it leaves no
        feature with a spread of little more than rounding.
      center: (d,) mean of the fitting rows.

    References:
      Williams and Seeger 2001, Using the Nystroem method to speed up kernel machines, NIPS 13.
    """

    scale: Float[Array, " d"]
    landmarks: Float[Array, "f d"]
    root: Float[Array, "f f"]
    center: Float[Array, " d"]

    @classmethod
    def draw(
        cls, key: jax.Array, data: Dataset, moments: Moments, width: jax.Array, features: int
    ) -> "LandmarkMap":
        """Draws landmarks among the rows, by their weight, and with replacement.

        The root of eps is added to their kernel: rounding of eps in a kernel is multiplied by
        at most the fourth root of 1 / eps then, 54 in float32, and a row drawn twice counts once.

        Args:
          key: a typed key.
          data: rows.
          moments: of these rows.
          width: () of the kernel, in standard deviations.
          features: static; D.
        """
        sd = moments.sd
        scale = safe_reciprocal(sd, sd > 0) / width
        landmarks = centered(data, moments.mean).x[_drawn(key, data, features)] * scale
        values, vectors = jnp.linalg.eigh(_gaussian(landmarks, landmarks))
        ridge = float(jnp.finfo(sd.dtype).eps) ** 0.5
        inverse = lax.rsqrt(jnp.maximum(values, 0) + ridge)
        root = product("df,ef->de", vectors * inverse, vectors)
        return cls(scale=scale, landmarks=landmarks, root=root, center=moments.mean)

    def of(self, x: Float[Array, "n d"]) -> Float[Array, "n f"]:
        """Returns the features of rows (n, d), given less the centre."""
        return product("nd,df->nf", _gaussian(x * self.scale, self.landmarks), self.root)

    def _moved(self, origin: jax.Array) -> "LandmarkMap":
        center, lag = move_point(self.center, origin)
        return self.replace(center=center, landmarks=self.landmarks + lag * self.scale)


def median_distance(key: jax.Array, data: Dataset, moments: Moments) -> Float[Array, ""]:
    """Returns the median distance of two rows, of 1,024 random pairs, in standard deviations.

    Args:
      key: a typed key.
      data: rows; they are drawn by their weight.
      moments: of these rows.

    Returns:
      () > 0; 1 where most rows are the same.
    """
    pairs = _drawn(key, data, 2 * _PAIRS)
    sd = moments.sd
    rows = data.x[pairs].astype(sd.dtype)
    gaps = (rows[:_PAIRS] - rows[_PAIRS:]) * safe_reciprocal(sd, sd > 0)
    median = jnp.median(jnp.sqrt(jnp.sum(gaps * gaps, axis=1)))
    return jnp.where(median > 0, median, 1)


def _drawn(key: jax.Array, data: Dataset, count: int) -> jax.Array:
    """Returns indices (count,) of rows, each as probable as its weight."""
    upto = jnp.cumsum(data.row_weights)
    # In (0, 1], and from the left: never a row of weight 0, nor beyond the last.
    share = 1 - jax.random.uniform(key, (count,), upto.dtype)
    return jnp.searchsorted(upto, share * upto[-1])


def _gaussian(x: jax.Array, y: jax.Array) -> jax.Array:
    """Returns exp(-|x - y|^2 / 2), (n, m), for rows (n, d) and (m, d)."""
    squares = jnp.sum(x * x, axis=1)[:, None] + jnp.sum(y * y, axis=1)
    return jnp.exp(jnp.minimum(product("nd,md->nm", x, y) - squares / 2, 0))
