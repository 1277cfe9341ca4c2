"""Calibration: whether probabilities are what they say."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from erasejax._core.programs import program
from erasejax._core.status import failed
from erasejax._core.types import Given
from erasejax.metrics._base import Metric
from erasejax.metrics._scoring import Likelihood, labelled, status_of_rows
from erasejax.rows import Dataset, count_groups, number_groups, reweighted, roomy

__all__ = ["ExpectedCalibrationError", "calibration_by_group", "expected_calibration_error"]


def expected_calibration_error(
    probe: Likelihood,
    x: Given | Dataset,
    z: Given | None = None,
    *,
    bins: int = 15,
    weights: Given | None = None,
) -> Float[Array, ""]:
    """Returns the expected calibration error: how far probabilities lie from frequencies.

    Rows are put into bins by their predicted probability, that of class 1 for two classes and that
    of the predicted class for more; in each bin the mean probability is compared with the share of
    rows that are of that class, and the absolute differences are averaged over the rows.

    The bins hold equal shares of the rows, not equal widths of probability: after erasure all
    probabilities lie near the class frequencies, in one bin of equal width, where errors of both
    signs would cancel. Rows of equal probability share a bin, the one where the first of them
    falls. The estimate is biased upwards by about sqrt(bins / n): compare values of equal n.

    Args:
      probe: a fitted classifier with a likelihood (`log_proba`).
      x: (n, d) floats, or a `Dataset` and no z.
      z: (n,) integer labels.
      bins: static; how many.
      weights: (n,) row weights, or None.

    Returns:
      () in [0, 1]; NaN where the probe failed.

    Raises:
      TypeError: the probe has no likelihood, or z is not class labels.
      ValueError: bins is not positive.

    Under jit: pure; `bins` is static.

    Example:
      >>> data = ej.datasets.GaussianClasses(rows=3, dims=2).sample(jax.random.key(0))
      >>> probe = ej.probes.LDA().fit(ej.LEACE().fit(data)(data.x), data.z)
      >>> round(float(ej.metrics.expected_calibration_error(probe, data, bins=1)), 3)
      0.0

    References:
      Guo, Pleiss, Sun and Weinberger 2017, arXiv 1706.04599; Nixon et al. 2019, arXiv 1904.01685
      (bins of equal share).
    """
    bins = _checked("expected_calibration_error", probe, bins)
    probe, data = labelled(probe, x, z, weights)
    return _calibration(probe, roomy(data), bins)


def calibration_by_group(
    probe: Likelihood,
    x: Given | Dataset,
    z: Given | None = None,
    *,
    groups: Given,
    bins: int = 15,
    weights: Given | None = None,
    num_groups: int | None = None,
) -> Float[Array, " g"]:
    """Returns the expected calibration error within each group of rows.

    A probe may be calibrated over all rows and not within a group. The bins are those of the group.

    Args:
      probe: a fitted classifier with a likelihood (`log_proba`).
      x: (n, d) floats, or a `Dataset` and no z.
      z: (n,) integer labels.
      groups: (n,) integers or text, which group each row is of.
      bins: static; how many.
      weights: (n,) row weights, or None.
      num_groups: how many groups there are; counted where it is None, required under jit.

    Returns:
      (g,) in [0, 1], in the order of the groups; NaN for a group without rows, and where the probe
      failed.

    Raises:
      TypeError: the probe has no likelihood, or z is not class labels.
      ValueError: bins is not positive, or there is not one group a row.

    Under jit: pure; `bins` is static.

    Example:
      >>> data = ej.datasets.GaussianClasses(rows=3, dims=2).sample(jax.random.key(0))
      >>> probe = ej.probes.LDA().fit(data)
      >>> ej.metrics.calibration_by_group(probe, data, groups=[0, 0, 0, 1, 1, 1]).shape
      (2,)

    References:
      Pleiss et al. 2017, arXiv 1709.02012.
    """
    bins = _checked("calibration_by_group", probe, bins)
    probe, data = labelled(probe, x, z, weights)
    numbers = number_groups(groups, len(data.x))
    count = count_groups(numbers, num_groups)
    data = data.replace(task=jnp.asarray(numbers, data.x.dtype)[:, None])
    return _calibrations(probe, roomy(data), bins, count)


@dataclasses.dataclass(frozen=True)
class ExpectedCalibrationError(Metric):
    """`expected_calibration_error` by its name.

    Attributes:
      bins: how many.

    Example:
      >>> ej.metrics.ExpectedCalibrationError.name, ej.metrics.ExpectedCalibrationError.of
      ('expected_calibration_error', 'probe')
    """

    name = "expected_calibration_error"
    needs = frozenset({"classes", "likelihood"})

    bins: int = 15

    def compute(self, probe: Likelihood, rows: Dataset) -> jax.Array:
        """Returns how far probabilities lie from frequencies."""
        return expected_calibration_error(probe, rows, bins=self.bins)


def _checked(name: str, probe: Likelihood, bins: int) -> int:
    """Returns the number of bins.

    Raises:
      TypeError: the probe has no likelihood.
      ValueError: there is no such number.
    """
    if not hasattr(probe, "log_proba"):
        raise TypeError(f"{name}: {type(probe).__name__} has no likelihood (no log_proba)")
    if int(bins) != bins or bins < 1:
        raise ValueError(f"bins: expected a positive whole number, got {bins}")
    return int(bins)


@program(static_argnums=(2, 3))
def _calibrations(probe: Likelihood, data: Dataset, bins: int, count: int) -> jax.Array:
    assert data.task is not None
    group = data.task[:, 0]

    def one(own: jax.Array) -> jax.Array:
        weights = jnp.where(group == own, data.row_weights, 0)
        return _calibration(probe, reweighted(data, weights), bins)

    return jax.lax.map(one, jnp.arange(count, dtype=group.dtype))


@program(static_argnums=2)
def _calibration(probe: Likelihood, data: Dataset, bins: int) -> jax.Array:
    proba = jnp.exp(probe.log_proba(data.x))
    if proba.shape[1] == 2:
        confidence, hit = proba[:, 1], data.z == 1
    else:
        predicted = jnp.argmax(proba, axis=1)
        confidence, hit = jnp.max(proba, axis=1), data.z == predicted
    weights = data.row_weights.astype(confidence.dtype)
    excess = jnp.where(weights != 0, weights * (confidence - hit), 0)
    confidence, excess, weights = jax.lax.sort((confidence, excess, weights), num_keys=1)
    through = jnp.cumsum(weights)
    total = through[-1]
    first = jnp.concatenate([jnp.ones(1, bool), confidence[1:] != confidence[:-1]])
    below = jax.lax.cummax(jnp.where(first, through - weights, 0))
    # Where a bin begins at a row, sums of weights round to either side of it.
    slack = 2 * max(len(weights), 2).bit_length() * float(jnp.finfo(total.dtype).eps)
    share = below / total * (1 + slack)
    place = jnp.clip(jnp.floor(share * bins).astype(jnp.int32), 0, bins - 1)
    gaps = jax.ops.segment_sum(excess, place, num_segments=bins)
    error = jnp.sum(jnp.abs(gaps)) / total
    return jnp.where(failed(probe.status | status_of_rows(data)), jnp.nan, error)
