"""What of a sweep's table is drawn: its axes, their combinations, and means over the seeds."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

__all__ = ["Frame", "axes_of", "chance_of", "chosen", "groups", "means", "split_axes"]

# A `pandas.DataFrame`, whose own annotations do not tell a column from a frame.
Frame: TypeAlias = Any


def chosen(
    frame: Frame,
    columns: Sequence[str],
    column: str,
    where: Mapping[str, object] | None,
    drawn: Sequence[str] = (),
) -> tuple[Frame, list[str]]:
    """Returns the rows to draw, without failed trials, and the other axes that still vary.

    Args:
      frame: a `pandas.DataFrame` of `Sweep.to_pandas`.
      columns: its columns of numbers.
      column: the number to draw.
      where: values that axes are to have, or None.
      drawn: the axes of the picture.

    Raises:
      ValueError: there is no such column, axis or value.
    """
    axes = [name for name in frame.columns if name not in (*columns, "seed")]
    if column not in columns:
        raise ValueError(f"column: expected one of {', '.join(columns)}, got {column!r}")
    for name in (*drawn, *(where or ())):
        if name not in axes:
            raise ValueError(f"expected one of the axes {', '.join(axes)}, got {name!r}")
    frame = frame[((frame["status"].to_numpy() & 0xFFFF) == 0) & frame[column].notna().to_numpy()]
    for name, value in (where or {}).items():
        there = frame[name].drop_duplicates().tolist()
        if value not in there:
            raise ValueError(f"where: {name} is one of {there}, got {value!r}")
        frame = frame[(frame[name] == value).to_numpy()]
    others = [a for a in axes if a not in drawn and frame[a].nunique(dropna=False) > 1]
    return frame, others


def axes_of(rows: Frame, keys: list[str]) -> tuple[list[str], list[str]]:
    """Returns the axes to draw along, the one with the most values first, and all others."""
    axes = [name for name in keys if rows[name].nunique(dropna=False) > 1]
    numeric = [name for name in axes if rows[name].dtype.kind in "iuf" and rows[name].nunique() > 1]
    if len(numeric) > 1:  # the rows of a heat map have both
        numeric = [name for name in numeric if rows[name].notna().all()] or numeric[:1]
    numeric.sort(key=lambda name: -rows[name].nunique())
    return numeric, [name for name in axes if name not in numeric]


def chance_of(column: str, classes: int | None) -> float | None:
    """Returns what a probe that knows nothing scores."""
    if column.startswith("auroc"):
        return 0.5
    decides = column.startswith(("accuracy", "balanced_accuracy"))
    return 1 / classes if decides and classes else None


def groups(frame: Frame, axes: list[str]) -> list[tuple[str, Frame]]:
    """Returns (title, rows) of every combination of axes."""
    if not axes:
        return [("", frame)]
    found = frame.groupby(axes, dropna=False, observed=True, sort=False)
    return [
        (", ".join(_word(a, v) for a, v in zip(axes, key, strict=True)), rows)
        for key, rows in found
    ]


def _word(axis: str, value: object) -> str:
    if isinstance(value, str):
        return value
    return "" if value != value else f"{axis.rpartition('.')[2]} {value:g}"


def means(frame: Frame, column: str, axes: list[str]) -> Frame:
    """Returns mean, interval of the mean, and quantiles of a number, a row a combination."""
    grouped = frame.groupby(axes, dropna=False, observed=True, sort=False)[column]
    found = grouped.agg(["mean", "std", "count"]).reset_index()
    half = 1.96 * (found["std"] / np.sqrt(found["count"])).fillna(0)
    found["low"], found["high"] = found["mean"] - half, found["mean"] + half
    for q in (0.05, 0.95):
        found[f"q{100 * q:02.0f}"] = grouped.quantile(q).to_numpy()
    return found


def split_axes(frame: Frame, axes: list[str]) -> tuple[list[str], list[str]]:
    """Returns which axes become colours and which panels: erasers, or else the last axis."""
    colour = [axis for axis in axes if axis.partition(".")[0] == "eraser"] or axes[-1:]
    return colour, [axis for axis in axes if axis not in colour]
