"""What signatures call what users give, and what all fitted erasers have in common."""

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias, runtime_checkable

import jax
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, UInt32

__all__ = ["DTypeLike", "FittedEraser", "Given", "Json", "Key", "SupportsArray", "SupportsDLPack"]


class SupportsArray(Protocol):
    """What converts itself to numpy: data frames, arrays of other libraries."""

    def __array__(self) -> np.ndarray: ...


class SupportsDLPack(Protocol):
    """What speaks DLPack: tensors of other libraries, on any device."""

    def __dlpack__(self) -> object: ...


# An array, or what becomes one: see `foreign.as_jax_or_numpy`.
Given: TypeAlias = ArrayLike | SupportsArray | SupportsDLPack | Sequence[object]
# What `json` reads: held to what it should be where it is read.
Json: TypeAlias = Any
DTypeLike: TypeAlias = str | type | np.dtype
# One typed `jax.random.key`, or a raw one of `jax.random.PRNGKey`.
Key: TypeAlias = jax.Array | np.ndarray


@runtime_checkable
class FittedEraser(Protocol):
    """What every fitted eraser has; what an `Eraser` of yours returns must have it too.

    Example:
      >>> data = ej.datasets.GaussianClasses(rows=3, dims=2).sample(jax.random.key(0))
      >>> isinstance(ej.LEACE().fit(data), ej.erasers.FittedEraser)
      True
    """

    @property
    def dims(self) -> int:
        """How many features it was fitted on, d."""
        ...

    @property
    def rank(self) -> Int[Array, ""]:
        """How many directions it removes."""
        ...

    @property
    def status(self) -> UInt32[Array, ""]:
        """Bits, see `erasejax.Status`."""
        ...

    @property
    def needs_z(self) -> bool:
        """Whether it is called with the concept, `eraser(x, z)`."""
        ...

    def __call__(self, x: Given, *args: Any, **options: Any) -> Float[Array, "*batch d"]:
        """Returns x (..., d) with the concept erased, in the dtype of x or of an option `dtype`."""
        ...
