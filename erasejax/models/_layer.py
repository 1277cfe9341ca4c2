"""An eraser as a layer of flax nnx, whose numbers no optimiser touches."""

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax.core import Tracer
from jaxtyping import Array, Float

from erasejax._core.status import check_single, raise_if_failed
from erasejax.projection import Projection

__all__ = ["Erase", "Fixed"]


class Fixed(nnx.Variable):
    """A number of an eraser: no parameter, so that an optimiser of `nnx.Param` leaves it alone."""


class Erase(nnx.Module):
    """An eraser as a layer, for `nnx.Sequential` and modules of your own.

    Its numbers are variables of the type `Fixed`: they are saved, restored, moved and sharded with
    the model, and neither trained nor differentiated by what asks for `nnx.Param`. Gradients flow
    through the layer to what is below. To restore a model make its layers with any eraser of as
    many features and as many columns of the kernel.

    Attributes:
      kernel: (d, r) K.
      test: (d, r) T.
      center: (d,) b.
      flat: (d,) bool, features that are set to the centre.
      strength: () a.

    Args:
      eraser: a `Projection`.

    Raises:
      TypeError: the eraser is of another kind.
      ValueError: it is a batch of erasers, or its fit failed.

    Example:
      >>> from flax import nnx
      >>> data = ej.datasets.GaussianClasses(rows=3, dims=2).sample(jax.random.key(0))
      >>> layer = ej.models.Erase(ej.LEACE().fit(data))
      >>> model = nnx.Sequential(layer, nnx.Linear(2, 4, rngs=nnx.Rngs(0)))
      >>> model(data.x).shape
      (6, 4)
    """

    def __init__(self, eraser: Projection):
        if not isinstance(eraser, Projection):
            raise TypeError(f"eraser: expected a Projection, got {type(eraser).__name__}")
        check_single(eraser, "eraser(x)")
        if not isinstance(eraser.status, Tracer):
            raise_if_failed(eraser)
        # All of them, whatever the eraser has: a model is restored into one of the same structure.
        flat = jnp.zeros(eraser.dims, bool) if eraser.flat is None else eraser.flat
        a = jnp.ones((), eraser.kernel.dtype) if eraser.strength is None else eraser.strength
        self.kernel = Fixed(eraser.kernel)
        self.test = Fixed(eraser.test)
        self.center = Fixed(eraser.center)
        self.flat = Fixed(flat)
        self.strength = Fixed(a)

    def __call__(self, x: Any) -> Float[Array, "*batch d"]:
        """Returns x (..., d) erased, in its dtype.

        Args:
          x: (..., d) floats.
        """
        kernel = self.kernel[...]
        eraser = Projection(
            kernel=kernel,
            test=self.test[...],
            center=self.center[...],
            rank=jnp.int32(kernel.shape[-1]),
            status=jnp.uint32(0),
            flat=self.flat[...],
            strength=self.strength[...],
        )
        return eraser(x)
