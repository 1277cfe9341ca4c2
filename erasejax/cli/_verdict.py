"""What the command `probe` says in words: of its rows, and of what is left for linear probes."""

import numpy as np

from erasejax.files import Labels
from erasejax.metrics import LinearLeak

__all__ = ["in_groups", "sentences", "shares"]

_LEVEL = 0.05
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


def in_groups(groups: np.ndarray | None) -> str:
    """Returns in how many groups rows are, to stand behind their number; "" without groups."""
    return "" if groups is None else f" in {len(np.unique(groups))} groups"


def sentences(leak: LinearLeak) -> list[str]:
    """Returns a line of figures and a verdict."""
    shown = ", ".join(f"{value:.4f}" for value in leak.canonical[:3])
    more = f" and {len(leak.canonical) - 3} more" if len(leak.canonical) > 3 else ""
    plural = "s" * (len(leak.canonical) != 1)
    figures = f"R^2 {leak.r2:.4f}, canonical correlation{plural} {shown}{more}"
    test = leak.test
    if test is None:
        return [
            f"linear read-out of the erased rows, in sample: {figures}",
            "the eraser has seen these rows: the figures hold for them alone and say nothing of "
            "other rows",
        ]
    groups = "" if leak.groups is None else f" in {leak.groups} groups"
    lines = [
        f"linear read-out of {leak.rows} erased rows{groups} that the eraser has not seen: "
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
