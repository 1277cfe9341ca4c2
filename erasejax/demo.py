"""The experiment behind this library: erase a label from thousands of datasets, then look for it.

A dataset has 200 rows, two classes and three columns, two of which tell the label. Four erasers are
fitted to it, five probes look for the label afterwards, and every score is taken by two protocols:

- fitting rows: eraser, probe and score on the same rows;
- fresh rows: the eraser is fitted on one set of rows, the probe on a second, the score is of a
  third.

`trial` is the experiment on one dataset with the probes trained by a convex loss, `trial_zero_one`
the same with the costly search for the best threshold. Both are pure functions of a key.
"""

import contextlib
import dataclasses
import functools
import os
import shutil
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from erasejax import metrics, plots, probes, report
from erasejax.datasets import DiscreteFeatures
from erasejax.erasers import Ablation, Identity, MeanDifference, RandomDirections
from erasejax.probes.base import LinearLikelihood
from erasejax.projection import Projection

__all__ = [
    "DATA",
    "ERASERS",
    "PROBES",
    "PROTOCOLS",
    "ZERO_ONE_DATASETS",
    "Results",
    "run",
    "run_demo",
    "to_table",
    "trial",
    "trial_zero_one",
]

DATA = ("raw", "normalised")
ERASERS: tuple[str, ...] = ("before", "mean difference", "random direction", "column 0 only")
PROBES = ("LeastSquares", "LDA", "MeanDifferenceProbe", "Logistic")  # each trained without 0-1 loss
PROTOCOLS = ("fitting rows", "fresh rows")
ZERO_ONE_DATASETS = 256

# Parts of a dataset that the probe is fitted on and scored on; the eraser always sees part 0.
_PROBE_PARTS, _SCORE_PARTS, _PARTS = (0, 1), (0, 2), 3
_LIKELIHOOD = tuple(PROBES.index(name) for name in ("LDA", "Logistic"))
_REGRESSION = PROBES.index("LeastSquares")
_CHUNK = 64
_EXTRAS = {"rich": "cli", "tqdm": "cli", "pyarrow": "sweep", "matplotlib": "plot"}

_COLUMNS = {
    "dataset": "index of the dataset; with the seed it fixes every draw",
    "data": "raw, or normalised: each column standardised over both classes before anything else",
    "eraser": "before (nothing erased), or what was projected out",
    "probe": "the classifier that looks for the label",
    "protocol": "fitting rows: eraser, probe and score on the same rows; fresh rows: the eraser on "
    "one set of rows, the probe on a second, the score on a third",
    "labels": "true, or permuted (before the eraser was fitted): the null of a search",
    "accuracy": "share of the scored rows predicted right",
    "balanced_accuracy": "mean over the classes of the share of their rows predicted right",
    "auroc": "area under the ROC curve, ties counted half",
    "log_loss": "mean negative log-probability of the label, nats; null without a likelihood",
    "r2": "share of the label's variance explained; null unless the probe is a regression",
    "damage": "mean squared change of the scored rows over their total variance",
    "rank": "number of directions the eraser removed",
    "majority_rate": "share of the larger class in the scored rows",
    "status": "bits of erasejax.Status from eraser and probe, 0 if all went well",
}


class Results(NamedTuple):
    """What was measured, as numpy arrays, one entry a dataset on the first axis.

    Attributes:
      convex: name to (datasets, data, eraser, protocol, probe), in the order of `PROBES`.
      zero_one: name to (datasets, data, eraser, 3): fitting rows, fresh rows, and fitting rows with
        permuted labels. The first datasets only.
    """

    convex: dict[str, np.ndarray]
    zero_one: dict[str, np.ndarray]


def trial(key: jax.Array) -> dict[str, jax.Array]:
    """Runs the experiment on one dataset with the probes that are trained by a convex loss.

    Rows are sampled once and each eraser is fitted once; all probes and scores share them.

    Args:
      key: a typed key, the dataset.

    Returns:
      Scores by name, each (data, eraser, protocol, probe): accuracy, balanced_accuracy, auroc,
      log_loss and r2 (NaN where a probe has none), damage, rank, majority_rate and status.

    Under jit: pure; vmap over keys.
    """
    return _convex(key, *_draw(key))


