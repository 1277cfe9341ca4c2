"""Pictures of numbers before erasing and after: along the layers, or of one set of features."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from erasejax._core.extras import require
from erasejax.plot import CHANCE, LAYER, LINES, blank, layer_numbers, legend, open_axes
from erasejax.readout import Line

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure

__all__ = ["Panel", "curves", "dots"]

_WHEN = ("before", "after")


class Panel(NamedTuple):
    """Numbers of some probes that are drawn together.

    Attributes:
      title: what they are of.
      lines: two for each probe.
      number: gives the number of a line with the ends of its interval, NaN where there is none.
      chance: what knowing nothing scores, or None: then the number is shown from 0 on.
    """

    title: str
    lines: Sequence[Line]
    number: Callable[[Line], tuple[float, float, float]]
    chance: float | None = None


def dots(panels: Sequence[Panel]) -> "Figure":
    """Draws a number a probe and panel, with its interval; two panels stand side by side."""
    probes = list(dict.fromkeys(line.probe for line in panels[0].lines))
    wide = min(len(panels), 2)
    tall = -(-len(panels) // wide)
    figure = blank(10, tall * (0.5 * len(probes) + 1.1) + 0.5)
    grid = figure.subplots(tall, wide, squeeze=False, sharey=True)
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    handles: dict[str, Artist] = {}
    for axes, panel in zip(grid.flat, panels, strict=False):
        axes.margins(x=0.08)
        for line in panel.lines:
            after = _WHEN.index(line.when)
            value, low, high = panel.number(line)
            place = probes.index(line.probe) + (after - 0.5) * 0.34
            paint = LINES[after][0]
            axes.plot([low, high], [place, place], color=paint, lw=2.5, alpha=0.5)
            (handles[line.when],) = axes.plot(
                [value], [place], color=paint, marker="os"[after], ls="", ms=6
            )
        if panel.chance is not None:
            handles["knowing nothing"] = axes.axvline(panel.chance, **CHANCE)
        else:
            axes.set_xlim(left=0)
        axes.set_yticks(range(len(probes)), probes, fontsize=10)
        axes.set_ylim(len(probes) - 0.5, -0.5)
        axes.set_title(panel.title, fontsize=11)
        axes.grid(axis="x", lw=0.4, alpha=0.5)
        open_axes(axes)
    _finish(figure, handles)
    return figure


def curves(panels: Mapping[str, Panel]) -> "Figure":
    """Draws a number along the layers, a panel for each probe.

    Args:
      panels: by the name of the layer, whose title is what the number is called.
    """
    files = list(panels)
    first = panels[files[0]]
    numbers = layer_numbers(files)
    places = [float(numbers.get(file, i)) for i, file in enumerate(files)]
    order = np.argsort(places, kind="stable")
    x = np.asarray(places)[order]
    probes = list(dict.fromkeys(line.probe for line in first.lines))
    wide = min(len(probes), 3)
    tall = -(-len(probes) // wide)
    figure = blank(10, (3.8 if wide == 1 else 3.0) * tall + 0.8)
    grid = figure.subplots(tall, wide, sharey=True, squeeze=False)
    for axes in grid.flat[len(probes) :]:
        axes.set_visible(False)
    handles: dict[str, Artist] = {}
    for axes, probe in zip(grid.flat, probes, strict=False):
        for after, when in enumerate(_WHEN):
            own = [
                panels[files[i]].number(line)
                for i in order
                for line in panels[files[i]].lines
                if (line.probe, line.when) == (probe, when)
            ]
            value, low, high = np.transpose(own)
            paint = LINES[after][0]
            (handles[when],) = axes.plot(x, value, color=paint, marker="os"[after], ms=4, lw=1.8)
            axes.fill_between(x, low, high, color=paint, alpha=0.25, lw=0)
        if first.chance is not None:
            chance = [panels[files[i]].chance for i in order]
            (handles["knowing nothing"],) = axes.plot(x, chance, **CHANCE)
        else:
            axes.set_ylim(bottom=0)
        axes.set_title(probe, fontsize=11)
        axes.grid(axis="y", lw=0.4, alpha=0.5)
        open_axes(axes)
        if numbers:
            axes.set_xlabel(LAYER, fontsize=11)
            ticker = require("matplotlib.ticker", "plot")
            axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
        else:
            axes.set_xticks(x, [files[i] for i in order], rotation=30, ha="right", fontsize=9)
    grid[0, 0].set_ylabel(first.title, fontsize=11)
    _finish(figure, handles)
    return figure


def _finish(figure: "Figure", handles: dict[str, "Artist"]) -> None:
    """Says what is what below the panels, in 0.4 inches of room."""
    legend(figure, handles, columns=3)
    room = 0.4 / figure.get_figheight()
    figure.set_layout_engine("constrained", rect=(0, room, 1, 1 - room), h_pad=0.1)
