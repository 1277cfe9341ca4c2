"""What is found of probes under one protocol, of one split of the rows or of several."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from erasejax.metrics import LinearLeak

__all__ = ["Line", "Protocol", "over_splits"]

_LEVEL = 0.95


@dataclasses.dataclass(frozen=True)
class Line:
    """Scores of one probe, before or after erasing.

    Attributes:
      probe: name of the probe.
      when: "before" or "after".
      scores: by name; None where the probe has no such score. Of several splits their means.
      fairness: numbers of a task's predictions, by name, with the concept's classes as groups; none
        of the concept's own.
      interval: of the accuracy, 95%, for other rows. Of one split for other rows to score: the
        probe is the same. Of several also for other rows to fit.
      halves: of several splits half of the 95% interval of each number, by name; else none.
      counts: (k, g, k) rows scored, by their label, their group and what was predicted; one group
        where the label is the concept.
      warning: what the fitted probe warns of, or "".
    """

    probe: str
    when: str
    scores: dict[str, float | None]
    fairness: dict[str, float | None]
    interval: tuple[float, float]
    halves: dict[str, float]
    counts: np.ndarray
    warning: str


@dataclasses.dataclass(frozen=True)
class Protocol:
    """The scores under one protocol.

    Attributes:
      title: which rows the eraser, the probe and the score saw.
      majority: share of the most frequent class among the rows scored.
      task_majority: the same of the task, or None.
      damage: what erasing cost on the rows scored, as a share of the variance of x.
      rank: dimensions removed.
      leaks: what linear probes could read after erasing, one a split.
      within: whether that is what they read within the classes of the task.
      lines: two for each probe of the concept.
      task_lines: two for each probe of the task; none without a task.
      remark: what else is to be said of the eraser, or "".
    """

    title: str
    majority: float
    task_majority: float | None
    damage: float
    rank: int
    leaks: tuple[LinearLeak, ...]
    within: bool
    lines: tuple[Line, ...]
    task_lines: tuple[Line, ...]
    remark: str = ""


def over_splits(found: Sequence[Protocol], *, scored: int, fitted: int) -> Protocol:
    """Returns the means over splits of the same rows, with their intervals.

    Splits share rows, so their scores are not independent: the variance of a mean over s of them is
    not v / s but about (1 / s + m / n) v, with m rows scored and n fitted, of which the interval is
    that of Student's t with s - 1 degrees of freedom.

    Args:
      found: one for each split.
      scored: m, how many rows each scores.
      fitted: n, how many rows its eraser and its probes are fitted to.

    References:
      Nadeau and Bengio 2003, doi 10.1023/A:1024068626366.
    """
    first, splits = found[0], len(found)
    if splits == 1:
        return first
    from scipy.special import stdtrit

    factor = float(stdtrit(splits - 1, (1 + _LEVEL) / 2)) * math.sqrt(1 / splits + scored / fitted)

    def together(lines: Sequence[Line]) -> Line:
        scores, half_scores = _means([line.scores for line in lines], factor)
        fair, half_fair = _means([line.fairness for line in lines], factor)
        mean, half = scores["accuracy"] or 0.0, half_scores["accuracy"]
        return dataclasses.replace(
            lines[0],
            scores=scores,
            fairness=fair,
            interval=(mean - half, mean + half),
            halves=half_scores | half_fair,
            counts=np.sum([line.counts for line in lines], axis=0),
            warning="; ".join(dict.fromkeys(line.warning for line in lines if line.warning)),
        )

    task = [one.task_majority for one in found if one.task_majority is not None]
    return dataclasses.replace(
        first,
        majority=float(np.mean([one.majority for one in found])),
        task_majority=float(np.mean(task)) if task else None,
        damage=float(np.mean([one.damage for one in found])),
        leaks=tuple(leak for one in found for leak in one.leaks),
        lines=tuple(map(together, zip(*(one.lines for one in found), strict=True))),
        task_lines=tuple(map(together, zip(*(one.task_lines for one in found), strict=True))),
    )


def _means(
    numbers: Sequence[dict[str, float | None]], factor: float
) -> tuple[dict[str, float | None], dict[str, float]]:
    """Returns the mean of each number over the splits that have it, and half of its interval."""
    means: dict[str, float | None] = {}
    halves: dict[str, float] = {}
    for name in numbers[0]:
        values = [value for own in numbers if (value := own[name]) is not None]
        means[name] = float(np.mean(values)) if values else None
        if values:
            halves[name] = factor * float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
    return means, halves
