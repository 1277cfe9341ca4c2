"""Fairness: how what a classifier predicts differs between groups of people.

A group without a row of some label has no rate for it, and takes no part in differences of that
rate.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from erasejax._core.types import Given
from erasejax.metrics._base import Metric
from erasejax.metrics._by_group import counted, counted_of_rows, rates, recall, spread, whole_labels
from erasejax.metrics._scoring import Predictor, labelled, score
from erasejax.rows import Dataset

__all__ = [
    "DemographicParityDifference",
    "DemographicParityRatio",
    "EqualizedOddsDifference",
    "TPRGap",
    "WorstGroupAccuracy",
    "demographic_parity_difference",
    "demographic_parity_ratio",
    "equalized_odds_difference",
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
    return _difference(_of_all(predicted, groups, weights, num_groups, positive), 1)


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
    return _ratio(_of_all(predicted, groups, weights, num_groups, positive))


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
      P(predicted = positive | y = j, g). NaN where no label is of two groups, and there are two.

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
    table = counted(predicted, y, groups, weights, num_classes, num_groups)
    return _difference(table, positive)


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
      labels that only one group has, or none, do not count. NaN where no label is of two groups,
      and there are two. `group_rates` has the gaps by label.

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
    return _gap(counted(predicted, y, groups, weights, num_classes, num_groups))


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
    return _worst(counted(predicted, y, groups, weights, num_classes, num_groups))


class _ByGroup(Metric):
    """A metric of a probe whose groups are the other concept of the rows.

    Of the probe fitted to the task, with the prefix task_, that is the concept.
    """

    needs = frozenset({"classes", "task"})

    def compute(self, probe: Predictor, rows: Dataset) -> jax.Array:
        """Returns the number for the rows; NaN where the other concept is no classes."""
        return score(self._score, *labelled(probe, rows, None, None))

    @classmethod
    def _score(cls, probe: Predictor, data: Dataset) -> jax.Array:
        return cls._of_table(counted_of_rows(probe, data))

    @staticmethod
    def _of_table(table: jax.Array) -> jax.Array:
        raise NotImplementedError


class TPRGap(_ByGroup):
    """`tpr_gap` by its name.

    Example:
      >>> ej.metrics.TPRGap.name, ej.metrics.TPRGap.of
      ('tpr_gap', 'probe')
    """

    name = "tpr_gap"
    title = "TPR gap"

    @staticmethod
    def _of_table(table: jax.Array) -> jax.Array:
        return _gap(table)


class EqualizedOddsDifference(_ByGroup):
    """`equalized_odds_difference` by its name.

    Example:
      >>> ej.metrics.EqualizedOddsDifference.name, ej.metrics.EqualizedOddsDifference.of
      ('equalized_odds_difference', 'probe')
    """

    name = "equalized_odds_difference"
    title = "equalised odds difference"

    @staticmethod
    def _of_table(table: jax.Array) -> jax.Array:
        return _difference(table, 1)


class DemographicParityDifference(_ByGroup):
    """`demographic_parity_difference` by its name.

    Example:
      >>> ej.metrics.DemographicParityDifference.name, ej.metrics.DemographicParityDifference.of
      ('demographic_parity_difference', 'probe')
    """

    name = "demographic_parity_difference"
    title = "demographic parity difference"

    @staticmethod
    def _of_table(table: jax.Array) -> jax.Array:
        return _difference(jnp.sum(table, axis=0, keepdims=True), 1)


class DemographicParityRatio(_ByGroup):
    """`demographic_parity_ratio` by its name.

    Example:
      >>> ej.metrics.DemographicParityRatio.name, ej.metrics.DemographicParityRatio.of
      ('demographic_parity_ratio', 'probe')
    """

    name = "demographic_parity_ratio"

    @staticmethod
    def _of_table(table: jax.Array) -> jax.Array:
        return _ratio(jnp.sum(table, axis=0, keepdims=True))


class WorstGroupAccuracy(_ByGroup):
    """`worst_group_accuracy` by its name.

    Example:
      >>> ej.metrics.WorstGroupAccuracy.name, ej.metrics.WorstGroupAccuracy.of
      ('worst_group_accuracy', 'probe')
    """

    name = "worst_group_accuracy"
    title = "worst-group accuracy"

    @staticmethod
    def _of_table(table: jax.Array) -> jax.Array:
        return _worst(table)


def _difference(table: jax.Array, positive: int) -> jax.Array:
    """Returns the largest difference, over the labels, of the rates of positive predictions."""
    shares = rates(table)[:, :, positive]
    return _known(table, shares, jnp.max(spread(shares)))


def _ratio(table: jax.Array) -> jax.Array:
    """Returns the smallest over the largest share that is predicted 1, whatever the label."""
    shares = rates(table)[0, :, 1]
    return jnp.nanmin(shares) / jnp.nanmax(shares)


def _gap(table: jax.Array) -> jax.Array:
    own = recall(rates(table))
    counts = jnp.isfinite(own).sum(axis=1) > 1
    squares = jnp.sum(jnp.where(counts, spread(own) ** 2, 0))
    several = jnp.maximum(jnp.sum(counts, dtype=squares.dtype), 1)
    return _known(table, own, jnp.sqrt(squares / several))


def _worst(table: jax.Array) -> jax.Array:
    return jnp.nanmin(recall(rates(table)))


def _known(table: jax.Array, shares: jax.Array, value: jax.Array) -> jax.Array:
    """Returns a difference between groups, NaN where there are several that no label compares."""
    several = (jnp.sum(table, axis=(0, 2)) > 0).sum() > 1
    compared = (jnp.isfinite(shares).sum(axis=1) > 1).any()
    return jnp.where((several & ~compared) | jnp.isnan(table).any(), jnp.nan, value)


def _of_all(
    predicted: Given, groups: Given, weights: Given | None, num_groups: int | None, positive: int
) -> jax.Array:
    """Returns the weights by group and whether a row is predicted positive, (1, g, 2)."""
    predicted = whole_labels("predicted", predicted)
    chosen = (predicted == positive).astype(np.int32)
    nothing = np.zeros(predicted.shape, np.int32)
    return counted(chosen, nothing, groups, weights, 2, num_groups)[:1]
