"""The figures of docs/claims.md, from the numbers that bench/pages/claims.py measures."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from erasejax.plot import COLOURS, save

__all__ = ["draw"]

BEFORE, AFTER, NULL = COLOURS["blue"], COLOURS["red"], COLOURS["black"]
LINES = (COLOURS["blue"], COLOURS["red"], COLOURS["green"], COLOURS["orange"])
DOTTED = (0, (1, 1.5))


def panels(count: int, height: float, **options: Any) -> tuple[Figure, Any]:
    figure = Figure(figsize=(9, height), layout="constrained")
    axes = np.ravel(figure.subplots(1, count, **options))
    for one in axes:
        one.spines[["top", "right"]].set_visible(False)
        one.tick_params(labelsize=11)
    return figure, axes


def title(axes: Any, text: str) -> None:
    axes.set_title(text, fontsize=12.5, loc="left")


def chance(axes: Any, value: float = 0.5, *, vertical: bool = True) -> None:
    line = axes.axvline if vertical else axes.axhline
    line(value, color=COLOURS["black"], lw=1, ls=DOTTED, zorder=0)


def probes(found: Mapping) -> Figure:
    figure, axes = panels(2, 3.3, sharey=True)
    names = ["logistic", "LDA", "least squares", "nearest mean", "0-1 threshold"]
    for one, (key, text) in zip(
        axes,
        {"discrete": "(a, b) the experiment's data", "skewed": "(b) skewed classes"}.items(),
        strict=True,
    ):
        for row, name in enumerate(names):
            before, after = found[key][name]
            one.plot([before, after], [row, row], color="#bbbbbb", lw=2, zorder=1)
            one.plot(before, row, "o", ms=10, mfc="white", mew=2, color=BEFORE, label="before")
            one.plot(
                after, row, "D", ms=7, color=AFTER, label="after the mean difference is erased"
            )
        null = found[key]["0-1, null"][1]
        row = names.index("0-1 threshold")
        one.plot(null, row, "|", ms=20, mew=2.5, color=NULL, label="after, labels permuted")
        chance(one)
        one.set(xlim=(0.46, 1.0), ylim=(len(names) - 0.5, -0.5))
        one.set_yticks(range(len(names)), names)
        one.set_xlabel("accuracy on the fitting rows", fontsize=11.5)
        title(one, text)
    handles, labels = axes[0].get_legend_handles_labels()
    shown = dict(zip(labels, handles, strict=True))
    figure.legend(
        shown.values(),
        shown.keys(),
        loc="outside lower center",
        ncols=3,
        frameon=False,
        fontsize=11,
    )
    return figure


def nonlinear(found: Mapping) -> Figure:
    figure, axes = panels(2, 3.4, sharey=True)
    colours = dict(zip(("logistic", "QDA", "MLP"), LINES, strict=False))
    for one, (name, by_eraser) in zip(axes, found.items(), strict=True):
        order = ("nothing", "LEACE", "QLEACE")
        for i, (probe, colour) in enumerate(colours.items()):
            values = [by_eraser[eraser][probe] for eraser in order]
            places = np.arange(3) + 0.26 * (i - 1)
            one.bar(places, np.array(values) - 0.5, 0.24, bottom=0.5, color=colour, label=probe)
            for place, value in zip(places, values, strict=True):
                text = f"{value:.2f}".lstrip("0")
                one.text(place, value + 0.008, text, ha="center", va="bottom", fontsize=10.5)
        one.axhline(0.5, color=COLOURS["black"], lw=1)
        one.set_xticks(range(3), ["nothing\nerased", "LEACE", "QLEACE"])
        one.set_ylim(0.48, 1.03)
        title(one, f"(c) {name}")
    axes[0].set_ylabel("accuracy on fresh rows", fontsize=11.5)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=11)
    return figure


def left(found: list[Mapping]) -> Figure:
    figure, axes = panels(2, 4.2)
    curve, ratio = axes
    markers = {16: "o", 64: "s"}
    methods = {"mean difference": BEFORE, "LEACE": AFTER}
    n_over_d = np.geomspace(0.25, 100, 200)
    v = 4 / n_over_d
    curve.plot(n_over_d, v / (4 + v), color=NULL, lw=1.5, label="formula")
    for low, high, alpha in ((0.8, 1.2, 0.10), (0.9, 1.1, 0.16)):
        ratio.axhspan(low, high, color=COLOURS["black"], alpha=alpha, lw=0)
    ratio.axhline(1, color=NULL, lw=1.5)
    for d, marker in markers.items():
        for method, colour in methods.items():
            rows = [r for r in found if (r["method"], r["d"], r["separation"]) == (method, d, 2.0)]
            if not rows:
                continue
            x = [r["n/d"] for r in rows]
            share = [r["population"] * d / (d - 1) / 4 for r in rows]
            # Where the two agree the mean difference lies inside LEACE's open marker.
            style: dict = {"color": colour, "marker": marker, "ls": "none"}
            style |= {"ms": 8, "mfc": "none"} if method == "LEACE" else {"ms": 3.5}
            curve.plot(x, share, **style, label=f"{method}, d = {d}")
            ratio.plot(x, [r["population"] / r["expected"] for r in rows], **style)
    for one in axes:
        one.set_xscale("log")
        one.set_yscale("log")
        one.axvline(1, color=COLOURS["black"], lw=1, ls=DOTTED)
        one.set_xlabel("rows to features, n / d", fontsize=11.5)
        one.set_xticks([0.25, 1, 2, 5, 10, 20, 50, 100])
        one.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        one.xaxis.set_minor_formatter(lambda *_: "")
    curve.set_ylabel("share of |delta|² left · d / (d − 1)", fontsize=11.5)
    ratio.set_ylabel("measured / formula", fontsize=11.5)
    ratio.set_yticks([0.8, 1, 1.2, 2, 5, 10, 20])
    ratio.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ratio.yaxis.set_minor_formatter(lambda *_: "")
    title(curve, "(d) what is left of the population's gap")
    title(ratio, "over the formula; bands: 10%, 20%")
    handles, labels = curve.get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=10.5
    )
    return figure


def directions(ranks: Mapping, found: Mapping) -> Figure:
    figure, axes = panels(2, 3.4, width_ratios=(1, 1.1))
    for (k, values), colour, marker in zip(ranks.items(), LINES, "os^D", strict=True):
        k = int(k)
        axes[0].plot(range(k), values, marker=marker, color=colour, ms=7, label=f"{k} classes")
        axes[0].plot([0, 4.2], [1 / k] * 2, color=colour, lw=1, ls=DOTTED)
    axes[0].set(xticks=range(5), ylim=(0.15, 1.0))
    axes[0].set_xlabel("directions removed (dotted: chance)", fontsize=11.5)
    axes[0].set_ylabel("logistic accuracy", fontsize=11.5)
    axes[0].legend(frameon=False, fontsize=10.5, loc="upper right")
    title(axes[0], "(e) k classes need k − 1")
    names = sorted(found, key=lambda name: -found[name])
    for row, name in enumerate(names):
        value = found[name]
        colour = AFTER if name == "the mean difference" else BEFORE
        axes[1].barh(row, value - 0.5, left=0.5, color=colour, height=0.6)
        axes[1].text(max(value, 0.5) + 0.006, row, f"{value:.3f}", va="center", fontsize=11)
    axes[1].set_yticks(range(len(names)), names)
    axes[1].set(xlim=(0.48, 1.03), ylim=(len(names) - 0.5, -0.5))
    axes[1].set_xlabel("logistic accuracy after ablating it", fontsize=11.5)
    chance(axes[1])
    title(axes[1], "(f) any other direction")
    return figure


def second(found: Mapping) -> Figure:
    figure, axes = panels(2, 3.8, sharey=True)
    x = found["values"]
    axes[0].plot(x, found["nothing"], color=NULL, lw=2, label="nothing erased")
    styles = (("LEACE", "-", 5.0), ("mean difference", "--", 2.6), ("SPLINCE", ":", 2.2))
    colours = {"mean difference": BEFORE, "LEACE": COLOURS["sky"], "SPLINCE": AFTER}
    for name, dash, width in styles:
        axes[0].plot(x, found[name], color=colours[name], ls=dash, lw=width, label=name)
    axes[1].plot(x, found["nothing, frozen"], color=NULL, lw=2)
    for name, dash, width in styles:
        y = found[f"{name}, frozen"]
        axes[1].plot(x, y, color=colours[name], ls=dash, lw=width)
    for one in axes:
        one.set_xlabel("correlation of the noise", fontsize=11.5)
        one.axhline(0, color=COLOURS["black"], lw=0.8)
        one.set(ylim=(-0.38, 0.62), xticks=(-0.8, -0.4, 0, 0.4, 0.8))
    axes[0].set_ylabel("R² of the second concept", fontsize=11.5)
    title(axes[0], "(f) probe refitted after erasing")
    title(axes[1], "probe fitted before erasing")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=11)
    return figure


def back(found: Mapping, rounding: Mapping) -> Figure:
    figure, axes = panels(2, 3.4, width_ratios=(1.25, 1))
    order = sorted(found, key=lambda name: found[name][0])
    for row, name in enumerate(order):
        r2, score = found[name]
        colour = BEFORE if r2 == 0 else AFTER
        axes[0].barh(row, score - 0.5, left=0.5, color=colour, height=0.6)
        text = f"R² {r2:.2g}" if r2 else "R² exactly 0"
        axes[0].text(max(score, 0.5) + 0.006, row, text, va="center", fontsize=11)
    names = {"nothing": "LEACE alone", "layer norm first": "layer norm, then LEACE"}
    shown = [names.get(n, f"LEACE, then {n}") for n in order]
    axes[0].set_yticks(range(len(shown)), shown)
    axes[0].set(xlim=(0.48, 1.12), xticks=np.arange(0.5, 1.01, 0.1), ylim=(len(shown) - 0.5, -0.5))
    axes[0].set_xlabel("logistic accuracy on fresh rows", fontsize=11.5)
    chance(axes[0])
    title(axes[0], "(g) what follows the eraser")
    edges = np.arange(0.395, 0.906, 0.01)
    shades = (BEFORE, COLOURS["orange"], COLOURS["green"], AFTER)
    for name, colour in zip(rounding, shades, strict=True):
        share = np.histogram(rounding[name], edges)[0] / len(rounding[name])
        axes[1].stairs(share, edges, fill=True, color=colour, alpha=0.85, label=name)
    axes[1].set_xlabel("accuracy on the fitting rows", fontsize=11.5)
    axes[1].yaxis.set_major_formatter(lambda value, _: f"{100 * value:g}%")
    axes[1].set_ylabel("share of the datasets", fontsize=11.5)
    axes[1].legend(frameon=False, fontsize=11, loc="upper right", handlelength=1)
    title(axes[1], "(h) least squares, erased")
    return figure


def protocols(found: Mapping) -> Figure:
    figure, axes = panels(1, 2.9)
    one = axes[0]
    names = list(found["LEACE"])
    for shift, (method, colour, marker) in zip(
        (-0.13, 0.13), (("mean difference", BEFORE, "o"), ("LEACE", AFTER, "D")), strict=True
    ):
        for row, name in enumerate(names):
            mean, low, high = found[method][name]
            one.plot([low, high], [row + shift] * 2, color=colour, lw=2)
            one.plot(mean, row + shift, marker, color=colour, ms=7, label=method)
            one.text(high + 0.008, row + shift, f"{mean:.3f}", va="center", fontsize=10.5)
    one.set_yticks(range(len(names)), names)
    one.set(ylim=(len(names) - 0.5, -0.5))
    one.set_xlabel("logistic accuracy, mean and range over datasets", fontsize=11.5)
    chance(one)
    handles, labels = one.get_legend_handles_labels()
    shown = dict(zip(labels, handles, strict=True))
    one.legend(shown.values(), shown.keys(), frameon=False, fontsize=11, loc="upper right")
    title(one, "(i) which rows fit the eraser, fit the probe, and are scored")
    return figure


def draw(found: Mapping, out: Path) -> None:
    """Writes claims-*.png."""
    figures = {
        "probes": probes(found["readable"]),
        "nonlinear": nonlinear(found["nonlinear"]),
        "left": left(found["left"]),
        "directions": directions(found["ranks"], found["directions"]),
        "second": second(found["second_concept"]),
        "back": back(found["back"], found["rounding"]),
        "protocols": protocols(found["protocols"]),
    }
    for name, figure in figures.items():
        save(figure, out / f"claims-{name}.png")
