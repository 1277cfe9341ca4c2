"""The command `probe`: scores before and after, under two protocols spelled out.

One set of rows: eraser, probe and score see the same rows. There an erased label has exactly zero
weights, whatever the number of rows. Fresh rows: the eraser is fitted on rows A, the probe on B,
and C is scored, so that the estimation error of the eraser shows.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from rich.console import Console

from erasejax import metrics
from erasejax._core.pytrees import Tree, static
from erasejax._core.status import describe, raise_if_failed
from erasejax._core.text import lines_of, show
from erasejax.cli._arguments import (
    Columns,
    Encoding,
    Labels,
    OptionalFile,
    X,
    check_seed,
    configure,
    needs_files,
)
from erasejax.cli._common import check_dims, load_eraser
from erasejax.cli._verdict import in_groups, sentences, shares
from erasejax.erasers import Eraser, FittedEraser
from erasejax.files import (
    check_rows,
    open_features,
    parse,
    read_groups,
    read_labels,
    read_labels_again,
)
from erasejax.names import known, look_up
from erasejax.probes import Probe
from erasejax.rows import Dataset, split_groups, split_rows

__all__ = ["Line", "Protocol", "probe", "render", "scores"]


@struct.dataclass(kw_only=True)
class _Answers(Tree):
    """Predicts of rows what their one feature says: of one type for all probes, so one program."""

    status: jax.Array
    num_classes: int = static()

    def predict(self, x: jax.Array) -> jax.Array:
        """Returns the labels that x (n, 1) holds."""
        return x[:, 0].astype(jnp.int32)


@dataclasses.dataclass(frozen=True)
class Line:
    """Scores of one probe, before or after erasing.

    Attributes:
      probe: name of the probe.
      when: "before" or "after".
      scores: by name; None where the probe has no such score.
      interval: of the accuracy, 95%, for other rows to score; the probe is the same.
      warning: what the fitted probe warns of, or "".
    """

    probe: str
    when: str
    scores: dict[str, float | None]
    interval: tuple[float, float]
    warning: str


@dataclasses.dataclass(frozen=True)
class Protocol:
    """The scores under one protocol.

    Attributes:
      title: which rows the eraser, the probe and the score saw.
      majority: share of the most frequent class among the rows scored.
      damage: what erasing cost on the rows scored, as a share of the variance of x.
      rank: dimensions removed.
      leak: what linear probes could read after erasing.
      lines: two for each probe.
    """

    title: str
    majority: float
    damage: float
    rank: int
    leak: metrics.LinearLeak
    lines: tuple[Line, ...]


def probe(
    x: X,
    labels: Labels,
    /,
    *,
    method: str | None = None,
    eraser: str | None = None,
    probes: str = "logistic,lda,mean-difference",
    groups: OptionalFile = None,
    keep_mean: bool = True,
    seed: int = 0,
    drop: Columns = None,
    encoding: Encoding = None,
    weights: bool = False,
) -> None:
    """Show what probes read before and after erasing.

    Two protocols. One set of rows: eraser, probe and score see the same rows. Fresh rows: the
    eraser is fitted on a third of the rows, the probe on another, and the last is scored.
    Beside the accuracy stands its 95% bootstrap interval for other rows to score. Below the
    scores it says what linear probes could read of the erased rows; on rows that the eraser
    has not seen, with a test and the smallest leak that the test would find.

    Rows of one name, sentence or template are not independent: intervals are too short and the
    test finds leaks that are none. Say with --groups which rows belong together.

    Args:
      x: features, (rows, features).
      labels: one class label a row.
      method: how to erase, {erasers}; mean-difference if nothing is said.
      eraser: file of an eraser fitted elsewhere, instead of a method.
      probes: {probes}; commas between.
      groups: which rows belong together, one id a row, integers or text; no group is split.
      keep_mean: project about the mean of the rows, not about the origin.
      seed: of the split, and of methods and probes that draw.
      drop: columns of a table that are no features; names and patterns, commas between.
      encoding: of text in the files, such as cp1252; UTF-8 if nothing is said.
      weights: also show how long the weight vectors of linear probes are, per sd of x.
    """
    check_seed(seed)
    summary, protocols = scores(
        x,
        labels,
        method=method,
        eraser=eraser,
        probes=probes,
        groups=groups,
        keep_mean=keep_mean,
        seed=seed,
        drop=drop,
        encoding=encoding,
    )
    console = Console()
    if not console.is_terminal:
        console.width = 110
    print(lines_of(summary))
    for title, table, caption in render(protocols, weights=weights):
        print(f"\n{lines_of(title)}")
        console.print(table)
        print(lines_of(caption))


def scores(
    x: str,
    labels: str,
    *,
    method: str | None = None,
    eraser: str | None = None,
    probes: str = "logistic,lda,mean-difference",
    groups: str | None = None,
    keep_mean: bool = True,
    seed: int = 0,
    drop: str | None = None,
    encoding: str | None = None,
) -> tuple[str, list[Protocol]]:
    """Scores probes before and after erasing; the arguments are those of `probe`.

    Returns:
      What rows there are, and one `Protocol` with `eraser`, else two.

    Raises:
      ValueError: the input cannot be used, or fitting failed.
    """
    fitted, notes = None, {}
    if eraser is not None:
        if method is not None or not keep_mean:
            raise ValueError("--eraser brings its own method; leave out --method and --keep-mean")
        fitted, notes = load_eraser(eraser)
    config = None
    if fitted is None:
        method = method or "mean-difference"
        if needs_files(look_up("eraser", method)):
            raise ValueError(f"{method}: fit it first and give the file as --eraser")
        config = configure(method, {} if keep_mean else {"keep_mean": False})
    names = list(dict.fromkeys(name.strip() for name in probes.split(",")))
    kinds = {name: look_up("probe", name, Probe)() for name in names}
    columns = notes.get("columns")
    features = open_features(
        parse(x, encoding), labels=labels, groups=groups, columns=columns, drop=drop
    )
    if fitted and fitted.needs_z and notes.get("class_names"):  # it reads labels, by their numbers
        concepts = read_labels_again(parse(labels, encoding), notes["class_names"])
    else:
        concepts = read_labels(parse(labels, encoding), concept="classes")
    check_rows(features, concepts)
    together = None
    summary = f"{len(concepts.values)} rows"
    if groups is not None:
        together = read_groups(parse(groups, encoding))
        check_rows(features, together, what="group ids")
        summary += f" in {len(together.names or ())} groups"
    k = len(concepts.names or ())
    if k != 2 and "zero-one" in kinds:
        raise ValueError(f"{labels}: the probe zero-one separates 2 classes, got {k}")
    if fitted and eraser:
        check_dims(fitted, eraser, features)
        if fitted.needs_z and not notes.get("class_names"):
            raise ValueError(f"{eraser}: reads a real concept; the probes here read classes")
    summary += f", {concepts}"
    count = 2 if fitted else 3
    if together is None:
        parts = split_rows(concepts.values, count, seed=seed, names=concepts.names or ())
    else:
        parts = split_groups(
            concepts.values,
            together.values,
            count,
            seed=seed,
            names=concepts.names or (),
            source=together.source,
        )
        if told := shares(concepts, parts):
            summary += f"\n{told}"
    every = features.array(exact=True)

    def rows(index: np.ndarray | slice) -> Dataset:
        z = jnp.asarray(concepts.values[index])
        x: Any = every[index]
        return Dataset(x=x, z=z, num_classes=k)

    def ids(index: np.ndarray | slice) -> np.ndarray | None:
        return None if together is None else together.values[index]

    key = jax.random.key(seed)
    if fitted:
        b, c = map(rows, parts)
        its = [ids(part) for part in parts]
        title = (
            f"Fresh rows: eraser fitted elsewhere ({show(str(eraser))}), probe on {len(b.z)} rows "
            f"B{in_groups(its[0])}, score on {len(c.z)} others C{in_groups(its[1])}"
        )
        return summary, [_protocol(title, fitted, kinds, b, c, its, key, held_out=True)]
    assert config is not None
    whole, its = rows(slice(None)), [ids(slice(None))] * 2
    a, b, c = map(rows, parts)
    title = (
        "One set of rows: eraser, probe and score on the same "
        f"{len(whole.z)} rows{in_groups(its[0])}"
    )
    same = _protocol(title, _fit(config, whole, key), kinds, whole, whole, its, key, held_out=False)
    of_a, *its = (ids(part) for part in parts)
    title = (
        f"Fresh rows: eraser on {len(a.z)} rows A{in_groups(of_a)}, probe on {len(b.z)} rows "
        f"B{in_groups(its[0])}, score on {len(c.z)} rows C{in_groups(its[1])}"
    )
    fresh = _protocol(title, _fit(config, a, key), kinds, b, c, its, key, held_out=True)
    return summary, [same, fresh]


def render(protocols: list[Protocol], *, weights: bool = False) -> list[tuple[str, object, str]]:
    """Returns the scores of each protocol as a title, a rich table and a caption.

    Args:
      protocols: what `probe` returned.
      weights: add the length of the probes' weight vectors.
    """
    from rich.table import Table

    tables = []
    for protocol in protocols:
        names = [n for n in protocol.lines[0].scores if weights or n != "|weight|"]
        table = Table("probe", "")
        for name in names:
            table.add_column(name, justify="right")
            if name == "accuracy":
                table.add_column("95% interval", justify="right")
        warnings = []
        for line in protocol.lines:
            cells = []
            for name in names:
                cells.append(_number(line.scores[name]))
                if name == "accuracy":
                    cells.append(f"{line.interval[0]:.3f}-{line.interval[1]:.3f}")
            first = line.probe if line.when == "before" else ""
            table.add_row(first, line.when, *cells, end_section=line.when == "after")
            if line.warning:
                warnings.append(f"{line.probe}, {line.when}: {line.warning}")
        caption = (
            f"majority rate {protocol.majority:.4f}, the accuracy of knowing nothing; damage "
            f"{protocol.damage:.4f} of the variance; dimensions removed {protocol.rank}"
        )
        tables.append((
            protocol.title,
            table,
            "\n".join([caption, *sentences(protocol.leak), *warnings]),
        ))
    return tables


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _length(fitted: Any, x: jax.Array) -> float | None:
    """Returns the length of a probe's weights in units of the features' spread; None without."""
    if not hasattr(fitted, "weight"):
        return None
    sd, weight = np.std(np.asarray(x, np.float64), axis=0), np.asarray(fitted.weight)
    return float(np.linalg.norm(weight.T * sd))


def _fit(config: Eraser[FittedEraser], data: Dataset, key: jax.Array) -> FittedEraser:
    return raise_if_failed(config.fit(data, key=key))


def _protocol(
    title: str,
    eraser: FittedEraser,
    kinds: dict[str, Any],
    train: Dataset,
    test: Dataset,
    groups: list[Any],
    key: jax.Array,
    *,
    held_out: bool,
) -> Protocol:
    """Fits every probe on `train`, before and after erasing, and scores it on `test`.

    `groups` are those of the rows of each, or None.
    """

    def erase(part: Dataset) -> np.ndarray:
        x = np.asarray(part.x)
        return metrics.erase(eraser, x, part.z, x.dtype)

    every = [kind() for kind in known("metric").values()]
    shown = [metric for metric in every if metric.of == "probe" and metric.title]
    lines = []
    for name, kind in kinds.items():
        for when in ("before", "after"):
            data = [
                part if when == "before" else dataclasses.replace(part, x=erase(part))
                for part in (train, test)
            ]
            fitted = raise_if_failed(kind.fit(data[0], key=key))
            there = metrics.offered(data[1], kind, fitted)
            scores = {
                metric.title: float(metric.compute(fitted, data[1]))
                if metric.needs <= there
                else None
                for metric in shown
            }
            scores["|weight|"] = _length(fitted, train.x)
            warning = "; ".join(describe(int(fitted.status)))
            answers = np.asarray(fitted.predict(data[1].x), np.float32)[:, None]
            interval = metrics.bootstrap(
                metrics.accuracy,
                _Answers(status=fitted.status, num_classes=fitted.num_classes),
                data[1].replace(x=jnp.asarray(answers)),
                key=key,
                groups=groups[1],
            )
            ends = float(interval.low), float(interval.high)
            lines.append(Line(name, when, scores, ends, warning))
    # Rows that the eraser has not seen are all as good for the test.
    left = [dataclasses.replace(part, x=erase(part)) for part in (train, test)]
    whole, together = left[0], groups[0]
    if held_out:
        if together is not None:
            together = np.concatenate(groups)
        x, z = (np.concatenate([np.asarray(getattr(part, n)) for part in left]) for n in ("x", "z"))
        whole = dataclasses.replace(whole, x=x, z=z)
    return Protocol(
        title,
        float(metrics.majority_rate(test.z, num_classes=test.num_classes)),
        float(metrics.damage(test.x, erase(test))),
        int(eraser.rank),
        metrics.linear_leak(whole, held_out=held_out, key=key, groups=together),
        tuple(lines),
    )
