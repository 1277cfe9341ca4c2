"""Arrays that are not JAX's, and how they become JAX arrays that nobody else can change.

JAX reads a numpy buffer later than the call that is given it, or for good: on a CPU a JAX array of
an aligned buffer *is* that buffer, and one of a DLPack tensor always is. What a call returns must
depend on what it was given when it was called, so whatever is not JAX's is copied once, on the
host, before the call goes on. JAX may then alias the copy.
"""

import contextlib
import importlib
import math
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from erasejax._core.text import show
from erasejax._core.types import DTypeLike

__all__ = ["aligned", "as_jax_or_numpy", "column_names", "own", "wide"]

_LABELS = ("groups", "predicted", "task", "templates", "z")  # arguments that name classes
_ALIGNMENT = 64  # bytes; JAX aliases aligned buffers and copies others, a second time


def own(array: np.ndarray, dtype: DTypeLike | None = None) -> jax.Array:
    """Returns a copy of a numpy array as a JAX array; later changes of `array` do not reach it.

    Args:
      array: of any strides, byte order and alignment.
      dtype: of the result; None for that of `array`, as JAX has it (32 bits without x64 mode).
    """
    dtype = jax.dtypes.canonicalize_dtype(array.dtype.newbyteorder("=") if dtype is None else dtype)
    copy = aligned(array.shape, dtype)
    with np.errstate(over="ignore", invalid="ignore"):  # infinity is for the status to say
        np.copyto(copy, array, casting="unsafe")
    return jax.device_put(copy)  # jnp.asarray compiles a program a shape from jax 0.12 on


