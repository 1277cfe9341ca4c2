"""An eraser as what is added to the parameters of a layer: an update of low rank, in float64."""

from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import numpy as np

from erasejax._core.status import check_single, raise_if_failed
from erasejax.projection import Projection

__all__ = ["Edit", "Layout", "Side", "check", "edit", "host", "like", "rounded"]

Side: TypeAlias = Literal["writes", "reads"]
Layout: TypeAlias = Literal["out,in", "in,out"]


class Edit(NamedTuple):
    """An eraser as an update of low rank, r(x) = x - kernel test^T x + constant, in float64.

    Attributes:
      kernel: (d, r).
      test: (d, r).
      constant: (d,) what is added to every row.
    """

    kernel: np.ndarray
    test: np.ndarray
    constant: np.ndarray

    def factors(self, weight: np.ndarray, side: Side) -> tuple[np.ndarray, np.ndarray]:
        """Returns what is added to the weight of a layer, as B A.

        Args:
          weight: (out, in) W.
          side: of the layer.

        Returns:
          B, (out, r), and A, (r, in).
        """
        if side == "reads":
            return -weight @ self.kernel, self.test.T
        return -self.kernel, self.test.T @ weight

    def shift(self, weight: np.ndarray | None, bias: np.ndarray | None, side: Side) -> np.ndarray:
        """Returns what is added to the bias of a layer, (out,).

        Args:
          weight: (out, in) W, of a layer that reads.
          bias: (out,), or None for zero.
          side: of the layer.
        """
        if side == "reads":
            return weight @ self.constant
        return self.constant if bias is None else self.constant - self.kernel @ (self.test.T @ bias)


def edit(name: str, eraser: Projection, *, constant: bool = True) -> Edit:
    """Returns what an eraser does, as an update of low rank.

    Args:
      name: what to call it in messages.
      eraser: a `Projection`.
      constant: False leaves the constant out.

    Raises:
      TypeError: the eraser is of another kind, which is no affine map of x.
      ValueError: it is a batch of erasers, or its fit failed.
    """
    if not isinstance(eraser, Projection):
        raise TypeError(
            f"{name}: expected a Projection, which is an affine map of x, got "
            f"{type(eraser).__name__}"
        )
    check_single(eraser, "eraser(x)")
    raise_if_failed(eraser)
    kernel, test, center = map(host, (eraser.kernel, eraser.test, eraser.center))
    used = (kernel != 0).any(axis=0)
    kernel, test = kernel[:, used], test[:, used]
    if eraser.flat is not None:
        # Features that are set to the centre: a unit vector each, read as what else is left there.
        unit = np.eye(len(kernel))[:, np.asarray(eraser.flat)]
        kernel, test = np.hstack([kernel, unit]), np.hstack([test, unit - test @ (kernel.T @ unit)])
    if eraser.strength is not None:
        kernel = kernel * host(eraser.strength)
    whole = kernel @ (test.T @ center) if constant else np.zeros(len(kernel))
    return Edit(kernel, test, whole)


def check(*, side: str = "writes", layout: str = "out,in") -> None:
    """Checks options.

    Raises:
      ValueError: one is unknown.
    """
    if side not in ("writes", "reads"):
        raise ValueError(f"side: expected 'writes' or 'reads', got {side!r}")
    if layout not in ("out,in", "in,out"):
        raise ValueError(f"layout: expected 'out,in' or 'in,out', got {layout!r}")


def host(value: Any) -> np.ndarray:
    """Returns a numpy, JAX or torch array as float64 in numpy."""
    if hasattr(value, "detach"):
        value = value.detach().cpu().double().numpy()
    return np.asarray(value).astype(np.float64)


def like(value: np.ndarray, other: Any) -> Any:
    """Returns float64 numbers as an array of the kind, dtype and device of another."""
    if hasattr(other, "detach"):
        half = str(other.dtype) in ("torch.bfloat16", "torch.float16")
        return other.new_tensor(_to_odd(value) if half else value)
    found = rounded(value, other.dtype)
    return jax.device_put(found, other.sharding) if isinstance(other, jax.Array) else found


def rounded(value: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Returns float64 numbers in another dtype, each rounded once."""
    with np.errstate(over="ignore"):
        narrow = _to_odd(value) if dtype.name == "bfloat16" else value
        return np.ascontiguousarray(narrow).astype(dtype)


def _to_odd(value: np.ndarray) -> np.ndarray:
    """Returns float64 numbers as float32, from which they round as from float64.

    Numbers that float32 does not have become the neighbour whose last bit is set, so that none is
    taken for the middle between two numbers of 16 bits. bfloat16 is made from float32 everywhere.
    """
    with np.errstate(over="ignore"):
        near = value.astype(np.float32)
    bits = np.ascontiguousarray(near).view(np.uint32)
    bits = bits - ((np.abs(near) > np.abs(value)) & np.isfinite(value))
    inexact = (bits.view(np.float32) != value) & np.isfinite(value)
    return (bits | inexact).astype(np.uint32).view(np.float32)
