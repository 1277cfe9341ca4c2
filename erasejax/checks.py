"""Input checks: shapes and options when a function is traced, values as status bits.

What is known at trace time (ranks, lengths, dtypes, options) raises at once. What only the values
show (NaN, a single class, no weight) cannot raise inside a jitted or vmapped program: it sets a bit
in a ``status`` word, the outputs of that lane become NaN, and no other lane is touched.
`raise_if_failed` turns the bits into an exception on the host.
"""

import enum
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike

from erasejax.foreign import as_jax_or_numpy, own

__all__ = ["FailedLanesError", "Status", "describe", "raise_if_failed"]

T = TypeVar("T")


class Status(enum.IntFlag):
    """What went wrong in a lane. The low 16 bits are errors, the high 16 are warnings.

    An error makes the lane's outputs NaN (-1 where they are integers); a warning leaves them valid.
    """

    OK = 0
    NONFINITE = 1 << 0
    LABEL_RANGE = 1 << 1
    CONSTANT_CONCEPT = 1 << 2
    NO_WEIGHT = 1 << 3
    NEGATIVE_WEIGHT = 1 << 4
    RANK_ZERO = 1 << 16
    NOT_CONVERGED = 1 << 17
    TASK_GIVEN_UP = 1 << 18
    UNEQUAL_RANK = 1 << 19
    UNRESOLVED = 1 << 20


_ERRORS = 0xFFFF

_MEANING = {
    Status.NONFINITE: "x, z or weights hold NaN or infinity (or overflow when squared)",
    Status.LABEL_RANGE: (
        "a label lies outside [0, num_classes), or there are more groups than num_groups"
    ),
    Status.CONSTANT_CONCEPT: "the concept is constant: one class only, or a single value",
    Status.NO_WEIGHT: "every weight is zero",
    Status.NEGATIVE_WEIGHT: "a weight is negative",
    Status.RANK_ZERO: "warning: nothing was removed, the class means already coincide",
    Status.NOT_CONVERGED: "warning: the optimiser stopped before it converged",
    Status.TASK_GIVEN_UP: "warning: concept and task overlap; a direction of the task was erased",
    Status.UNEQUAL_RANK: (
        "warning: a class varies in fewer dimensions than another (too few rows?); the class "
        "covariances still differ"
    ),
    Status.UNRESOLVED: (
        "warning: features vary, perhaps with the concept, by less than this dtype can tell at "
        "their values, which was counted as rounding; subtract a constant from them, or rescale "
        "them, in float64"
    ),
}


class FailedLanesError(ValueError):
    """Raised by `raise_if_failed`; names each failed lane and what failed there."""


def describe(status: int) -> list[str]:
    """Says in words what the bits of one status word mean.

    Args:
      status: one status word, errors and warnings.

    Returns:
      One sentence a bit, errors first; empty for 0.
    """
    return [text for bit, text in _MEANING.items() if int(status) & bit]


def raise_if_failed(tree: T) -> T:
    """Raises if any lane of any result in `tree` failed; otherwise returns `tree`.

    Args:
      tree: a pytree that holds results with a `status` (erasers, probes, moments), batched or not.

    Returns:
      `tree` itself, so that the call can be written around an expression.

    Raises:
      FailedLanesError: at least one lane has an error bit; the message names up to eight lanes.

    Under jit: not available, since it reads values. Call it on what the jitted function returned.
    """
    for node in jax.tree.leaves(tree, is_leaf=lambda n: hasattr(n, "status")):
        if not hasattr(node, "status"):
            continue
        status = np.asarray(node.status)
        bad = np.argwhere((status & _ERRORS) != 0)
        if not len(bad):
            continue
        name = type(node).__name__
        if status.ndim == 0:
            raise FailedLanesError(f"{name} failed: {'; '.join(describe(int(status) & _ERRORS))}")
        lines = [
            f"  lane {tuple(map(int, i)) if len(i) > 1 else int(i[0])}: "
            f"{'; '.join(describe(int(status[tuple(i)]) & _ERRORS))}"
            for i in bad[:8]
        ]
        more = f"\n  and {len(bad) - 8} more" if len(bad) > 8 else ""
        raise FailedLanesError(
            f"{name} failed in {len(bad)} of {status.size} lanes:\n" + "\n".join(lines) + more
        )
    return tree


def flag(condition: jax.Array, bit: Status) -> jax.Array:
    """Returns `bit` as a uint32 status word where `condition` holds, else 0."""
    return jnp.where(condition, jnp.uint32(bit), jnp.uint32(0))


def failed(status: jax.Array) -> jax.Array:
    """Returns whether a status word has an error bit, as a bool of its shape."""
    return (status & jnp.uint32(_ERRORS)) != 0


def poison(tree: T, status: jax.Array) -> T:
    """Replaces every number of a lane by NaN (-1 where integer) if its () status has an error."""
    bad = failed(status)

    def blank(leaf: jax.Array) -> jax.Array:
        if leaf.dtype in (jnp.uint32, bool):  # a status word, or a mask of no use without numbers
            return leaf
        value = jnp.nan if jnp.issubdtype(leaf.dtype, jnp.inexact) else -1
        return jnp.where(bad, jnp.asarray(value, leaf.dtype), leaf)

    return jax.tree.map(blank, tree)


def as_array(name: str, value: Any, dtype: Any = None) -> jax.Array:
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


def as_labels(name: str, value: Any) -> jax.Array:
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


def known_values(value: Any) -> np.ndarray | None:
    """Returns the values of an array as numpy, None where they are traced or not all here."""
    if isinstance(value, Tracer):
        return None
    if isinstance(value, jax.Array) and not value.is_fully_addressable:
        return None
    return np.asarray(value)


def features(name: str, x: Any, *, ndim: int | None = 2) -> jax.Array:
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


def row_weights(weights: Any, n: int, dtype: Any) -> jax.Array | None:
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


def as_key(key: Any) -> jax.Array:
    """Returns a typed key; raw ones, from `jax.random.PRNGKey`, are made typed.

    Raises:
      TypeError: `key` is no key.
      ValueError: it is several.
    """
    typed = isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    if not typed:
        raw = isinstance(key, jax.Array | np.ndarray) and key.dtype == np.uint32 and key.ndim > 0
        if not raw:
            kind = f"{key.dtype} {key.shape}" if isinstance(key, jax.Array) else type(key).__name__
            such = key if type(key) is int else 0
            raise TypeError(
                f"key: expected a jax.random.key, got {kind}; pass jax.random.key({such})"
            )
        try:
            key = jax.random.wrap_key_data(as_array("key", key))
        except TypeError:
            raise TypeError(
                f"key: expected a jax.random.key, got uint32 {key.shape}; pass jax.random.key(0)"
            ) from None
    if key.shape:
        raise ValueError(f"key: expected one key, got {key.shape} keys; pass one, or use vmap")
    return key


def drawing_key(name: str, key: Any, *, draws: bool = True) -> jax.Array | None:
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


def numbers(config: T, dtype: Any) -> T:
    """Returns a configuration with its numeric leaves as arrays of `dtype`.

    Python ints, Python floats and numpy floats so become one type, and one trace; arrays that the
    caller may change are copied.
    """

    def number(path: Any, leaf: Any) -> jax.Array:
        return as_array(jax.tree_util.keystr(path).strip("[].'\""), leaf, dtype)

    return jax.tree_util.tree_map_with_path(number, config)


def result_dtype(x: jax.Array, dtype: Any) -> np.dtype:
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
