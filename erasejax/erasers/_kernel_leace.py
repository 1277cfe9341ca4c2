"""LEACE on features of a Gaussian kernel."""

from typing import Annotated, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, UInt32

from erasejax._core import inputs
from erasejax._core.pytrees import Inner, Within, static
from erasejax._core.status import check_single, poison
from erasejax._core.types import DTypeLike, Given
from erasejax._linalg.products import product
from erasejax.erasers._base import Eraser
from erasejax.erasers._leace import LEACE
from erasejax.probes import LeastSquares
from erasejax.projection import Projection
from erasejax.rows import Columned, Dataset, centered, features_about, row_by_row
from erasejax.statistics import FourierMap, LandmarkMap, Moments, median_distance, standardized

__all__ = ["KernelEraser", "KernelLEACE"]

_KERNELS = ("fourier", "landmarks")
_OUTPUTS = ("x", "features")


@struct.dataclass
class KernelEraser(Columned):
    """A fitted `KernelLEACE`: features of x, a projection of them, and a way back to x.

    Attributes:
      kernel: the map from x (d,) to its features (D,).
      projection: LEACE of the features.
      back: (D, d) regression of x on the features; None where erased features are the result.
      status: () uint32 bits, see `erasejax.Status`.

    Example:
      >>> data = ej.datasets.XorClasses(rows=8, dims=3).sample(jax.random.key(0))
      >>> eraser = ej.KernelLEACE(features=6).fit(data, key=jax.random.key(1))
      >>> eraser(data.x).shape, eraser.features(data.x).shape
      ((16, 3), (16, 6))
    """

    kernel: FourierMap | LandmarkMap
    projection: Annotated[Projection, Inner(letters={"d": "f"})]
    back: Float[Array, "f d"] | None
    status: UInt32[Array, ""]

    needs_z = False

    @property
    def dims(self) -> int:
        """How many features x has, d."""
        return self.kernel.center.shape[-1]

    @property
    def rank(self) -> Int[Array, ""]:
        """() int32, how many directions of the features are removed."""
        return self.projection.rank

    def features(self, x: Given, *, dtype: DTypeLike | None = None) -> Float[Array, "*batch f"]:
        """Returns the erased features of x: exact, Cov(features, z) = 0 on the fitting rows.

        Args:
          x: (..., d) floats.
          dtype: static; of the result, None for that of x.

        Returns:
          (..., D); NaN where fitting failed.

        Raises:
          TypeError: x is not floating point.
          ValueError: the last axis of x is not d, or JAX does not keep the dtype.
        """
        return self._result(x, dtype, features=True)

    def __call__(self, x: Given, *, dtype: DTypeLike | None = None) -> Float[Array, "*batch out"]:
        """Erases the concept from x.

        Args:
          x: (..., d) floats. float16 and bfloat16 are computed in float32.
          dtype: static; of the result, None for that of x.

        Returns:
          (..., d) the pre-image of the erased features, or, fitted with output="features", (..., D)
          those; NaN where fitting failed.

        Raises:
          TypeError: x is not floating point.
          ValueError: the last axis of x is not d, or JAX does not keep the dtype.
        """
        return self._result(x, dtype, features=self.back is None)

    def _result(self, x: Given, dtype: DTypeLike | None, *, features: bool) -> jax.Array:
        check_single(self, "eraser(x)")
        x, origin = features_about("x", x, ndim=None, of=self)
        if x.ndim < 1 or x.shape[-1] != self.dims:
            raise ValueError(
                f"x: this eraser was fitted on {self.dims} features, got shape {x.shape}"
            )
        rows = x if x.ndim == 2 else x.reshape(-1, self.dims)
        kind = inputs.result_dtype(x, dtype)
        found = row_by_row(_apply, (self, origin), rows, kind, features)
        return found if x.ndim == 2 else found.reshape(*x.shape[:-1], found.shape[1])

    def _moved(self, origin: jax.Array) -> "KernelEraser":
        """Returns the same eraser for rows moved by an origin (2, d)."""
        return self.replace(kernel=self.kernel._moved(origin))


