"""What the measured claims share: their probes, and one trial over many seeds."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

import erasejax as ej

__all__ = ["PROBES", "accuracy", "keys", "over_seeds", "through"]

PROBES = {
    "least squares": ej.probes.LeastSquares(),
    "LDA": ej.probes.LDA(),
    "nearest mean": ej.probes.MeanDifferenceProbe(),
    "logistic": ej.probes.Logistic(),
}


def keys(count: int, seed: int = 0) -> jax.Array:
    return jax.random.split(jax.random.key(seed), count)


def over_seeds(trial: Callable, count: int, *, batch: int = 64) -> Any:
    """Returns what a trial of one key returns, for many keys, as numpy arrays."""
    run = jax.jit(lambda ks: jax.lax.map(trial, ks, batch_size=min(batch, count)))
    return jax.tree.map(np.asarray, run(keys(count)))


def accuracy(probe: Any, data: ej.Dataset, scored: ej.Dataset, key: jax.Array) -> jax.Array:
    """Returns the accuracy on `scored` of a probe fitted to `data`."""
    return ej.metrics.accuracy(probe.fit(data, key=key), scored)


def through(eraser: Any, data: ej.Dataset) -> ej.Dataset:
    """Returns rows erased, by an eraser that may read the label."""
    x = eraser(data.x, data.z) if eraser.needs_z else eraser(data.x)
    return data.replace(x=x)  # pyright: ignore[reportAttributeAccessIssue]
