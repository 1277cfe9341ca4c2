"""The 0-1 probe: exact in the plane, and what convex probes do not see."""

import itertools

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import erasejax as ej
from tests import common
from tests.common import CONVEX, draw, seeds

KEY = jax.random.key(0)


def best_by_all_pairs(x, z) -> float:
    """The best 0-1 accuracy of a line, from all lines through two rows, nudged to either side."""
    best = max(np.mean(z), 1 - np.mean(z))
    for i, j in itertools.combinations(range(len(z)), 2):
        along = x[j] - x[i]
        if not along.any():
            continue
        for turn in (-1e-7, 0, 1e-7):
            normal = np.array([-along[1], along[0]]) + turn * along
            scores = x @ normal
            edges = np.unique(np.round(scores, 12))
            cuts = (edges[1:] + edges[:-1]) / 2
            right = ((scores[:, None] > cuts) == z[:, None]).mean(axis=0)
            if len(cuts):
                best = max(best, right.max(), (1 - right).max())
    return best


@pytest.mark.slow
@given(seeds, st.sampled_from(["normal", "lattice", "repeated"]))
def test_exact_in_the_plane(seed, kind):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((24, 2)) if kind == "normal" else rng.integers(-2, 3, (24, 2)) / 2
    if kind == "repeated":
        x = x[rng.integers(0, 6, 24)]
    z = rng.integers(0, 2, 24)
    z[:2] = [0, 1]
    x = x.astype(np.float32)
    probe = ej.probes.ZeroOne().fit(x, z, key=KEY)
    found = float(ej.metrics.accuracy(probe, x, z))
    assert found == pytest.approx(best_by_all_pairs(x.astype(np.float64), z), abs=1e-6)


@given(seeds)
def test_exact_on_the_line(seed):
    rng = np.random.default_rng(seed)
    x = rng.integers(-3, 4, (40, 1)).astype(np.float32)
    z = rng.integers(0, 2, 40)
    z[:2] = [0, 1]
    cuts = np.arange(-4, 5) + 0.5
    right = ((x > cuts) == z[:, None]).mean(axis=0)
    probe = ej.probes.ZeroOne().fit(x, z, key=KEY)
    best = max(right.max(), (1 - right).max())
    assert float(ej.metrics.accuracy(probe, x, z)) == pytest.approx(best, abs=1e-6)


@pytest.mark.slow
def test_the_skewed_example_by_exact_counts():
    # Class 1 is +1 nine times in ten and -9 else; class 0 the opposite. The means coincide.
    values, labels, counts = [1, -9, -1, 9], [1, 1, 0, 0], [90, 10, 90, 10]
    x = np.repeat(np.array(values, np.float32), counts)[:, None]
    z = np.repeat(labels, counts)
    x = np.concatenate([x, np.zeros_like(x)], axis=1)
    assert int(ej.MeanDifference().fit(x, z).rank) == 0
    for name in CONVEX:
        probe = common.probes()[name].fit(x, z)
        assert float(ej.metrics.accuracy(probe, x, z)) == 0.5, name
        np.testing.assert_array_equal(probe.weight, 0)
    for width in (1, 2):
        probe = ej.probes.ZeroOne().fit(x[:, :width], z, key=KEY)
        assert float(ej.metrics.accuracy(probe, x[:, :width], z)) == pytest.approx(0.9)


@pytest.mark.slow
def test_restarts_come_close_to_the_plane_they_are_in():
    # Three features whose rows lie in a plane: the search should find nearly the exact optimum.
    for seed in range(3):
        data = ej.datasets.DiscreteFeatures().sample(jax.random.key(seed))
        erased = ej.MeanDifference().fit(data)(data.x)
        searched = ej.probes.ZeroOne().fit(erased, data.z, key=KEY)
        plane = np.linalg.svd(erased - erased.mean(axis=0), full_matrices=False)[2][:2]
        flat = np.asarray(erased) @ plane.T
        exact = ej.probes.ZeroOne().fit(flat, data.z, key=KEY)
        a = float(ej.metrics.accuracy(searched, erased, data.z))
        b = float(ej.metrics.accuracy(exact, flat, data.z))
        assert b - 0.015 <= a <= b + 1e-6
        assert b > 0.58


@pytest.mark.slow
def test_never_worse_than_the_majority_and_weights_count():
    x, z = draw(0, 60, 2, 2, gap=0.1)
    weights = np.where(z == 1, 5.0, 1.0).astype(np.float32)
    probe = ej.probes.ZeroOne().fit(x, z, weights=weights, key=KEY)
    score = float(ej.metrics.accuracy(probe, x, z, weights=weights))
    assert score >= weights[z == 1].sum() / weights.sum() - 1e-6
    rows = np.repeat(np.arange(60), weights.astype(int))
    repeated = ej.probes.ZeroOne().fit(x[rows], z[rows], key=KEY)
    assert score == pytest.approx(float(ej.metrics.accuracy(repeated, x[rows], z[rows])), abs=1e-5)


@pytest.mark.slow
def test_finds_the_separating_plane():
    data = ej.datasets.GaussianClasses(separation=8.0, dims=8).sample(KEY)
    probe = ej.probes.ZeroOne().fit(data, key=KEY)
    assert float(ej.metrics.accuracy(probe, data)) > 0.99
