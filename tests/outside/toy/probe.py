"""A probe that reads one feature."""

from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, UInt32

import erasejax as ej


@struct.dataclass
class Cut(ej.probes.Classifier):
    """What `OneFeature` fits: a score for class 1 along one feature."""

    weight: Float[Array, " d"]
    cut: Float[Array, ""]
    status: UInt32[Array, ""]

    @property
    def num_classes(self) -> int:
        """Two."""
        return 2

    @property
    def dims(self) -> int:
        """How many features it was fitted on."""
        return self.weight.shape[0]

    def _scores(self, x: jax.Array) -> jax.Array:
        x = x.astype(self.weight.dtype)
        return jnp.einsum("nd,d->n", x, self.weight, precision="highest") - self.cut


@struct.dataclass(kw_only=True)
class OneFeature(ej.probes.Probe):
    """Reads the feature whose class means lie furthest apart, in deviations."""

    name: ClassVar[str] = "one-feature"

    def _fit(self, data: ej.Dataset, key: jax.Array | None) -> Cut:
        fitted = ej.probes.MeanDifferenceProbe().fit(data, throw=False)
        sd = ej.Moments.of(data, covariance=False).sd
        best = jnp.argmax(jnp.abs(fitted.weight) * sd)
        weight = jnp.where(jnp.arange(len(sd)) == best, fitted.weight, 0)
        failed = jnp.isnan(fitted.weight).any()
        weight = jnp.where(failed, jnp.nan, weight)
        cut = jnp.einsum("d,d->", fitted.center, weight, precision="highest")
        return Cut(weight, cut, fitted.status)
