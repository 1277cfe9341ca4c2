"""Ridge regression with a Gaussian kernel, by random Fourier features."""

from typing import Annotated, ClassVar

import jax
import jax.numpy as jnp
from flax import struct
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Num, UInt32

from erasejax._core import inputs
from erasejax._core.pytrees import Inner, Within, static
from erasejax._core.status import poison
from erasejax._core.types import Given
from erasejax.probes._base import FittedProbe, LinearClassifier, LinearRegressor, Probe, decide
from erasejax.probes._linear import LeastSquares
from erasejax.rows import Dataset, centered, row_by_row
from erasejax.statistics import FourierMap, Moments

__all__ = ["FourierProbe", "KernelRidge"]


@struct.dataclass(kw_only=True)
class KernelRidge(Probe["FourierProbe"]):
    """Ridge regression with the kernel exp(-|x - y|^2 / (2 b^2 d)), in standardised features.

    The kernel is approximated by the products of random cosines of the rows, and `LeastSquares`
    with `l2` is fitted to those: exact in the limit of many. Its error falls as the square root of
    `features`. Labels are coded as `LeastSquares` does, and real concepts work too. scikit-learn's
    `KernelRidge` on standardised features has gamma = 1 / (2 b^2 d), alpha = l2 n, and no bias.

    A non-linear probe in closed form, between `QDA`, which sees means and covariances alone, and
    `MLP`, which is trained. `fit` needs a key, and holds (n, features) floats.

    Attributes:
      l2: () penalty, >= 0.
      bandwidth: () b, > 0. Two independent rows have a kernel of about exp(-1 / b^2).
      features: static; how many cosines.

    Example:
      >>> dataset = ej.datasets.GaussianClasses(separation=9.0, rows=3, dims=2)
      >>> data = dataset.sample(jax.random.key(0))
      >>> probe = ej.probes.KernelRidge(features=4).fit(data, key=jax.random.key(1))
      >>> probe.scores(data.x).shape
      (6,)

    References:
      Rahimi and Recht 2007, Random features for large-scale kernel machines, NIPS 20.
    """

    name: ClassVar[str] = "kernel-ridge"

    l2: Annotated[ArrayLike, Within(0)] = 1e-3
    bandwidth: Annotated[ArrayLike, Within(0, ends=False)] = 1.0
    features: int = static(512)

    needs_key = True
    real_concepts = True

    def _fit(self, data: Dataset, key: jax.Array | None) -> "FourierProbe":
        if self.features < 1:
            raise ValueError(f"features: expected a positive number, got {self.features}")
        assert key is not None
        moments = Moments.of(data, covariance=False)
        sd = moments.sd
        width = jnp.asarray(self.bandwidth, sd.dtype)
        width = width * jnp.sqrt(jnp.maximum(jnp.sum(sd > 0), 1).astype(sd.dtype))
        kernel = FourierMap.draw(key, moments, width, self.features)
        rows = kernel.of(centered(data, kernel.center).x)
        linear = LeastSquares(l2=self.l2)._fit(data.replace(x=rows), None)
        status = linear.status | moments.outcome
        probe = FourierProbe(
            frequencies=kernel.frequencies,
            phases=kernel.phases,
            center=kernel.center,
            linear=linear,
            status=status,
        )
        return poison(probe, status)


@struct.dataclass
class FourierProbe(FittedProbe):
    """A fitted `KernelRidge`: a linear probe of sqrt(2 / D) cos((x - center) W + phase).

    Attributes:
      frequencies: (d, D) W.
      phases: (D,) in [0, 2 pi).
      center: (d,) mean of the fitting rows.
      linear: the probe of the cosines.
      status: () uint32 bits, see `erasejax.Status`.

    Example:
      >>> dataset = ej.datasets.GaussianClasses(separation=9.0, rows=3, dims=2)
      >>> data = dataset.sample(jax.random.key(0))
      >>> probe = ej.probes.KernelRidge(features=4).fit(data, key=jax.random.key(1))
      >>> probe.frequencies.shape, probe.linear.weight.shape
      ((2, 4), (4,))
    """

    frequencies: Float[Array, "d f"]
    phases: Float[Array, " f"]
    center: Float[Array, " d"]
    linear: Annotated[LinearClassifier | LinearRegressor, Inner(letters={"d": "f"})]
    status: UInt32[Array, ""]

    @property
    def dims(self) -> int:
        """How many features the probe was fitted on, d."""
        return self.center.shape[0]

    @property
    def num_classes(self) -> int:
        """How many classes the probe tells apart."""
        return self.linear.num_classes

    def _moved(self, origin: jax.Array) -> "FourierProbe":
        moved = self._kernel._moved(origin)
        return self.replace(center=moved.center, phases=moved.phases)

    def _scores(self, x: jax.Array) -> jax.Array:
        x = x.astype(inputs.compute_dtype(x, self.center)) - self.center
        return self.linear._scores(self._kernel.of(x))

    @property
    def _kernel(self) -> FourierMap:
        return FourierMap(self.frequencies, self.phases, self.center)

    def predict(self, x: Given) -> Num[Array, " n *c"]:
        """Returns the predicted labels of rows (n, d), (n,) int32; of real concepts their values.

        Ties go to the lowest label. Where fitting failed every label is -1.
        """
        scores = self.scores(x)
        if isinstance(self.linear, LinearClassifier):
            return row_by_row(decide, self.status, scores)
        return scores
