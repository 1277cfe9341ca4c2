"""Input checks: what is known when a function is traced, ranks and dtypes and options, raises."""

import dataclasses
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.tree_util import KeyPath
from jax.typing import ArrayLike

from erasejax._core.foreign import as_jax_or_numpy, own
from erasejax._core.pytrees import limits_of
from erasejax._core.types import DTypeLike, Given, Key

__all__ = [
    "as_array",
    "as_key",
    "as_labels",
    "choice",
    "compute_dtype",
    "drawing_key",
    "features",
    "known_values",
    "numbers",
    "result_dtype",
    "row_weights",
]

T = TypeVar("T")


def as_array(name: str, value: Given, dtype: DTypeLike | None = None) -> jax.Array:
    """Returns `value` as a JAX array that no later change of `value` reaches.

    Args:
      name: of the argument, for the message.
      value: a JAX array, which is not copied; or numpy, lists, and anything that speaks DLPack or
        converts itself to numpy, which are.
      dtype: of the result; None for that of `value`, as JAX has it.

    Raises:
      TypeError: `value` is not an array of numbers.
      ValueError: an integer does not fit the integers that JAX has.
    """
    found = as_jax_or_numpy(name, value)
    if isinstance(found, jax.Array):
        return found if dtype is None else found.astype(dtype)
    if dtype is None:
        _check_range(name, found, jax.dtypes.canonicalize_dtype(found.dtype.newbyteorder("=")))
    return own(found, dtype)


def as_labels(name: str, value: jax.Array | np.ndarray) -> jax.Array:
    """Returns integers or booleans as int32.

    JAX arrays of wider integers keep to the nearest int32: what is no label stays none.

    Args:
      name: of the argument, for the message.
      value: a JAX array, or numpy.

    Raises:
      ValueError: a numpy integer does not fit.
    """
    if isinstance(value, np.ndarray):
        _check_range(name, value, np.dtype(np.int32))
        return own(value, jnp.int32)
    if value.dtype != bool and value.dtype.itemsize >= 4 and value.dtype != jnp.int32:
        limits = np.iinfo(np.int32)
        least = limits.min if jnp.issubdtype(value.dtype, jnp.signedinteger) else 0
        value = jnp.clip(value, least, limits.max)
    return value.astype(jnp.int32)


def _check_range(name: str, array: np.ndarray, kept: np.dtype) -> None:
    """Checks that integers keep their values in another width.

    Raises:
      ValueError: one does not.
    """
    if array.dtype.kind not in "iu" or not array.size or np.can_cast(array.dtype, kept):
        return
    limits = np.iinfo(kept)
    for value in (int(array.min()), int(array.max())):
        if not limits.min <= value <= limits.max:
            raise ValueError(
                f"{name}: {value} does not fit {kept}; labels should be 0, 1, ..., k - 1 "
                "(numpy.unique(values, return_inverse=True)[1] makes them so)"
            )


def known_values(value: jax.Array | np.ndarray) -> np.ndarray | None:
    """Returns the values of an array as numpy, None where they are traced or not all here."""
    if isinstance(value, Tracer):
        return None
    if isinstance(value, jax.Array) and not value.is_fully_addressable:
        return None
    return np.asarray(value)


def features(name: str, x: Given, *, ndim: int | None = 2) -> jax.Array:
    """Returns `x` as a float array with `ndim` axes, rows first and features last.

    Raises:
      TypeError: `x` is not floating point.
      ValueError: `x` has another number of axes, or no rows or columns.
    """
    found = as_jax_or_numpy(name, x)
    dtype = found.dtype
    if not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(f"{name}: expected floating-point values, got {dtype}; cast it first")
    if dtype.itemsize == 1:
        raise TypeError(f"{name}: expected floats of 16 bits or more, got {dtype}; cast it first")
    if ndim is not None and found.ndim != ndim:
        raise ValueError(f"{name}: expected {ndim} axes (rows, features), got shape {found.shape}")
    if 0 in found.shape:
        raise ValueError(
            f"{name}: expected at least one row and one feature, got shape {found.shape}"
        )
    return found if isinstance(found, jax.Array) else own(found)


