"""What went wrong in which lane: bits that a program sets, and words for them on the host.

What only the values show (NaN, a single class, no weight) cannot raise inside a jitted or vmapped
program: it sets a bit in a ``status`` word, the outputs of that lane become NaN, and no other lane
is touched. `raise_if_failed` turns the bits into an exception on the host.
"""

import enum
from collections.abc import Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from erasejax._core.inputs import known_values

__all__ = [
    "FailedLanesError",
    "Status",
    "check_single",
    "describe",
    "failed",
    "flag",
    "poison",
    "raise_if_failed",
    "thrown",
]

T = TypeVar("T")


class Status(enum.IntFlag):
    """What went wrong in a lane. The low 16 bits are errors, the high 16 are warnings.

    An error makes the lane's outputs NaN (-1 where they are integers); a warning leaves them valid.

    Example:
      >>> fit = jax.jit(lambda x, z: ej.SAL().fit(x, z, num_classes=2))
      >>> eraser = fit(jnp.ones((6, 2)), jnp.zeros(6, int))  # one class only
      >>> ej.Status.CONSTANT_CONCEPT in ej.Status(int(eraser.status))
      True
    """

    OK = 0
    NONFINITE = 1 << 0
    LABEL_RANGE = 1 << 1
    CONSTANT_CONCEPT = 1 << 2
    NO_WEIGHT = 1 << 3
    NEGATIVE_WEIGHT = 1 << 4
    NO_TOKENS = 1 << 5
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
    Status.NO_TOKENS: "a sequence has no token: its mask is zero throughout",
    Status.RANK_ZERO: "warning: nothing was removed, the class means already coincide",
    Status.NOT_CONVERGED: "warning: the steps or rounds ran out before it converged",
    Status.TASK_GIVEN_UP: "warning: concept and task overlap; a direction of the task was erased",
    Status.UNEQUAL_RANK: (
        "warning: a class varies in fewer dimensions than another (too few rows?); the class "
        "covariances still differ"
    ),
    Status.UNRESOLVED: (
        "warning: features, or what erasing leaves of them, vary, perhaps with the concept, by no "
        "more than rounding in this dtype may have left; subtract a constant from them, rescale "
        "them or drop copies of a feature, in float64, or compute in float64 (jax_enable_x64)"
    ),
}


class FailedLanesError(ValueError):
    """Raised where a fit failed; the message names each failed lane, and what failed there.

    Example:
      >>> try:
      ...     ej.SAL().fit(jnp.ones((6, 2)), jnp.zeros(6, int), num_classes=2)
      ... except ej.FailedLanesError as error:
      ...     print("one class only" in str(error))
      True
    """


def describe(status: int) -> list[str]:
    """Says in words what the bits of one status word mean.

    Args:
      status: one status word, errors and warnings.

    Returns:
      One sentence a bit, errors first; empty for 0.
    """
    bits = int(status)
    if bits & Status.NONFINITE:  # of NaN no value differs from another, whatever the concept is
        bits &= ~Status.CONSTANT_CONCEPT
    return [text for bit, text in _MEANING.items() if bits & bit]


def raise_if_failed(tree: T) -> T:
    """Raises if any lane of any result in `tree` failed; otherwise returns `tree`.

    Args:
      tree: a pytree that holds results with a `status` (erasers, probes, moments), batched or not.

    Returns:
      `tree` itself, so that the call can be written around an expression.

    Raises:
      FailedLanesError: at least one lane has an error bit; the message names up to eight lanes.

    Under jit: not available, since it reads values. Call it on what the jitted function returned.

    Example:
      >>> fit = jax.jit(lambda x, z: ej.SAL().fit(x, z, num_classes=2))
      >>> try:
      ...     ej.raise_if_failed(fit(jnp.ones((6, 2)), jnp.zeros(6, int)))
      ... except ValueError as error:
      ...     print("one class only" in str(error))
      True
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


def thrown(fitted: T, throw: bool, **rows: jax.Array | None) -> T:
    """Returns what was fitted; where it can be known now, and `throw` is set, raises if it failed.

    Args:
      fitted: what was fitted.
      throw: whether to raise.
      **rows: the arrays (n, ...) that it was fitted to, by their names in messages; those of weight
        0 in `weights` are not read.

    Raises:
      FailedLanesError: it failed; where NaN is the reason the message says in which rows.
    """
    if not throw or isinstance(getattr(fitted, "status", None), Tracer):
        return fitted
    try:
        return raise_if_failed(fitted)
    except FailedLanesError as error:
        if places := _nonfinite_places(rows):
            raise FailedLanesError(f"{error}; {places}") from None
        raise


def _nonfinite_places(rows: Mapping[str, jax.Array | None]) -> str:
    """Returns which arrays hold NaN or infinity, in how many rows, and where first; "" for none."""
    places = []
    known = {name: known_values(array) for name, array in rows.items() if array is not None}
    weights = known.get("weights")
    for name, array in known.items():
        if array is None:
            continue
        bad = ~np.isfinite(array).reshape(len(array), -1)
        if weights is not None:
            bad &= (weights != 0)[:, None]
        if bad.any():
            row, column = np.argwhere(bad)[0]
            where = f" (column {column})" if array.ndim > 1 else ""
            count = np.count_nonzero(bad.any(axis=1))
            places.append(f"{name} in {count} of {len(bad)} rows, the first row {row}{where}")
    return f"{', '.join(places)}, counted from 0" if places else ""


def check_single(fitted: Any, call: str) -> None:
    """Checks that what was fitted is one, and no batch of several that `vmap` has made.

    Args:
      fitted: with a `status`, () for one.
      call: how it is called, for the message, such as "eraser(x)".

    Raises:
      ValueError: it is a batch.
    """
    if shape := jnp.shape(fitted.status):
        name = call.partition("(")[0].partition(".")[0]
        raise ValueError(
            f"{type(fitted).__name__}: a batch of {shape}, as vmap makes it; read one with "
            f"jax.tree.map(lambda leaf: leaf[0], {name}), or all with "
            f"jax.vmap(lambda {name}, x: {call})({name}, x)"
        )


def flag(condition: jax.Array | np.bool_, bit: Status) -> jax.Array:
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