def aligned(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Returns a new array, with nothing in it, that JAX may alias."""
    size = math.prod(shape) * dtype.itemsize
    buffer = np.empty(size + _ALIGNMENT, np.uint8)
    start = -buffer.__array_interface__["data"][0] % _ALIGNMENT
    return buffer[start : start + size].view(dtype).reshape(shape)


def as_jax_or_numpy(name: str, value: Any) -> jax.Array | np.ndarray:
    """Returns a JAX array as it is, and anything else that holds numbers as a numpy array.

    The numpy array may be the caller's own memory: read it at once, or `own` it.

    Args:
      name: of the argument, for the message.
      value: a JAX array, a numpy array or scalar, numbers or lists of them, or an object that
        speaks DLPack or converts itself to numpy (tensors, data frames).

    Raises:
      TypeError: it is none of these, or does not hold numbers.
    """
    if isinstance(value, jax.Array):
        return value
    if isinstance(value, np.ndarray | np.generic):
        return _numeric(name, np.asarray(value), value)
    if hasattr(value, "__jax_array__"):
        return value.__jax_array__()
    if isinstance(value, list | tuple) and any(
        isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(value)
    ):
        return jnp.asarray(value)
    if getattr(value, "requires_grad", False):
        raise TypeError(
            f"{name}: expected an array of numbers, got a {_kind(value)} that requires grad; pass "
            f"{name}.detach()"
        )
    if hasattr(value, "__dlpack__"):
        return _exported(name, value)
    if not hasattr(value, "__array__") and hasattr(value, "toarray"):
        raise TypeError(
            f"{name}: expected an array of numbers, got a sparse {_kind(value)}; pass "
            f"{name}.toarray()"
        )
    try:
        found = np.asarray(value)
    except Exception as error:
        raise TypeError(
            f"{name}: expected an array of numbers, got {_kind(value)} ({_line(error)})"
        ) from error
    return _numeric(name, found, value)


def column_names(value: object) -> tuple[str, ...] | None:
    """Returns the names of the columns of a data frame, None where none of them is text."""
    if isinstance(value, jax.Array | np.ndarray):
        return None
    # Of pyarrow's tables `columns` are the numbers themselves.
    names = getattr(value, "column_names", getattr(value, "columns", None))
    names = tuple(names) if isinstance(names, Iterable) else ()
    return tuple(map(str, names)) if any(isinstance(name, str) for name in names) else None


def _exported(name: str, value: Any) -> jax.Array | np.ndarray:
    """Returns what speaks DLPack: a view of it on the host, or a copy of it on its device.

    Raises:
      TypeError: neither numpy nor JAX can read it.
    """
    if hasattr(value, "resolve_neg"):  # a view that is negated when it is read, which DLPack loses
        value = value.resolve_neg()
    try:
        view = np.from_dlpack(value)
    except (AttributeError, BufferError, RuntimeError, TypeError, ValueError):
        view = None  # a dtype that numpy lacks, another device, read-only and too old to say so
    if view is not None:
        return _numeric(name, view, value)
    try:
        with wide():
            found = jnp.from_dlpack(value.contiguous() if hasattr(value, "contiguous") else value)
            on_host = all(device.platform == "cpu" for device in found.devices())
            if on_host or jnp.issubdtype(found.dtype, jnp.integer):
                return np.asarray(found)
            dtype = found.dtype
        # The copy is made when it is ready; until then the owner of the memory must wait.
        dtype = jax.dtypes.canonicalize_dtype(dtype)
        with wide():
            return jax.block_until_ready(jnp.array(found, dtype, copy=True))
    except Exception as error:
        reason = error
    if hasattr(value, "__array__"):
        try:
            return _numeric(name, np.asarray(value), value)
        except Exception as error:
            reason = error
    where = f" on {value.device}" if hasattr(value, "device") else ""
    raise TypeError(
        f"{name}: expected an array of numbers that numpy or JAX can read, got {_kind(value)}"
        f"{where} ({_line(reason)}); pass it as a dense tensor on the CPU"
    ) from reason


def wide() -> contextlib.AbstractContextManager[object]:
    """Returns the context in which JAX keeps 64 bits, under the name this version has for it."""
    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(True)
    return importlib.import_module("jax.experimental").enable_x64()


def _numeric(name: str, array: np.ndarray, value: object) -> np.ndarray:
    """Returns `array` if it holds numbers that JAX has.

    Args:
      name: of the argument.
      array: what numpy makes of the value.
      value: what was given.

    Raises:
      TypeError: it does not; the message says what it holds and what to do.
    """
    if np.ma.is_masked(value):
        raise TypeError(
            f"{name}: expected an array of numbers, got a masked array with entries masked; drop "
            f"these rows, or give them weight 0 and pass {name}.filled(0)"
        )
    dtype = array.dtype
    numeric = dtype.kind == "b" or jnp.issubdtype(dtype, jnp.number)
    if numeric and dtype.type not in {np.longdouble, np.clongdouble}:
        return array
    raise TypeError(f"{name}: expected an array of numbers, got {_remedy(name, array, value)}")


def _remedy(name: str, array: np.ndarray, value: object) -> str:
    """Returns what an array without numbers is, and what to do."""
    dtype = array.dtype
    if array.ndim == 0 and not isinstance(value, np.ndarray | np.generic):
        return _kind(value)
    if dtype.kind in "OUST":
        kind = "Python objects (dtype object)" if dtype.kind == "O" else f"text ({dtype})"
        if name in _LABELS:
            return f"{kind}; number the classes: numpy.unique({name}, return_inverse=True)[1]"
        if text := _text_columns(array, value):
            more = f" and {len(text) - 8} more" if text[8:] else ""
            return f"text in the columns {', '.join(map(show, text[:8]))}{more}; leave them out"
        return f"{kind}; convert it with .astype(numpy.float32)"
    if dtype.kind in "Mm":
        return f"times ({dtype}); pass numbers, such as .astype(float)"
    if dtype.names is not None:
        return "a structured array; numpy.lib.recfunctions.structured_to_unstructured makes columns"
    if dtype.kind == "V" and dtype.itemsize == 2:
        return (
            "raw bytes (|V2), as which numpy saves bfloat16; import ml_dtypes and pass "
            ".view(ml_dtypes.bfloat16)"
        )
    if dtype.type in {np.longdouble, np.clongdouble}:
        return f"{dtype}, which JAX does not have; pass .astype(numpy.float64)"
    return f"{dtype}; pass numbers"


def _text_columns(array: np.ndarray, value: object) -> list[str]:
    """Returns the names of the columns of a data frame that hold text, given as an array, too."""
    columns = array.T if array.ndim == 2 else ()
    return [
        name
        for name, column in zip(column_names(value) or (), columns, strict=False)
        if any(isinstance(entry, str) for entry in column)
    ]


def _kind(value: object) -> str:
    return type(value).__name__


def _line(error: BaseException) -> str:
    """Returns the first line of an exception's message."""
    return (str(error).splitlines() or [type(error).__name__])[0]
