"""What all pictures share.

A picture is a `matplotlib.figure.Figure` that belongs to nobody: no pyplot, no global state, no
display.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from erasejax._core.extras import require

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["axes_for", "blank", "legend", "legend_below", "open_axes", "save"]

_DPI = 160


def blank(width: float, height: float) -> "Figure":
    """Returns an empty figure.

    Args:
      width: in inches.
      height: in inches.

    Raises:
      ModuleNotFoundError: matplotlib is missing.
    """
    figure = require("matplotlib.figure", "plot").Figure(figsize=(width, height))
    require("matplotlib.backends.backend_agg", "plot").FigureCanvasAgg(figure)
    return figure


def open_axes(axes: "Axes") -> None:
    """Takes the upper and the right line of a frame away."""
    axes.spines[["top", "right"]].set_visible(False)


def legend(
    figure: "Figure", handles: Mapping[str, "Artist"], columns: int, title: str = ""
) -> None:
    """Says below the panels what is what.

    Args:
      figure: with room below its panels.
      handles: what is drawn, by name.
      columns: how many names stand side by side.
      title: above the names.
    """
    options: dict[str, Any] = {"fontsize": 11, "title_fontsize": 11, "frameon": False}
    figure.legend(
        handles.values(),
        handles.keys(),
        title=title or None,
        loc="lower center",
        ncols=columns,
        **options,
    )


def save(figure: "Figure", path: str | Path | IO[bytes], kind: str = "png") -> None:
    """Writes a figure, on white.

    Args:
      figure: what to write.
      path: of the file, overwritten if there, or an open file.
      kind: png or svg.
    """
    figure.savefig(path, format=kind, dpi=_DPI, facecolor="white")


def axes_for(ax: "Axes | None", width: float = 5, height: float = 3.8) -> "Axes":
    """Returns axes to draw on: those given, or new ones that a notebook shows by themselves.

    Args:
      ax: matplotlib axes, or None.
      width: of a new figure in inches.
      height: of a new figure in inches.

    Raises:
      ModuleNotFoundError: matplotlib is missing.
    """
    if ax is not None:
        return ax
    figure = blank(width, height)
    figure.set_layout_engine("constrained")
    from erasejax.plot._axes import ShownAxes  # which needs matplotlib

    return figure.add_subplot(axes_class=ShownAxes)


def legend_below(axes: "Axes", handles: Mapping[str, "Artist"], columns: int = 2) -> None:
    """Says below axes, and below their label, what is what.

    Args:
      axes: of a figure whose layout leaves room for it.
      handles: what is drawn, by name; those without a name are left out.
      columns: how many names stand side by side.
    """
    named = {name: handle for name, handle in handles.items() if name}
    if named:
        axes.legend(
            named.values(),
            named.keys(),
            loc="upper center",
            bbox_to_anchor=(0.5, -0.2),
            ncols=columns,
            frameon=False,
            fontsize=10,
        )
