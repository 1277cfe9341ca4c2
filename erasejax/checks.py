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
from jax.typing import ArrayLike

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


_ERRORS = 0xFFFF

_MEANING = {
    Status.NONFINITE: "x, z or weights hold NaN or infinity (or overflow when squared)",
    Status.LABEL_RANGE: "a label lies outside [0, num_classes)",
    Status.CONSTANT_CONCEPT: "the concept is constant: one class only, or a single value",
    Status.NO_WEIGHT: "every weight is zero",
    Status.NEGATIVE_WEIGHT: "a weight is negative",
    Status.RANK_ZERO: "warning: nothing was removed, the class means already coincide",
    Status.NOT_CONVERGED: "warning: the steps or rounds ran out before it converged",
    Status.TASK_GIVEN_UP: "warning: concept and task overlap; a direction of the task was erased",
    Status.UNEQUAL_RANK: (
        "warning: a class varies in fewer dimensions than another (too few rows?); the class "
        "covariances still differ"
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
    """Replaces every array of a lane by NaN (-1 where integer) if its () status has an error."""
    bad = failed(status)

    def blank(leaf: jax.Array) -> jax.Array:
        if leaf.dtype == jnp.uint32:  # a status word
            return leaf
        value = jnp.nan if jnp.issubdtype(leaf.dtype, jnp.inexact) else -1
        return jnp.where(bad, jnp.asarray(value, leaf.dtype), leaf)

    return jax.tree.map(blank, tree)


def as_array(name: str, value: Any) -> jax.Array:
    """Returns `value` as a JAX array: numpy, JAX, lists, and anything that speaks DLPack.

    Raises:
      TypeError: `value` is not an array of numbers.
    """
    if isinstance(value, jax.Array):
        return value
    try:
        if hasattr(value, "__dlpack__") and not isinstance(value, np.ndarray):
            return jnp.from_dlpack(value)
        return jnp.asarray(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name}: expected an array of numbers, got {type(value).__name__}") from (
            error
        )


def features(name: str, x: Any, *, ndim: int | None = 2) -> jax.Array:
    """Returns `x` as a float array with `ndim` axes, rows first and features last.

    Raises:
      TypeError: `x` is not floating point.
      ValueError: `x` has another number of axes, or no rows or columns.
    """
    x = as_array(name, x)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(f"{name}: expected floating-point values, got {x.dtype}; cast it first")
    if ndim is not None and x.ndim != ndim:
        raise ValueError(f"{name}: expected {ndim} axes (rows, features), got shape {x.shape}")
    if 0 in x.shape:
        raise ValueError(f"{name}: expected at least one row and one feature, got shape {x.shape}")
    return x


def row_weights(weights: Any, n: int, dtype: Any) -> jax.Array | None:
    """Returns `weights` as a float (n,) array, or None.

    Raises:
      ValueError: `weights` has another shape than (n,).
    """
    if weights is None:
        return None
    weights = as_array("weights", weights)
    if weights.shape != (n,):
        raise ValueError(f"weights: expected shape ({n},), one a row of x, got {weights.shape}")
    return weights.astype(dtype)


def choice(name: str, value: str, options: tuple[str, ...]) -> str:
    """Returns `value` if it is one of `options`.

    Raises:
      ValueError: it is not; the message lists them.
    """
    if value not in options:
        raise ValueError(f"{name}: expected one of {', '.join(options)}, got {value!r}")
    return value


def drawing_key(name: str, key: jax.Array | None, *, draws: bool = True) -> jax.Array | None:
    """Returns `key` where random numbers are drawn, else None.

    Raises:
      TypeError: they are drawn, and there is no key.
    """
    if draws and key is None:
        raise TypeError(f"key: {name} draws random numbers; pass key=jax.random.key(...)")
    return key if draws else None


def numbers(config: T, dtype: Any) -> T:
    """Returns a configuration with its numeric leaves as arrays of `dtype`.

    Python ints, Python floats and numpy floats so become one type, and one trace.
    """
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), config)


def compute_dtype(*arrays: ArrayLike) -> jnp.dtype:
    """Returns the dtype statistics are computed in: at least float32, float64 where it is used."""
    return jnp.promote_types(jnp.result_type(*arrays), jnp.float32)
