"""What was found, in words: of which rows, and what is left for linear probes."""

from collections.abc import Sequence

import numpy as np

from erasejax._core.text import show
from erasejax.erasers import ClosedForm, Eraser
from erasejax.files import Labels
from erasejax.metrics import LinearLeak
from erasejax.readout._found import Protocol

__all__ = [
    "caption",
    "few_rows",
    "fresh_rows",
    "majority",
    "no_interval",
    "same_rows",
    "sentences",
    "shares",
]

_LEVEL = 0.05
_SHRINK = "shrinkage may help: fit --shrinkage-rule oas, and give the file as --eraser"
_TOLD = 0.1  # parts that are unequal by more than a tenth are worth a line


def shares(labels: Labels, split: list[np.ndarray]) -> str:
    """Returns what shares of the classes parts have, if they are unequal by much; else "".

    Args:
      labels: classes.
      split: row numbers of each part.
    """
    k = len(labels.names or ())
    rows = np.array([np.bincount(labels.values[piece], minlength=k) for piece in split])
    fair = rows.sum(axis=0) / len(split)
    # A row more or less than fair is no group's doing.
    if (np.abs(rows - fair) <= np.maximum(_TOLD * fair, 1)).all():
        return ""
    pieces = [
        f"{sum(part)} rows, "
        + ", ".join(
            f"{name} {count / sum(part):.0%}"
            for name, count in zip((labels.names or ())[:4], part, strict=False)
        )
        for part in rows.tolist()
    ]
    return "whole groups made the parts unequal: " + "; ".join(pieces)


def same_rows(rows: int, groups: np.ndarray | None) -> str:
    """Returns what one set of rows is called.

    Args:
      rows: how many.
      groups: of each, or None.
    """
    return f"One set of rows: eraser, probe and score on the same {rows} rows{_in_groups(groups)}"


def fresh_rows(parts: Sequence[tuple[int, np.ndarray | None]], where: str, splits: int = 1) -> str:
    """Returns what fresh rows are called.

    Args:
      parts: how many rows each has, and the groups of them, or None.
      where: the file of an eraser that was fitted elsewhere; then there are two parts.
      splits: how many; the sizes are those of the first.
    """
    start = "Fresh rows" if splits == 1 else f"Fresh rows, means over {splits} splits"
    sizes = [(rows, _in_groups(groups)) for rows, groups in parts]
    (b, of_b), (c, of_c) = sizes[-2:]
    if len(parts) == 2:
        return (
            f"{start}: eraser fitted elsewhere ({show(where)}), probe on {b} rows B{of_b}, "
            f"score on {c} others C{of_c}"
        )
    a, of_a = sizes[0]
    return (
        f"{start}: eraser on {a} rows A{of_a}, probe on {b} rows B{of_b}, score on {c} rows C{of_c}"
    )


def _in_groups(groups: np.ndarray | None) -> str:
    """Returns in how many groups rows are, to stand behind their number; "" without groups."""
    return "" if groups is None else f" in {len(np.unique(groups))} groups"


def majority(share: float) -> str:
    """Returns what knowing nothing scores."""
    return f"majority rate {share:.4f}, the accuracy of knowing nothing"


def no_interval(found: Protocol) -> list[str]:
    """Returns what stands below numbers of a task's answers where they have no interval."""
    fresh = found.leaks[0].test is not None
    if not found.task_lines or found.task_lines[0].halves or not fresh:
        return []
    return ["one split has no interval here; --seeds 20 gives one"]


def few_rows(method: Eraser | None, rows: int, dims: int, damage: float) -> str:
    """Returns a line about a covariance of too few rows, or damage beyond the variance; else "".

    Args:
      method: that was fitted, or None where that was done elsewhere.
      rows: to which it was fitted.
      dims: features.
      damage: what erasing cost, as a share of the variance.
    """
    covariance = isinstance(method, ClosedForm) and method.needs_covariance
    if method is not None and not covariance:
        return ""
    helps = _SHRINK if method is None or hasattr(method, "shrinkage_rule") else "more rows help"
    if covariance and rows <= dims:
        return f"the covariance of {dims} features is of {rows} rows, too few of them; {helps}"
    return f"the eraser moves rows by more than they vary; {helps}" if damage > 1 else ""


def caption(found: Protocol) -> list[str]:
    """Returns what stands below the scores of a protocol, line by line."""
    lines = [
        f"{majority(found.majority)}; damage {found.damage:.4f} of the variance; "
        f"dimensions removed {found.rank}"
    ]
    if found.remark:
        lines.append(found.remark)
    what = "within the classes of the task, linear read-out" if found.within else "linear read-out"
    if all(_is_seen(leak) for leak in found.leaks):
        return [*lines, _SEEN]
    if len(found.leaks) == 1:
        return [*lines, *sentences(found.leaks[0], what)]
    return [*lines, *_of_splits(found.leaks, what)]


_SEEN = (
    "no test: R^2 is 0 but for rounding, as it is of the rows that an eraser was fitted to, and of "
    "no others. Of those it says nothing; test rows that were held back when it was fitted"
)


def _is_seen(leak: LinearLeak) -> bool:
    """Returns whether rows that are tested as fresh can be none, since nothing is left in sample.

    On fresh rows R^2 is what is expected by chance, and more.
    """
    return leak.test is not None and leak.r2 == 0 and leak.test.expected_r2 > 0


def _of_splits(leaks: Sequence[LinearLeak], what: str) -> list[str]:
    """Returns what the tests of several splits say together.

    Twice the median of p-values is a p-value, however they depend on one another (Ruger 1978).
    """
    tests = [leak.test for leak in leaks if leak.test is not None]
    p = min(2 * float(np.median([test.p_value for test in tests])), 1.0)
    chance = np.mean([test.expected_r2 for test in tests])
    verdict = "no evidence" if p > _LEVEL else f"evidence, at a level of {_LEVEL:.0%},"
    return [
        f"{what} of erased rows that the eraser has not seen: R^2 "
        f"{np.mean([leak.r2 for leak in leaks]):.4f} on average, {chance:.4f} expected by chance; "
        f"{verdict} of a linear leak: p-value of Cov = 0 {p:.4f}, twice the median over "
        f"{len(leaks)} splits",
    ]


def sentences(leak: LinearLeak, what: str = "linear read-out") -> list[str]:
    """Returns a line of figures and a verdict.

    Args:
      leak: of one split.
      what: what was read.
    """
    shown = ", ".join(f"{value:.4f}" for value in leak.canonical[:3])
    more = f" and {len(leak.canonical) - 3} more" if len(leak.canonical) > 3 else ""
    plural = "s" * (len(leak.canonical) != 1)
    figures = f"R^2 {leak.r2:.4f}, canonical correlation{plural} {shown}{more}"
    test = leak.test
    if test is None:
        return [
            f"{what} of the erased rows, in sample: {figures}",
            "the eraser has seen these rows: the figures hold for them alone and say nothing of "
            "other rows",
        ]
    groups = "" if leak.groups is None else f" in {leak.groups} groups"
    lines = [
        f"{what} of {leak.rows} erased rows{groups} that the eraser has not seen: "
        f"{figures}; "
        f"p-value of Cov = 0 {test.p_value:.4f}; R^2 expected by chance {test.expected_r2:.4f}"
    ]
    detectable = "the rows are too few for the features to say how small a leak would be found"
    if test.detectable_r2 is not None:
        detectable = (
            f"a leak of R^2 above {test.detectable_r2:.2g} would have been found with 95% power"
        )
    if test.p_value > _LEVEL:
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
