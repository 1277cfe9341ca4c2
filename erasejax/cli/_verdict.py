"""What is left for linear probes, in words: what was shown on which rows, and what was not."""

import dataclasses
import math

import jax
import numpy as np

from erasejax import metrics
from erasejax._core.status import raise_if_failed
from erasejax.rows import Dataset

__all__ = ["LinearLeak", "in_groups", "measure", "sentences"]

_LEVEL = 0.05


@dataclasses.dataclass(frozen=True)
class LinearLeak:
    """What linear probes could read of erased rows.

    Attributes:
      rows: how many.
      r2: share of the concept's variance that least squares explains on these rows.
      canonical: canonical correlations on these rows, descending.
      p_value: of the hypothesis that nothing linear is left; None on the rows of the eraser.
      detectable_r2: the smallest R^2 that the test finds with 95% power; None where not known.
      expected_r2: the R^2 that these rows show on average where nothing is left.
      groups: in how many groups the rows are, in words; "" where they are independent.
    """

    rows: int
    r2: float
    canonical: tuple[float, ...]
    p_value: float | None = None
    detectable_r2: float | None = None
    expected_r2: float | None = None
    groups: str = ""


def measure(
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
    canonical = tuple(float(value) for value in metrics.canonical_correlations(data))
    if not held_out:
        return LinearLeak(rows, float(metrics.linear_r2(data)), canonical)
    test = raise_if_failed(metrics.guardedness_test(data, key=key, groups=groups))
    detectable = float(test.detectable_r2)
    return LinearLeak(
        rows,
        float(test.r2),
        canonical,
        p_value=float(test.p_value),
        detectable_r2=None if math.isnan(detectable) else detectable,
        expected_r2=min(int(test.rank) * float(test.design_effect) / max(rows - 1, 1), 1.0),
        groups=in_groups(groups),
    )


def in_groups(groups: np.ndarray | None) -> str:
    """Returns in how many groups rows are, to stand behind their number; "" without groups."""
    return "" if groups is None else f" in {len(np.unique(groups))} groups"


def sentences(leak: LinearLeak) -> list[str]:
    """Returns a line of figures and a verdict."""
    shown = ", ".join(f"{value:.4f}" for value in leak.canonical[:3])
    more = f" and {len(leak.canonical) - 3} more" if len(leak.canonical) > 3 else ""
    plural = "s" * (len(leak.canonical) != 1)
    figures = f"R^2 {leak.r2:.4f}, canonical correlation{plural} {shown}{more}"
    if leak.p_value is None:
        return [
            f"linear read-out of the erased rows, in sample: {figures}",
            "the eraser has seen these rows: the figures hold for them alone and say nothing of "
            "other rows",
        ]
    lines = [
        f"linear read-out of {leak.rows} erased rows{leak.groups} that the eraser has not seen: "
        f"{figures}; "
        f"p-value of Cov = 0 {leak.p_value:.4f}; R^2 expected by chance {leak.expected_r2:.4f}"
    ]
    detectable = "the rows are too few for the features to say how small a leak would be found"
    if leak.detectable_r2 is not None:
        detectable = (
            f"a leak of R^2 above {leak.detectable_r2:.2g} would have been found with 95% power"
        )
    if leak.p_value > _LEVEL:
        lines.append(
            f"no evidence of a linear leak: {detectable}; that is not proof of none, and says "
            "nothing of non-linear probes"
        )
    else:
        lines.append(
            f"evidence of a linear leak, at a level of {_LEVEL:.0%}: what the eraser missed can be "
            "read by a linear probe; it may be no more than the error of fitting on few rows"
        )
    return lines
