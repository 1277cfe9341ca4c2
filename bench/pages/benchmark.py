"""Erasers side by side: what each leaves of a concept, what it keeps of a task, and what it costs.

Four tables that scikit-learn holds, sentences about people as the last layer of a real encoder sees
them (with what `docs.examples.encoder` says installed), and three synthetic families. A key splits
the rows in three, or draws three parts: the eraser is fitted to the first, each probe to the
second, and the third is scored. Writes the tables of docs/benchmark.md and its picture.

    python -m bench.pages.benchmark
    python -m bench.pages.benchmark --only wine --splits 8
"""

import argparse
from collections.abc import Callable
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
import rich.progress
from matplotlib.figure import Figure
from sklearn import datasets as shipped

import erasejax as ej
from bench.pages.erased import scores
from bench.speed.harness import Case, compare
from erasejax.files import replacing
from erasejax.plot import CHANCE, COLOURS, save

PAGE = Path("docs/benchmark.md")
START, END = "<!-- measured -->", "<!-- end -->"
PROBES = {
    "logistic": ej.probes.Logistic(),
    "LDA": ej.probes.LDA(),
    "QDA": ej.probes.QDA(l2=1e-3),
    "kernel": ej.probes.KernelRidge(),
    "MLP": ej.probes.MLP(),
}
COLUMNS = (*PROBES, "damage", "directions", "task", "TPR gap", "fit, ms", "majority")
NEEDS_TASK = ("LEACE, pooled", "SPLINCE")


def erasers(data: ej.Dataset) -> dict[str, Any]:
    """Returns the erasers by name; those that need a task where there is one."""
    every = {
        "nothing": ej.Identity(),
        "mean difference": ej.MeanDifference(),
        "SAL": ej.SAL(),
        "LEACE": ej.LEACE(),
        "LEACE, pooled": ej.LEACE(given="pooled"),
        "SPLINCE": ej.SPLINCE(),
        "INLP": ej.INLP(rounds=8),
        "RLACE": ej.RLACE(rank=(data.num_classes or 2) - 1),
        "ALF-QLEACE": ej.ALFQLEACE(),
        "kernel LEACE": ej.KernelLEACE(),
        "HSIC descent": ej.HSICDescent(),
    }
    return {
        name: it for name, it in every.items() if data.task is not None or name not in NEEDS_TASK
    }


def table(frame: pd.DataFrame, z: Any, task: str) -> ej.datasets.Rows:
    """Returns rows whose task is whether a column, left out, is above its median."""
    y = (frame[task] > frame[task].median()).to_numpy().astype(np.int32)
    x = frame.drop(columns=task).to_numpy(np.float32)
    return ej.datasets.Rows(standardized(x), np.asarray(z, np.int32), task=y)


def standardized(x: np.ndarray) -> np.ndarray:
    sd = x.std(axis=0)
    return ((x - x.mean(axis=0)) / np.where(sd > 0, sd, 1)).astype(np.float32)


def breast_cancer() -> ej.datasets.Rows:
    """569 x 29: malignant or not; the task is the mean texture."""
    data = shipped.load_breast_cancer(as_frame=True)
    return table(data.data, data.target, "mean texture")


def wine() -> ej.datasets.Rows:
    """178 x 12: one of three cultivars; the task is the alcohol."""
    data = shipped.load_wine(as_frame=True)
    return table(data.data, data.target, "alcohol")


def digits() -> ej.datasets.Rows:
    """1,797 x 64: whether a digit is odd; the task is whether it is above four."""
    data = shipped.load_digits()
    x = standardized(data.data.astype(np.float32))
    return ej.datasets.Rows(
        x, (data.target % 2).astype(np.int32), task=(data.target > 4).astype(np.int32)
    )


def diabetes() -> ej.datasets.Rows:
    """442 x 9: sex; the task is whether the illness has gone on more than the median."""
    data = shipped.load_diabetes(as_frame=True)
    sex = (data.data["sex"] > 0).to_numpy().astype(np.int32)
    task = (data.target > data.target.median()).to_numpy().astype(np.int32)
    x = standardized(data.data.drop(columns="sex").to_numpy(np.float32))
    return ej.datasets.Rows(x, sex, task=task)


def sentences() -> ej.datasets.Rows:
    """1,600 sentences x 384, split by name: the sex of a name; the task is the kind of job."""
    from docs.examples import encoder, minilm
    from docs.examples.sentences import about_names

    found = about_names(0, 200)
    x = encoder.pooled_rows(minilm.load(), found)[minilm.LAYERS[-1]]
    return ej.datasets.Rows(standardized(x), found.concept, task=found.task, groups=found.group)


def two_concepts() -> ej.datasets.TwoConcepts:
    """2,000 x 16, normal: a label that agrees with the task in three rows of four."""
    return ej.datasets.TwoConcepts(correlation=0.5, strength=3.0, rows=1000, dims=16)


def exclusive_or() -> ej.datasets.XorClasses:
    """2,000 x 8: a label that two features tell together and neither alone; no task."""
    return ej.datasets.XorClasses(gap=2.0, rows=1000)


