"""One trial: draw a dataset, erase, probe, score. A pure function of a key.

Rows have three roles, each a part of the dataset of its own: 0 for the eraser, 1 for the probe, 2
to be scored. A protocol says which part a probe is fitted to, and which is scored.
"""

import dataclasses
import zlib
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from erasejax._core import inputs
from erasejax._core.types import FittedEraser
from erasejax.datasets import Generator
from erasejax.erasers import Eraser
from erasejax.metrics import Metric, offered
from erasejax.probes import ContrastProbe, Probe
from erasejax.rows import Dataset, PairNormalization, Pairs, codes
from erasejax.sweep._columns import OF_PROBES, PROTOCOLS, TASK, Columns, metric_names

__all__ = ["LABELS", "Batch", "drawn", "lane_key", "trial", "trials"]

T = TypeVar("T")

LABELS = ("true", "permuted")

Rows: TypeAlias = Dataset | Pairs
Numbers: TypeAlias = dict[str, jax.Array]


class Batch(NamedTuple):
    """Configurations of one structure.

    Attributes:
      configs: one configuration, its leaves with a leading axis.
      words: (v, 4) uint32, what each one's draws are keyed by.
    """

    configs: object
    words: ArrayLike


def lane_key(seed: ArrayLike, words: jax.Array | np.ndarray) -> jax.Array:
    """Returns the key of a dataset: of the seed and what the dataset is, never of where it runs.

    Args:
      seed: () uint32.
      words: (4,) uint32, of the dataset's configuration.
    """
    return _fold(jax.random.key(seed), words)


def _fold(key: jax.Array, words: jax.Array | np.ndarray) -> jax.Array:
    for i in range(4):
        key = jax.random.fold_in(key, words[i])
    return key


