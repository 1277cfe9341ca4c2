"""Pictures of a sweep, chosen by its axes, each with the numbers it shows.

One numeric axis makes curves, two a heat map, none histograms. Other axes become panels, and
erasers colours. A configuration that does not have the axis of the curves is a level line.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from erasejax._core.extras import require
from erasejax.pages._layers import LAYER
from erasejax.pages._plots import blank, legend, open_axes
from erasejax.pages._style import CHANCE, LINES

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Picture", "pictures"]

_PANELS, _BANDS, _BINS = 12, 4, 41  # panels a picture, lines with light bands, bins


# A `pandas.DataFrame`, whose own annotations do not tell a column from a frame.
Frame: TypeAlias = Any


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
        numeric, others = _axes(rows, keys)
        if not numeric:
            yield _histograms(rows, column, others)
        elif len(numeric) == 1:
            yield _curves(rows, column, numeric[0], others, _chance(column, classes))
        else:
            along, across, *rest = numeric
            yield _heat_map(rows, column, along, across, others + rest)


def _axes(rows: Frame, keys: list[str]) -> tuple[list[str], list[str]]:
    """Returns the axes to draw along, the one with the most values first, and all others."""
    axes = [name for name in keys if rows[name].nunique(dropna=False) > 1]
    numeric = [name for name in axes if rows[name].dtype.kind in "iuf" and rows[name].nunique() > 1]
    if len(numeric) > 1:  # the rows of a heat map have both
        numeric = [name for name in numeric if rows[name].notna().all()] or numeric[:1]
    numeric.sort(key=lambda name: -rows[name].nunique())
    return numeric, [name for name in axes if name not in numeric]


def _chance(column: str, classes: int | None) -> float | None:
    """Returns what a probe that knows nothing scores."""
    if column.startswith("auroc"):
        return 0.5
    decides = column.startswith(("accuracy", "balanced_accuracy"))
    return 1 / classes if decides and classes else None


def _groups(frame: Frame, axes: list[str]) -> list[tuple[str, Frame]]:
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


def _means(frame: Frame, column: str, axes: list[str]) -> Frame:
    """Returns mean, interval of the mean, and quantiles of a number, a row a combination."""
    groups = frame.groupby(axes, dropna=False, observed=True, sort=False)[column]
    found = groups.agg(["mean", "std", "count"]).reset_index()
    half = 1.96 * (found["std"] / np.sqrt(found["count"])).fillna(0)
    found["low"], found["high"] = found["mean"] - half, found["mean"] + half
    for q in (0.05, 0.95):
        found[f"q{100 * q:02.0f}"] = groups.quantile(q).to_numpy()
    return found


def _split(frame: Frame, axes: list[str]) -> tuple[list[str], list[str]]:
    """Returns which axes become colours and which panels: erasers, or else the last axis."""
    colour = [axis for axis in axes if axis.partition(".")[0] == "eraser"] or axes[-1:]
    return colour, [axis for axis in axes if axis not in colour]


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
    colour, panel = _split(frame, others)
    data = _means(frame, column, [*others, along])
    panels = _groups(data, panel)
    names = [name for name, _ in _groups(data, colour)][: len(LINES)]
    figure, places = _grid(len(panels[:_PANELS]))
    values = np.sort(data[along].dropna().unique())
    layers = along == LAYER
    logarithmic = not layers and values[0] > 0 and values[-1] / values[0] > 30
    handles = {}
    for axes, (title, rows) in zip(places, panels, strict=False):
        for name, line in _groups(rows, colour):
            if name not in names:
                continue
            paint, dash = LINES[names.index(name)]
            for level in line["mean"][line[along].isna()]:
                handles[name] = axes.axhline(level, color=paint, ls=dash, lw=1.8)
            ordered = line.dropna(subset=[along]).sort_values(along)
            if ordered.empty:
                continue
            x = ordered[along]
            (handles[name],) = axes.plot(
                x, ordered["mean"], color=paint, ls=dash, marker="o", ms=4, lw=1.8
            )
            axes.fill_between(x, ordered["low"], ordered["high"], color=paint, alpha=0.3, lw=0)
            if len(names) <= _BANDS:
                axes.fill_between(x, ordered["q05"], ordered["q95"], color=paint, alpha=0.12, lw=0)
        axes.set_title(title, fontsize=11)
        axes.set_xlabel(along, fontsize=11)
        if logarithmic:
            axes.set_xscale("log")
        if layers:
            ticker = require("matplotlib.ticker", "plot")
            axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
        if chance is not None:
            axes.axhline(chance, **CHANCE)
        axes.grid(axis="y", lw=0.4, alpha=0.5)
        open_axes(axes)
    places[0].set_ylabel(column, fontsize=11)
    _legend(figure, handles)
    caption = f"Mean over the seeds against {along}. Dark band: 95% interval of the mean."
    if len(names) <= _BANDS:
        caption += " Light band: from the 5% to the 95% quantile of single trials."
    caption += _left_out(len(panels) - _PANELS, "panels")
    caption += _left_out(len(_groups(data, colour)) - len(names), "lines")
    return Picture(column, caption, figure, data)


def _heat_map(frame: Frame, column: str, along: str, across: str, others: list[str]) -> Picture:
    data = _means(frame, column, [*others, across, along])
    panels = _groups(data, others)
    shown = panels[:_PANELS]
    figure, places = _grid(len(shown), height=3.4)
    low, high = data["mean"].min(), data["mean"].max()
    image = None
    for axes, (title, rows) in zip(places, shown, strict=True):
        table = rows.pivot_table(index=across, columns=along, values="mean", observed=True)
        image = axes.imshow(
            table.to_numpy(), vmin=low, vmax=high, origin="lower", aspect="auto", cmap="cividis"
        )
        axes.set_xticks(range(table.shape[1]), [f"{v:g}" for v in table.columns], fontsize=9)
        axes.set_yticks(range(table.shape[0]), [f"{v:g}" for v in table.index], fontsize=9)
        if table.size <= 60:
            for (i, j), value in np.ndenumerate(table.to_numpy()):
                dark = value < (low + high) / 2
                axes.text(
                    j,
                    i,
                    f"{value:.2f}",
                    ha="center",
                    va="center",
                    fontsize=8,
                    color="white" if dark else "black",
                )
        axes.set_title(title, fontsize=11)
        axes.set_xlabel(along, fontsize=11)
    places[0].set_ylabel(across, fontsize=11)
    _margins(figure, bottom=0.6)
    assert image is not None
    figure.colorbar(image, ax=figure.axes, label=f"mean {column}", shrink=0.9, pad=0.02)
    caption = f"Mean over the seeds, against {along} and {across}; one colour scale for all panels."
    return Picture(column, caption + _left_out(len(panels) - len(shown), "panels"), figure, data)


def _histograms(frame: Frame, column: str, axes_: list[str]) -> Picture:
    colour, panel = _split(frame, axes_) if axes_ else ([], [])
    panels = _groups(frame, panel)
    shown = panels[:_PANELS]
    figure, places = _grid(len(shown))
    low, high = frame[column].min(), frame[column].max()
    edges = np.linspace(low, high if high > low else low + 1, _BINS)
    handles, counted = {}, []
    for axes, (title, rows) in zip(places, shown, strict=True):
        for i, (name, values) in enumerate(_groups(rows, colour)[: len(LINES)]):
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
