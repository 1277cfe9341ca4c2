"""Oracle LEACE: the least damage of all, for erasers that may read the label."""

from typing import ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float, Int, UInt32

from erasejax._core import inputs
from erasejax._core.pytrees import static
from erasejax._core.status import Status, check_single, flag, poison
from erasejax._core.types import DTypeLike, Given
from erasejax._core.views import Shown, number
from erasejax._linalg.products import product, safe_reciprocal
from erasejax.erasers._base import ClosedForm
from erasejax.rows import Columned, Dataset, as_dataset_about, codes, row_by_row
from erasejax.statistics import (
    Moments,
    concept_axes,
    moments_after,
    relative_spread,
    share_of_variance,
    whitening,
)

__all__ = ["OracleLEACE", "OracleProjection"]


@struct.dataclass
class OracleProjection(Shown, Columned):
    """The map r(x, z) = x - Sigma_xz Sigma_zz^+ (z - mean_z). It is not idempotent.

    Attributes:
      slopes: (k, d) the regression of x on the coded concept; for classes, class means less the
        mean.
      mean_z: (k,) mean of the coded concept.
      rank: () int32, rank of the covariance of x with the concept.
      status: () uint32 bits, see `erasejax.Status`.
      one_hot: static; whether z is class labels.

    Example:
      >>> data = ej.datasets.GaussianClasses(rows=3, dims=2).sample(jax.random.key(0))
      >>> eraser = ej.OracleLEACE().fit(data)
      >>> eraser.slopes.shape, eraser(data.x, data.z).shape
      ((2, 2), (6, 2))
    """

    slopes: Float[Array, "k d"]
    mean_z: Float[Array, " k"]
    rank: Int[Array, ""]
    status: UInt32[Array, ""]
    one_hot: bool = static(False)

    needs_z = True

    @property
    def dims(self) -> int:
        """How many features the eraser was fitted on, d."""
        return self.slopes.shape[-1]

    def _facts(self, lane: Self) -> dict[str, object]:
        return {
            "directions removed": number(self.rank, self.status),
            "of features": lane.dims,
            "applied to": "rows and their concept",
        }

    def erased_moments(self, moments: Moments) -> Moments:
        """Returns the moments of r(x, z) from those of x and z: B^T z is subtracted.

        Args:
          moments: of d features and k columns, with the covariance of the features.

        Under jit: pure.
        """
        slopes = self.slopes / moments.unit
        back = product("kd,ke->de", slopes, moments.xz.T)
        both = product("kd,kj,je->de", slopes, moments.zz, slopes)
        return moments_after(
            moments,
            moments.xx - (back + back.T) + both,
            moments.xz - product("kd,kj->dj", slopes, moments.zz),
            shift=self._shift(moments, self.slopes),
            status=self.status,
        )

    def damage(self, moments: Moments) -> Float[Array, ""]:
        """Returns what `metrics.damage` does of the rows of `moments` and of what is left of them.

        Args:
          moments: of d features and k columns; needs no covariance of the features.

        Under jit: pure.
        """
        spread, share = relative_spread(moments)
        inverse_n = safe_reciprocal(moments.total, moments.total > 0)
        slopes = self.slopes * share
        moved = product("kd,kj,jd->d", slopes, moments.zz * inverse_n, slopes)
        return share_of_variance(moved, self._shift(moments, slopes), spread)

    def _shift(self, moments: Moments, slopes: jax.Array) -> jax.Array:
        """Returns how far erasing moves the mean back, (d,)."""
        return product("k,kd->d", moments.concept_mean - self.mean_z, slopes)

    def _moved(self, origin: jax.Array) -> "OracleProjection":
        """Returns the same eraser for rows moved by an origin: what is subtracted stays."""
        return self

    def __call__(
        self, x: Given, z: Given, *, dtype: DTypeLike | None = None
    ) -> Float[Array, "n d"]:
        """Erases the concept from rows whose concept is known.

        Args:
          x: (n, d) floats.
          z: the concept, as it was when fitting. A row with a label outside [0, k) becomes NaN.
          dtype: static; of the result, as for a `Projection`.

        Returns:
          (n, d) in that dtype; NaN where fitting failed.

        Raises:
          TypeError: x is not floating point.
          ValueError: shapes do not match the fit, or JAX does not keep the dtype.
        """
        check_single(self, "eraser(x, z)")
        k, d = self.slopes.shape[-2:]
        classes = k if self.one_hot else None
        data, origin = as_dataset_about(x, z, of=self, num_classes=classes, decided=True)
        columns = k if self.one_hot else codes(data, jnp.float32)[0].shape[1]
        if data.x.shape[1] != d or columns != k:
            raise ValueError(
                f"x, z: this eraser was fitted on {d} features and {k} concept columns, got "
                f"{data.x.shape} and {data.z.shape}"
            )
        return row_by_row(_apply, (self, origin), data, inputs.result_dtype(data.x, dtype))


def _apply(
    shared: tuple[OracleProjection, jax.Array | None], data: Dataset, result_dtype: np.dtype
) -> jax.Array:
    oracle, origin = shared
    dtype = inputs.compute_dtype(data.x, oracle.slopes)
    columns, _ = codes(data, dtype)
    if data.is_classes:
        known = (data.z >= 0) & (data.z < columns.shape[1])
        columns = jnp.where(known[:, None], columns, jnp.nan)
    explained = product("nk,kd->nd", columns - oracle.mean_z, oracle.slopes)
    result = data.x.astype(dtype) - explained
    if origin is not None:
        result = origin[0] + (origin[1] + result)
    return result.astype(result_dtype)


@struct.dataclass(kw_only=True)
class OracleLEACE(ClosedForm[OracleProjection]):
    """Subtracts what the concept explains of x; the eraser reads z when it is applied.

    For classes r(x, z) = x - mean_z + mean: every class is moved onto the common mean. No eraser
    with Cov(r, z) = 0 moves x less. It needs no covariance of x.

    Example:
      >>> data = ej.datasets.GaussianClasses(rows=3, dims=2).sample(jax.random.key(0))
      >>> oracle, leace = ej.OracleLEACE().fit(data), ej.LEACE().fit(data)
      >>> erased = oracle(data.x, data.z)
      >>> bool(ej.metrics.damage(data.x, erased) <= ej.metrics.damage(data.x, leace(data.x)))
      True

    References:
      Belrose et al. 2023, arXiv 2306.03819, section 4.3.
    """

    name: ClassVar[str] = "oracle-leace"

    needs_covariance = False

    def _solve(self, moments: Moments) -> OracleProjection:
        axes, _ = concept_axes(moments)
        whiten, status = whitening(moments)
        slopes = product("kr,dr->kd", whiten, axes * moments.sd[:, None])
        singular = jnp.linalg.svd(axes, compute_uv=False)
        eps = jnp.finfo(axes.dtype).eps
        rank = jnp.sum(singular > 8 * eps * axes.shape[0] ** 0.5).astype(jnp.int32)
        status = status | flag(rank == 0, Status.RANK_ZERO)
        # What varies by less than the dtype can say cannot be moved by that much either.
        status = status | flag(moments.flat.any(), Status.UNRESOLVED)
        # Nor is more than rounding left of a feature that the concept explains.
        left = 1 - jnp.sum(axes**2, axis=1)
        explained = (moments.sd > 0) & (left <= 64 * eps)
        status = status | flag(explained.any(), Status.UNRESOLVED)
        return poison(
            OracleProjection(
                slopes=slopes,
                mean_z=moments.concept_mean,
                rank=rank,
                status=status,
                one_hot=moments.one_hot,
            ),
            status,
        )