def activations() -> ej.datasets.Activations:
    """2,000 x 64, as hidden states are: a few features dominate; no task."""
    return ej.datasets.Activations(rows=1000, dims=64)


DATASETS: dict[str, Callable[[], Any]] = {
    "breast-cancer": breast_cancer,
    "wine": wine,
    "digits": digits,
    "diabetes": diabetes,
    "sentences": sentences,
    "two-concepts": two_concepts,
    "exclusive-or": exclusive_or,
    "activations": activations,
}


def measured(dataset: Any, splits: int) -> pd.DataFrame:
    """Returns means over the splits, a line an eraser."""
    lines = {}
    for split in rich.progress.track(range(splits), description=dataset.name):
        key = jax.random.key(split)
        parts = [dataset.sample(key, part=part) for part in range(3)]
        for name, method in erasers(parts[0]).items():
            lines.setdefault(name, []).append(scores(method, PROBES, parts, key))
    found = pd.DataFrame({name: pd.DataFrame(lines[name]).mean() for name in lines}).T
    found["fit, ms"] = milliseconds(dataset)
    return found[[column for column in COLUMNS if column in found]]


def milliseconds(dataset: Any) -> pd.Series:
    """Returns the median time of a fit to the first part, compiled before."""
    data = dataset.sample(jax.random.key(0), part=0)
    cases = [
        Case(name, partial(method.fit, data, key=jax.random.key(0)))
        for name, method in erasers(data).items()
        if name != "nothing"
    ]
    return pd.Series({row.name: 1e3 * row.median for row in compare("fit", cases, repeats=3)})


def markdown(name: str, about: str, found: pd.DataFrame) -> str:
    """Returns one table of the page."""
    majority = found["majority"].mean()
    shown = found.drop(columns="majority")
    lines = [
        f"### {name}",
        "",
        f"{about} The majority rate is {majority:.3f}.",
        "",
        "| eraser | " + " | ".join(shown.columns) + " |",
        "|---|" + "---:|" * len(shown.columns),
    ]
    for eraser, row in shown.iterrows():
        cells = [_cell(column, value) for column, value in row.items()]
        lines.append(f"| {eraser} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(column: Any, value: float) -> str:
    if np.isnan(value):
        return ""
    if column == "directions":
        return f"{value:.0f}"
    if column == "fit, ms":
        return f"{value:.2g}" if value < 10 else f"{value:.0f}"
    return f"{value:.3f}"


def picture(found: dict[str, pd.DataFrame]) -> Figure:
    """What is left to the best of the probes, beyond the majority, against the damage."""
    figure = Figure(figsize=(10.5, 5.6), layout="constrained")
    every = figure.subplots(2, (len(found) + 1) // 2, squeeze=False).ravel()
    names = list(next(iter(found.values())).index)  # of rows with a task: all erasers
    styles = dict(zip(names, zip("osDv^P*Xh<d", cycle(COLOURS.values())), strict=False))
    for axes, (name, table) in zip(every, found.items(), strict=False):
        best = table[list(PROBES)].max(axis=1) - table["majority"]
        for eraser, damage in table["damage"].items():
            marker, colour = styles[eraser]
            look = {"color": colour, "mec": "black", "mew": 0.5, "ms": 7, "clip_on": False}
            axes.plot(damage, best[eraser], marker, label=eraser, **look)
        axes.axhline(0, **CHANCE)
        axes.set_title(name, fontsize="medium")
        axes.grid(alpha=0.3)
        axes.set_xscale("function", functions=(np.sqrt, np.square))
        axes.set_xlim(0, max(1, table["damage"].max()))
        axes.set_xticks([0, 0.1, 0.25, 0.5, 1], ["0", ".1", ".25", ".5", "1"])
        axes.set_xlabel("damage, share of the variance")
    for axes in every[len(found) :]:
        axes.set_axis_off()
    every[0].set_ylabel("best probe less the majority")
    shown = every[0].get_legend_handles_labels()
    figure.legend(*shown, loc="outside lower center", ncols=6, fontsize="small")
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=tuple(DATASETS))
    parser.add_argument("--splits", type=int, default=8)
    args = parser.parse_args()
    found, parts = {}, []
    for name in [args.only] if args.only else DATASETS:
        dataset = DATASETS[name]()
        found[name] = result = measured(dataset, args.splits)
        parts.append(markdown(name, str(DATASETS[name].__doc__), result))
        print(parts[-1], flush=True)
        jax.clear_caches()  # some hundred programs a dataset; Linux maps only so many
    if args.only:
        return
    save(picture(found), PAGE.parent / "figures" / "benchmark.png")
    before, rest = PAGE.read_text(encoding="utf-8").split(START)
    after = rest.split(END)[1]
    text = "\n\n".join([START, *parts, END])
    with replacing(PAGE) as target:
        target.write_text(before + text + after, encoding="utf-8")


if __name__ == "__main__":
    main()
