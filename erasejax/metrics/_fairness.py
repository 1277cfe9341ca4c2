"""Fairness: how what a classifier predicts differs between groups of people.

All follows from one table: how many rows, by their weights, have label y, are of group g and are
predicted p. A group without a row of some label has no rate for it, and takes no part in
differences of that rate.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from erasejax._core import inputs
from erasejax._core.programs import program
from erasejax._core.types import Given
from erasejax.metrics._base import Metric
from erasejax.metrics._scoring import Predictor, labelled, score
from erasejax.rows import Dataset, as_dataset, class_labels, count_groups, number_groups, roomy

__all__ = [
    "DemographicParityDifference",
    "DemographicParityRatio",
    "EqualizedOddsDifference",
    "TPRGap",
    "WorstGroupAccuracy",
    "demographic_parity_difference",
    "demographic_parity_ratio",
    "equalized_odds_difference",
    "group_rates",
    "tpr_gap",
    "worst_group_accuracy",
]


def demographic_parity_difference(
    predicted: Given,
    *,
    groups: Given,
    weights: Given | None = None,
    positive: int = 1,
    num_groups: int | None = None,
) -> Float[Array, ""]:
    """Returns the largest less the smallest share of a group that is predicted positive.

    Args:
      predicted: (n,) integer or boolean labels.
      groups: (n,) integers or text, which group each row is of.
      weights: (n,) row weights, or None.
      positive: static; the label that is a positive decision.
      num_groups: how many groups there are; counted where it is None and they are known, required
        under jit.

    Returns:
      () in [0, 1], the largest P(predicted = positive | g) less the smallest; 0 of one group.

    Raises:
      TypeError: labels or groups are not whole numbers.
      ValueError: their shapes differ, or num_groups is missing.

    Under jit: pure.

    Example:
      >>> predicted, groups = np.array([1, 1, 0, 0]), np.array([0, 0, 0, 1])
      >>> round(float(ej.metrics.demographic_parity_difference(predicted, groups=groups)), 3)
      0.667
    """
    return jnp.max(_spread(_chosen(predicted, groups, weights, positive, num_groups)))


def demographic_parity_ratio(
    predicted: Given,
    *,
    groups: Given,
    weights: Given | None = None,
    positive: int = 1,
    num_groups: int | None = None,
) -> Float[Array, ""]:
    """Returns the smallest over the largest share of a group that is predicted positive.

    Args:
      predicted: (n,) integer or boolean labels.
      groups: (n,) integers or text, which group each row is of.
      weights: (n,) row weights, or None.
      positive: static; the label that is a positive decision.
      num_groups: as in `demographic_parity_difference`.

    Returns:
      () in [0, 1], 1 where the shares are equal; NaN where nothing is predicted positive.

    Raises:
      TypeError: labels or groups are not whole numbers.
      ValueError: their shapes differ, or num_groups is missing.

    Under jit: pure.

    Example:
      >>> predicted, groups = np.array([1, 0, 1, 1]), np.array([0, 0, 1, 1])
      >>> float(ej.metrics.demographic_parity_ratio(predicted, groups=groups))
      0.5
    """
    rates = _chosen(predicted, groups, weights, positive, num_groups)[0]
    return jnp.nanmin(rates) / jnp.nanmax(rates)


def equalized_odds_difference(
    predicted: Given,
    y: Given,
    *,
    groups: Given,
    weights: Given | None = None,
    positive: int = 1,
    num_classes: int | None = None,
    num_groups: int | None = None,
) -> Float[Array, ""]:
    """Returns how much the rate of positive predictions differs by group among rows of one label.

    Of two labels the larger of the differences of true and of false positive rates.

    Args:
      predicted: (n,) integer or boolean labels.
      y: (n,) the true ones.
      groups: (n,) integers or text, which group each row is of.
      weights: (n,) row weights, or None.
      positive: static; the label that is a positive decision.
      num_classes: how many labels there are; counted where it is None and they are known, required
        under jit.
      num_groups: the same of groups.

    Returns:
      () in [0, 1]: over labels j the largest difference between groups of
      P(predicted = positive | y = j, g).

    Raises:
      TypeError: labels or groups are not whole numbers.
      ValueError: their shapes differ, or a number is missing.

    Under jit: pure.

    Example:
      >>> y, groups = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
      >>> predicted = np.array([0, 1, 1, 1])  # a false positive in group 1
      >>> float(ej.metrics.equalized_odds_difference(predicted, y, groups=groups))
      1.0

    References:
      Hardt, Price and Srebro 2016, arXiv 1610.02413.
    """
    table = _table(predicted, y, groups, weights, num_classes, num_groups)
    return _odds(table, positive)


def tpr_gap(
    predicted: Given,
    y: Given,
    *,
    groups: Given,
    weights: Given | None = None,
    num_classes: int | None = None,
    num_groups: int | None = None,
) -> Float[Array, ""]:
    """Returns the root mean square over the labels of the gap between groups in recall.

    Args:
      predicted: (n,) integer or boolean labels.
      y: (n,) the true ones.
      groups: (n,) integers or text, which group each row is of.
      weights: (n,) row weights, or None.
      num_classes: as in `equalized_odds_difference`.
      num_groups: as there.

    Returns:
      () in [0, 1]. The gap of a label is the largest less the smallest P(predicted = y | y, g);
      labels that only one group has, or none, do not count. `group_rates` has them by label.

    Raises:
      TypeError: labels or groups are not whole numbers.
      ValueError: their shapes differ, or a number is missing.

    Under jit: pure.

    Example:
      >>> y, groups = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
      >>> predicted = np.array([0, 0, 1, 0])  # of label 1 group 1 is missed
      >>> round(float(ej.metrics.tpr_gap(predicted, y, groups=groups)), 3)
      0.707

    References:
      De-Arteaga et al. 2019, arXiv 1901.09451; Ravfogel et al. 2020, arXiv 2004.07667.
    """
    return _gap(_table(predicted, y, groups, weights, num_classes, num_groups))


def worst_group_accuracy(
    predicted: Given,
    y: Given,
    *,
    groups: Given,
    weights: Given | None = None,
    num_classes: int | None = None,
    num_groups: int | None = None,
) -> Float[Array, ""]:
    """Returns the least accuracy among the rows of one label and group.

    Args:
      predicted: (n,) integer or boolean labels.
      y: (n,) the true ones.
      groups: (n,) integers or text, which group each row is of.
      weights: (n,) row weights, or None.
      num_classes: as in `equalized_odds_difference`.
      num_groups: as there.

    Returns:
      () in [0, 1], over the labels and groups that have rows.

    Raises:
      TypeError: labels or groups are not whole numbers.
      ValueError: their shapes differ, or a number is missing.

    Under jit: pure.

    Example:
      >>> y, groups = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
      >>> float(ej.metrics.worst_group_accuracy(y, y, groups=groups))
      1.0

    References:
      Sagawa et al. 2020, arXiv 1911.08731.
    """
    return _worst(_table(predicted, y, groups, weights, num_classes, num_groups))


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
    table = _table(predicted, y, groups, weights, num_classes, num_groups)
    rates = _rates(table)
    recall = _recall(rates)
    if recall.shape[1] == 2:
        gaps = recall[:, 1] - recall[:, 0]
    else:
        several = jnp.isfinite(recall).sum(axis=1) > 1
        gaps = jnp.where(several, _spread(recall), jnp.nan)
    return GroupRates(rates, jnp.sum(table, axis=2), gaps)


class _Fairness(Metric):
    """A metric of a probe whose groups are the other concept of the rows.

    Of the probe fitted to the task, with the prefix task_, that is the concept.
    """

    needs = frozenset({"classes", "task"})

    def compute(self, probe: Predictor, rows: Dataset) -> jax.Array:
        """Returns the number for the rows, in the groups of their other concept."""
        return score(self._score, *labelled(probe, rows, None, None))

    @staticmethod
    def _score(probe: Predictor, data: Dataset) -> jax.Array:
        raise NotImplementedError


class TPRGap(_Fairness):
    """`tpr_gap` by its name.

    Example:
      >>> ej.metrics.TPRGap.name, ej.metrics.TPRGap.of
      ('tpr_gap', 'probe')
    """

    name = "tpr_gap"

    @staticmethod
    def _score(probe: Predictor, data: Dataset) -> jax.Array:
        return _gap(_of_rows(probe, data))


class EqualizedOddsDifference(_Fairness):
    """`equalized_odds_difference` by its name.

    Example:
      >>> ej.metrics.EqualizedOddsDifference.name, ej.metrics.EqualizedOddsDifference.of
      ('equalized_odds_difference', 'probe')
    """

    name = "equalized_odds_difference"

    @staticmethod
    def _score(probe: Predictor, data: Dataset) -> jax.Array:
        return _odds(_of_rows(probe, data), 1)


class DemographicParityDifference(_Fairness):
    """`demographic_parity_difference` by its name.

    Example:
      >>> ej.metrics.DemographicParityDifference.name, ej.metrics.DemographicParityDifference.of
      ('demographic_parity_difference', 'probe')
    """

    name = "demographic_parity_difference"

    @staticmethod
    def _score(probe: Predictor, data: Dataset) -> jax.Array:
        table = jnp.sum(_of_rows(probe, data), axis=0, keepdims=True)
        return jnp.max(_spread(_rates(table)[:, :, 1]))


class DemographicParityRatio(_Fairness):
    """`demographic_parity_ratio` by its name.

    Example:
      >>> ej.metrics.DemographicParityRatio.name, ej.metrics.DemographicParityRatio.of
      ('demographic_parity_ratio', 'probe')
    """

    name = "demographic_parity_ratio"

    @staticmethod
    def _score(probe: Predictor, data: Dataset) -> jax.Array:
        rates = _rates(jnp.sum(_of_rows(probe, data), axis=0, keepdims=True))[0, :, 1]
        return jnp.nanmin(rates) / jnp.nanmax(rates)


class WorstGroupAccuracy(_Fairness):
    """`worst_group_accuracy` by its name.

    Example:
      >>> ej.metrics.WorstGroupAccuracy.name, ej.metrics.WorstGroupAccuracy.of
      ('worst_group_accuracy', 'probe')
    """

    name = "worst_group_accuracy"

    @staticmethod
    def _score(probe: Predictor, data: Dataset) -> jax.Array:
        return _worst(_of_rows(probe, data))


def _rates(table: jax.Array) -> jax.Array:
    """Returns P(predicted = p | y, g) from weights (k, g, p); NaN where there are no rows."""
    size = jnp.sum(table, axis=2, keepdims=True)
    return jnp.where(size > 0, table / jnp.where(size > 0, size, 1), jnp.nan)


def _recall(rates: jax.Array) -> jax.Array:
    """Returns P(predicted = y | y, g), (k, g), from the rates of as many predictions as labels."""
    return jnp.diagonal(rates, axis1=0, axis2=2).T


def _spread(rates: jax.Array) -> jax.Array:
    """Returns the largest less the smallest rate (k, g) over the groups that have one, (k,).

    0 where only one group has, or none.
    """
    there = jnp.isfinite(rates)
    most = jnp.max(jnp.where(there, rates, -jnp.inf), axis=1)
    least = jnp.min(jnp.where(there, rates, jnp.inf), axis=1)
    return jnp.where(there.any(axis=1), most - least, 0)


def _odds(table: jax.Array, positive: int) -> jax.Array:
    return jnp.max(_spread(_rates(table)[:, :, positive]))


def _gap(table: jax.Array) -> jax.Array:
    recall = _recall(_rates(table))
    counts = jnp.isfinite(recall).sum(axis=1) > 1
    squares = jnp.sum(jnp.where(counts, _spread(recall) ** 2, 0))
    return jnp.sqrt(squares / jnp.maximum(counts.sum(), 1))


def _worst(table: jax.Array) -> jax.Array:
    return jnp.nanmin(_recall(_rates(table)))


def _chosen(
    predicted: Given, groups: Given, weights: Given | None, positive: int, num_groups: int | None
) -> jax.Array:
    """Returns the share of each group that is predicted positive, (1, g)."""
    predicted = class_labels(predicted)
    chosen = (predicted == positive).astype(np.int32)
    nothing = np.zeros(predicted.shape, np.int32)
    return _rates(_table(chosen, nothing, groups, weights, 2, num_groups))[:1, :, 1]


def _table(
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
    predicted, y = _whole("predicted", predicted), _whole("y", y)
    if predicted.shape != y.shape:
        raise ValueError(f"y: expected the shape of predicted {predicted.shape}, got {y.shape}")
    numbers = number_groups(groups, len(y))
    g = count_groups(numbers, num_groups)
    k = _classes(num_classes, predicted, y)
    code = (y * g + numbers) * k + predicted
    nothing = np.zeros((len(code), 1), jax.dtypes.canonicalize_dtype(float))
    data = as_dataset(nothing, code, weights=weights, num_classes=k * g * k)
    return _counted(roomy(data)).reshape(k, g, k)


def _of_rows(probe: Predictor, data: Dataset) -> jax.Array:
    """Returns the same for a probe and rows, whose task says which group each is of."""
    k = data.num_classes
    assert k is not None
    assert data.task is not None
    task = data.task.reshape(len(data.x), -1)
    g = max(task.shape[1], 2)
    group = (task[:, 0] > 0.5).astype(jnp.int32) if task.shape[1] == 1 else jnp.argmax(task, axis=1)
    code = (data.z * g + group) * k + probe.predict(data.x)
    rows = Dataset(x=data.x, z=code, num_classes=k * g * k, weights=data.weights, room=data.room)
    return _counted(rows).reshape(k, g, k)


@program
def _counted(data: Dataset) -> jax.Array:
    """Returns the weights of the rows of each class, (k,)."""
    weights = data.row_weights.astype(inputs.compute_dtype(data.x))
    return jax.ops.segment_sum(weights, data.z, num_segments=data.num_classes)


def _whole(name: str, value: Given) -> jax.Array | np.ndarray:
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