def row_weights(weights: Given | None, n: int, dtype: DTypeLike) -> jax.Array | None:
    """Returns `weights` as a float (n,) array, or None.

    Raises:
      ValueError: `weights` has another shape than (n,).
    """
    if weights is None:
        return None
    weights = as_array("weights", weights, dtype)
    if weights.shape != (n,):
        raise ValueError(f"weights: expected shape ({n},), one a row of x, got {weights.shape}")
    return weights


def choice(name: str, value: str, options: tuple[str, ...]) -> str:
    """Returns `value` if it is one of `options`.

    Raises:
      ValueError: it is not; the message lists them.
    """
    if value not in options:
        raise ValueError(f"{name}: expected one of {', '.join(options)}, got {value!r}")
    return value


def as_key(key: Key) -> jax.Array:
    """Returns a typed key; raw ones, from `jax.random.PRNGKey`, are made typed.

    Raises:
      TypeError: `key` is no key.
      ValueError: it is several.
    """
    if isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        found = key
    else:
        raw = isinstance(key, jax.Array | np.ndarray) and key.dtype == np.uint32 and key.ndim > 0
        if not raw:
            kind = f"{key.dtype} {key.shape}" if isinstance(key, jax.Array) else type(key).__name__
            such = key if type(key) is int else 0
            raise TypeError(
                f"key: expected a jax.random.key, got {kind}; pass jax.random.key({such})"
            )
        try:
            found = jax.random.wrap_key_data(as_array("key", key))
        except TypeError:
            raise TypeError(
                f"key: expected a jax.random.key, got uint32 {key.shape}; pass jax.random.key(0)"
            ) from None
    if found.shape:
        raise ValueError(f"key: expected one key, got {found.shape} keys; pass one, or use vmap")
    return found


def drawing_key(name: str, key: Key | None, *, draws: bool = True) -> jax.Array | None:
    """Returns `key` where random numbers are drawn, else None.

    Args:
      name: of what draws.
      key: as `as_key` takes it, or None.
      draws: whether it draws.

    Raises:
      TypeError: they are drawn, and there is no key; or it is no key.
      ValueError: it is several.
    """
    if draws and key is None:
        raise TypeError(f"key: {name} draws random numbers; pass key=jax.random.key(...)")
    key = None if key is None else as_key(key)
    return key if draws else None


def numbers(config: T, dtype: DTypeLike) -> T:
    """Returns a configuration with its numeric leaves as arrays of `dtype`.

    Python ints, Python floats and numpy floats so become one type, and one trace; arrays that the
    caller may change are copied.

    Raises:
      ValueError: a number is known, and not `Within` what its field says.
    """
    _check_ranges(config)

    def number(path: KeyPath, leaf: Given) -> jax.Array:
        return as_array(jax.tree_util.keystr(path).strip("[].'\""), leaf, dtype)

    return jax.tree_util.tree_map_with_path(number, config)


def _check_ranges(config: Any) -> None:
    """Checks the known numbers of a configuration, and of those inside it.

    Raises:
      ValueError: one is not `Within` what its field says.
    """
    for part in config if isinstance(config, tuple) else ():
        _check_ranges(part)
    for field in dataclasses.fields(config) if dataclasses.is_dataclass(config) else ():
        value = getattr(config, field.name)
        limits = limits_of(field.type)
        if limits is None:
            _check_ranges(value)
            continue
        known = known_values(as_jax_or_numpy(field.name, value))
        for number in () if known is None else known.astype(float).flat:
            if number not in limits:
                raise ValueError(f"{field.name}: expected a number {limits}, got {number:g}")


def result_dtype(x: jax.Array, dtype: DTypeLike | None) -> np.dtype:
    """Returns the dtype of erased rows: that of x, or the one asked for.

    Raises:
      ValueError: it is no float dtype, or one that JAX does not keep.
    """
    if dtype is None:
        return x.dtype
    wanted = np.dtype(dtype)
    if not jnp.issubdtype(wanted, jnp.floating) or wanted.itemsize == 1:
        raise ValueError(f"dtype: expected a float dtype of 16 bits or more, got {wanted}")
    if jax.dtypes.canonicalize_dtype(wanted) != wanted:
        raise ValueError(f"dtype: JAX keeps {wanted} only where jax_enable_x64 is set")
    return wanted


def compute_dtype(*arrays: ArrayLike) -> jnp.dtype:
    """Returns the dtype statistics are computed in: at least float32, float64 where it is used."""
    return jnp.promote_types(jnp.result_type(*arrays), jnp.float32)
