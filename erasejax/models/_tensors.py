"""Erasers as functions of anybody's tensors, by operations that the tensors bring themselves."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from erasejax._core.foreign import as_jax_or_numpy
from erasejax._core.inputs import compute_dtype
from erasejax._core.status import check_single, thrown
from erasejax.projection import Projection

__all__ = ["applied", "as_like", "is_float_tensor", "narrow", "on_host", "select", "widen"]


def applied(eraser: Projection) -> Callable[[Any], Any]:
    """Returns the eraser as a function of tensors, torch's or JAX's.

    A torch tensor is erased by its own operations, where it lies and in its dtype, and gradients
    flow through. The constants are moved there once a device and dtype. 16-bit floats are computed
    in float32, under `torch.autocast` too, and rounded when all is done: what rounding brings back
    is the same as in `eraser(x)`. Everything else goes to `eraser(x)`.

    Args:
      eraser: a fitted `Projection`, as all erasers are that do not read the concept when applied.

    Returns:
      A function of x (..., d), which returns the same shape, dtype and device.

    Raises:
      TypeError: the eraser is no `Projection`.
      FailedLanesError: its fit failed.
      ValueError: it is a batch of erasers. The function raises it where the last
        axis of x is not d, and TypeError where x is not floating point.

    Under jit: pure, of JAX arrays; `torch.func` and autograd see plain operations.

    Example:
      >>> data = ej.datasets.GaussianClasses(rows=3, dims=2).sample(jax.random.key(0))
      >>> erase = ej.models.applied(ej.LEACE().fit(data))
      >>> erase(data.x.reshape(3, 2, 2)).shape  # or of a torch tensor, which gives a torch tensor
      (3, 2, 2)
    """
    if not isinstance(eraser, Projection):
        kind = type(eraser).__name__
        if getattr(eraser, "needs_z", False):
            raise TypeError(
                f"eraser: a {kind} reads the concept of every row when it is applied, and a model "
                "does not have it; fit one that returns a Projection, such as LEACE"
            )
        raise TypeError(f"eraser: expected a fitted Projection, got a {kind}; call its fit first")
    check_single(eraser, "eraser(x)")
    thrown(eraser, True)
    constants: dict[tuple[object, ...], _Constants] = {}

    def erase(x: Any) -> Any:
        if not is_torch(x):
            return eraser(x)
        if not x.is_floating_point():
            raise TypeError(f"x: expected floating-point values, got {x.dtype}; cast it first")
        if x.ndim < 1 or x.shape[-1] != eraser.dims:
            raise ValueError(
                f"x: this eraser was fitted on {eraser.dims} features, got shape {tuple(x.shape)}"
            )
        wide = _wide(x, eraser.kernel.dtype)
        # What is made in inference mode is of no use to gradients later.
        key = (wide.device, wide.dtype, wide.new_empty(0).is_inference())
        if key not in constants:
            constants[key] = _Constants(eraser, wide)
        return constants[key].erased(wide).to(x.dtype)

    return erase


class _Constants:
    """What an eraser is made of, as tensors of one device and dtype."""

    def __init__(self, eraser: Projection, like: Any):
        def tensor(array: object) -> Any:
            return as_like(np.array(array), like)

        kernel = np.asarray(eraser.kernel)
        self.center = tensor(eraser.center)
        self.test, self.kernel = tensor(eraser.test), tensor(kernel.T)
        self.again = tensor(eraser._second_test)
        self.share = 1.0 if eraser.strength is None else float(eraser.strength)
        flat = np.zeros(len(kernel), bool) if eraser.flat is None else np.asarray(eraser.flat)
        touched = ((kernel != 0).any(axis=-1) | flat) & (self.share != 0)
        self.touched = None if touched.all() else tensor(touched) != 0
        self.flat = tensor(flat) != 0 if flat.any() else None

    def erased(self, x: Any) -> Any:
        """Returns x (..., d) erased, as `Projection` does it."""
        centred = x - self.center
        taken = self.share * self._taken(centred)
        if self.flat is not None:
            taken = taken.where(~self.flat, self.share * centred)
        result = self.center + (centred - taken)
        # Features left alone are x to the last bit.
        return result if self.touched is None else result.where(self.touched, x)

    def _taken(self, centred: Any) -> Any:
        """Returns what is taken of (..., d), read twice, as `Projection` does it."""
        taken, size = _products(centred, self.test, self.kernel, sizes=True)
        (again,) = _products(centred - taken, self.again, self.kernel)
        taken = taken + again
        eps = float(np.finfo(str(centred.dtype).removeprefix("torch.")).eps)
        whole = centred.detach() + (taken - taken.detach())
        return whole.where((centred - taken).abs() < 8 * eps * size, taken)


def _products(centred: Any, test: Any, kernel: Any, *, sizes: bool = False) -> list[Any]:
    """Returns (x - b) T K^T, (..., d), and if asked for |(x - b) T| |K|^T.

    Inside `torch.autocast` products are rounded to 16 bits, and a part of the concept would stay.
    Sums are not: there a column at a time is summed.
    """
    read = centred @ test
    if read.dtype == centred.dtype:
        return [read @ kernel, *([read.abs() @ kernel.abs()] if sizes else [])]
    columns = zip(test.unbind(-1), kernel.unbind(0), strict=True)
    parts = [(centred * t).sum(-1, keepdim=True) * k for t, k in columns]
    return [sum(parts), *([sum(part.abs() for part in parts)] if sizes else [])]


def is_torch(x: object) -> bool:
    """Returns whether an object is a tensor of torch, by its methods."""
    return hasattr(x, "new_tensor") and hasattr(x, "is_floating_point")


def is_float_tensor(x: Any) -> bool:
    """Returns whether an object is a tensor or JAX array of floats."""
    if is_torch(x):
        return x.is_floating_point()
    return isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jnp.floating)


def as_like(array: np.ndarray, like: Any) -> Any:
    """Returns numbers as a tensor of the library, dtype and device of another."""
    return like.new_tensor(array) if is_torch(like) else jnp.asarray(array, like.dtype)


def select(condition: Any, a: Any, b: Any) -> Any:
    """Returns a where a condition holds, and b elsewhere; b may be a number."""
    return a.where(condition, b) if is_torch(a) else jnp.where(condition, a, b)


def widen(x: Any) -> Any:
    """Returns a tensor in at least float32."""
    return _wide(x, np.dtype(np.float32)) if is_torch(x) else x.astype(compute_dtype(x))


def narrow(x: Any, like: Any) -> Any:
    """Returns a tensor in the dtype of another."""
    return x.to(like.dtype) if is_torch(x) else x.astype(like.dtype)


def on_host(name: str, value: Any) -> np.ndarray:
    """Returns the numbers of a tensor or array as numpy, a view where they are on the host.

    Args:
      name: for the message.
      value: anything that holds numbers; of a torch tensor its values, whatever its gradients.

    Raises:
      TypeError: it holds none.
    """
    return np.asarray(as_jax_or_numpy(name, value.detach().cpu() if is_torch(value) else value))


def _wide(x: Any, dtype: np.dtype) -> Any:
    """Returns a torch tensor in the dtype that it is computed in with constants of a dtype."""
    if x.element_size() < 4:
        x = x.float()
    return x.double() if dtype.itemsize > x.element_size() else x
