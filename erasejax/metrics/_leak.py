"""What is left for linear probes in erased rows: measured, and tested where the rows are fresh."""

import dataclasses
import math

import jax
import numpy as np

from erasejax._core.status import raise_if_failed
from erasejax.metrics._guardedness import guardedness_test
from erasejax.metrics._linear_r2 import canonical_correlations, linear_r2
from erasejax.rows import Dataset

__all__ = ["LinearLeak", "linear_leak"]


@dataclasses.dataclass(frozen=True)
class LinearLeak:
    """What linear probes could read of erased rows.

    Attributes:
      rows: how many.
      r2: share of the concept's variance that least squares explains on these rows.
      canonical: canonical correlations on these rows, descending.
      groups: in how many groups the rows are; None where they are independent.
      test: None on the rows of the eraser.
    """

    rows: int
    r2: float
    canonical: tuple[float, ...]
    groups: int | None = None
    test: "LeakTest | None" = None


@dataclasses.dataclass(frozen=True)
class LeakTest:
    """What `guardedness_test` says of rows that the eraser has not seen.

    Attributes:
      p_value: of the hypothesis that nothing linear is left.
      detectable_r2: the smallest R^2 that the test finds with 95% power; None where not known.
      expected_r2: the R^2 that these rows show on average where nothing is left.
    """

    p_value: float
    detectable_r2: float | None
    expected_r2: float


def linear_leak(
    data: Dataset, *, held_out: bool, key: jax.Array, groups: np.ndarray | None = None
) -> LinearLeak:
    """Measures what is left in erased rows.

    Args:
      data: erased rows with their labels.
      held_out: whether the eraser was fitted on other rows.
      key: of the test.
      groups: (n,) which rows belong together, or None.

    Raises:
      FailedLanesError: the rows cannot be used.
    """
    rows = len(data.z)
    canonical = tuple(float(value) for value in canonical_correlations(data))
    count = None if groups is None else len(np.unique(groups))
    if not held_out:
        return LinearLeak(rows, float(linear_r2(data)), canonical, count)
    found = raise_if_failed(guardedness_test(data, key=key, groups=groups))
    detectable = float(found.detectable_r2)
    test = LeakTest(
        p_value=float(found.p_value),
        detectable_r2=None if math.isnan(detectable) else detectable,
        expected_r2=min(int(found.rank) * float(found.design_effect) / max(rows - 1, 1), 1.0),
    )
    return LinearLeak(rows, float(found.r2), canonical, count, test)
