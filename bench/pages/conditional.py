"""The figure equalized-odds.png: erasing a concept, or what a task does not say of it.

erasejax sweep docs/sweeps/equalized-odds.toml --out equalized-odds
python -m bench.pages.conditional equalized-odds
"""

import argparse
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

import erasejax as ej
from erasejax.plot import LINES, save

METHODS = {  # name of the eraser and its field `given`
    "nothing erased": ("identity", None),
    "LEACE": ("leace", "none"),
    "LEACE, pooled": ("leace", "pooled"),
    "LEACE, each": ("leace", "each"),
    "SPLINCE": ("splince", None),
}
PICTURES = {
    "task_equalized_odds_difference_fresh": "equalised-odds difference",
    "task_demographic_parity_difference_fresh": "demographic parity difference",
    "task_accuracy_fresh": "accuracy of the task",
}


def means(folder: str) -> pd.DataFrame:
    """Returns means and standard errors over the seeds, by method and P(z = y)."""
    table = ej.sweep.open(folder).to_pandas()
    named = {place: name for name, place in METHODS.items()}
    given = table["eraser.given"].astype(object).where(table.eraser == "leace", None)
    table["method"] = [named[place] for place in zip(table.eraser, given, strict=True)]
    table["agree"] = (1 + table["dataset.correlation"]) / 2
    return table.groupby(["method", "agree"])[list(PICTURES)].agg(["mean", "sem"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", help="results of docs/sweeps/equalized-odds.toml")
    parser.add_argument("--out", type=Path, default=Path("docs/figures"))
    args = parser.parse_args()
    found = means(args.folder)
    print(found.xs("mean", axis=1, level=1).unstack("method").T.round(3).to_string())
    figure = Figure(figsize=(9.6, 3.6), layout="constrained")
    every = figure.subplots(1, len(PICTURES))
    for axes, (column, title) in zip(every, PICTURES.items(), strict=True):
        for method, (colour, dash) in zip(METHODS, LINES, strict=False):
            curve = found.loc[method, column]
            x, y = curve.index.to_numpy(), curve["mean"].to_numpy()
            half = 1.96 * curve["sem"].to_numpy()
            axes.plot(x, y, color=colour, ls=dash, label=method)
            axes.fill_between(x, y - half, y + half, color=colour, alpha=0.15, lw=0)
        axes.set_xlabel("P(z = y)")
        axes.set_title(title, fontsize="medium")
        axes.grid(alpha=0.3)
    every[0].legend(fontsize="small")
    save(figure, args.out / "equalized-odds.png")


if __name__ == "__main__":
    main()
