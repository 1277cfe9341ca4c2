"""One trial: draw a dataset, erase, probe, score. A pure function of a key.

Rows have three roles, each a part of the dataset of its own: 0 for the eraser, 1 for the probe, 2
to be scored. `PROTOCOLS` says which part a probe is fitted to, and which is scored.
"""

import dataclasses
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from erasejax import metrics
from erasejax._core import inputs
from erasejax.probes import ContrastProbe
from erasejax.rows import Dataset, PairNormalization, Pairs

__all__ = [
    "LABELS",
    "METRICS",
    "PROTOCOLS",
    "Ask",
    "Stack",
    "drawn",
    "drawn_parts",
    "lane_key",
    "trial",
    "trials",
]

# Parts that the probe is fitted to and scored on; the eraser is always fitted to part 0.
PROTOCOLS: Mapping[str, tuple[int, int]] = {"fitting": (0, 0), "fresh": (1, 2)}
LABELS = ("true", "permuted")

_DECISIONS: Mapping[str, Callable] = {
    "accuracy": metrics.accuracy,
    "balanced_accuracy": metrics.balanced_accuracy,
    "auroc": metrics.auroc,
}
_SCORES = {**_DECISIONS, "log_loss": metrics.log_loss, "r2": metrics.r2}
_TASK = "task_"
# Of the erased rows by protocol, whatever the probe; and of eraser and dataset alone.
_ERASED, _PLAIN = ("damage", "linear_r2"), ("rank", "majority_rate")
METRICS = (*_SCORES, *_ERASED, *_PLAIN, *(_TASK + name for name in _SCORES))


