"""Pictures from arrays: scatter plots with erasers and boundaries, and histograms of scores.

Every function returns a `matplotlib.figure.Figure` that belongs to nobody: no pyplot, no global
state, no display. `save` writes one as PNG. Colours are those of Okabe and Ito, which colour-blind
readers can tell apart; classes also differ in marker, lines in dash.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

from erasejax._core.extras import require

__all__ = ["COLOURS", "LINES", "blank", "boundaries", "histograms", "save", "scatter_3d"]

COLOURS = {
    "black": "#000000",
    "orange": "#E69F00",
    "sky": "#56B4E9",
    "green": "#009E73",
    "yellow": "#F0E442",
    "blue": "#0072B2",
    "red": "#D55E00",
    "pink": "#CC79A7",
}
_CLASSES = ((COLOURS["blue"], "o"), (COLOURS["red"], "^"))
_LINES = (  # colour, dash, width and height in the pile: some lie on one another
    (COLOURS["sky"], "-", 7.0, 3.0),
    (COLOURS["black"], (0, (5, 4)), 1.5, 3.3),
    (COLOURS["green"], "-.", 2.0, 3.2),
    (COLOURS["pink"], "-", 2.8, 3.1),
    (COLOURS["orange"], (0, (1, 1)), 2.8, 3.4),
)
LINES = (  # colour and dash of lines side by side
    (COLOURS["black"], "-"),
    (COLOURS["blue"], "-"),
    (COLOURS["red"], "--"),
    (COLOURS["green"], "-."),
    (COLOURS["pink"], ":"),
    (COLOURS["sky"], "-"),
    (COLOURS["orange"], "--"),
    (COLOURS["black"], ":"),
    (COLOURS["blue"], ":"),
    (COLOURS["red"], "-."),
)
_DPI = 160


def scatter_3d(
    panels: Sequence[tuple[str, np.ndarray]],
    labels: np.ndarray,
    *,
    center: np.ndarray,
    normal: np.ndarray,
    classes: Sequence[str] = ("class 0", "class 1"),
    columns: Sequence[str] = ("column 0", "column 1", "column 2"),
) -> "Figure":
    """Draws rows before and after a projection along `normal`, side by side on the same axes.

    The first panel has an arrow along the normal, the last the plane that the rows lie in.

    Args:
      panels: title and (n, 3) rows of each panel.
      labels: (n,) 0 or 1.
      center: (3,) a point of the plane.
      normal: (3,) unit vector.
      classes: names of labels 0 and 1.
      columns: names of the axes.

    Returns:
      A figure.
    """
    figure = blank(10, 5.5)
    rows = np.concatenate([x for _, x in panels])
    low, high = rows.min(axis=0), rows.max(axis=0)
    pad = 0.06 * (high - low)
    for i, (title, x) in enumerate(panels):
        axes: Any = figure.add_subplot(
            1, len(panels), i + 1, projection="3d", computed_zorder=False
        )
        if i == len(panels) - 1:
            _plane_patch(axes, center, normal, low - pad, high + pad)
        for label, (colour, marker) in enumerate(_CLASSES):
            axes.scatter(
                *x[labels == label].T,
                c=colour,
                marker=marker,
                s=20,
                alpha=0.75,
                linewidths=0.3,
                edgecolors="white",
                depthshade=False,
                label=classes[label],
                zorder=3,
            )
        if i == 0:
            tail, arrow = center - 0.9 * normal, 1.8 * normal
            axes.quiver(
                *tail, *arrow, color="black", linewidth=2.2, arrow_length_ratio=0.14, zorder=5
            )
            axes.text(
                *(tail + 0.4 * arrow + [0, 0, 0.09 * (high[2] - low[2])]),
                "u",
                fontsize=14,
                fontweight="bold",
                ha="center",
                va="center",
                zorder=6,
                bbox={"boxstyle": "circle,pad=0.15", "facecolor": "white", "alpha": 0.85, "lw": 0},
            )
        axes.set(
            xlim=(low[0] - pad[0], high[0] + pad[0]),
            ylim=(low[1] - pad[1], high[1] + pad[1]),
            zlim=(low[2] - pad[2], high[2] + pad[2]),
        )
        axes.set_xlabel(columns[0], fontsize=11, labelpad=4)
        axes.set_ylabel(columns[1], fontsize=11, labelpad=4)
        axes.set_zlabel(columns[2], fontsize=11, labelpad=2)
        axes.tick_params(labelsize=9, pad=1)
        axes.locator_params(nbins=5)
        axes.set_title(title, fontsize=13, y=0.99)
        axes.view_init(elev=18, azim=-12)
        axes.set_box_aspect((1, 1, 1), zoom=1.04)
    figure.subplots_adjust(left=-0.01, right=0.96, bottom=0.13, top=0.93, wspace=0.06)
    handles, names = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="lower center", ncols=2, fontsize=12, frameon=False)
    return figure


def _plane_patch(axes: Any, center, normal, low, high) -> None:
    """Adds the part of a plane that lies in a box, for a normal mostly along the first two axes."""
    from mpl_toolkits.mplot3d.art3d import Poly3DCollection

    along = np.array([-normal[1], normal[0], 0.0])
    along /= np.linalg.norm(along)
    up = np.cross(normal, along)
    corners = []
    for z in (low[2], high[2]):
        foot = center + (z - center[2]) / up[2] * up
        with np.errstate(divide="ignore"):
            reach = np.stack([(low[:2] - foot[:2]) / along[:2], (high[:2] - foot[:2]) / along[:2]])
        ends = np.sort(reach, axis=0)
        corners.append((foot + ends[0].max() * along, foot + ends[1].min() * along))
    corners = [corners[0][0], corners[0][1], corners[1][1], corners[1][0]]
    patch = Poly3DCollection(
        [np.array(corners)], facecolor="#888888", edgecolor="#555555", alpha=0.16, zorder=1
    )
    axes.add_collection3d(patch)


def boundaries(
    before: np.ndarray,
    after: np.ndarray,
    labels: np.ndarray,
    *,
    direction: np.ndarray,
    lines_before: Mapping[str, tuple[np.ndarray, float, float]],
    lines_after: Mapping[str, tuple[np.ndarray, float, float]],
    notes: tuple[str, str],
    legend_title: str,
    classes: Sequence[str] = ("class 0", "class 1"),
    columns: Sequence[str] = ("column 0", "column 1"),
    jitter: float = 0.055,
) -> "Figure":
    """Draws rows of two columns before and after an erasure, with the boundaries of probes.

    A third panel counts the rows along the line that is left after it.

    Args:
      before: (n, 2).
      after: (n, 2), on a line.
      labels: (n,) 0 or 1.
      direction: (2,) unit vector that was projected out.
      lines_before: name to (weight (2,), bias, accuracy) of each probe: the boundary is where
        weight . x + bias = 0.
      lines_after: the same; probes of weight zero have no boundary.
      notes: what to say in a corner of each of the first two panels.
      legend_title: what the accuracies in the legend are.
      classes: names of labels 0 and 1.
      columns: names of the axes.
      jitter: standard deviation of the noise added to what is drawn, so that rows on the same place
        can be seen.

    Returns:
      A figure.
    """
    figure = blank(12, 5.3)
    grid = figure.add_gridspec(
        1, 3, left=0.055, right=0.99, top=0.89, bottom=0.30, wspace=0.2, width_ratios=(1, 1, 1.05)
    )
    noise = np.random.default_rng(0).uniform(-1.7, 1.7, before.shape) * jitter
    styles = dict(zip(lines_before, _LINES, strict=False))
    span = np.array([-1.5, 1.5]) * max(1.0, np.abs(before).max())
    handles: dict[str, Any] = {}
    for i, (title, x, lines) in enumerate((
        ("Before", before, lines_before),
        ("After the projection", after, lines_after),
    )):
        axes: Any = figure.add_subplot(grid[i])
        for label, (colour, marker) in enumerate(_CLASSES):
            pick = labels == label
            handles[classes[label]] = axes.scatter(
                *(x + noise)[pick].T, c=colour, marker=marker, s=22, alpha=0.6, linewidths=0
            )
        for name, (weight, bias, _) in lines.items():
            if not np.any(weight):
                continue
            colour, dash, width, height = styles[name]
            foot = -bias * weight / (weight @ weight)
            along = np.array([-weight[1], weight[0]]) / np.linalg.norm(weight)
            ends = foot + np.outer([-9, 9], along)
            (handles[name],) = axes.plot(*ends.T, color=colour, ls=dash, lw=width, zorder=height)
        axes.set(xlim=span, ylim=span, aspect="equal")
        axes.set_xlabel(columns[0], fontsize=12)
        axes.set_ylabel(columns[1], fontsize=12, labelpad=0)
        axes.set_title(title, fontsize=13)
        axes.text(
            0.03,
            (0.03, 0.97)[i],
            notes[i],
            transform=axes.transAxes,
            fontsize=10.5,
            va=("bottom", "top")[i],
        )
    _along_the_line(figure.add_subplot(grid[2]), after, labels, direction, lines_after, classes)
    for name, (_, _, accuracy) in lines_before.items():
        handles[f"{name}: {accuracy:.3f} before, {lines_after[name][2]:.3f} after"] = handles.pop(
            name
        )
    figure.legend(
        handles.values(),
        handles.keys(),
        title=legend_title,
        loc="lower center",
        ncols=3,
        fontsize=11,
        title_fontsize=11,
        frameon=False,
    )
    return figure


def _along_the_line(axes: Any, after, labels, direction, lines, classes) -> None:
    along = np.array([direction[1], -direction[0]])
    place = after @ along
    edges = np.linspace(place.min() - 0.04, place.max() + 0.04, 49)
    middle, width = (edges[1:] + edges[:-1]) / 2, edges[1] - edges[0]
    peak = 0.0
    for label, sign in ((1, 1), (0, -1)):
        count = np.histogram(place[labels == label], edges)[0]
        peak = max(peak, count.max())
        axes.bar(middle, sign * count, width, color=_CLASSES[label][0], linewidth=0)
        axes.text(
            0.99,
            0.97 if sign > 0 else 0.03,
            classes[label],
            transform=axes.transAxes,
            ha="right",
            va="top" if sign > 0 else "bottom",
            color=_CLASSES[label][0],
            fontsize=12,
            fontweight="bold",
        )
    axes.axhline(0, color="black", lw=0.8)
    mean = place[labels == 0].mean()
    axes.axvline(mean, color="black", lw=1.2)
    axes.text(mean, 1.2 * peak, "both means ", fontsize=10.5, ha="right", va="center")
    for i, (weight, bias, _) in enumerate(lines.values()):
        if np.any(weight):
            colour, dash, thick, _ = _LINES[i]
            cut = -bias / (weight @ along)
            axes.axvline(cut, color=colour, ls=dash, lw=thick)
    axes.set_ylim(-1.3 * peak, 1.3 * peak)
    axes.yaxis.set_major_formatter(lambda value, _: f"{abs(value):.0f}")
    axes.set_xlabel("place along the line that is left", fontsize=12)
    axes.set_ylabel("rows", fontsize=12, labelpad=1)
    axes.set_title("After, along that line", fontsize=13)
    _open(axes)


def histograms(
    columns: Mapping[str, Mapping[str, np.ndarray]],
    *,
    null: Mapping[str, Mapping[str, np.ndarray]],
    null_name: str,
    label: str = "accuracy",
    chance: float = 0.5,
    width: float = 0.01,
) -> "Figure":
    """Draws histograms of a score over datasets, one row of panels an eraser.

    Args:
      columns: title of each column of panels, to name of each row, to (datasets,) scores.
      null: like `columns`, where there is a null distribution to draw over the scores.
      null_name: what to call it.
      label: of the horizontal axis.
      chance: where to draw the line of knowing nothing.
      width: of a bin, so that scores which are multiples of half of it do not beat.

    Returns:
      A figure.
    """
    names = list(next(iter(columns.values())))
    figure = blank(10, 1.6 * len(names) + 1.6)
    grid: Any = figure.subplots(len(names), len(columns), sharex=True, squeeze=False)
    values = np.concatenate([v for column in columns.values() for v in column.values()])
    low = np.floor(min(values.min(), chance) / width) * width - 2.25 * width
    edges = np.arange(low, 1 + 2 * width, width)
    for j, (title, column) in enumerate(columns.items()):
        for i, name in enumerate(names):
            axes, scores = grid[i, j], column[name]
            share = np.histogram(scores, edges)[0] / len(scores)
            axes.stairs(share, edges, fill=True, color=COLOURS["blue"])
            spread = scores.std()
            text = f"mean {scores.mean():.4f}, sd {spread:.4f}"
            if spread == 0:
                text = f"all exactly {scores[0]:.4f}"
            if name in null.get(title, {}):
                other = null[title][name]
                count = np.histogram(other, edges)[0] / len(other)
                used = slice(count.nonzero()[0][0], count.nonzero()[0][-1] + 1)
                cut = edges[used.start : used.stop + 1]
                axes.stairs(count[used], cut, color=COLOURS["red"], linewidth=1.8)
                text += f"; null {other.mean():.4f}"
            axes.axvline(chance, color="black", lw=1, ls=(0, (4, 3)))
            axes.set_ylim(0, 1.08 * axes.dataLim.ymax)
            axes.text(1, 1.02, text, transform=axes.transAxes, ha="right", fontsize=10)
            _open(axes)
            axes.tick_params(labelsize=10)
            axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g}%")
            axes.locator_params(axis="y", nbins=4)
            if i == 0:
                axes.set_title(title, fontsize=12, pad=22)
            if j == 0:
                axes.set_ylabel(_two_lines(name), fontsize=12, fontweight="bold")
            if i == len(names) - 1:
                axes.set_xlabel(label, fontsize=12)
    figure.subplots_adjust(left=0.115, right=0.985, top=0.885, bottom=0.125, hspace=0.3, wspace=0.2)
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    figure.legend(
        [
            Patch(color=COLOURS["blue"]),
            Line2D([], [], color=COLOURS["red"], linewidth=1.8),
            Line2D([], [], color="black", lw=1, ls=(0, (4, 3))),
        ],
        ["share of the datasets", null_name, f"chance, {chance:g}"],
        loc="lower center",
        ncols=3,
        fontsize=11,
        frameon=False,
    )
    return figure


def save(figure: "Figure", path: str | Path) -> None:
    """Writes a figure as PNG.

    Args:
      figure: from a function of this module.
      path: of the file; overwritten if there.
    """
    figure.savefig(path, format="png", dpi=_DPI, facecolor="white")


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


def _two_lines(text: str) -> str:
    """Returns a name broken at the space nearest its middle."""
    spaces = [i for i, letter in enumerate(text) if letter == " "]
    if not spaces:
        return text
    at = min(spaces, key=lambda i: abs(2 * i - len(text)))
    return f"{text[:at]}\n{text[at + 1 :]}"


def _open(axes: Any) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