def _convex(key: jax.Array, x: jax.Array, z: jax.Array) -> dict[str, jax.Array]:
    erasers = jax.vmap(lambda rows: _erasers(rows, z, key))(x[:, 0])
    y = jax.vmap(lambda fitted, parts: jax.vmap(lambda eraser: eraser(parts))(fitted))(erasers, x)

    def read(fit_x, score_x):
        """Returns the scores of every probe, (probe,)."""
        fitted = [getattr(probes, name)().fit(fit_x, z, num_classes=2) for name in PROBES]
        stacked = _stack([LinearLikelihood(p.weight, p.offset, p.center, p.status) for p in fitted])

        def score(probe):
            return {
                **_decisions(probe, score_x, z),
                "log_loss": metrics.log_loss(probe, score_x, z),
                "r2": metrics.r2(probe, score_x, z),
                "status": probe.status,
            }

        scores = jax.vmap(score)(stacked)
        index = jnp.arange(len(PROBES))
        likelihood = jnp.isin(index, jnp.array(_LIKELIHOOD))
        scores["log_loss"] = jnp.where(likelihood, scores["log_loss"], jnp.nan)
        scores["r2"] = jnp.where(index == _REGRESSION, scores["r2"], jnp.nan)
        return scores

    fit_x, score_x = y[:, :, np.array(_PROBE_PARTS)], y[:, :, np.array(_SCORE_PARTS)]
    scores = _vmap(read, 3)(fit_x, score_x)
    before = jnp.broadcast_to(x[:, None, np.array(_SCORE_PARTS)], score_x.shape)
    return _with_eraser(scores, _vmap(metrics.damage, 3)(before, score_x), erasers, z)


def trial_zero_one(key: jax.Array, *, restarts: int = 16, rounds: int = 8) -> dict[str, jax.Array]:
    """Runs the experiment on one dataset with `ZeroOne`, and its null beside it.

    For the null the labels are permuted first; then the eraser is fitted to them, and the probe.

    Args:
      key: a typed key, the dataset.
      restarts: static; see `erasejax.probes.ZeroOne`.
      rounds: static.

    Returns:
      Scores by name as `trial` has them, each (data, eraser, 3): fitting rows, fresh rows, and
      fitting rows with permuted labels.

    Under jit: pure; vmap over keys.
    """
    return _zero_one(key, *_draw(key), restarts=restarts, rounds=rounds)


def _zero_one(
    key: jax.Array, x: jax.Array, z: jax.Array, restarts: int = 16, rounds: int = 8
) -> dict[str, jax.Array]:
    shuffled = jax.random.permutation(_child(key, "permuted labels"), z)
    labels = jnp.stack([z, z, shuffled])
    probe = probes.ZeroOne(restarts=restarts, rounds=rounds)
    probe_key = _child(key, "zero one")

    def one(eraser, original, fit_x, score_x, label):
        """Returns the scores of one eraser by one protocol."""
        after = eraser(score_x)
        fitted = probe.fit(eraser(fit_x), label, num_classes=2, key=probe_key)
        scores = {**_decisions(fitted, after, label), "status": fitted.status}
        return scores, metrics.damage(original, after)

    def roles(parts):
        """Returns the scores and erasers of one kind of data, (3, eraser)."""
        erasers = jax.vmap(lambda label: _erasers(parts[0], label, key))(labels[1:])
        erasers = jax.tree.map(lambda leaf: leaf[np.array([0, 0, 1])], erasers)
        fit_x, score_x = parts[np.array([0, 1, 0])], parts[np.array([0, 2, 0])]
        over_erasers = jax.vmap(one, in_axes=(0, None, None, None, None))
        return *jax.vmap(over_erasers)(erasers, score_x, fit_x, score_x, labels), erasers

    scores, damage, erasers = jax.vmap(roles)(x)
    turn = lambda leaf: jnp.swapaxes(leaf, 1, 2)  # noqa: E731
    scores, damage, erasers = jax.tree.map(turn, (scores, damage, erasers))
    return _with_eraser(scores, damage, erasers, z)


