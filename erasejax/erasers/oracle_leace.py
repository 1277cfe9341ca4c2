"""Oracle LEACE: the least damage of all, for erasers that may read the label."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from erasejax import checks
from erasejax.canonical import concept_axes, whitening
from erasejax.checks import Status
from erasejax.data import Dataset, codes
from erasejax.erasers.base import ClosedForm
from erasejax.linalg import product
from erasejax.moments import Moments
from erasejax.origin import as_dataset_about
from erasejax.programs import program

__all__ = ["OracleLEACE", "OracleProjection"]


@struct.dataclass
class OracleProjection:
    """The map r(x, z) = x - Sigma_xz Sigma_zz^+ (z - mean_z). It is not idempotent.

    Attributes:
      slopes: (k, d) the regression of x on the coded concept; for classes, class means less the
        mean.
      mean_z: (k,) mean of the coded concept.
      rank: () int32, rank of the covariance of x with the concept.
      status: () uint32 bits, see `erasejax.checks.Status`.
      one_hot: static; whether z is class labels.
    """

    slopes: jax.Array
    mean_z: jax.Array
    rank: jax.Array
    status: jax.Array
    one_hot: bool = struct.field(pytree_node=False, default=False)

    needs_z = True

    @property
    def dims(self) -> int:
        """How many features the eraser was fitted on, d."""
        return self.slopes.shape[-1]

    def _moved(self, origin: jax.Array) -> "OracleProjection":
        """Returns the same eraser for rows moved by an origin: what is subtracted stays."""
        return self

    def __call__(self, x: Any, z: Any, *, dtype: Any = None) -> jax.Array:
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
        k, d = self.slopes.shape[-2:]
        classes = k if self.one_hot else None
        data, origin = as_dataset_about(x, z, num_classes=classes, decided=True)
        columns = k if self.one_hot else codes(data, jnp.float32)[0].shape[1]
        if data.x.shape[1] != d or columns != k:
            raise ValueError(
                f"x, z: this eraser was fitted on {d} features and {k} concept columns, got "
                f"{data.x.shape} and {data.z.shape}"
            )
        return _apply(self, data, origin, checks.result_dtype(data.x, dtype))


@program(static_argnums=3)
def _apply(
    oracle: OracleProjection, data: Dataset, origin: jax.Array | None, result_dtype: Any
) -> jax.Array:
    dtype = checks.compute_dtype(data.x, oracle.slopes)
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
class OracleLEACE(ClosedForm):
    """Subtracts what the concept explains of x; the eraser reads z when it is applied.

    For classes r(x, z) = x - mean_z + mean: every class is moved onto the common mean. No eraser
    with Cov(r, z) = 0 moves x less. It needs no covariance of x.

    References:
      Belrose et al. 2023, arXiv 2306.03819, section 4.3.
    """

    needs_covariance = False

    def _solve(self, moments: Moments) -> OracleProjection:
        axes, _ = concept_axes(moments)
        whiten, status = whitening(moments)
        slopes = product("kr,dr->kd", whiten, axes * moments.sd[:, None])
        singular = jnp.linalg.svd(axes, compute_uv=False)
        eps = jnp.finfo(axes.dtype).eps
        rank = jnp.sum(singular > 8 * eps * axes.shape[0] ** 0.5).astype(jnp.int32)
        status = status | checks.flag(rank == 0, Status.RANK_ZERO)
        # What varies by less than the dtype can say cannot be moved by that much either.
        status = status | checks.flag(moments.flat.any(), Status.UNRESOLVED)
        return checks.poison(
            OracleProjection(
                slopes=slopes,
                mean_z=moments.concept_mean,
                rank=rank,
                status=status,
                one_hot=moments.one_hot,
            ),
            status,
        )
