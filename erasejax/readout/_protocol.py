"""One protocol: probes of the concept and of the task, before erasing and after.

One set of rows: eraser, probe and score see the same rows. There an erased label has exactly zero
weights, whatever the number of rows. Fresh rows: the eraser is fitted on rows A, the probe on B,
and C is scored, so that the estimation error of the eraser shows.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from erasejax import metrics
from erasejax._core.pytrees import Tree, static
from erasejax._core.status import describe, raise_if_failed
from erasejax.erasers import FittedEraser
from erasejax.metrics import Metric
from erasejax.names import known
from erasejax.probes import Probe
from erasejax.readout._found import Line, Protocol
from erasejax.rows import Dataset
from erasejax.statistics import conditional_rows

__all__ = ["Part", "protocol"]


@struct.dataclass(kw_only=True)
class _Answers(Tree):
    """Predicts of rows what their one feature says: of one type for all probes, so one program."""

    status: jax.Array
    num_classes: int = static()

    def predict(self, x: jax.Array) -> jax.Array:
        """Returns the labels that x (n, 1) holds."""
        return x[:, 0].astype(jnp.int32)


@dataclasses.dataclass(frozen=True)
class Part:
    """Rows of one part of a split.

    Attributes:
      data: features and the concept; with the task where there is one.
      task: (n,) classes of the task, or None.
      tasks: how many classes the task has.
      groups: (n,) which rows belong together, or None.
    """

    data: Dataset
    task: np.ndarray | None
    tasks: int
    groups: np.ndarray | None

    @property
    def of_concept(self) -> Dataset:
        """The rows and the concept alone."""
        return dataclasses.replace(self.data, task=None)

    @property
    def of_task(self) -> Dataset:
        """The rows with the task as their concept, and the concept's classes in its place."""
        z, k = np.asarray(self.data.z), self.data.num_classes
        assert k is not None
        groups: Any = np.asarray(z[:, None] == np.arange(k), np.float32)
        return Dataset(x=self.data.x, z=jnp.asarray(self.task), num_classes=self.tasks, task=groups)

    def erased(self, eraser: FittedEraser) -> "Part":
        """Returns the same rows without the concept."""
        x = np.asarray(self.data.x)
        erased: Any = metrics.erase(eraser, x, self.data.z, x.dtype)
        return dataclasses.replace(self, data=dataclasses.replace(self.data, x=erased))


def protocol(
    title: str,
    eraser: FittedEraser,
    probes: Mapping[str, Probe],
    train: Part,
    test: Part,
    key: jax.Array,
    *,
    held_out: bool,
    given: str,
    intervals: bool,
) -> Protocol:
    """Fits every probe on `train`, before and after erasing, and scores it on `test`.

    Args:
      title: which rows these are.
      eraser: what erases.
      probes: by name.
      train: rows for the probes.
      test: rows to score.
      key: of what draws.
      held_out: whether the eraser has not seen these rows.
      given: what the eraser erases: "none", or within the classes of the task.
      intervals: whether to draw other rows to score; NaN if not.

    Raises:
      FailedLanesError: a probe cannot be fitted.
    """
    erased = [part.erased(eraser) for part in (train, test)]
    both = {"before": [train, test], "after": erased}
    spread = np.std(np.asarray(train.data.x, np.float64), axis=0)
    every = [metric() for metric in known("metric").values()]
    shown = [metric for metric in every if metric.of == "probe" and metric.title]

    def lines(of_task: bool) -> tuple[Line, ...]:
        found = []
        for name, probe in probes.items():
            for when, parts in both.items():
                fit, score = (part.of_task if of_task else part.of_concept for part in parts)
                fitted = raise_if_failed(probe.fit(dataclasses.replace(fit, task=None), key=key))
                ids = test.groups
                found.append(
                    _line(name, when, probe, fitted, score, shown, spread, key, ids, intervals)
                )
        return tuple(found)

    return Protocol(
        title=title,
        majority=_majority(test.of_concept),
        task_majority=None if test.task is None else _majority(test.of_task),
        damage=float(metrics.damage(test.data.x, erased[1].data.x)),
        rank=int(eraser.rank),
        leaks=(_leak(erased, key, held_out=held_out, given=given),),
        within=given != "none",
        lines=lines(of_task=False),
        task_lines=() if test.task is None else lines(of_task=True),
    )


def _line(
    name: str,
    when: str,
    probe: Probe,
    fitted: Any,
    score: Dataset,
    shown: list[Metric],
    spread: np.ndarray,
    key: jax.Array,
    groups: np.ndarray | None,
    intervals: bool,
) -> Line:
    """Returns what a fitted probe scores; metrics that compare groups are of its answers alone."""
    there = metrics.offered(score, probe, fitted)
    own, fair = (
        [m for m in shown if ("task" in m.needs) is of_groups] for of_groups in (False, True)
    )
    scores = {
        metric.title: float(metric.compute(fitted, score)) if metric.needs <= there else None
        for metric in own
    }
    scores["|weight|"] = _length(fitted, spread)
    predicted = np.asarray(fitted.predict(score.x))
    answers = _Answers(status=fitted.status, num_classes=fitted.num_classes)
    answered = score.replace(x=jnp.asarray(predicted.astype(np.float32)[:, None]))
    fairness: dict[str, float | None] = {
        metric.title: float(metric.compute(answers, answered))
        for metric in fair
        if metric.needs <= there
    }
    ends = np.nan, np.nan
    if intervals:
        interval = metrics.bootstrap(
            metrics.accuracy, answers, answered.replace(task=None), key=key, groups=groups
        )
        ends = float(interval.low), float(interval.high)
    return Line(
        probe=name,
        when=when,
        scores=scores,
        fairness=fairness,
        interval=ends,
        halves={},
        counts=_counts(score, predicted),
        warning="; ".join(describe(int(fitted.status))),
    )


def _counts(score: Dataset, predicted: np.ndarray) -> np.ndarray:
    """Returns how many rows there are by label, group and prediction, (k, g, k)."""
    k, z = score.num_classes, np.asarray(score.z)
    assert k is not None
    group = np.zeros_like(z) if score.task is None else np.argmax(np.asarray(score.task), axis=1)
    counts = np.zeros((k, 1 if score.task is None else score.task.shape[1], k), np.int64)
    np.add.at(counts, (z, group, predicted), 1)
    return counts


def _majority(data: Dataset) -> float:
    return float(metrics.majority_rate(data.z, num_classes=data.num_classes))


def _length(fitted: Any, spread: np.ndarray) -> float | None:
    """Returns the length of a probe's weights in units of the features' spread; None without."""
    if not hasattr(fitted, "weight"):
        return None
    return float(np.linalg.norm(np.asarray(fitted.weight).T * spread))


def _leak(erased: list[Part], key: jax.Array, *, held_out: bool, given: str) -> metrics.LinearLeak:
    """Returns what is left for linear probes, in all rows that the eraser has not seen.

    Those are all as good for the test.
    """
    parts = erased if held_out else erased[:1]
    names = ("x", "z") if given == "none" else ("x", "z", "task")
    whole = {
        n: np.concatenate([np.asarray(getattr(part.data, n)) for part in parts]) for n in names
    }
    data = dataclasses.replace(parts[0].of_concept, **whole)
    if given != "none":
        data = conditional_rows(data, given)
    groups = [part.groups for part in parts if part.groups is not None]
    return metrics.linear_leak(
        data, held_out=held_out, key=key, groups=np.concatenate(groups) if groups else None
    )