def _apply(
    shared: tuple[KernelEraser, jax.Array | None],
    x: jax.Array,
    result_dtype: np.dtype,
    features: bool,
) -> jax.Array:
    eraser, origin = shared
    if origin is not None:
        eraser = eraser._moved(-origin)
    center = eraser.kernel.center
    x = x.astype(inputs.compute_dtype(x, center)) - center
    erased = eraser.projection(eraser.kernel.of(x))
    if features or eraser.back is None:
        return erased.astype(result_dtype)
    result = center + product("nf,fd->nd", erased - eraser.projection.center, eraser.back)
    if origin is not None:
        result = origin[0] + (origin[1] + result)
    return result.astype(result_dtype)


@struct.dataclass(kw_only=True)
class KernelLEACE(Eraser[KernelEraser]):
    """LEACE on features phi(x) of the kernel exp(-|x - y|^2 / (2 b^2 m^2)), standardised features.

    m is the median distance of two rows, so that b = 1 is the median heuristic and nothing depends
    on units. After it no predictor linear in phi reads the concept: on the fitting rows
    Cov(r(phi(x)), z) = 0 exactly. What is not linear in phi is not guarded, another kernel or an
    MLP: phi tells all of x, and so do its other directions. On `XorClasses` all of them read the
    label as before; see docs/kernels.md, and `HSICDescent` for what they cannot read.

    The fitted eraser returns rows like any other, the pre-image of the erased features:
    E[x] + B^T (r(phi(x)) - E[phi(x)]), for the ridge regression B of x on phi(x). It is affine in
    the erased features, so that its covariance with the concept is zero, too; the damage is what of
    x is not linear in them. With output="features" the erased features themselves are the result,
    for what reads features of another number: a sweep does not, nor does a model.

    Attributes:
      bandwidth: () b > 0.
      shrinkage: () in [0, 1] of the features' correlations, see `LEACE`: there are many, and of a
        smooth kernel most are nearly combinations of the others.
      l2: () ridge penalty of the way back, >= 0, in squared units of phi, whose length is about 1.
      features: static; D, how many.
      kernel: static; "fourier", random cosines, or "landmarks", similarities to rows drawn from
        the fitting rows (Nystroem).
      output: static; "x" or "features".

    Example:
      >>> data = ej.datasets.XorClasses(rows=20, dims=3).sample(jax.random.key(0))
      >>> eraser = ej.KernelLEACE(features=8).fit(data, key=jax.random.key(1))
      >>> float(ej.metrics.linear_r2(eraser.features(data.x), data.z))
      0.0

    References:
      Ravfogel, Vargas, Goldberg and Cotterell 2022, Adversarial concept erasure in kernel space,
      arXiv 2201.12191; Belrose et al. 2023, arXiv 2306.03819.
    """

    name: ClassVar[str] = "kernel-leace"

    bandwidth: Annotated[ArrayLike, Within(0, ends=False)] = 1.0
    shrinkage: Annotated[ArrayLike, Within(0, 1)] = 1e-2
    l2: Annotated[ArrayLike, Within(0)] = 1e-4
    features: int = static(256)
    kernel: Literal["fourier", "landmarks"] = static("fourier")
    output: Literal["x", "features"] = static("x")

    needs_key = True

    def _fit(self, data: Dataset, key: jax.Array | None) -> KernelEraser:
        inputs.choice("kernel", self.kernel, _KERNELS)
        inputs.choice("output", self.output, _OUTPUTS)
        if self.features < 1:
            raise ValueError(f"features: expected a positive number, got {self.features}")
        assert key is not None
        moments = Moments.of(data, covariance=False)
        first, second = jax.random.split(key)
        width = jnp.asarray(self.bandwidth, moments.sd.dtype)
        width = width * median_distance(first, data, moments)
        if self.kernel == "fourier":
            kernel = FourierMap.draw(second, moments, width, self.features)
        else:
            kernel = LandmarkMap.draw(second, data, moments, width, self.features)
        mapped = data.replace(x=kernel.of(centered(data, kernel.center).x))
        projection = LEACE(shrinkage=self.shrinkage)._fit(mapped, None)
        back = None
        if self.output == "x":
            own = mapped.replace(z=standardized(data, moments), num_classes=None)
            back = LeastSquares(l2=self.l2)._fit(own, None).weight * moments.sd
        status = projection.status | moments.outcome
        fitted = KernelEraser(kernel=kernel, projection=projection, back=back, status=status)
        return poison(fitted, status)
