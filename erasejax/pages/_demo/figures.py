"""The pictures of the experiment: one dataset, and the histograms over all."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from erasejax.pages._demo.example import Example
from erasejax.pages._demo.runs import DATA, ERASERS, PROBES, PROTOCOLS, Results
from erasejax.plot import CHANCE, COLOURS, blank, legend, open_axes, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from mpl_toolkits.mplot3d import Axes3D

__all__ = ["pictures"]

_CLASSES = (  # name, colour and marker
    ("negative class", COLOURS["blue"], "o"),
    ("positive class", COLOURS["red"], "^"),
)
_BOUNDARIES = (  # colour, dash, width and height in the pile: some lie on one another
    (COLOURS["sky"], "-", 7.0, 3.0),
    (COLOURS["black"], (0, (5, 4)), 1.5, 3.3),
    (COLOURS["green"], "-.", 2.0, 3.2),
    (COLOURS["pink"], "-", 2.8, 3.1),
    (COLOURS["orange"], (0, (1, 1)), 2.8, 3.4),
)
_JITTER = 0.055  # standard deviation of the noise added to rows that lie on one another
_BIN = 0.01  # of accuracy: of 200 rows all are multiples of half of it, so bins do not beat


def pictures(example: Example, results: Results, folder: Path) -> None:
    """Writes the pictures that the page shows."""
    save(_before_after(example), folder / "before_after_3d.png")
    save(_boundaries(example), folder / "boundaries.png")
    save(_accuracy(results), folder / "accuracy.png")


def _before_after(example: Example) -> "Figure":
    """Draws rows before and after the projection, side by side on the same axes.

    The first panel has an arrow along the direction, the last the plane that the rows lie in.
    """
    figure = blank(10, 5.5)
    panels = {
        "Before: u joins the two class means": example.x,
        "After x \u2212 ((x \u2212 mean)\u00b7u) u: a plane is left": example.erased,
    }
    rows = np.concatenate(list(panels.values()))
    pad = 0.06 * np.ptp(rows, axis=0)
    low, high = rows.min(axis=0) - pad, rows.max(axis=0) + pad
    handles = {}
    places: list[Any] = [
        figure.add_subplot(1, 2, i, projection="3d", computed_zorder=False) for i in (1, 2)
    ]
    _arrow(places[0], example.center, example.direction, lift=0.08 * (high[2] - low[2]))
    _plane(places[1], example.center, example.direction, low, high)
    for axes, (title, x) in zip(places, panels.items(), strict=True):
        for label, (name, colour, marker) in enumerate(_CLASSES):
            handles[name] = axes.scatter(
                *x[example.z == label].T,
                c=colour,
                marker=marker,
                s=20,
                alpha=0.75,
                linewidths=0.3,
                edgecolors="white",
                depthshade=False,
                zorder=3,
            )
        axes.set(**{f"{name}lim": ends for name, *ends in zip("xyz", low, high, strict=True)})
        axes.set_xlabel("column 0", fontsize=11, labelpad=4)
        axes.set_ylabel("column 1", fontsize=11, labelpad=4)
        axes.set_zlabel("column 2 (noise)", fontsize=11, labelpad=2)
        axes.tick_params(labelsize=9, pad=1)
        axes.locator_params(nbins=5)
        axes.set_title(title, fontsize=13, y=0.99)
        axes.view_init(elev=18, azim=-12)
        axes.set_box_aspect((1, 1, 1), zoom=1.04)
    figure.subplots_adjust(left=-0.01, right=0.96, bottom=0.13, top=0.93, wspace=0.06)
    legend(figure, handles, columns=2)
    return figure


def _arrow(axes: Any, center: np.ndarray, normal: np.ndarray, lift: float) -> None:
    """Adds the direction u, with its name above it."""
    tail, arrow = center - 0.9 * normal, 1.8 * normal
    axes.quiver(*tail, *arrow, color="black", linewidth=2.2, arrow_length_ratio=0.14, zorder=5)
    axes.text(
        *(tail + 0.4 * arrow + [0, 0, lift]),
        "u",
        fontsize=14,
        fontweight="bold",
        ha="center",
        va="center",
        zorder=6,
        bbox={"boxstyle": "circle,pad=0.15", "facecolor": "white", "alpha": 0.85, "lw": 0},
    )


def _plane(axes: "Axes3D", center, normal, low, high) -> None:
    """Adds the part of a plane that lies in a box, for a normal mostly along the first two axes."""
    from mpl_toolkits.mplot3d.art3d import Poly3DCollection

    along = np.array([-normal[1], normal[0], 0.0])
    along /= np.linalg.norm(along)
    up = np.cross(normal, along)
    corners = []
    for z, order in ((low[2], 1), (high[2], -1)):  # around the patch
        foot = center + (z - center[2]) / up[2] * up
        with np.errstate(divide="ignore"):
            reach = np.stack([(low[:2] - foot[:2]) / along[:2], (high[:2] - foot[:2]) / along[:2]])
        ends = np.sort(reach, axis=0)
        corners += [foot + ends[0].max() * along, foot + ends[1].min() * along][::order]
    axes.add_collection3d(
        Poly3DCollection(
            [np.array(corners)], facecolor="#888888", edgecolor="#555555", alpha=0.16, zorder=1
        )
    )


def _boundaries(example: Example) -> "Figure":
    """Draws the informative columns before and after the projection, with every probe's boundary.

    The boundary is where weight . x + bias = 0; a probe of weight zero has none. A third panel
    counts the rows along the line that is left.
    """
    figure = blank(12, 5.3)
    grid = figure.add_gridspec(
        1, 3, left=0.055, right=0.99, top=0.89, bottom=0.30, wspace=0.2, width_ratios=(1, 1, 1.05)
    )
    noise = np.random.default_rng(0).uniform(-1.7, 1.7, example.plane[0].shape) * _JITTER
    rows, lines = {}, {}
    notes = (
        ("Before", "drawn with jitter: 25 places", 0.03, "bottom"),
        (
            "After the projection",
            "The four convex probes have\nzero weights: no boundary",
            0.97,
            "top",
        ),
    )
    for i, (title, note, height, side) in enumerate(notes):
        axes = figure.add_subplot(grid[i])
        for label, (name, colour, marker) in enumerate(_CLASSES):
            x = (example.plane[i] + noise)[example.z == label]
            rows[name] = axes.scatter(*x.T, c=colour, marker=marker, s=22, alpha=0.6, linewidths=0)
        for k, (colour, dash, width, pile) in enumerate(_BOUNDARIES):
            weight, bias = example.weight[i, k], example.bias[i, k]
            if np.any(weight):
                foot = -bias * weight / (weight @ weight)
                along = np.array([-weight[1], weight[0]]) / np.linalg.norm(weight)
                ends = foot + np.outer([-9, 9], along)
                (line,) = axes.plot(*ends.T, color=colour, ls=dash, lw=width, zorder=pile)
                lines.setdefault(k, line)
        axes.set(xlim=(-1.5, 1.5), ylim=(-1.5, 1.5), aspect="equal")
        axes.set_xlabel("column 0", fontsize=12)
        axes.set_ylabel("column 1", fontsize=12, labelpad=0)
        axes.set_title(title, fontsize=13)
        axes.text(0.03, height, note, transform=axes.transAxes, fontsize=10.5, va=side)
    _along_the_line(figure.add_subplot(grid[2]), example)
    before, after = example.accuracy
    names = (*PROBES, "ZeroOne")
    named = {
        f"{names[k]}: {before[k]:.3f} before, {after[k]:.3f} after": line
        for k, line in lines.items()
    }
    title = "Accuracy on the fitting rows of this dataset, and the boundary:"
    legend(figure, rows | named, columns=3, title=title)
    return figure


def _along_the_line(axes: "Axes", example: Example) -> None:
    """Draws how many rows of each class lie where on the line that is left."""
    along = np.array([example.plane_direction[1], -example.plane_direction[0]])
    place = example.plane[1] @ along
    edges = np.linspace(place.min() - 0.04, place.max() + 0.04, 49)
    counts = [np.histogram(place[example.z == label], edges)[0] for label in (0, 1)]
    peak = max(count.max() for count in counts)
    corners = ((-1, 0.03, "bottom"), (1, 0.97, "top"))
    for (name, colour, _), count, (sign, height, side) in zip(
        _CLASSES, counts, corners, strict=True
    ):
        axes.bar(edges[:-1], sign * count, np.diff(edges), align="edge", color=colour, linewidth=0)
        axes.text(
            0.99,
            height,
            name,
            transform=axes.transAxes,
            ha="right",
            va=side,
            color=colour,
            fontsize=12,
            fontweight="bold",
        )
    axes.axhline(0, color="black", lw=0.8)
    mean = place[example.z == 0].mean()
    axes.axvline(mean, color="black", lw=1.2)
    axes.text(mean, 1.2 * peak, "both means ", fontsize=10.5, ha="right", va="center")
    for weight, bias, (colour, dash, width, _) in zip(
        example.weight[1], example.bias[1], _BOUNDARIES, strict=True
    ):
        if np.any(weight):
            axes.axvline(-bias / (weight @ along), color=colour, ls=dash, lw=width)
    axes.set_ylim(-1.3 * peak, 1.3 * peak)
    axes.yaxis.set_major_formatter(lambda value, _: f"{abs(value):.0f}")
    axes.set_xlabel("place along the line that is left", fontsize=12)
    axes.set_ylabel("rows", fontsize=12, labelpad=1)
    axes.set_title("After, along that line", fontsize=13)
    open_axes(axes)


def _accuracy(results: Results) -> "Figure":
    """Draws histograms of accuracy over the raw datasets, a row of panels an eraser."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    raw = DATA.index("raw")
    logistic = results.convex["accuracy"][:, raw, :, :, PROBES.index("Logistic")]
    best = results.zero_one["accuracy"][:, raw]
    columns: dict[str, tuple[np.ndarray, np.ndarray | None]] = {
        f"Logistic, {protocol}\n{len(logistic):,} datasets": (logistic[:, :, k], None)
        for k, protocol in enumerate(PROTOCOLS)
    }
    columns[f"ZeroOne, {PROTOCOLS[0]}\n{len(best):,} datasets"] = best[:, :, 0], best[:, :, 2]
    figure = blank(10, 1.6 * len(ERASERS) + 1.6)
    grid: np.ndarray = figure.subplots(len(ERASERS), len(columns), sharex=True)
    least = min(0.5, *(float(found.min()) for found, _ in columns.values()))
    edges = np.arange(np.floor(least / _BIN) * _BIN - 2.25 * _BIN, 1 + 2 * _BIN, _BIN)
    for j, (title, (found, null)) in enumerate(columns.items()):
        grid[0, j].set_title(title, fontsize=12, pad=22)
        grid[-1, j].set_xlabel("accuracy", fontsize=12)
        for i, axes in enumerate(grid[:, j]):
            _histogram(axes, found[:, i], None if null is None else null[:, i], edges)
    for axes, name in zip(grid[:, 0], ERASERS, strict=True):
        axes.set_ylabel(name.replace(" ", "\n", 1), fontsize=12, fontweight="bold")
    figure.subplots_adjust(left=0.115, right=0.985, top=0.885, bottom=0.125, hspace=0.3, wspace=0.2)
    handles = {
        "share of the datasets": Patch(color=COLOURS["blue"]),
        "ZeroOne with permuted labels": Line2D([], [], color=COLOURS["red"], linewidth=1.8),
        "chance, 0.5": Line2D([], [], **CHANCE),
    }
    legend(figure, handles, columns=3)
    return figure


def _histogram(
    axes: "Axes", scores: np.ndarray, null: np.ndarray | None, edges: np.ndarray
) -> None:
    """Draws scores, over them the outline of their null, and says their mean and spread."""
    axes.stairs(_share(scores, edges), edges, fill=True, color=COLOURS["blue"])
    spread = scores.std()
    text = f"mean {scores.mean():.4f}, sd {spread:.4f}"
    if spread == 0:
        text = f"all exactly {scores[0]:.4f}"
    if null is not None:
        share = _share(null, edges)
        used = share.nonzero()[0]
        first, end = used[0], used[-1] + 1
        axes.stairs(share[first:end], edges[first : end + 1], color=COLOURS["red"], linewidth=1.8)
        text += f"; null {null.mean():.4f}"
    axes.axvline(0.5, **CHANCE)
    axes.set_ylim(0, 1.08 * axes.dataLim.ymax)
    axes.text(1, 1.02, text, transform=axes.transAxes, ha="right", fontsize=10)
    open_axes(axes)
    axes.tick_params(labelsize=10)
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g}%")
    axes.locator_params(axis="y", nbins=4)


def _share(scores: np.ndarray, edges: np.ndarray) -> np.ndarray:
    return np.histogram(scores, edges)[0] / len(scores)
