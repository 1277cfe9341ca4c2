"""Heat maps of means over seeds, with a line round the cells that stand out."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure

from erasejax.plot import COLOURS

__all__ = ["apart", "heat_maps", "means"]

_WIDTH = 6.0  # inches: letters of 11 points are 10 pixels high where the picture is 400 wide
_TICKS = (1, 2, 5, 10, 20, 50, 100, 200)  # of logarithmic colours


def means(frame: pd.DataFrame, column: str, down: str, along: str) -> tuple[pd.DataFrame, ...]:
    """Returns the means over the seeds and half of their 95% intervals, `down` by `along`."""
    found = frame.groupby([down, along], sort=True)[column].agg(["mean", "sem"])
    return found["mean"].unstack(along), 1.96 * found["sem"].unstack(along)


def apart(mean: pd.DataFrame, half: pd.DataFrame, value: float) -> np.ndarray:
    """Returns where a mean is above a value by more than half its interval."""
    return (mean - value > half).to_numpy()


def heat_maps(
    panels: Mapping[str, pd.DataFrame],
    *,
    along: str,
    down: str,
    label: str,
    lines: Sequence[np.ndarray | None] = (),
    limits: tuple[float, float] | None = None,
    logarithmic: bool = False,
    digits: str = ".2f",
    height: float = 0.36,
) -> Figure:
    """Returns panels below each other, in one colour scale.

    Args:
      panels: tables of what is drawn, by title; indices are what the ticks say.
      along: name of the axis of the columns.
      down: name of the axis of the rows.
      label: of the colours.
      lines: of each panel, which cells a line goes round; None or none at all for no line.
      limits: of the colours; None for the least and the largest value.
      logarithmic: whether colours are.
      digits: format of the numbers in the cells.
      height: of a row, inches.
    """
    values = np.concatenate([table.to_numpy().ravel() for table in panels.values()])
    low, high = limits or (np.nanmin(values), np.nanmax(values))
    norm = LogNorm(low, high) if logarithmic else Normalize(low, high)
    sizes = [len(table) for table in panels.values()]
    inches = sum(size * height + 0.95 for size in sizes) + 0.6
    figure = Figure(figsize=(_WIDTH, inches), layout="constrained")
    every = np.atleast_1d(figure.subplots(len(panels), 1, height_ratios=sizes))
    image = None
    for i, (axes, (title, table)) in enumerate(zip(every, panels.items(), strict=True)):
        image = axes.imshow(
            table.to_numpy(), norm=norm, origin="lower", aspect="auto", cmap="cividis"
        )
        axes.set_xticks(range(table.shape[1]), [str(v) for v in table.columns], fontsize=11)
        axes.set_yticks(range(table.shape[0]), [str(v) for v in table.index], fontsize=11)
        for (row, column), value in np.ndenumerate(table.to_numpy()):
            colour = "white" if norm(value) < 0.5 else "black"
            said = f"{value:{digits}}"
            axes.text(column, row, said, ha="center", va="center", fontsize=10.5, color=colour)
        if i < len(lines) and lines[i] is not None:
            outline(axes, np.asarray(lines[i]))
        axes.set_title(title, fontsize=12, loc="left")
        axes.set_ylabel(down, fontsize=11)
    every[-1].set_xlabel(along, fontsize=11)
    assert image is not None
    bar = figure.colorbar(image, ax=every, location="bottom", shrink=0.8, aspect=30, pad=0.02)
    if logarithmic:
        bar.set_ticks([tick for tick in _TICKS if low <= tick <= high])
        bar.ax.xaxis.set_major_formatter("{x:g}")
        bar.ax.minorticks_off()
    bar.set_label(label, fontsize=11)
    return figure


def outline(axes: Axes, inside: np.ndarray) -> None:
    """Draws a line between cells that are inside and cells that are not."""
    edges = []
    for i, j in zip(*np.nonzero(inside[1:] != inside[:-1]), strict=True):
        edges.append(([j - 0.5, j + 0.5], [i + 0.5, i + 0.5]))
    for i, j in zip(*np.nonzero(inside[:, 1:] != inside[:, :-1]), strict=True):
        edges.append(([j + 0.5, j + 0.5], [i - 0.5, i + 0.5]))
    for x, y in edges:
        axes.plot(x, y, color="white", lw=5, solid_capstyle="round")
    for x, y in edges:
        axes.plot(x, y, color=COLOURS["red"], lw=2.5, solid_capstyle="round")
