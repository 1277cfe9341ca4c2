"""The pictures of the experiment: one dataset, and the histograms over all."""

from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from erasejax import metrics, probes, sweep
from erasejax._core.programs import program
from erasejax.erasers import MeanDifference
from erasejax.pages import _plots as plots
from erasejax.pages._demo.runs import DATA, ERASERS, PROBES, PROTOCOLS, Results, spec
from erasejax.sweep import lane_key

__all__ = ["Example", "first_example", "pictures"]


class Example(NamedTuple):
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


def pictures(example: Example, results: Results, folder: Path) -> None:
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
