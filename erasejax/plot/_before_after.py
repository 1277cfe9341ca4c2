"""Rows before erasing and after, in the plane of two directions."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from erasejax._core.foreign import as_jax_or_numpy
from erasejax._core.types import Given
from erasejax.plot._figure import axes_for, legend_below, open_axes
from erasejax.plot._style import LINES, MARKERS
from erasejax.rows import as_dataset

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

__all__ = ["before_after"]

_CLASSES = LINES[1:]  # black is for lines
_TINY = 1e-5  # of the largest singular value: rounding of float32, not a direction


def before_after(
    x: Given,
    z: Given,
    eraser: Callable[..., Any],
    *,
    directions: Given | None = None,
    most: int = 1000,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draws rows before erasing and after, side by side on one scale.

    The plane is the same in both: that of the two directions in which the class means differ most.
    Where they differ in one only, or the concept is real, the second is the one at right angles in
    which the rows vary most.

    Args:
      x: (n, d) floats, d at least 2.
      z: (n,) class labels, or a real concept.
      eraser: a fitted one, or any function of x; called with x and z where it `needs_z`.
      directions: (2, d) two directions that make the plane, in place of these; they are made
        orthonormal, the first first.
      most: rows to draw; of more a random part, the same in both panels.
      ax: matplotlib axes to draw into, as two panels; None for new ones, of a figure that belongs
        to no pyplot.

    Returns:
      The axes, whose `child_axes` are the panels. `ax.figure.savefig` writes them, and a notebook
      shows new ones.

    Raises:
      ModuleNotFoundError: matplotlib is missing.
      TypeError: x is not floating point.
      ValueError: there are several concepts, fewer than two features, or NaN among the rows; or
        directions are not two.

    Example:
      >>> data = ej.datasets.GaussianClasses(rows=20, dims=3).sample(jax.random.key(0))
      >>> ax = ej.plot.before_after(data.x, data.z, ej.LEACE().fit(data))
      >>> [panel.get_title() for panel in ax.child_axes]
      ['before', 'after']
    """
    data = as_dataset(x, z)
    if data.z.ndim > 1 or data.x.shape[1] < 2:
        raise ValueError(
            f"expected one concept (n,) and two features or more, got z {data.z.shape} and x "
            f"{data.x.shape}"
        )
    labels = np.asarray(data.z)
    before = np.asarray(data.x, np.float64)
    if not np.isfinite(before).all():
        raise ValueError("x: expected finite rows, got NaN or infinity")
    after = eraser(x, z) if getattr(eraser, "needs_z", False) else eraser(x)
    after = np.asarray(as_jax_or_numpy("eraser(x)", after)).astype(np.float64)
    center = before.mean(axis=0)
    if len(labels) > most:
        shown = np.sort(np.random.default_rng(0).choice(len(labels), most, replace=False))
    else:
        shown = np.arange(len(labels))
    if directions is None:
        plane, names = _plane(before - center, labels, shown, classes=data.is_classes)
    else:
        plane, names = _orthonormal(directions, before.shape[1]), ("direction 1", "direction 2")
    outer = axes_for(ax, 6, 3.9)
    outer.set_axis_off()
    panels = [outer.inset_axes((left, 0.0, 0.47, 1.0)) for left in (0.0, 0.53)]
    places = [(rows[shown] - center) @ plane.T for rows in (before, after)]
    handles: dict[str, Artist] = {}
    for axes, title, place in zip(panels, ("before", "after"), places, strict=True):
        handles |= _scatter(axes, place, labels[shown], classes=data.is_classes)
        axes.set_title(title, fontsize=12)
        axes.set_xlabel(names[0], fontsize=11)
        axes.tick_params(labelsize=9)
        open_axes(axes)
    both = np.concatenate(places)
    low, high = np.nanmin(both, axis=0), np.nanmax(both, axis=0)
    pad = 0.05 * np.where(high > low, high - low, 1)
    for axes in panels:
        axes.set(xlim=(low[0] - pad[0], high[0] + pad[0]), ylim=(low[1] - pad[1], high[1] + pad[1]))
    panels[0].set_ylabel(names[1], fontsize=11)
    panels[1].tick_params(labelleft=False)
    legend_below(outer, handles, columns=min(len(handles), 4) or 1)
    return outer


def _scatter(
    axes: "Axes", place: np.ndarray, labels: np.ndarray, *, classes: bool
) -> dict[str, "Artist"]:
    """Draws rows, a colour and a marker a class, or coloured by a real concept."""
    size = 16 if len(place) <= 400 else 8
    if not classes:
        low, high = labels.min(), labels.max()
        points = axes.scatter(*place.T, c=labels, s=size, cmap="cividis", lw=0, alpha=0.8)
        ends = [axes.scatter([], [], color=points.to_rgba(end), s=30) for end in (low, high)]
        return {f"concept {low:.3g}": ends[0], f"{high:.3g}": ends[1]}
    found = {}
    for k in np.unique(labels):
        paint, marker = _CLASSES[k % len(_CLASSES)][0], MARKERS[k % len(MARKERS)]
        options = {"color": paint, "marker": marker, "lw": 0}
        axes.scatter(*place[labels == k].T, s=size, alpha=0.55, **options)
        found[f"class {k}"] = axes.scatter([], [], s=36, **options)
    return found


def _plane(
    x: np.ndarray, labels: np.ndarray, shown: np.ndarray, *, classes: bool
) -> tuple[np.ndarray, tuple[str, str]]:
    """Returns (2, d) orthonormal directions, and what they are called.

    Args:
      x: (n, d) rows about their mean.
      labels: (n,) classes, or a real concept.
      shown: the rows that are drawn.
      classes: whether labels are classes.
    """
    if classes:
        gaps = [x[labels == k].mean(axis=0) * np.sqrt(np.mean(labels == k)) for k in {*labels}]
        first = "difference of the means"
    else:
        gaps = [(labels - labels.mean()) @ x / len(x) / max(labels.std(), np.finfo(float).tiny)]
        first = "covariance with the concept"
    _, size, found = np.linalg.svd(np.stack(gaps), full_matrices=False)
    spread = np.sqrt(np.mean(x**2, axis=0).sum())
    apart = found[: min(2, np.count_nonzero(size > max(_TINY * size[0], _TINY * spread)))]
    rest = x[shown] - x[shown] @ apart.T @ apart
    wide = np.linalg.svd(rest, full_matrices=False)[2][: 2 - len(apart)]
    names = {
        0: ("widest direction", "second widest"),
        1: (first, "widest at right angles"),
        2: ("means: first direction", "means: second direction"),
    }
    return np.concatenate([apart, wide]), names[len(apart)]


def _orthonormal(directions: Given, dims: int) -> np.ndarray:
    """Returns two given directions as an orthonormal pair.

    Raises:
      ValueError: they are not two, or lie on one line.
    """
    given = np.asarray(as_jax_or_numpy("directions", directions)).astype(np.float64)
    if given.shape != (2, dims):
        raise ValueError(f"directions: expected shape (2, {dims}), got {given.shape}")
    q, r = np.linalg.qr(given.T)
    size = np.abs(np.diag(r))
    if size[0] == 0 or size[1] <= _TINY * np.linalg.norm(given[1]):
        raise ValueError("directions: expected two that make a plane, these lie on one line")
    return (q * np.sign(np.diag(r))).T
