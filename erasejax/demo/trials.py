"""The experiment on one dataset, as pure functions of a key.

`trial` has the probes trained by a convex loss, `trial_zero_one` the costly search for the best
threshold.
"""

import dataclasses
import zlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from erasejax import metrics, probes
from erasejax.datasets import DiscreteFeatures
from erasejax.erasers import Ablation, Identity, MeanDifference, RandomDirections
from erasejax.probes.base import LinearLikelihood
from erasejax.projection import Projection

__all__ = [
    "DATA",
    "ERASERS",
    "PROBES",
    "PROTOCOLS",
    "convex",
    "draw",
    "stack",
    "trial",
    "trial_zero_one",
    "zero_one",
]

DATA = ("raw", "normalised")
ERASERS: tuple[str, ...] = ("before", "mean difference", "random direction", "column 0 only")
PROBES = ("LeastSquares", "LDA", "MeanDifferenceProbe", "Logistic")  # each trained without 0-1 loss
PROTOCOLS = ("fitting rows", "fresh rows")

# Parts of a dataset that the probe is fitted on and scored on; the eraser always sees part 0.
_PROBE_PARTS, _SCORE_PARTS, _PARTS = (0, 1), (0, 2), 3
_LIKELIHOOD = tuple(PROBES.index(name) for name in ("LDA", "Logistic"))
_REGRESSION = PROBES.index("LeastSquares")


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
    return convex(key, *draw(key))


def convex(key: jax.Array, x: jax.Array, z: jax.Array) -> dict[str, jax.Array]:
    """Returns the scores of `trial` for rows already drawn: x (data, part, n, d), z (n,)."""
    erasers = jax.vmap(lambda rows: _erasers(rows, z, key))(x[:, 0])
    y = jax.vmap(lambda fitted, parts: jax.vmap(lambda eraser: eraser(parts))(fitted))(erasers, x)

    def read(fit_x, score_x):
        """Returns the scores of every probe, (probe,)."""
        fitted = [getattr(probes, name)().fit(fit_x, z, num_classes=2) for name in PROBES]
        stacked = stack([LinearLikelihood(p.weight, p.offset, p.center, p.status) for p in fitted])

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
    return zero_one(key, *draw(key), restarts=restarts, rounds=rounds)


def zero_one(
    key: jax.Array, x: jax.Array, z: jax.Array, restarts: int = 16, rounds: int = 8
) -> dict[str, jax.Array]:
    """Returns the scores of `trial_zero_one` for rows already drawn."""
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


def draw(key: jax.Array) -> tuple[jax.Array, jax.Array]:
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
    return stack(fitted)


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


def stack(trees: list[Any]) -> Any:
    """Returns pytrees of one structure as one, with a new first axis."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def _vmap(function: Callable, axes: int) -> Callable:
    for _ in range(axes):
        function = jax.vmap(function)
    return function