@dataclasses.dataclass(frozen=True)
class Ask:
    """Which numbers a trial computes.

    Attributes:
      metrics: names, of `METRICS`. With the prefix task_ the probe is fitted to the task, too.
      protocols: names, of `PROTOCOLS`.
    """

    metrics: tuple[str, ...]
    protocols: tuple[str, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the numbers: metric_protocol, and those that have no protocol."""
        found = []
        for name in self.metrics:
            spread = [f"{name}_{protocol}" for protocol in self.protocols]
            found += [name] if name in _PLAIN else spread
        return (*found, "status")

    @property
    def scores(self) -> tuple[str, ...]:
        """The metrics of the probe for the concept."""
        return tuple(name for name in self.metrics if name in _SCORES)

    @property
    def task_scores(self) -> tuple[str, ...]:
        """The metrics of the probe for the task, without their prefix."""
        return tuple(name[len(_TASK) :] for name in self.metrics if name.startswith(_TASK))


class Stack(NamedTuple):
    """Configurations of one structure.

    Attributes:
      configs: one configuration, its leaves with a leading axis.
      words: (v, 4) uint32, what each one's draws are keyed by.
    """

    configs: Any
    words: Any


def drawn_parts(ask: Ask) -> list[int]:
    """Returns the parts of a dataset that are drawn."""
    return sorted({0, *(part for name in ask.protocols for part in PROTOCOLS[name])})


def lane_key(seed: ArrayLike, words: Any) -> jax.Array:
    """Returns the key of a dataset: of the seed and what the dataset is, never of where it runs.

    Args:
      seed: () uint32.
      words: (4,) uint32, of the dataset's configuration.
    """
    return _fold(jax.random.key(seed), words)


def _fold(key: jax.Array, words: Any) -> jax.Array:
    for i in range(4):
        key = jax.random.fold_in(key, words[i])
    return key


def trial(
    key: jax.Array,
    dataset: Any,
    eraser: Any,
    probe: Any,
    *,
    metrics: Sequence[str] = ("accuracy", "damage", "rank"),
    protocols: Sequence[str] = tuple(PROTOCOLS),
    labels: str = "true",
) -> dict[str, jax.Array]:
    """Draws a dataset, erases its concept, looks for it with a probe, and scores.

    Args:
      key: a typed key, the dataset.
      dataset: configuration of a dataset.
      eraser: configuration of an eraser.
      probe: configuration of a probe; contrast probes for pairs.
      metrics: static; what to compute: accuracy, balanced_accuracy, auroc, log_loss (nats) and r2
        of the probe; the same with the prefix task_ for the probe fitted to the task; damage and
        linear_r2 of the erased rows; rank of the eraser; majority_rate of the labels.
      protocols: static; "fitting": eraser, probe and score on the same rows. "fresh": each on rows
        of its own.
      labels: static; "permuted" permutes the labels of each set of rows before anything is fitted.

    Returns:
      A () number for each metric and protocol, named accuracy_fitting and so on; NaN where the
      probe has no such metric or failed. And `status`, uint32 bits of `erasejax.Status`.

    Raises:
      TypeError: the concept is of a kind that eraser or probe cannot take.
      ValueError: a metric needs a task that the dataset does not have, or an option is unknown.

    Under jit: pure; vmap over keys and over the numeric fields of the three configurations.

    Example:
      >>> dataset, eraser = ej.datasets.GaussianClasses(rows=3, dims=2), ej.SAL()
      >>> probe, options = ej.probes.MeanDifferenceProbe(), {"protocols": ["fitting"]}
      >>> run = jax.jit(lambda key: ej.sweep.trial(key, dataset, eraser, probe, **options))
      >>> sorted(run(jax.random.key(0)))
      ['accuracy_fitting', 'damage_fitting', 'rank', 'status']
    """
    inputs.choice("labels", labels, LABELS)
    for name in protocols:
        inputs.choice("protocols", name, tuple(PROTOCOLS))
    for name in metrics:
        inputs.choice("metrics", name, METRICS)
    key = inputs.as_key(key)
    words = np.zeros((1, 4), np.uint32)
    stacks = [
        Stack(jax.tree.map(lambda leaf: inputs.as_array("config", leaf)[None], config), words)
        for config in (eraser, probe)
    ]
    ask = Ask(tuple(metrics), tuple(protocols))
    permuted = None if labels == "true" else jnp.asarray(True)
    rows = drawn(key, dataset, ask=ask, permuted=permuted)
    found = trials(key, rows, [stacks[0]], [stacks[1]], ask=ask)
    return {name: value[0, 0] for name, value in found.items()}


def drawn(key: jax.Array, dataset: Any, *, ask: Ask, permuted: jax.Array | None = None) -> Any:
    """Draws the rows of one dataset, all parts that are asked for.

    Args:
      key: a typed key, the dataset.
      dataset: configuration of a dataset.
      ask: static; which numbers are wanted.
      permuted: () bool, whether to permute the labels; None for no.

    Returns:
      Rows as the dataset draws them, with a leading axis of the parts in `drawn_parts(ask)`.
    """
    return jax.vmap(lambda part: _draw(key, dataset, part, permuted))(jnp.asarray(drawn_parts(ask)))


def trials(
    key: jax.Array, rows: Any, erasers: Sequence[Stack], probes: Sequence[Stack], *, ask: Ask
) -> dict[str, jax.Array]:
    """Runs the trials of one dataset with every eraser and every probe.

    Each eraser is fitted once, and each probe is fitted to each result. Erasers, protocols and
    values of fields are mapped over one after another: under vmap over datasets an iteration so
    runs to the slowest dataset, not to the slowest eraser, and fits to erased rows mostly end at
    once.

    Args:
      key: a typed key, the dataset.
      rows: of the dataset, from `drawn` with the same key.
      erasers: stacks, each of one structure.
      probes: the same.
      ask: static; which numbers.

    Returns:
      Numbers by name as `trial` has them, each (erasers, probes), in the order of the stacks.

    Under jit: pure; vmap over keys and rows. Rows with an axis for datasets in every leaf are
    fastest: products of rows with labels that all share would first copy the rows, transposed.
    """
    place = {part: i for i, part in enumerate(drawn_parts(ask))}
    first = jax.tree.map(lambda leaf: leaf[0], rows)

    def erase(stack: Stack) -> tuple[Any, dict[str, jax.Array]]:
        def one(given):
            config, words = given
            fitted = config.fit(_labelled(first), key=_fold(key, words))
            erased = jax.vmap(lambda part: _erased(fitted, part))(rows)
            return erased, {"rank": fitted.rank, "status": fitted.status}

        return jax.lax.map(one, (stack.configs, jnp.asarray(stack.words)))

    erased, facts = _join([erase(stack) for stack in erasers], axis=0)
    roles = np.array([[place[part] for part in PROTOCOLS[name]] for name in ask.protocols])

    def read(index: jax.Array) -> dict[str, jax.Array]:
        """Returns the scores of every probe, (probes,), for one eraser and protocol."""
        eraser, protocol = index // len(roles), index % len(roles)
        pick = jnp.asarray(roles)[protocol]
        fit, score = (jax.tree.map(lambda leaf: leaf[eraser, at], erased) for at in pick)  # noqa: B023
        found = [
            jax.lax.map(
                lambda given: _read(given[0], _fold(key, given[1]), fit, score, ask),
                (stack.configs, jnp.asarray(stack.words)),
            )
            for stack in probes
        ]
        scores = _join(found, axis=0)
        if "linear_r2" in ask.metrics:
            scores["linear_r2"] = metrics.linear_r2(_labelled(fit))
        if "damage" in ask.metrics:
            before = jax.tree.map(lambda leaf: leaf[pick[1]], rows)
            scores["damage"] = metrics.damage(_features(before), _features(score))
        return scores

    count = facts["rank"].shape[0]
    scores = jax.lax.map(read, jnp.arange(count * len(roles)))
    scores = {
        name: value.reshape(count, len(roles), *value.shape[1:]) for name, value in scores.items()
    }
    return _columns(scores, facts, _labelled(first), ask)


def _columns(scores: dict, facts: dict, data: Dataset, ask: Ask) -> dict:
    """Returns the asked-for numbers by column, each (erasers, probes)."""
    status = facts["status"][:, None] | jax.lax.reduce(
        scores["status"], np.uint32(0), jax.lax.bitwise_or, (1,)
    )
    shape = status.shape
    found = {}
    for name in ask.metrics:
        if name == "rank":
            found[name] = jnp.broadcast_to(facts[name][:, None], shape)
        elif name == "majority_rate":
            rate = jnp.float32(jnp.nan)
            if data.is_classes:
                rate = metrics.majority_rate(data.z, num_classes=data.num_classes)
            found[name] = jnp.broadcast_to(rate, shape)
        else:
            value = scores[name]
            value = value[..., None] if value.ndim == 2 else value
            for i, protocol in enumerate(ask.protocols):
                found[f"{name}_{protocol}"] = jnp.broadcast_to(value[:, i], shape)
    return found | {"status": status}


def _draw(key: jax.Array, dataset: Any, part: jax.Array, permuted: jax.Array | None) -> Any:
    rows = dataset.sample(key, part=part)
    if permuted is None:
        return rows
    own = jax.random.fold_in(jax.random.fold_in(key, zlib.crc32(b"permuted labels")), part)
    field = "labels" if isinstance(rows, Pairs) else "z"
    z = getattr(rows, field)
    shuffled = jnp.where(permuted, jax.random.permutation(own, z), z)
    return rows.replace(**{field: shuffled})  # pyright: ignore[reportAttributeAccessIssue]


def _labelled(rows: Any) -> Dataset:
    """Returns rows with their concept; of pairs the differences, with the truth."""
    return PairNormalization.of(rows).differences(rows) if isinstance(rows, Pairs) else rows


def _features(rows: Any) -> jax.Array:
    if isinstance(rows, Pairs):
        return jnp.concatenate([rows.positive, rows.negative])
    return rows.x


def _erased(eraser: Any, rows: Any) -> Any:
    """Returns rows after erasing; both halves of pairs.

    Raises:
      TypeError: the eraser reads labels, and the rows are pairs.
    """
    if not isinstance(rows, Pairs):
        return rows.replace(x=eraser(rows.x, rows.z) if eraser.needs_z else eraser(rows.x))
    if eraser.needs_z:
        raise TypeError(f"eraser: {type(eraser).__name__} reads labels, which halves do not have")
    return rows.replace(  # pyright: ignore[reportAttributeAccessIssue]
        positive=eraser(rows.positive), negative=eraser(rows.negative)
    )


def _read(probe: Any, key: jax.Array, fit: Any, score: Any, ask: Ask) -> dict[str, jax.Array]:
    """Returns the scores of one probe, () each, and its status."""
    if isinstance(probe, ContrastProbe):
        return _read_pairs(probe, key, fit, score, ask)
    if isinstance(fit, Pairs):
        normal = PairNormalization.of(fit)
        fit, score = normal.differences(fit), normal.differences(score)
    found, status = _scores(probe, key, fit, score, ask.scores)
    if ask.task_scores:
        task, other = _scores(probe, key, _of_task(fit), _of_task(score), ask.task_scores)
        found |= {_TASK + name: value for name, value in task.items()}
        status |= other
    return found | {"status": status}


def _read_pairs(probe: Any, key: jax.Array, fit: Any, score: Any, ask: Ask) -> dict:
    """Returns the scores of a contrast probe, its sign set by the labels of its own rows.

    Raises:
      TypeError: the dataset has no pairs.
    """
    if not isinstance(fit, Pairs):
        raise TypeError(f"probe: {type(probe).__name__} reads contrast pairs, as of ContrastPairs")
    fitted = probe.fit(fit, key=key).oriented(fit)
    found = {name: jnp.float32(jnp.nan) for name in ask.scores}
    found |= {_TASK + name: jnp.float32(jnp.nan) for name in ask.task_scores}
    if "accuracy" in found:
        found["accuracy"] = fitted.accuracy(score, sign="kept")
    return found | {"status": fitted.status}


def _scores(probe: Any, key: jax.Array, fit: Dataset, score: Dataset, names: Sequence[str]) -> Any:
    fitted = probe.fit(fit, key=key)
    regresses = getattr(probe, "real_concepts", False)
    found = {}
    for name in names:
        known = {
            **dict.fromkeys(_DECISIONS, fit.is_classes),
            "log_loss": fit.is_classes and hasattr(fitted, "log_proba"),
            "r2": regresses,
        }[name]
        found[name] = _SCORES[name](fitted, score) if known else jnp.float32(jnp.nan)
    return found, fitted.status


def _of_task(data: Dataset) -> Dataset:
    """Returns rows with the task in place of the concept.

    Raises:
      ValueError: there is none, or it is not one column.
    """
    if data.task is None or data.task.reshape(len(data.x), -1).shape[1] != 1:
        raise ValueError("metrics: task_ needs a dataset with a binary task, such as two-concepts")
    return Dataset(x=data.x, z=(data.task.reshape(-1) > 0.5).astype(jnp.int32), num_classes=2)


def _join(trees: Sequence[Any], axis: int) -> Any:
    if len(trees) == 1:
        return trees[0]
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves, axis), *trees)
