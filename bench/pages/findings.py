"""The figures findings-*.png and the numbers of docs/findings.md.

Each is from a sweep in a folder of its name, but for the certificates, which are simulated here.

    erasejax sweep docs/sweeps/one-direction.toml --out one-direction  # and so on
    python -m bench.pages.findings  # or some of them, by name
"""

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.stats import norm

import erasejax as ej
from bench.pages import certificate_rows
from bench.pages.heat import apart, heat_maps, means
from erasejax.plot import save

LAYERS = "file"  # the axis of the encoder's sweep


def say(title: str, table: pd.DataFrame | pd.Series, digits: int = 3) -> None:
    print(f"\n{title}\n{table.round(digits).to_string()}")


def shown(tables: Iterable[tuple[str, tuple[pd.DataFrame, pd.DataFrame]]]) -> dict:
    """Prints means and the largest half interval of each table; returns the means by title."""
    found = {}
    for title, (mean, half) in tables:
        say(f"{title} (95% interval: at most {np.nanmax(half):.3f} to either side)", mean)
        found[title] = mean
    return found


def one_direction(table: pd.DataFrame) -> Figure:
    table = table[table.probe == "logistic"]
    table["n / d"] = 2 * table["dataset.rows"] // 16

    def of(eraser):
        rows = table[table.eraser == eraser]
        return means(rows, "accuracy_fresh", "dataset.redundancy", "n / d")

    tables = {
        "nothing erased": of("identity"),
        "the mean difference erased": of("mean-difference"),
    }
    panels = shown(tables.items())
    fitting = table[table.eraser == "mean-difference"]["accuracy_fitting"]
    print(f"\non the fitting rows: {fitting.min():.3f} to {fitting.max():.3f}, every dataset")
    leace = of("leace")[0] - tables["the mean difference erased"][0]
    print(f"LEACE less mean difference, at most {leace.abs().to_numpy().max():.4f}")
    say("the formula: best accuracy, redundancy 0", pd.Series(left(panels)), 3)
    lines = [apart(*both, 0.5) for both in tables.values()]
    return heat_maps(
        panels,
        along="rows fitted / features",
        down="redundancy",
        label="accuracy of logistic regression, fresh rows",
        lines=lines,
        limits=(0.5, 1.0),
    )


def left(panels: dict[str, pd.DataFrame]) -> dict[int, float]:
    """Returns the accuracy of the best threshold on the gap that the estimate's error leaves."""
    gap, d = 4 * 2.0**2, 16  # squared, four directions of two noise deviations
    found = {}
    for ratio in panels["nothing erased"].columns:
        v = 4 / ratio  # d (1 / n_1 + 1 / n_0), half of the rows in either class
        found[ratio] = norm.cdf(np.sqrt((d - 1) / d * gap * v / (gap + v)) / 2)
    return found


def skew(table: pd.DataFrame) -> Figure:
    share = table["dataset.ratio"] / (table["dataset.ratio"] + 1)
    table["share"] = share.map("{:.2f}".format)

    def of(probe, labels):
        rows = table[(table.probe == probe) & (table.labels == labels)]
        return means(rows, "accuracy_fresh", "dataset.dims", "share")

    seen, half = of("zero-one", "true")
    null, null_half = of("zero-one", "permuted")
    tables = {
        "logistic regression": of("logistic", "true"),
        "least 0-1 loss": (seen, half),
        "least 0-1 loss, permuted labels": (null, null_half),
    }
    beyond = apart(seen - null, np.hypot(half, null_half), 0.0)
    return heat_maps(
        shown(tables.items()),
        along="share of the rows in which the sign is right",
        down="features",
        label="accuracy, fresh rows",
        lines=[apart(*tables["logistic regression"], 0.5), beyond, None],
        limits=(0.45, 0.95),
    )


def eraser_names(table: pd.DataFrame) -> pd.Series:
    """Returns the name of each eraser with what tells it from others of that name."""
    name = table.eraser.astype(str).replace("identity", "nothing")
    for field, words in (
        ("eraser.given", {"pooled": ", pooled"}),
        ("eraser.shrinkage_rule", {"schaefer-strimmer": ", shrunk"}),
    ):
        if field in table:
            added = table[field].astype(object).map(words).fillna("")
            name = name + added.where(table.eraser == "leace", "")
    return name


def in_order(tables: dict, names: list[str]) -> dict:
    return {
        title: tuple(part.reindex([n for n in names if n in part.index]) for part in both)
        for title, both in tables.items()
    }


ORDER = ["leace", "leace, shrunk", "splince", "leace, pooled", "nothing"]


def contrast(table: pd.DataFrame) -> Figure:
    table["distractor"] = table["dataset.distractor"].map("{:g}".format)
    order = sorted(table["distractor"].unique(), key=float)

    def of(probe):
        both = means(
            table[table.probe == probe], "accuracy_fresh", "dataset.directions", "distractor"
        )
        return tuple(part[order] for part in both)

    titles = {"CCS": "ccs", "top principal component": "crc", "logistic regression": "logistic"}
    tables = {title: of(probe) for title, probe in titles.items()}
    panels = shown(tables.items())
    truth = 2 * np.sqrt(panels["CCS"].index.to_numpy(float))
    say("distance of the truth's means", pd.Series(truth, index=panels["CCS"].index), 2)
    # The line is where theory says: a distractor as far apart as the truth.
    weaker = np.asarray(order, float)[None] < truth[:, None]
    return heat_maps(
        panels,
        along="distractor: distance of its means, noise sd",
        down="directions of the truth",
        label="accuracy on the truth, fresh pairs",
        lines=[weaker, weaker, None],
        limits=(0.5, 1.0),
    )


