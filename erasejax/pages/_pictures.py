"""Pictures of a sweep, chosen by its axes, each with the numbers it shows.

One numeric axis makes curves, two a heat map, none histograms. Other axes become panels, and
erasers colours. A configuration that does not have the axis of the curves is a level line.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from erasejax._core.extras import require
from erasejax.plot import (
    LINES,
    Frame,
    axes_of,
    blank,
    chance_of,
    draw_heat,
    draw_means,
    finish_curve,
    groups,
    legend,
    means,
    open_axes,
    split_axes,
)

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Picture", "pictures"]

_PANELS, _BANDS, _BINS = 12, 4, 41  # panels a picture, lines with light bands, bins


class Picture(NamedTuple):
    """One picture.

    Attributes:
      title: what it shows.
      caption: how to read it.
      figure: a `matplotlib.figure.Figure`.
      data: a `pandas.DataFrame` of what is drawn.
    """

    title: str
    caption: str
    figure: "Figure"
    data: Frame


def pictures(
    frame: Frame, columns: tuple[str, ...], *, classes: int | None = 2, most: int = 8
) -> Iterator[Picture]:
    """Yields the pictures of a table.

    Args:
      frame: a `pandas.DataFrame` of `Sweep.to_pandas`.
      columns: its columns of numbers.
      classes: how many, equally frequent, so that chance can be drawn; None where that differs.
      most: how many numbers to draw.

    Yields:
      A picture of each number that varies.
    """
    frame = frame[(frame["status"].to_numpy() & 0xFFFF) == 0]
    keys = [name for name in frame.columns if name not in (*columns, "seed")]
    drawn = [c for c in columns if c != "status" and frame[c].nunique() > 1][:most]
    for column in drawn:
        rows = frame[frame[column].notna()]
        numeric, others = axes_of(rows, keys)
        if not numeric:
            yield _histograms(rows, column, others)
        elif len(numeric) == 1:
            yield _curves(rows, column, numeric[0], others, chance_of(column, classes))
        else:
            along, across, *rest = numeric
            yield _heat_map(rows, column, along, across, others + rest)


def _grid(count: int, height: float = 3.0) -> tuple["Figure", list["Axes"]]:
    """Returns a figure 10 inches wide with so many panels, and the panels."""
    wide = min(count, 3)
    tall = -(-count // wide)
    figure = blank(10, (height + 0.8 if wide == 1 else height) * tall + 1)
    grid = figure.subplots(tall, wide, sharey=True, squeeze=False)
    for axes in grid.flat[count:]:
        axes.set_visible(False)
    return figure, list(grid.flat[:count])


def _curves(
    frame: Frame, column: str, along: str, others: list[str], chance: float | None
) -> Picture:
    colour, panel = split_axes(frame, others)
    data = means(frame, column, [*others, along])
    panels = groups(data, panel)
    names = [name for name, _ in groups(data, colour)][: len(LINES)]
    figure, places = _grid(len(panels[:_PANELS]))
    values = np.sort(data[along].dropna().unique())
    handles = {}
    for axes, (title, rows) in zip(places, panels, strict=False):
        for name, line in groups(rows, colour):
            if name not in names:
                continue
            paint = LINES[names.index(name)]
            handles[name] = draw_means(axes, line, along, paint, spread=len(names) <= _BANDS)
        axes.set_title(title, fontsize=11)
        finish_curve(axes, values, along, chance)
    places[0].set_ylabel(column, fontsize=11)
    _legend(figure, handles)
    caption = f"Mean over the seeds against {along}. Dark band: 95% interval of the mean."
    if len(names) <= _BANDS:
        caption += " Light band: from the 5% to the 95% quantile of single trials."
    caption += _left_out(len(panels) - _PANELS, "panels")
    caption += _left_out(len(groups(data, colour)) - len(names), "lines")
    return Picture(column, caption, figure, data)


def _heat_map(frame: Frame, column: str, along: str, across: str, others: list[str]) -> Picture:
    data = means(frame, column, [*others, across, along])
    panels = groups(data, others)
    shown = panels[:_PANELS]
    figure, places = _grid(len(shown), height=3.4)
    low, high = data["mean"].min(), data["mean"].max()
    image = None
    for axes, (title, rows) in zip(places, shown, strict=True):
        table = rows.pivot_table(index=across, columns=along, values="mean", observed=True)
        image = draw_heat(axes, table, low, high)
        axes.set_title(title, fontsize=11)
        axes.set_xlabel(along, fontsize=11)
    places[0].set_ylabel(across, fontsize=11)
    _margins(figure, bottom=0.6)
    assert image is not None
    figure.colorbar(image, ax=figure.axes, label=f"mean {column}", shrink=0.9, pad=0.02)
    caption = f"Mean over the seeds, against {along} and {across}; one colour scale for all panels."
    return Picture(column, caption + _left_out(len(panels) - len(shown), "panels"), figure, data)


def _histograms(frame: Frame, column: str, axes_: list[str]) -> Picture:
    colour, panel = split_axes(frame, axes_) if axes_ else ([], [])
    panels = groups(frame, panel)
    shown = panels[:_PANELS]
    figure, places = _grid(len(shown))
    low, high = frame[column].min(), frame[column].max()
    edges = np.linspace(low, high if high > low else low + 1, _BINS)
    handles, counted = {}, []
    for axes, (title, rows) in zip(places, shown, strict=True):
        for i, (name, values) in enumerate(groups(rows, colour)[: len(LINES)]):
            share = np.histogram(values[column], edges)[0] / len(values)
            paint = LINES[i]
            handles[name] = axes.stairs(share, edges, color=paint[0], ls=paint[1], lw=1.8)
            counted += [
                {"panel": title, "line": name, "from": a, "to": b, "share": s}
                for a, b, s in zip(edges[:-1], edges[1:], share, strict=True)
            ]
        axes.set_title(title, fontsize=11)
        axes.set_xlabel(column, fontsize=11)
        axes.set_ylim(bottom=0)
        open_axes(axes)
    places[0].set_ylabel("share of the trials", fontsize=11)
    _legend(figure, {name: handle for name, handle in handles.items() if name})
    data = require("pandas", "sweep").DataFrame(counted)
    caption = "How often each value occurs over the seeds." + _left_out(
        len(panels) - len(shown), "panels"
    )
    return Picture(column, caption, figure, data)


def _legend(figure: "Figure", handles: dict[str, "Artist"]) -> None:
    _margins(figure, bottom=0.75 + 0.25 * -(-len(handles) // 4))
    if handles:
        legend(figure, handles, columns=4)


def _left_out(count: int, what: str) -> str:
    return f" {count} more {what} are in the table only." if count > 0 else ""


def _margins(figure: "Figure", bottom: float) -> None:
    """Sets the room around the panels, below them in inches."""
    height = figure.get_figheight()
    figure.subplots_adjust(
        left=0.09,
        right=0.98,
        bottom=bottom / height,
        top=1 - 0.35 / height,
        hspace=0.5,
        wspace=0.08,
    )
