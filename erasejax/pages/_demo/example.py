"""One dataset of the experiment, to draw."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from erasejax import metrics, probes, sweep
from erasejax._core.programs import program
from erasejax.erasers import MeanDifference
from erasejax.pages._demo.runs import PROBES, spec
from erasejax.sweep import lane_key

__all__ = ["Example", "first_example"]


class Example(NamedTuple):
    """One dataset to draw: three columns, and the two informative ones alone.

    Probes are in the order of `PROBES`, then `ZeroOne`.
    """

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


def _stack(trees: list[tuple]) -> tuple:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def first_example(seed: int) -> Example:
    """Returns the example of the first dataset."""
    first = sweep.grid(spec(datasets=1, seed=seed)).parts[0]
    dataset = first.datasets[0]  # raw
    key = lane_key(np.uint32(first.seeds[0]), dataset.words)
    data = dataset.value.sample(key)
    found = program(_example)(key, data.x, data.z)
    return Example(**{name: np.asarray(value) for name, value in found.items()})
