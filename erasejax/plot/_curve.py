"""Curves of a score against a number, such as the layer, the rank or the number of rows."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from erasejax._core.extras import require
from erasejax._core.types import Given
from erasejax.plot._figure import axes_for, legend_below, open_axes
from erasejax.plot._layers import LAYER, layer_numbers
from erasejax.plot._style import CHANCE, LINES
from erasejax.plot._table import Frame, chance_of, groups, means

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

__all__ = ["curve", "draw_means", "draw_table", "finish_curve"]

_WIDE = 30  # the largest over the least number, from which on an axis is logarithmic


def curve(
    x: Given | Sequence[str],
    lines: Mapping[str, Given],
    *,
    bands: Mapping[str, tuple[Given, Given]] | None = None,
    chance: float | None = None,
    xlabel: str = "",
    ylabel: str = "",
    ax: "Axes | None" = None,
) -> "Axes":
    """Draws scores against a number, or along the layers of a model.

    Args:
      x: (m,) numbers, such as ranks; or names of layers. Those that differ by one number are drawn
        where the number is. Where the largest number is more than 30 times the least, the axis is
        logarithmic.
      lines: (m,) scores by name, NaN where there is none.
      bands: (m,) lower and upper ends of intervals, by the same names.
      chance: what knowing nothing scores; None leaves it out.
      xlabel: what x is; by itself "layer" for layers.
      ylabel: what the scores are.
      ax: matplotlib axes to draw on; None for new ones, of a figure that belongs to no pyplot.

    Returns:
      The axes. `ax.figure.savefig` writes them, and a notebook shows new ones.

    Raises:
      ModuleNotFoundError: matplotlib is missing.
      ValueError: a line has not as many scores as x has numbers.

    Example:
      >>> ax = ej.plot.curve([0, 1, 2], {"LEACE": [0.9, 0.5, 0.5]}, chance=0.5, xlabel="rank")
      >>> ax.get_xlabel(), len(ax.lines)  # the curve, and chance
      ('rank', 2)
    """
    axes = axes_for(ax)
    every: Any = x
    names = [name for name in every if isinstance(name, str)]
    layers = layer_numbers(names)
    if names:
        places = np.array([float(layers.get(name, i)) for i, name in enumerate(names)])
    else:
        places = np.asarray(x, float)
    order = np.argsort(places, kind="stable")
    handles: dict[str, Artist] = {}
    for i, (name, scores) in enumerate(lines.items()):
        paint, dash = LINES[i % len(LINES)]
        y = np.asarray(scores, float)
        if y.shape != places.shape:
            raise ValueError(f"{name}: expected {places.shape} scores as x has, got {y.shape}")
        (handles[name],) = axes.plot(
            places[order], y[order], color=paint, ls=dash, marker="o", ms=4, lw=1.8
        )
        if bands and name in bands:
            low, high = (np.asarray(end, float)[order] for end in bands[name])
            axes.fill_between(places[order], low, high, color=paint, alpha=0.3, lw=0)
    finish_curve(axes, places, xlabel or (LAYER if names else ""), chance, whole=bool(layers))
    if names and not layers:
        axes.set_xticks(places, names, rotation=30, ha="right", fontsize=9)
    axes.set_ylabel(ylabel, fontsize=11)
    legend_below(axes, handles)
    return axes


def draw_table(
    frame: Frame,
    column: str,
    along: str,
    others: list[str],
    *,
    classes: int | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draws the means of a number of a sweep, a line a combination of its other axes.

    Args:
      frame: a `pandas.DataFrame` of `Sweep.to_pandas`.
      column: the number.
      along: the axis of the curves.
      others: all other axes that vary.
      classes: how many, equally frequent, so that chance can be drawn; else None.
      ax: axes to draw on; None for new ones.

    Raises:
      ModuleNotFoundError: matplotlib is missing.
      ValueError: there are more lines than can be told apart.
    """
    data = means(frame, column, [*others, along])
    lines = groups(data, others)
    if len(lines) > len(LINES):
        raise ValueError(
            f"{len(lines)} lines are more than the {len(LINES)} that can be told apart; choose "
            f"some with where={{{others[-1]!r}: ...}}"
        )
    axes = axes_for(ax)
    handles = {}
    for paint, (name, rows) in zip(LINES, lines, strict=False):
        handles[name] = draw_means(axes, rows, along, paint)
    finish_curve(axes, data[along].dropna().to_numpy(), along, chance_of(column, classes))
    axes.set_ylabel(f"mean {column}", fontsize=11)
    legend_below(axes, handles)
    return axes


def draw_means(
    axes: "Axes", rows: Frame, along: str, paint: tuple[str, str], *, spread: bool = False
) -> "Artist":
    """Draws means with their intervals; one without a number along the axis is a level line.

    Args:
      axes: to draw on.
      rows: of `means`.
      along: the column of the axis.
      paint: colour and dash.
      spread: whether to draw quantiles of single trials, lighter.
    """
    colour, dash = paint
    artist = None
    for level in rows["mean"][rows[along].isna()]:
        artist = axes.axhline(level, color=colour, ls=dash, lw=1.8)
    ordered = rows.dropna(subset=[along]).sort_values(along)
    if not ordered.empty:
        x = ordered[along]
        (artist,) = axes.plot(x, ordered["mean"], color=colour, ls=dash, marker="o", ms=4, lw=1.8)
        axes.fill_between(x, ordered["low"], ordered["high"], color=colour, alpha=0.3, lw=0)
        if spread:
            axes.fill_between(x, ordered["q05"], ordered["q95"], color=colour, alpha=0.12, lw=0)
    assert artist is not None  # rows of a group are never none
    return artist


def finish_curve(
    axes: "Axes", values: np.ndarray, along: str, chance: float | None, *, whole: bool = False
) -> None:
    """Says what the axis of curves is, and scales it as its numbers ask for.

    Args:
      axes: that hold the curves.
      values: numbers of the axis.
      along: what it is called.
      chance: what knowing nothing scores, or None.
      whole: whether only whole numbers mean something, as along layers.
    """
    whole = whole or along == LAYER
    axes.set_xlabel(along, fontsize=11)
    if not whole and values.size and values.min() > 0 and values.max() / values.min() > _WIDE:
        axes.set_xscale("log")
    if whole:
        ticker = require("matplotlib.ticker", "plot")
        axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
    if chance is not None:
        axes.axhline(chance, **CHANCE)
    axes.grid(axis="y", lw=0.4, alpha=0.5)
    open_axes(axes)
