"""The figure inlp.png: what INLP leaves round by round, where one direction is enough.

python -m bench.pages.inlp_figure
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import erasejax as ej
from bench.speed.problems import redundant
from erasejax.plot import COLOURS, save

RANKS = (0, 1, 2, 3, 4, 6, 8, 10, 12, 14, 16, 20)
ROWS = 20_000
PUBLISHED = {1: 0.888, 4: 0.679, 8: 0.600, 20: 0.551}  # GloVe and gender, arXiv 2201.12091


def scores(eraser: ej.Projection, probe, fitted, scored) -> float:
    """Returns the accuracy on fresh rows of a probe fitted to the eraser's rows, both erased."""
    found = probe.fit(eraser(fitted[0]), fitted[1], num_classes=2, key=jax.random.key(0))
    return float(ej.metrics.accuracy(found, eraser(scored[0]), scored[1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/figures"))
    args = parser.parse_args()
    fitted, scored = (
        (jnp.asarray(x), jnp.asarray(z)) for x, z in (redundant(ROWS, seed=s) for s in (1, 2))
    )
    linear, mlp = ej.probes.Logistic(), ej.probes.MLP()
    inlp = ej.INLP(rounds=max(RANKS), stop_at=0.0).fit(*fitted, num_classes=2)
    curves = {
        name: [scores(inlp.restrict(rank), probe, fitted, scored) for rank in RANKS]
        for name, probe in (("logistic", linear), ("MLP", mlp))
    }
    at_once = {
        "mean difference": ej.MeanDifference().fit(*fitted, num_classes=2),
        "R-LACE": ej.RLACE().fit(*fitted, num_classes=2),
        "LEACE": ej.LEACE().fit(*fitted, num_classes=2),
    }
    points = {
        name: [scores(eraser, probe, fitted, scored) for probe in (linear, mlp)]
        for name, eraser in at_once.items()
    }
    for name, (left, deep) in points.items():
        print(f"{name}: logistic {left:.4f}, MLP {deep:.4f}")
    print("rank", RANKS)
    for name, curve in curves.items():
        print(name, np.round(curve, 3))

    figure = Figure(figsize=(7.2, 4.2), layout="constrained")
    axes = figure.add_subplot()
    colours = {"logistic": COLOURS["blue"], "MLP": COLOURS["red"]}
    for name, curve in curves.items():
        axes.plot(RANKS, curve, "o-", color=colours[name], label=f"INLP, then {name}")
    axes.plot(
        list(PUBLISHED),
        list(PUBLISHED.values()),
        "D",
        mfc="none",
        mec=COLOURS["black"],
        label="INLP on GloVe, published",
    )
    # The three lie on one another: side by side, a little apart.
    for shift, marker, (name, (left, deep)) in zip(
        (-0.3, 0, 0.3), "s^v", points.items(), strict=True
    ):
        axes.plot(1 + shift, left, marker, ms=9, color=COLOURS["green"], label=f"{name}, rank 1")
        axes.plot(1 + shift, deep, marker, ms=9, mfc="none", mec=COLOURS["red"])
    axes.axhline(0.5, color=COLOURS["black"], lw=1, ls=":")
    axes.annotate(
        "chance", (max(RANKS), 0.5), xytext=(0, 4), textcoords="offset points", ha="right"
    )
    axes.annotate(
        "the same three, MLP",
        (1.3, points["R-LACE"][1]),
        xytext=(24, -14),
        textcoords="offset points",
        color=COLOURS["red"],
    )
    axes.set(
        xlabel="directions removed",
        ylabel="accuracy on fresh rows",
        ylim=(0.45, 1.02),
        xticks=[0, 1, 4, 8, 12, 16, 20],
        title="20 directions carry the label; removing the difference of the means is enough",
    )
    axes.legend(frameon=False, loc="upper right", bbox_to_anchor=(1, 0.66))
    save(figure, args.out / "inlp.png")


if __name__ == "__main__":
    main()