def near_square(table: pd.DataFrame) -> Figure:
    d = table["dataset.dims"]
    table["n / d"] = (2 * table["dataset.rows"] / d).map("{:g}".format)
    order = sorted(table["n / d"].unique(), key=float)
    rules = {"LEACE": "none", "LEACE, shrunk": "schaefer-strimmer"}
    panels, read = {}, []
    for title, rule in rules.items():
        rows = table[table["eraser.shrinkage_rule"] == rule]
        groups = rows.groupby(["dataset.dims", "n / d"])["damage_fresh"]
        # The mean is one of a heavy tail, so the middle, in shares of one direction's variance.
        middle = groups.median().unstack("n / d")[order]
        panels[title] = middle.mul(middle.index.to_numpy(), axis=0)
        say(f"{title}: d times damage to fresh rows, median", panels[title], 2)
        top = groups.quantile(0.95).unstack("n / d")[order]
        say("the same, 95% quantile", top.mul(top.index.to_numpy(), axis=0), 2)
        mean, half = means(rows, "accuracy_fresh", "dataset.dims", "n / d")
        read.append(mean)
        say(f"{title}: accuracy of LDA, fresh rows", mean[order])
        say("half of its interval", half[order])
    plain, shrunk = panels.values()
    between = (read[0] - read[1]).abs().to_numpy().max()
    print(f"\naccuracies of the two, at most {between:.4f} apart")
    return heat_maps(
        panels,
        along="rows fitted / features",
        down="features",
        label="damage to fresh rows x features, median",
        lines=[(plain > 2 * shrunk).to_numpy(), None],
        logarithmic=True,
        digits=".1f",
    )


def encoder_layers(table: pd.DataFrame) -> Figure:
    layers = table[f"dataset.{LAYERS}"].astype(str)
    table["layer"] = layers.str.extract(r"(\d+)$", expand=False).astype(int)
    table["eraser"] = eraser_names(table)
    tables = {
        title: means(table, column, "eraser", "layer")
        for title, column in (
            ("sex of the name, what is left", "accuracy_fresh"),
            ("job, what is kept", "task_accuracy_fresh"),
            ("damage", "damage_fresh"),
        )
    }
    tables = in_order(tables, ORDER)
    panels = shown(tables.items())
    above = panels["sex of the name, what is left"] - 0.5
    say(
        "share of what was above chance that LEACE leaves",
        above.loc["leace"] / above.loc["nothing"],
    )
    kept = {title: panels[title] for title in list(panels)[:2]}
    return heat_maps(
        kept,
        along="layer",
        down="",
        label="accuracy of logistic regression, names of their own",
        lines=[apart(*tables["sex of the name, what is left"], 0.5), None],
        limits=(0.5, 1.0),
        height=0.32,
    )


def certificates() -> Figure:
    found, promised = certificate_rows.power()
    after = certificate_rows.after_erasing()
    half = 1.96 * np.sqrt(0.25 / certificate_rows.SEEDS)
    print(f"\n95% intervals of all shares: at most {half:.3f} to either side")
    say("rejected, by R^2 of the population and rows", found)
    say("detectable_r2, by rows", promised, 4)
    say("rejected after LEACE, by rows it was fitted to and rows of the test", after)
    promise = np.asarray(found.index)[:, None] >= promised.to_numpy()[None]
    return heat_maps(
        {"by R² of the leak": found, "after LEACE, by rows it was fitted to": after},
        along="rows of the certificate (16 features)",
        down="",
        label="share of certificates that are refused at 5%",
        lines=[promise, after.to_numpy() - 0.05 > half],
        limits=(0.0, 1.0),
    )


SIMULATED: dict[str, Callable[[], Figure]] = {"certificates": certificates}
FINDINGS: dict[str, Callable[[pd.DataFrame], Figure]] = {
    "one-direction": one_direction,
    "skew": skew,
    "contrast": contrast,
    "near-square": near_square,
    "encoder-layers": encoder_layers,
}


def main() -> None:
    every = [*FINDINGS, *SIMULATED]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=every, help=f"of {', '.join(every)}")
    parser.add_argument("--sweeps", type=Path, default=Path(), help="where the folders are")
    parser.add_argument("--out", type=Path, default=Path("docs/figures"))
    args = parser.parse_args()
    if unknown := set(args.names) - set(every):
        parser.error(f"names: expected some of {every}, got {sorted(unknown)}")
    for name in args.names:
        print(f"\n== {name}")
        if name in SIMULATED:
            figure = SIMULATED[name]()
        else:
            figure = FINDINGS[name](ej.sweep.open(args.sweeps / name).to_pandas())
        save(figure, args.out / f"findings-{name}.png")


if __name__ == "__main__":
    main()