def _draw(key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns features (data, part, n, d), the same draws raw and normalised, and labels (n,)."""

    def part(index):
        raw = DiscreteFeatures().sample(key, part=index)
        normalised = DiscreteFeatures(normalize=True).sample(key, part=index)
        return jnp.stack([raw.x, normalised.x]), raw.z

    x, z = jax.vmap(part)(jnp.arange(_PARTS))
    return jnp.swapaxes(x, 0, 1), z[0]  # sorted by label, so every part has the same labels


def _erasers(x: jax.Array, z: jax.Array, key: jax.Array) -> Projection:
    """Returns the erasers fitted to one set of rows, stacked on the first axis as `ERASERS`."""
    first = jnp.zeros(x.shape[1], x.dtype).at[0].set(1)
    methods = (Identity(), MeanDifference(), RandomDirections(), Ablation(directions=first))
    draw = _child(key, "random direction")
    fitted = [method.fit(x, z, num_classes=2, key=draw) for method in methods]
    nothing = jnp.zeros((x.shape[1], 1), x.dtype)  # rank 0, in the shape of rank 1
    fitted[0] = dataclasses.replace(fitted[0], kernel=nothing, test=nothing)
    return _stack(fitted)


def _decisions(probe: Any, x: jax.Array, z: jax.Array) -> dict[str, jax.Array]:
    return {
        "accuracy": metrics.accuracy(probe, x, z),
        "balanced_accuracy": metrics.balanced_accuracy(probe, x, z),
        "auroc": metrics.auroc(probe, x, z),
    }


def _with_eraser(scores: dict, damage: jax.Array, erasers: Projection, z: jax.Array) -> dict:
    """Returns the scores with those of the eraser, spread to the shape of the accuracy."""
    shape = scores["accuracy"].shape

    def spread(value):
        return jnp.broadcast_to(
            value.reshape(value.shape + (1,) * (len(shape) - value.ndim)), shape
        )

    majority = metrics.majority_rate(z, num_classes=2)
    return {
        **scores,
        "damage": spread(damage),
        "rank": spread(erasers.rank),
        "majority_rate": jnp.broadcast_to(majority, shape),
        "status": scores["status"] | spread(erasers.status),
    }


def _child(key: jax.Array, name: str) -> jax.Array:
    return jax.random.fold_in(key, zlib.crc32(name.encode()))


def _stack(trees: list[Any]) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def _vmap(function: Callable, axes: int) -> Callable:
    for _ in range(axes):
        function = jax.vmap(function)
    return function


def run(
    *,
    datasets: int = 4096,
    seed: int = 0,
    zero_one_datasets: int = ZERO_ONE_DATASETS,
    chunk: int = _CHUNK,
    progress: bool = False,
) -> Results:
    """Runs the trials, in chunks of constant shape.

    Args:
      datasets: how many datasets; dataset i is the same whatever else is run.
      seed: of all draws.
      zero_one_datasets: the first so many also meet `ZeroOne`.
      chunk: datasets a chunk; no result depends on it.
      progress: whether to show bars, or the stages where stderr is no terminal.

    Returns:
      `Results`.
    """
    key = jax.random.key(seed)
    chunk = min(chunk, datasets)
    few = min(zero_one_datasets, datasets)
    per_dataset = len(DATA) * len(ERASERS)
    convex = _Stage("convex probes", datasets, per_dataset * len(PROBES) * 2, progress)
    zero_one = _Stage("ZeroOne, null", few, per_dataset * 3, progress, position=1)
    with ThreadPoolExecutor(2) as beside, convex, zero_one:
        # Sampling is a program of its own: to compile it twice would take longer than to run it.
        draw = beside.submit(_compiled_draw, chunk)
        costly = beside.submit(_run_chunks, _zero_one, draw, key, chunk, zero_one)
        return Results(_run_chunks(_convex, draw, key, chunk, convex), costly.result())


def _draw_lanes(key: jax.Array, numbers: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns key, features and labels of datasets by number."""

    def lane(number):
        own = jax.random.fold_in(key, number)
        return own, *_draw(own)

    return jax.vmap(lane)(numbers)


@functools.lru_cache(maxsize=8)
def _compiled_draw(chunk: int) -> Callable:
    return jax.jit(_draw_lanes).lower(jax.random.key(0), jnp.zeros(chunk, jnp.uint32)).compile()


@functools.lru_cache(maxsize=8)
def _compiled(measure: Callable, chunk: int) -> Callable:
    """Returns `measure` of many datasets, compiled for `chunk` of them."""
    lanes = jax.eval_shape(_draw_lanes, jax.random.key(0), jnp.zeros(chunk, jnp.uint32))
    return jax.jit(jax.vmap(measure)).lower(*lanes).compile()


def _run_chunks(
    measure: Callable, draw: Future, key: jax.Array, chunk: int, stage: "_Stage"
) -> dict[str, np.ndarray]:
    """Returns what `measure` says of the stage's datasets, (datasets, ...)."""
    compiled = _compiled(measure, chunk)
    sample = draw.result()
    stage.start()
    found = []
    pending = None
    for start in [*range(0, stage.datasets, chunk), None]:
        following = None  # one chunk is under way while another is fetched; the last is padded
        if start is not None:
            numbers = np.minimum(np.arange(start, start + chunk), stage.datasets - 1)
            following = compiled(*sample(key, numbers.astype(np.uint32)))
        if pending is not None:
            found.append({name: np.asarray(value) for name, value in pending.items()})
            stage.advance(chunk)
        pending = following
    return {
        name: np.concatenate([part[name] for part in found])[: stage.datasets] for name in found[0]
    }


class _Stage:
    """A progress bar in trials, or a line a stage where stderr is no terminal."""

    def __init__(self, name: str, datasets: int, trials: int, show: bool, position: int = 0):
        self.name, self.datasets, self.trials, self.show = name, datasets, trials, show
        self.done, self.bar = 0, None
        if show and sys.stderr.isatty():
            from tqdm import tqdm

            self.bar = tqdm(
                total=datasets * trials,
                position=position,
                unit=" trials",
                unit_scale=True,
                dynamic_ncols=True,
                bar_format="{desc}",
            )
        self._say("compiling")

    def __enter__(self) -> "_Stage":
        return self

    def __exit__(self, *error: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def start(self) -> None:
        """Ends the compiling state; the clock starts."""
        if self.bar is not None:
            self.bar.bar_format = None
            self.bar.reset()
        self._say(f"running {self.datasets * self.trials:,} trials")

    def advance(self, datasets: int) -> None:
        size = min(datasets, self.datasets - self.done)
        self.done += size
        if self.bar is not None:
            self.bar.update(size * self.trials)

    def _say(self, what: str) -> None:
        if self.bar is not None:
            self.bar.set_description_str(f"{self.name}: {what.split()[0]}")
        elif self.show:
            print(f"{self.name}: {what}", file=sys.stderr, flush=True)


class _Example(NamedTuple):
    """One dataset to draw: three columns, and the two informative ones alone."""

    x: np.ndarray  # (n, 3)
    erased: np.ndarray  # (n, 3)
    direction: np.ndarray  # (3,)
    center: np.ndarray  # (3,)
    plane: np.ndarray  # (2, n, 2), before and after
    plane_direction: np.ndarray  # (2,)
    weight: np.ndarray  # (2, probe, 2), before and after
    bias: np.ndarray  # (2, probe)
    accuracy: np.ndarray  # (2, probe)
    z: np.ndarray  # (n,)


def _example(key: jax.Array, x: jax.Array, z: jax.Array) -> dict[str, jax.Array]:
    """Returns what the pictures show of raw rows (n, 3), erased by their mean difference.

    The plane is drawn for the two informative columns alone, with an eraser and probes fitted to
    those, so that the boundaries are lines and not cuts through something of three dimensions. They
    hold the same values.
    """
    eraser = MeanDifference().fit(x, z, num_classes=2)
    flat = x[:, :2]
    plane_eraser = MeanDifference().fit(flat, z, num_classes=2)
    direction = plane_eraser.kernel[:, 0]
    plane = jnp.stack([flat, plane_eraser(flat)])

    def read(rows):
        fitted = [getattr(probes, name)().fit(rows, z, num_classes=2) for name in PROBES]
        weight, bias = _stack([(p.weight, p.bias) for p in fitted])
        return weight, bias, jnp.stack([metrics.accuracy(p, rows, z) for p in fitted])

    weight, bias, accuracy = jax.vmap(read)(plane)
    # What is left is a line: along it the best threshold needs one number a row.
    along = jnp.stack([direction[1], -direction[0]])
    best = []
    for rows, basis in ((flat, jnp.eye(2)), (plane[1], along[:, None])):
        probe = probes.ZeroOne().fit(rows @ basis, z, num_classes=2, key=key)
        best.append((basis @ probe.weight, probe.bias, metrics.accuracy(probe, rows @ basis, z)))
    best_weight, best_bias, best_accuracy = _stack(best)
    return dict(
        x=x,
        erased=eraser(x),
        direction=eraser.kernel[:, 0],
        center=eraser.center,
        plane=plane,
        plane_direction=direction,
        weight=jnp.concatenate([weight, best_weight[:, None]], axis=1),
        bias=jnp.concatenate([bias, best_bias[:, None]], axis=1),
        accuracy=jnp.concatenate([accuracy, best_accuracy[:, None]], axis=1),
        z=z,
    )


def to_table(results: Results) -> Any:
    """Returns the results in long format: one row a dataset, data, eraser, probe and protocol.

    Args:
      results: from `run`.

    Returns:
      A `pyarrow.Table`; the field metadata say what each column is.
    """
    pa = report.require("pyarrow", "sweep")
    convex = _long(results.convex, PROTOCOLS, ("true",) * 2, PROBES)
    zero_one = {name: value[..., None] for name, value in results.zero_one.items()}
    names = (*PROTOCOLS, PROTOCOLS[0])
    zero_one = _long(zero_one, names, ("true", "true", "permuted"), ("ZeroOne",))
    columns, fields = [], []
    for name, meaning in _COLUMNS.items():
        if isinstance(convex[name], tuple):
            words = [*dict.fromkeys(convex[name][1] + zero_one[name][1])]
            codes = [
                np.array([words.index(word) for word in part[1]], np.int8)[part[0]]
                for part in (convex[name], zero_one[name])
            ]
            column = pa.DictionaryArray.from_arrays(np.concatenate(codes), pa.array(words))
        else:
            values = np.concatenate([convex[name], zero_one[name]])
            missing = np.isnan(values) if values.dtype.kind == "f" else None
            column = pa.array(values, mask=missing)
        columns.append(column)
        fields.append(pa.field(name, column.type, metadata={"doc": meaning}))
    return pa.table(columns, schema=pa.schema(fields, metadata={"erasejax.table": "demo"}))


def _long(
    scores: dict[str, np.ndarray],
    protocols: tuple[str, ...],
    labels: tuple[str, ...],
    names: tuple[str, ...],
) -> dict[str, Any]:
    """Returns columns from scores (dataset, data, eraser, protocol, probe).

    A column is an array, or a pair of codes and words.
    """
    shape = scores["accuracy"].shape
    index = [np.tile(grid.ravel(), shape[0]) for grid in np.indices(shape[1:], np.int8)]
    empty = np.full(index[0].size, np.nan, np.float32)
    columns: dict[str, Any] = {name: empty for name in _COLUMNS}
    columns |= {name: value.ravel() for name, value in scores.items()}
    return columns | {
        "dataset": np.repeat(np.arange(shape[0], dtype=np.int32), np.prod(shape[1:])),
        "data": (index[0], DATA),
        "eraser": (index[1], ERASERS),
        "protocol": (index[2], protocols),
        "labels": (index[2], labels),
        "probe": (index[3], names),
    }


def _summary(results: Results) -> list[report.Row]:
    """Returns mean and spread over the datasets of every combination, in the table's order."""
    rows = []
    for i, data in enumerate(DATA):
        for j, eraser in enumerate(ERASERS):
            where = (slice(None), i, j)
            cells: list[tuple[str, str, dict, list[tuple]]] = [
                (name, "true", results.convex, [(*where, p, k) for p in range(2)])
                for k, name in enumerate(PROBES)
            ]
            cells.append(("ZeroOne", "true", results.zero_one, [(*where, 0), (*where, 1)]))
            cells.append(("ZeroOne", "permuted", results.zero_one, [(*where, 2)]))
            for probe, labels, scores, places in cells:
                found = [
                    {
                        name: (float(np.mean(values[at])), float(np.std(values[at])))
                        for name, values in scores.items()
                        if name != "status" and not np.isnan(values[at]).any()
                    }
                    for at in places
                ]
                count = len(scores["accuracy"])
                rows.append(report.Row(data, eraser, probe, labels, count, found))
    return rows


def _first(seed: int) -> _Example:
    """Returns the example of the first dataset."""
    key = jax.random.fold_in(jax.random.key(seed), 0)
    data = DiscreteFeatures().sample(key)
    found = jax.jit(_example)(key, data.x, data.z)
    return _Example(**{name: np.asarray(value) for name, value in found.items()})


def _pictures(example: _Example, results: Results, folder: Path) -> None:
    """Draws the pictures that the page shows."""
    classes = ("negative class", "positive class")
    figure = plots.scatter_3d(
        [
            ("Before: u joins the two class means", example.x),
            ("After x \u2212 ((x \u2212 mean)\u00b7u) u: a plane is left", example.erased),
        ],
        example.z,
        center=example.center,
        normal=example.direction,
        classes=classes,
        columns=("column 0", "column 1", "column 2 (noise)"),
    )
    plots.save(figure, folder / "before_after_3d.png")
    lines = [
        {
            name: (example.weight[i, k], float(example.bias[i, k]), float(example.accuracy[i, k]))
            for k, name in enumerate((*PROBES, "ZeroOne"))
        }
        for i in range(2)
    ]
    figure = plots.boundaries(
        example.plane[0],
        example.plane[1],
        example.z,
        direction=example.plane_direction,
        lines_before=lines[0],
        lines_after=lines[1],
        notes=(
            "drawn with jitter: 25 places",
            "The four convex probes have\nzero weights: no boundary",
        ),
        legend_title="Accuracy on the fitting rows of this dataset, and the boundary:",
        classes=classes,
    )
    plots.save(figure, folder / "boundaries.png")
    raw = DATA.index("raw")
    logistic = results.convex["accuracy"][:, raw, :, :, PROBES.index("Logistic")]
    best = results.zero_one["accuracy"][:, raw]
    columns = {
        f"Logistic, {protocol}\n{len(logistic):,} datasets": logistic[:, :, k]
        for k, protocol in enumerate(PROTOCOLS)
    }
    title = f"ZeroOne, {PROTOCOLS[0]}\n{len(best):,} datasets"
    columns[title] = best[:, :, 0]
    by_eraser = {
        name: dict(zip(ERASERS, scores.T, strict=True)) for name, scores in columns.items()
    }
    figure = plots.histograms(
        by_eraser,
        null={title: dict(zip(ERASERS, best[:, :, 2].T, strict=True))},
        null_name="ZeroOne with permuted labels",
    )
    plots.save(figure, folder / "accuracy.png")


def run_demo(
    *,
    out: str | Path = "erasejax-demo",
    datasets: int = 4096,
    seed: int = 0,
    force: bool = False,
) -> Path:
    """Runs the experiment, prints its table and writes a folder with data, pictures and a page.

    The folder holds index.html, results.parquet and the pictures. They are made in a temporary
    folder beside it and put in place at the end; other files in it are never touched.

    Args:
      out: the folder.
      datasets: how many datasets; `ZeroOne` sees the first 256.
      seed: of all draws.
      force: whether to overwrite the demo's files in a folder that is not empty.

    Returns:
      The path of the page.

    Raises:
      FileExistsError: `out` has something in it and `force` is False, or it is a file.
      ModuleNotFoundError: an extra is not installed.
      ValueError: datasets is not positive.
    """
    if datasets < 1:
        raise ValueError(f"datasets: expected at least 1, got {datasets}")
    for module, extra in _EXTRAS.items():
        report.require(module, extra)
    started = time.perf_counter()
    with _folder(Path(out), force) as folder:
        with ThreadPoolExecutor(1) as beside:
            example = beside.submit(_first, seed)
            results = run(datasets=datasets, seed=seed, progress=True)
        _check(results)
        rows = _summary(results)
        report.require("pyarrow.parquet", "sweep").write_table(
            to_table(results), folder / "results.parquet", compression="zstd"
        )
        _pictures(example.result(), results, folder)
        facts = report.Facts(datasets=datasets, seed=seed, seconds=time.perf_counter() - started)
        page = report.page(rows, facts, protocols=PROTOCOLS)
        (folder / "index.html").write_text(page, encoding="utf-8")
    report.show(rows, protocols=PROTOCOLS)
    page_path = Path(out) / "index.html"
    print(f"{time.perf_counter() - started:.0f} s. The page: {page_path}")
    return page_path


def _check(results: Results) -> None:
    """Raises if a trial failed.

    Raises:
      ValueError: an eraser or a probe has an error bit.
    """
    for scores in results:
        bad = int(np.sum((scores["status"] & 0xFFFF) != 0))
        if bad:
            raise ValueError(f"{bad} of {scores['status'].size} trials failed")


@contextlib.contextmanager
def _folder(out: Path, force: bool) -> Generator[Path]:
    """Gives a temporary folder beside `out`, and puts its files into `out` if all went well.

    Raises:
      FileExistsError: `out` has something in it and `force` is False, or it is a file.
    """
    if out.exists() and not out.is_dir():
        raise FileExistsError(f"{out} is a file, not a folder; choose another place")
    if out.is_dir() and not force and any(out.iterdir()):
        raise FileExistsError(
            f"{out} is not empty; choose another folder, or overwrite with force=True (--force)"
        )
    place = out.resolve()
    place.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{place.name}-", dir=place.parent))
    try:
        yield folder
        place.mkdir(exist_ok=True)
        for name in sorted(os.listdir(folder), key=lambda name: name.endswith(".html")):
            os.replace(folder / name, place / name)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