def trial(
    key: jax.Array,
    dataset: Generator,
    eraser: Eraser,
    probe: Probe | ContrastProbe,
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
      metrics: static; what to compute, names of metrics: accuracy, balanced_accuracy, auroc,
        log_loss (nats), expected_calibration_error and r2 of the probe; codelength, selectivity and
        v_information of its fit; the same with the prefix task_ for the probe fitted to the task;
        damage and linear_r2 of the erased rows; rank of the eraser; majority_rate of the labels.
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
        inputs.choice("metrics", name, metric_names())
    key = inputs.as_key(key)
    words = np.zeros((1, 4), np.uint32)
    batches = [
        Batch(jax.tree.map(lambda leaf: inputs.as_array("config", leaf)[None], config), words)
        for config in (eraser, probe)
    ]
    columns = Columns(tuple(metrics), tuple(protocols))
    permuted = None if labels == "true" else jnp.asarray(True)
    rows = drawn(key, dataset, columns=columns, permuted=permuted)
    found = trials(key, rows, batches[:1], batches[1:], columns=columns)
    return {name: value[0, 0] for name, value in found.items()}


def drawn(
    key: jax.Array, dataset: Generator, *, columns: Columns, permuted: jax.Array | None = None
) -> Rows:
    """Draws the rows of one dataset, all parts that the columns take.

    Args:
      key: a typed key, the dataset.
      dataset: configuration of a dataset.
      columns: static; the numbers wanted.
      permuted: () bool, whether to permute the labels; None for no.

    Returns:
      Rows as the dataset draws them, with a leading axis of the parts in `columns.parts`.
    """
    return jax.vmap(lambda part: _draw(key, dataset, part, permuted))(jnp.asarray(columns.parts))


def trials(
    key: jax.Array,
    rows: Rows,
    erasers: Sequence[Batch],
    probes: Sequence[Batch],
    *,
    columns: Columns,
) -> Numbers:
    """Runs the trials of one dataset with every eraser and every probe.

    Each eraser is fitted once, and each probe is fitted to each result. Erasers, protocols and
    values of fields are mapped over one after another: under vmap over datasets an iteration so
    runs to the slowest dataset, not to the slowest eraser, and fits to erased rows mostly end at
    once.

    Args:
      key: a typed key, the dataset.
      rows: of the dataset, from `drawn` with the same key.
      erasers: batches, each of one structure.
      probes: the same.
      columns: static; the numbers wanted.

    Returns:
      Numbers by column, each (erasers, probes), in the order of the batches.

    Under jit: pure; vmap over keys and rows. Rows with an axis for datasets in every leaf are
    fastest: products of rows with labels that all share would first copy the rows, transposed.
    """
    place = {part: i for i, part in enumerate(columns.parts)}
    first = _labelled(jax.tree.map(lambda leaf: leaf[0], rows))
    there = offered(first)

    def erase(batch: Batch) -> tuple[Rows, Numbers]:
        def one(given):
            config, words = given
            fitted = config.fit(first, key=_fold(key, words))
            erased = jax.vmap(lambda part: _erased(fitted, part))(rows)
            facts = _numbers(columns.of("eraser"), there, fitted)
            return erased, facts | {"status": fitted.status}

        return jax.lax.map(one, (batch.configs, jnp.asarray(batch.words)))

    erased, facts = _join([erase(batch) for batch in erasers])
    roles = np.array([[place[part] for part in PROTOCOLS[name]] for name in columns.protocols])

    def read(index: jax.Array) -> Numbers:
        """Returns the numbers of every probe, (probes,), for one eraser and protocol."""
        eraser, protocol = index // len(roles), index % len(roles)
        fitting, scoring = jnp.asarray(roles)[protocol]
        fit = jax.tree.map(lambda leaf: leaf[eraser, fitting], erased)
        score = jax.tree.map(lambda leaf: leaf[eraser, scoring], erased)
        before = jax.tree.map(lambda leaf: leaf[scoring], rows)
        found = [
            jax.lax.map(
                lambda given: _read(given[0], _fold(key, given[1]), fit, score, columns),
                (batch.configs, jnp.asarray(batch.words)),
            )
            for batch in probes
        ]
        return {
            **_join(found),
            **_numbers(columns.of("rows"), there, _labelled(fit)),
            **_numbers(
                columns.of("change"), there, _features(before), _features(score), **_weights(score)
            ),
        }

    count = facts["status"].shape[0]
    found = jax.lax.map(read, jnp.arange(count * len(roles)))
    found = {
        name: value.reshape(count, len(roles), *value.shape[1:]) for name, value in found.items()
    }
    facts |= _numbers(columns.of("labels"), there, first)
    return _by_column(found, facts, columns)


def _numbers(
    metrics: dict[str, Metric], there: frozenset[str], *given: object, **options: object
) -> Numbers:
    """Returns metrics of what is given, () each; NaN where what they need is not there."""
    return {
        name: metric.compute(*given, **options) if metric.needs <= there else jnp.float32(jnp.nan)
        for name, metric in metrics.items()
    }


def _by_column(found: Numbers, facts: Numbers, columns: Columns) -> Numbers:
    """Returns the numbers wanted, each (erasers, probes).

    Args:
      found: (erasers, protocols) or (erasers, protocols, probes).
      facts: what no protocol changes, () or (erasers,), and the status of the erasers.
      columns: the numbers wanted.
    """
    status = facts["status"][:, None] | jax.lax.reduce(
        found["status"], np.uint32(0), jax.lax.bitwise_or, (1,)
    )
    shape = status.shape
    result = {}
    for name in columns.metrics:
        if name in facts:
            result[name] = jnp.broadcast_to(facts[name][..., None], shape)
            continue
        value = found[name]
        value = value[..., None] if value.ndim == 2 else value
        for i, protocol in enumerate(columns.protocols):
            result[f"{name}_{protocol}"] = jnp.broadcast_to(value[:, i], shape)
    return result | {"status": status}


def _draw(key: jax.Array, dataset: Generator, part: jax.Array, permuted: jax.Array | None) -> Rows:
    rows: Rows = dataset.sample(key, part=part)
    if permuted is None:
        return rows
    own = jax.random.fold_in(jax.random.fold_in(key, zlib.crc32(b"permuted labels")), part)

    def shuffled(z: jax.Array) -> jax.Array:
        return jnp.where(permuted, jax.random.permutation(own, z), z)

    if isinstance(rows, Dataset) and rows.seen is not None:
        # Only among rows that count: the place of each, and the same in random order.
        last, numbers = (~rows.seen).astype(jnp.int32), jnp.arange(rows.x.shape[0])
        bits = jax.random.bits(own, numbers.shape, jnp.uint32)
        places = jax.lax.sort((last, numbers), num_keys=1)[1]
        others = jax.lax.sort((last, bits, numbers), num_keys=2)[2]
        mixed = rows.z.at[places].set(rows.z[others])
        return dataclasses.replace(rows, z=jnp.where(permuted, mixed, rows.z))

    if isinstance(rows, Pairs):
        assert rows.labels is not None
        return dataclasses.replace(rows, labels=shuffled(rows.labels))
    return dataclasses.replace(rows, z=shuffled(rows.z))


def _labelled(rows: Rows, normal: PairNormalization | None = None) -> Dataset:
    """Returns rows with their concept; of pairs the differences, with the truth.

    Args:
      rows: labelled rows, or pairs.
      normal: how pairs are normalised; None for their own statistics.
    """
    if isinstance(rows, Dataset):
        return rows
    return (normal or PairNormalization.of(rows)).differences(rows)


def _weights(rows: Rows) -> dict[str, jax.Array]:
    """Returns the weights of rows, where they have some, for metrics of features alone."""
    if isinstance(rows, Pairs) or rows.weights is None:
        return {}
    return {"weights": rows.weights}


def _features(rows: Rows) -> jax.Array:
    if isinstance(rows, Pairs):
        return jnp.concatenate([rows.positive, rows.negative])
    return rows.x


def _erased(eraser: FittedEraser, rows: Rows) -> Rows:
    """Returns rows after erasing; both halves of pairs.

    Raises:
      TypeError: the eraser reads labels, and the rows are pairs.
    """
    if not isinstance(rows, Pairs):
        x = eraser(rows.x, rows.z) if eraser.needs_z else eraser(rows.x)
        return dataclasses.replace(rows, x=x)
    if eraser.needs_z:
        raise TypeError(f"eraser: {type(eraser).__name__} reads labels, which halves do not have")
    return dataclasses.replace(rows, positive=eraser(rows.positive), negative=eraser(rows.negative))


def _read(
    probe: Probe | ContrastProbe, key: jax.Array, fit: Rows, score: Rows, columns: Columns
) -> Numbers:
    """Returns the numbers of one probe, () each, and its status."""
    if isinstance(probe, ContrastProbe):
        return _read_pairs(probe, key, fit, score, columns)
    normal = PairNormalization.of(fit) if isinstance(fit, Pairs) else None
    fit, score = _labelled(fit, normal), _labelled(score, normal)
    found, status = _scores(probe, key, fit, score, columns.of(*OF_PROBES))
    if wanted := columns.of("task"):
        task, other = _scores(probe, key, _of_task(fit), _of_task(score), wanted)
        found |= {TASK + name: value for name, value in task.items()}
        status |= other
    return found | {"status": status}


def _read_pairs(
    probe: ContrastProbe, key: jax.Array, fit: Rows, score: Rows, columns: Columns
) -> Numbers:
    """Returns the numbers of a contrast probe, its sign set by the labels of its own rows.

    Raises:
      TypeError: the dataset has no pairs.
    """
    if not isinstance(fit, Pairs):
        raise TypeError(f"probe: {type(probe).__name__} reads contrast pairs, as of ContrastPairs")
    fitted = probe.fit(fit, key=key).oriented(fit)
    found = {
        name: metric.compute(fitted, score) if metric.of_pairs else jnp.float32(jnp.nan)
        for name, metric in columns.of(*OF_PROBES).items()
    }
    found |= {TASK + name: jnp.float32(jnp.nan) for name in columns.of("task")}
    return found | {"status": fitted.status}


def _scores(
    probe: Probe, key: jax.Array, fit: Dataset, score: Dataset, wanted: dict[str, Metric]
) -> tuple[Numbers, jax.Array]:
    """Returns metrics of a probe, () each, and its status."""
    fitted = probe.fit(fit, key=key)
    there, found = offered(score, probe, fitted), {}
    for name, metric in wanted.items():
        given, options = (fitted, score), {}
        if metric.of == "fit":
            own = jax.random.fold_in(key, zlib.crc32(name.encode()))
            given, options = (probe, fitted, fit, score), {"key": own}
        found |= _numbers({name: metric}, there, *given, **options)
    return found, fitted.status


def _of_task(data: Dataset) -> Dataset:
    """Returns rows with the task in place of the concept, and classes in place of the task.

    Raises:
      ValueError: there is none, or it is not one column.
    """
    if data.task is None or data.task.reshape(len(data.x), -1).shape[1] != 1:
        raise ValueError("metrics: task_ needs a dataset with a binary task, such as two-concepts")
    z = (data.task.reshape(-1) > 0.5).astype(jnp.int32)
    other = codes(data, data.x.dtype)[0] if data.is_classes else None
    return Dataset(x=data.x, z=z, num_classes=2, task=other, weights=data.weights)


def _join(trees: Sequence[T]) -> T:
    """Returns trees as one, joined along their first axes."""
    if len(trees) == 1:
        return trees[0]
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *trees)
