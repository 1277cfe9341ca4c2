"""Heat maps of a number of a sweep over two of its axes, with the boundary between two phases."""

from typing import TYPE_CHECKING, Protocol

import numpy as np

from erasejax.plot._figure import axes_for
from erasejax.plot._style import COLOURS
from erasejax.plot._table import Frame, chosen, means

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage

__all__ = ["Tabled", "draw_heat", "heat_map"]

_WRITTEN, _TICKS = 60, 8  # cells whose numbers are written, and numbers along an axis


class Tabled(Protocol):
    """What has a table of trials, as `Sweep` does."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of numbers."""
        ...

    def to_pandas(self) -> Frame:
        """Returns a row a trial."""
        ...


def heat_map(
    sweep: Tabled,
    column: str,
    *,
    along: str,
    across: str,
    where: dict[str, object] | None = None,
    boundary: float | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draws the mean of a number of a sweep over two of its axes.

    Args:
      sweep: the results.
      column: the number, such as "accuracy_fresh".
      along: the axis from left to right, such as "dataset.rows".
      across: the axis from below to above.
      where: the values of other axes, by name; needed of those that have several.
      boundary: the mean at which one phase ends and the other begins: a line between the cells
        above and those below, straight between their middles. None for no line.
      ax: matplotlib axes to draw on; None for new ones, of a figure that belongs to no pyplot.

    Returns:
      The axes. `ax.figure.savefig` writes them, and a notebook shows new ones.

    Raises:
      ModuleNotFoundError: matplotlib is missing.
      ValueError: there is no such column or value, or another axis has several values.

    Example:
      >>> dataset = {"name": "gaussian-classes", "dims": [2, 4], "rows": [5, 9]}
      >>> spec = {"dataset": dataset, "eraser": "identity", "probe": "mean-difference"}
      >>> spec |= {"metrics": "accuracy", "protocols": "fitting", "seeds": 2}
      >>> sweep = ej.sweep.run(spec, out="sweep")
      >>> ax = ej.plot.heat_map(
      ...     sweep, "accuracy_fitting", along="dataset.rows", across="dataset.dims"
      ... )
      >>> ax.images[0].get_array().shape
      (2, 2)
    """
    rows, others = chosen(sweep.to_pandas(), sweep.columns, column, where, drawn=(along, across))
    if others:
        raise ValueError(
            f"where: {', '.join(others)} has several values; choose one, such as "
            f"where={{{others[0]!r}: {rows[others[0]].iloc[0]!r}}}"
        )
    data = means(rows, column, [across, along])
    table = data.pivot_table(index=across, columns=along, values="mean", observed=True)
    axes = axes_for(ax)
    low, high = data["mean"].min(), data["mean"].max()
    image = draw_heat(axes, table, low, high)
    axes.set_xlabel(along, fontsize=11)
    axes.set_ylabel(across, fontsize=11)
    bar = axes.figure.colorbar(image, ax=axes, pad=0.02)
    bar.set_label(f"mean {column}", fontsize=11)
    if boundary is not None and low < boundary < high and min(table.shape) > 1:
        for colour, width in (("white", 4.0), (COLOURS["red"], 2.2)):
            axes.contour(table.to_numpy(), levels=[boundary], colors=[colour], linewidths=width)
            bar.ax.axhline(boundary, color=colour, lw=width)
    return axes


def draw_heat(axes: "Axes", table: Frame, low: float, high: float) -> "AxesImage":
    """Draws a table of numbers, which are written where there are few.

    Args:
      axes: to draw on.
      table: a `pandas.DataFrame`, a row and a column a value of either axis.
      low: the number of the darkest colour.
      high: the number of the lightest.
    """
    values = table.to_numpy()
    image = axes.imshow(values, vmin=low, vmax=high, origin="lower", aspect="auto", cmap="cividis")
    for axis, marks in ((axes.xaxis, table.columns), (axes.yaxis, table.index)):
        step = -(-len(marks) // _TICKS)
        words = [mark if isinstance(mark, str) else f"{mark:g}" for mark in marks]
        axis.set_ticks(range(0, len(marks), step), words[::step], fontsize=9)
    if table.size <= _WRITTEN:
        for (i, j), value in np.ndenumerate(values):
            paint = "white" if value < (low + high) / 2 else "black"
            said = f"{value:.2f}"
            axes.text(j, i, said, fontsize=8, color=paint, ha="center", va="center")
    return image
