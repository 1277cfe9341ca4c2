"""How often each label is predicted of the rows of each group, by their true label."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from erasejax._core import inputs
from erasejax._core.programs import program
from erasejax._core.types import Given
from erasejax._linalg.products import ratio
from erasejax.metrics._scoring import Predictor
from erasejax.rows import Dataset, as_dataset, class_labels, count_groups, number_groups, roomy
from erasejax.statistics import task_classes

__all__ = [
    "GroupRates",
    "counted",
    "counted_of_rows",
    "group_rates",
    "rates",
    "recall",
    "spread",
    "whole_labels",
]


class GroupRates(NamedTuple):
    """What is predicted of each group, by the true label.

    Attributes:
      rates: (k, g, k) P(predicted = p | y, g); NaN where no row has that label and group.
      size: (k, g) the weights of the rows.
      gaps: (k,) recall of the last group less that of the first for two groups, else the largest
        less the smallest; NaN where fewer than two groups have the label.

    Example:
      >>> y, groups = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
      >>> ej.metrics.group_rates(y, y, groups=groups).gaps.tolist()
      [0.0, 0.0]
    """

    rates: jax.Array
    size: jax.Array
    gaps: jax.Array


def group_rates(
    predicted: Given,
    y: Given,
    *,
    groups: Given,
    weights: Given | None = None,
    num_classes: int | None = None,
    num_groups: int | None = None,
) -> GroupRates:
    """Returns what is predicted of each group, by the true label: what the other numbers are of.

    Args:
      predicted: (n,) integer or boolean labels.
      y: (n,) the true ones.
      groups: (n,) integers or text, which group each row is of.
      weights: (n,) row weights, or None.
      num_classes: as in `equalized_odds_difference`.
      num_groups: as there.

    Returns:
      `GroupRates`: rates, sizes, and the gap in recall of each label.

    Raises:
      TypeError: labels or groups are not whole numbers.
      ValueError: their shapes differ, or a number is missing.

    Under jit: pure.

    Example:
      >>> y, groups = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
      >>> predicted = np.array([0, 0, 1, 0])
      >>> ej.metrics.group_rates(predicted, y, groups=groups).gaps.tolist()
      [0.0, -1.0]
    """
    table = counted(predicted, y, groups, weights, num_classes, num_groups)
    shares = rates(table)
    own = recall(shares)
    if own.shape[1] == 2:
        gaps = own[:, 1] - own[:, 0]
    else:
        several = jnp.isfinite(own).sum(axis=1) > 1
        gaps = jnp.where(several, spread(own), jnp.nan)
    return GroupRates(shares, jnp.sum(table, axis=2), gaps)


def rates(table: jax.Array) -> jax.Array:
    """Returns P(predicted = p | y, g) from weights (k, g, p); NaN where there are no rows."""
    size = jnp.sum(table, axis=2, keepdims=True)
    return jnp.where(size > 0, ratio(table, size), jnp.nan)


def recall(shares: jax.Array) -> jax.Array:
    """Returns P(predicted = y | y, g), (k, g), from the rates of as many predictions as labels."""
    return jnp.diagonal(shares, axis1=0, axis2=2).T


def spread(shares: jax.Array) -> jax.Array:
    """Returns the largest less the smallest share (k, g) over the groups that have one, (k,).

    0 where only one group has, or none.
    """
    there = jnp.isfinite(shares)
    most = jnp.max(jnp.where(there, shares, -jnp.inf), axis=1)
    least = jnp.min(jnp.where(there, shares, jnp.inf), axis=1)
    return jnp.where(there.any(axis=1), most - least, 0)


def counted_of_rows(probe: Predictor, data: Dataset) -> jax.Array:
    """Returns the same as `counted` of what a probe predicts, the groups being the task's classes.

    NaN where the task of a row that counts is no class.
    """
    k = data.num_classes
    assert k is not None
    group, g, known = task_classes(data)
    code = (data.z * g + group) * k + probe.predict(data.x)
    rows = Dataset(x=data.x, z=code, num_classes=k * g * k, weights=data.weights, room=data.room)
    strange = (~known & (data.row_weights != 0)).any()
    return jnp.where(strange, jnp.nan, _counted(rows)).reshape(k, g, k)


def counted(
    predicted: Given,
    y: Given,
    groups: Given,
    weights: Given | None,
    num_classes: int | None,
    num_groups: int | None,
) -> jax.Array:
    """Returns the weights of the rows by label, group and prediction, (k, g, k).

    Raises:
      ValueError: there is not one of each a row, or a number is missing.
    """
    predicted, y = whole_labels("predicted", predicted), whole_labels("y", y)
    if predicted.shape != y.shape:
        raise ValueError(f"y: expected the shape of predicted {predicted.shape}, got {y.shape}")
    numbers = number_groups(groups, len(y))
    g = count_groups(numbers, num_groups)
    k = _classes(num_classes, predicted, y)
    code = (y * g + numbers) * k + predicted
    nothing = np.zeros((len(code), 1), jax.dtypes.canonicalize_dtype(float))
    data = as_dataset(nothing, code, weights=weights, num_classes=k * g * k)
    return _counted(roomy(data)).reshape(k, g, k)


@program
def _counted(data: Dataset) -> jax.Array:
    """Returns the weights of the rows of each class, (k,)."""
    weights = data.row_weights.astype(inputs.compute_dtype(data.x))
    return jax.ops.segment_sum(weights, data.z, num_segments=data.num_classes)


def whole_labels(name: str, value: Given) -> jax.Array | np.ndarray:
    """Returns labels as int32 (n,).

    Raises:
      TypeError: they are not whole numbers.
    """
    try:
        found = class_labels(value)
    except TypeError as error:
        raise TypeError(f"{name}: {str(error).partition(': ')[2]}") from None
    return found.astype(np.int32)


def _classes(given: int | None, *labels: jax.Array | np.ndarray) -> int:
    """Returns how many labels there are.

    Raises:
      ValueError: they are traced and it is not said, or some lie outside.
    """
    if any(isinstance(each, Tracer) for each in labels):
        if given is None:
            raise ValueError("num_classes: required under jit, vmap or grad; pass num_classes=...")
        return int(given)
    most = max(int(np.max(each, initial=1)) for each in labels)
    least = min(int(np.min(each, initial=0)) for each in labels)
    if least < 0 or (given is not None and given <= most):
        expected = "" if given is None else f" to {given - 1}"
        raise ValueError(f"labels: expected integers from 0{expected}, got {least} to {most}")
    return most + 1 if given is None else int(given)
