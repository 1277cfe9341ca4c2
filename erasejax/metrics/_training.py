"""What metrics share that fit a probe themselves: its rows, prefixes of them, and an interval."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtri
from jax.typing import ArrayLike

from erasejax._core import inputs
from erasejax._core.status import Status, failed, flag
from erasejax._core.types import Given, Key
from erasejax._linalg.products import safe_reciprocal
from erasejax.metrics._scoring import Fitted, members, status_of_rows
from erasejax.rows import (
    Dataset,
    as_dataset_about,
    describe_concept,
    leading,
    number_groups,
    roomy,
)

__all__ = [
    "FRACTIONS",
    "Material",
    "Trainable",
    "as_fractions",
    "fit_prefix",
    "half_width",
    "losses",
    "material",
    "prefix_sizes",
    "standard_error",
    "status_of",
]

# Of Voita and Titov 2020: the first rows are a thousandth, and then they double.
FRACTIONS = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.0625, 0.125, 0.25, 0.5, 1.0)
_WORTH_A_COPY = 256  # rows: fewer are soon read, and a fit takes long to compile


class Trainable(Protocol):
    """The configuration of a probe."""

    def fit(self, x: Any, *, key: Any = None) -> Fitted:
        """Returns the probe fitted to rows."""
        ...


class Material(NamedTuple):
    """What a metric that fits a probe has been given, checked.

    Attributes:
      probe: configuration of the probe.
      data: rows with class labels.
      groups: (n,) numbers of groups, or None where rows are independent.
      held_out: (n,) bool, which rows are scored and not fitted, or None.
      key: of all draws.
      level: () how often the interval should cover.
    """

    probe: Any
    data: Dataset
    groups: jax.Array | np.ndarray | None
    held_out: jax.Array | None
    key: jax.Array
    level: jax.Array


def material(
    probe: Trainable,
    x: Given | Dataset,
    z: Given | None,
    *,
    key: Key,
    weights: Given | None,
    num_classes: int | None,
    groups: Given | None,
    level: ArrayLike,
    held_out: Given | None = None,
    given: Given | None = None,
) -> Material:
    """Checks what a metric is given that fits a probe; the rows have no task but `given`.

    Args:
      probe: configuration of a probe.
      x: (n, d) floats, or a `Dataset` and no z.
      z: (n,) integer labels.
      key: a typed `jax.random.key`.
      weights: (n,) row weights, or None.
      num_classes: number of classes; required under jit.
      groups: (n,) which rows belong together, or None.
      level: () how often the interval should cover.
      held_out: (n,) booleans, or None.
      given: (n, m) floats, or None.

    Raises:
      TypeError: z is not class labels, or the probe is fitted already.
      ValueError: held_out or given are not one a row.
    """
    if not hasattr(probe, "fit"):
        name = type(probe).__name__
        raise TypeError(f"probe: expected one that is not fitted, as Logistic(), got a {name}")
    data, _ = as_dataset_about(x, z, weights=weights, num_classes=num_classes, decided=True)
    if not data.is_classes:
        raise TypeError(f"z: expected integer class labels (n,), got {describe_concept(data.z)}")
    n, dtype = data.x.shape[0], inputs.compute_dtype(data.x)
    columns = None if given is None else inputs.features("given", given).astype(dtype)
    held = None if held_out is None else inputs.as_array("held_out", held_out).astype(bool)
    for name, rows in (("given", columns), ("held_out", held)):
        if rows is not None and rows.shape[:1] != (n,):
            raise ValueError(f"{name}: expected {n} rows, as many as x, got shape {rows.shape}")
    groups = None if groups is None else number_groups(groups, n)
    data = roomy(data.replace(task=columns))
    if rest := data.x.shape[0] - n:  # then all are known
        groups = None if groups is None else np.pad(np.asarray(groups), (0, rest))
        held = None if held is None else jnp.asarray(np.pad(np.asarray(held), (0, rest)))
    own = inputs.numbers(probe, dtype)
    level = inputs.as_array("level", level, dtype)
    return Material(own, data, groups, held, inputs.as_key(key), level)


def as_fractions(fractions: ArrayLike | Sequence[float], dtype: np.dtype) -> jax.Array:
    """Returns fractions of the rows as an array (s,).

    Raises:
      ValueError: they do not rise, or are not in (0, 1].
    """
    found = inputs.as_array("fractions", fractions, dtype)
    if found.ndim != 1 or not len(found):
        raise ValueError(f"fractions: expected (s,), got shape {found.shape}")
    values = inputs.known_values(found)
    if values is not None and not (
        (np.diff(values) > 0).all() and values[0] > 0 and values[-1] <= 1
    ):
        raise ValueError(f"fractions: expected to rise from above 0 to at most 1, got {values}")
    return found


def prefix_sizes(weights: jax.Array, groups: jax.Array | None, fractions: jax.Array) -> jax.Array:
    """Returns how many of the first rows make up these fractions of the weight, (s,) int32.

    A row is in if its middle is: of n equal rows that is the whole number nearest to each fraction.
    A group is in if its first row is.

    Args:
      weights: (n,) of rows in order, those of weight 0 behind the others.
      groups: (n,) their groups, each in one piece, or None.
      fractions: (s,) in (0, 1].
    """
    n = len(weights)
    ends = jnp.cumsum(weights)
    middle = ends - weights / 2
    if groups is not None:
        new = jnp.concatenate([jnp.ones(1, bool), groups[1:] != groups[:-1]])
        first = jax.lax.cummax(jnp.where(new, jnp.arange(n), 0))
        middle = middle[first]
    inside = (middle <= fractions[:, None] * ends[-1]) & (weights != 0)
    return jnp.sum(inside, axis=1, dtype=jnp.int32)


def fit_prefix(
    probe: Trainable,
    data: Dataset,
    count: jax.Array,
    key: jax.Array,
    read: Callable[[Fitted], jax.Array],
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns `read` of a probe fitted to the first `count` () rows, whether it is one, its status.

    It is none where one of the classes that there are has no row yet: then the status is 0.

    Where rows are traced, passes go over all of them, and most prefixes are short. So those up to a
    sixth of the rows are fitted to a sixth: a second copy of the fit is compiled, and ten doubling
    prefixes pass over 10 / 3 times the rows, no longer 10 times.
    """
    n = data.x.shape[0]
    held = data.z[:, None] == jnp.arange(data.num_classes)
    held = held if data.seen is None else held & data.seen[:, None]
    first = jnp.min(jnp.where(held, jnp.arange(n)[:, None], n), axis=0)
    complete = jnp.all((first < count) | (first >= n))

    def fit(most: int) -> tuple[jax.Array, jax.Array]:
        fitted = probe.fit(leading(data, count, most), key=key)
        return read(fitted), fitted.status

    if data.room is not None or n < _WORTH_A_COPY:
        found, status = fit(n)
    else:
        short = -(-n // 6)
        found, status = jax.lax.cond(_largest(count) <= short, lambda: fit(short), lambda: fit(n))
    status = jnp.where(complete, status, 0)
    return found, complete & ~failed(status), status


@jax.custom_batching.custom_vmap
def _largest(count: jax.Array) -> jax.Array:
    """Returns a number, or under vmap the largest of all lanes: one for all, to branch on."""
    return count


@_largest.def_vmap
def _(lanes: int, batched: list, counts: jax.Array) -> tuple[jax.Array, bool]:
    return _largest(jnp.max(counts)), False


def losses(fitted: Any, x: jax.Array, z: jax.Array) -> jax.Array:
    """Returns -log2 of the probabilities of the labels, (n,) bits.

    Raises:
      TypeError: the probe has no likelihood.
    """
    if not hasattr(fitted, "log_proba"):
        raise TypeError(f"probe: {type(fitted).__name__} has no likelihood (no log_proba)")
    return -jnp.take_along_axis(fitted.log_proba(x), z[:, None], axis=1)[:, 0] / np.log(2)


def status_of(data: Dataset) -> jax.Array:
    """Returns what is wrong with the rows that count, whoever reads them: () bits.

    Also what no fit would see, in rows that are only scored: a probe predicts some label for NaN.
    """
    status = status_of_rows(data)
    size = jnp.sum(members(data), axis=0)
    status |= flag(jnp.sum(size > 0) < 2, Status.CONSTANT_CONCEPT)
    weights = data.own_weights
    if weights is None:
        return status
    none, sum_of = jnp.all(weights == 0), jnp.sum(weights)
    return status | flag(none, Status.NO_WEIGHT) | flag(~jnp.isfinite(sum_of), Status.NONFINITE)


def standard_error(
    deviations: jax.Array, weights: jax.Array, groups: jax.Array | np.ndarray | None
) -> jax.Array:
    """Returns that of a weighted mean over rows: (...) of deviations (..., n) from it.

    What the bootstrap of rows, or of whole groups, tends to with ever more resamples.

    Args:
      deviations: (..., n) of each row, with a weighted mean of 0.
      weights: (n,).
      groups: (n,) which rows belong together, or None.
    """
    n = len(weights)
    units = weights != 0
    total = jnp.sum(weights)
    shares = weights * safe_reciprocal(total, total > 0)  # squares of small weights would vanish
    own = jnp.where(units, shares * deviations, 0)
    if groups is not None:
        sums = jax.vmap(lambda rows: jax.ops.segment_sum(rows, groups, n))
        own = sums(own.reshape(-1, n)).reshape(own.shape)
        units = jax.ops.segment_max(units.astype(jnp.int32), groups, n) > 0
    count = jnp.sum(units)
    inflation = count * safe_reciprocal(count - 1.0, count > 1)
    variance = inflation * jnp.sum(own**2, axis=-1)
    return jnp.where(count > 1, jnp.sqrt(variance), jnp.nan)


def half_width(error: jax.Array, level: jax.Array) -> jax.Array:
    """Returns half the length of an interval that covers as often as `level` says."""
    return error * ndtri((1 + level) / 2)
