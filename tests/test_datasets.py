"""The generators make the populations they say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import erasejax as ej

KEY = jax.random.key(11)


def test_discrete_features_follow_their_tables():
    dataset = ej.datasets.DiscreteFeatures(rows=20_000)
    data = dataset.sample(KEY)
    x, z = np.asarray(data.x), np.asarray(data.z)
    assert x.shape == (40_000, 3)
    for label in (0, 1):
        for column in (0, 1):
            counts = [(x[z == label, column] == v).sum() for v in dataset.values]
            table = dataset.tables[label, column]
            assert sum(counts) == 20_000
            assert (np.array(counts)[table == 0] == 0).all()
            seen = table > 0
            observed, expected = np.array(counts)[seen], 20_000 * table[seen]
            assert stats.chisquare(observed, expected).pvalue > 1e-4
        assert stats.kstest(x[z == label, 2], "norm").pvalue > 1e-4


def test_discrete_features_options():
    dataset = ej.datasets.DiscreteFeatures(rows=(30, 10), dims=5, normalize=True)
    data = dataset.sample(KEY)
    assert data.x.shape == (40, 5)
    np.testing.assert_array_equal(np.bincount(data.z), [30, 10])
    np.testing.assert_allclose(np.asarray(data.x).mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(np.asarray(data.x).std(0), 1, atol=1e-5)
    tables = np.array([[[1, 0, 0]], [[0, 1, 0]], [[0, 0, 1]]], float)
    three = ej.datasets.DiscreteFeatures(
        tables=tables, values=np.array([1.0, 2, 3]), dims=1, rows=4
    )
    data = three.sample(KEY)
    np.testing.assert_array_equal(data.x[:, 0], np.repeat([1.0, 2, 3], 4))
    assert data.num_classes == 3


@pytest.mark.parametrize("k", [2, 4])
def test_gaussian_means_are_as_far_apart_as_said(k):
    dataset = ej.datasets.GaussianClasses(
        num_classes=k, directions=k - 1, separation=3.0, rows=20_000, dims=8
    )
    data = dataset.sample(KEY)
    x, z = np.asarray(data.x), np.asarray(data.z)
    means = np.stack([x[z == j].mean(0) for j in range(k)])
    distances = np.linalg.norm(means[:, None] - means[None], axis=2)
    np.testing.assert_allclose(distances[np.triu_indices(k, 1)], 3.0, atol=0.1)
    within = np.cov((x - means[z]).T)
    np.testing.assert_allclose(within, np.eye(8), atol=0.05)


def test_gaussian_redundancy_makes_copies():
    made = {
        r: ej.datasets.GaussianClasses(
            redundancy=r, directions=4, rows=5000, dims=6, rotate=False
        ).sample(KEY)
        for r in (0.0, 0.5, 1.0)
    }
    for r, data in made.items():
        x, z = np.asarray(data.x), np.asarray(data.z)
        noise = x - np.stack([x[z == j].mean(0) for j in (0, 1)])[z]
        correlation = np.corrcoef(noise.T)[:4, :4]
        np.testing.assert_allclose(correlation[np.triu_indices(4, 1)], r, atol=0.05)
        gap = x[z == 1].mean(0) - x[z == 0].mean(0)
        np.testing.assert_allclose(gap, [2, 2, 2, 2, 0, 0], atol=0.15)
    accuracy = {r: float(ej.metrics.accuracy(ej.probes.LDA().fit(d), d)) for r, d in made.items()}
    assert accuracy[0.0] == pytest.approx(stats.norm.cdf(2.0), abs=0.01)  # sqrt(4) * 2 / 2
    assert accuracy[1.0] == pytest.approx(stats.norm.cdf(1.0), abs=0.01)


def test_gaussian_decay_correlates_the_noise_but_not_the_answer():
    plain, skewed = (
        ej.datasets.GaussianClasses(decay=decay, rows=5000, dims=8).sample(KEY)
        for decay in (0.0, 2.0)
    )
    a, b = (float(ej.metrics.accuracy(ej.probes.LDA().fit(d), d)) for d in (plain, skewed))
    assert a == pytest.approx(b, abs=0.002)
    spectrum = np.linalg.eigvalsh(np.cov(np.asarray(skewed.x).T))
    assert spectrum[-1] / spectrum[0] > 20
    nearest = ej.probes.MeanDifferenceProbe().fit(skewed)
    assert float(ej.metrics.accuracy(nearest, skewed)) < b + 0.002


def test_parts_share_the_population():
    dataset = ej.datasets.GaussianClasses(separation=6.0, rows=500, dims=10)
    fitting, fresh = dataset.sample(KEY), dataset.sample(KEY, part=1)
    probe = ej.probes.LDA().fit(fitting)
    assert float(ej.metrics.accuracy(probe, fresh)) > 0.98
    others = [dataset.sample(jax.random.key(seed)) for seed in range(5)]
    assert np.mean([float(ej.metrics.accuracy(probe, other)) for other in others]) < 0.9


def test_floats_sweep_by_vmap():
    gaps = jnp.array([0.5, 4.0])
    data = jax.vmap(lambda s: ej.datasets.GaussianClasses(separation=s).sample(KEY))(gaps)
    score = jax.vmap(lambda d: ej.metrics.accuracy(ej.probes.LDA().fit(d), d))(data)
    assert score[1] > score[0] + 0.2


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (ej.datasets.DiscreteFeatures(dims=1), "dims"),
        (ej.datasets.DiscreteFeatures(rows=(5, 5, 5)), "rows"),
        (ej.datasets.DiscreteFeatures(values=np.zeros(3)), "tables, values"),
        (ej.datasets.GaussianClasses(directions=99), "directions"),
        (ej.datasets.GaussianClasses(rows=(1,)), "rows"),
    ],
)
def test_clear_errors(dataset, message):
    with pytest.raises(ValueError, match=message):
        dataset.sample(KEY)
