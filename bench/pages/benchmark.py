"""Erasers side by side: what each leaves of a concept, what it keeps of a task, and what it costs.

Four tables that scikit-learn holds, sentences about people as the last layer of a real encoder sees
them (with what `docs.examples.encoder` says installed), and three synthetic families. A key splits
the rows in three, or draws three parts: the eraser is fitted to the first, each probe to the
second, and the third is scored. Writes the tables of docs/benchmark.md and its picture.

    python -m bench.pages.benchmark
    python -m bench.pages.benchmark --only wine --splits 8
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from sklearn import datasets as shipped

import erasejax as ej
from bench.speed.harness import Case, compare
from erasejax.files import replacing
from erasejax.plot import COLOURS, save

PAGE = Path("docs/benchmark.md")
START, END = "<!-- measured -->", "<!-- end -->"
PROBES = {
    "logistic": "logistic",
    "lda": "LDA",
    "qda": "QDA",
    "kernel-ridge": "kernel",
    "mlp": "MLP",
}
ERASERS: dict[str, Any] = {
    "nothing": ej.Identity(),
    "mean difference": ej.MeanDifference(),
    "SAL": ej.SAL(),
    "LEACE": ej.LEACE(),
    "LEACE, pooled": ej.LEACE(given="pooled"),
    "SPLINCE": ej.SPLINCE(),
    "INLP": ej.INLP(rounds=8),
    "RLACE": ej.RLACE(),
    "ALF-QLEACE": ej.ALFQLEACE(),
    "kernel LEACE": ej.KernelLEACE(),
    "HSIC descent": ej.HSICDescent(),
}
NEEDS_TASK = ("LEACE, pooled", "SPLINCE")


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


def scores(dataset: Any, splits: int) -> pd.DataFrame:
    """Returns means over the splits, a line an eraser."""
    has_task = getattr(dataset, "task", None) is not None or dataset.name == "two-concepts"
    erasers = {name: it for name, it in ERASERS.items() if has_task or name not in NEEDS_TASK}
    found = swept(dataset, erasers, list(PROBES), ["accuracy"], splits)
    wanted = ["damage", "rank", "majority_rate"]
    wanted += ["task_accuracy", "task_tpr_gap"] if has_task else []
    linear = swept(dataset, erasers, "logistic", wanted, splits).groupby("method")
    left = found.pivot_table("accuracy_fresh", "method", "probe")[list(PROBES)]
    columns = {"damage": "damage_fresh", "directions": "rank", "majority": "majority_rate"}
    if has_task:
        columns |= {"task": "task_accuracy_fresh", "TPR gap": "task_tpr_gap_fresh"}
    result = left.rename(columns=PROBES)
    for title, column in columns.items():
        result[title] = linear[column].mean()
    return result.loc[[name for name in ERASERS if name in result.index]]


def swept(
    dataset: Any, erasers: dict[str, Any], probe: Any, metrics: list[str], splits: int
) -> pd.DataFrame:
    """Returns the table of a sweep, with what its erasers are called here as `method`."""
    spec = {
        "dataset": dataset,
        "eraser": list(erasers.values()),
        "probe": probe,
        "metrics": metrics,
        "protocols": "fresh",
        "seeds": splits,
    }
    with tempfile.TemporaryDirectory(prefix="erasejax-bench-") as folder:
        found = ej.sweep.run(spec, out=folder).to_pandas()
    name = found.eraser.astype(str)
    if "eraser.given" in found:
        name = name.where(found["eraser.given"].astype(str) != "pooled", name + ", pooled")
    names = {it.name: title for title, it in erasers.items() if "pooled" not in title}
    found["method"] = name.map({**names, "leace, pooled": "LEACE, pooled"})
    return found


def seconds(dataset: Any, names: list[str]) -> tuple[pd.Series, pd.Series]:
    """Returns the median time of a fit to the first part, and what the first one takes more."""
    data = dataset.sample(jax.random.key(0), part=0)
    cases = [
        Case(name, lambda it=ERASERS[name]: it.fit(data, key=jax.random.key(0)))
        for name in names
        if name != "nothing"
    ]
    rows = compare("fit", cases, repeats=5)
    return (
        pd.Series({row.name: row.median for row in rows}),
        pd.Series({row.name: row.compile_s for row in rows}),
    )


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
    if column in ("fit, ms", "first, s"):
        return f"{value:.2g}" if value < 10 else f"{value:.0f}"
    return f"{value:.3f}"


def picture(found: dict[str, pd.DataFrame]) -> Figure:
    """What is left to the best of the probes, beyond the majority, against the damage."""
    colours = [*COLOURS.values(), "#666666"]
    markers = "osDv^P*Xh"
    figure = Figure(figsize=(10.5, 5.6), layout="constrained")
    every = figure.subplots(2, (len(found) + 1) // 2, squeeze=False).ravel()
    for axes, (name, table) in zip(every, found.items(), strict=False):
        best = table[list(PROBES.values())].max(axis=1) - table["majority"].mean()
        for i, eraser in enumerate(table.index):
            at = list(ERASERS).index(eraser)
            axes.plot(
                table["damage"].iloc[i],
                best.iloc[i],
                markers[at],
                color=colours[at],
                label=eraser,
                ms=7,
                mec="black",
                mew=0.5,
            )
        axes.axhline(0, color="black", lw=1, ls=(0, (4, 3)))
        axes.set_title(name, fontsize="medium")
        axes.grid(alpha=0.3)
        axes.set_xscale("symlog", linthresh=1e-3)
        axes.set_xlabel("damage, share of the variance")
    for axes in every[len(found) :]:
        axes.set_axis_off()
    every[0].set_ylabel("best probe less the majority")
    figure.legend(
        *every[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, fontsize="small"
    )
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=tuple(DATASETS))
    parser.add_argument("--splits", type=int, default=8)
    args = parser.parse_args()
    found, parts = {}, []
    for name in [args.only] if args.only else DATASETS:
        dataset = DATASETS[name]()
        result = scores(dataset, args.splits)
        warm, first = seconds(dataset, list(result.index))
        result["fit, ms"], result["first, s"] = warm * 1e3, first
        found[name] = result
        parts.append(markdown(name, str(DATASETS[name].__doc__), result))
        print(parts[-1], flush=True)
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
