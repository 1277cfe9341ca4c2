"""The generators make the populations they say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import erasejax as ej
from tests import common

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


@pytest.mark.slow
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


@pytest.mark.slow
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


def test_skewed_classes_are_exact_counts():
    data = ej.datasets.SkewedClasses(rows=50, dims=3, ratio=4, scale=0.5).sample(KEY)
    x, z = np.asarray(data.x, np.float64), np.asarray(data.z)
    for label, sign in ((0, -1), (1, 1)):
        values, counts = np.unique(x[z == label, 0], return_counts=True)
        expected = {sign * 0.5: 40, -sign * 2.0: 10}
        assert dict(zip(values, counts, strict=True)) == expected
    # The same noise in both classes: the means of the drawn rows coincide to the last bit.
    np.testing.assert_array_equal(x[z == 0, 1:], x[z == 1, 1:])
    assert x[z == 1, 0].mean() == x[z == 0, 0].mean() == 0
    assert stats.kstest(x[z == 0, 1], "norm").pvalue > 1e-4
    assert int(ej.LEACE().fit(data).rank) == 0


N_MOMENTS = 20_000  # rows a class; a mean of them has a standard error of 0.007


def moments_of(data):
    x, z = np.asarray(data.x, np.float64), np.asarray(data.z)
    means = np.stack([x[z == j].mean(0) for j in (0, 1)])
    return x, z, means, [np.cov(x[z == j].T) for j in (0, 1)]


@pytest.mark.slow
def test_xor_classes_differ_in_covariance_only():
    dataset = ej.datasets.XorClasses(
        separation=3.0, spread=2.0, rows=N_MOMENTS, dims=4, rotate=False
    )
    x, z, means, covariances = moments_of(dataset.sample(KEY))
    np.testing.assert_allclose(means, 0, atol=5 * 2 / np.sqrt(N_MOMENTS))
    for label, sign, variance in ((0, 1, 1), (1, -1, 4)):
        expected = variance * np.eye(4)
        expected[:2, :2] += 2.25 * np.array([[1, sign], [sign, 1]])
        # An entry of a sample covariance has a standard error of at most sqrt(2 / n) variances.
        tolerance = 5 * np.sqrt(2 / N_MOMENTS) * expected.max()
        np.testing.assert_allclose(covariances[label], expected, atol=tolerance)
    gap = dataset.replace(gap=1.5).sample(KEY)
    np.testing.assert_allclose(
        np.diff(moments_of(gap)[2], axis=0)[0],
        [0, 0, 1.5, 0],
        atol=5 * 2 * np.sqrt(2 / N_MOMENTS),
    )
    turned = dataset.replace(rotate=True).sample(KEY)
    np.testing.assert_allclose(
        np.linalg.norm(turned.x, axis=1), np.linalg.norm(x, axis=1), rtol=1e-5
    )
    odd = ej.datasets.XorClasses(rows=(7, 4), separation=50.0, rotate=False).sample(KEY)
    signs = np.sign(np.asarray(odd.x[:, :2]))
    np.testing.assert_array_equal(signs.prod(axis=1), np.where(np.asarray(odd.z) == 1, -1, 1))
    assert (signs[:7, 0] == 1).sum() == 4


@pytest.mark.slow
def test_two_concepts_have_the_correlation_and_the_strengths_they_say():
    dataset = ej.datasets.TwoConcepts(
        correlation=0.4,
        strength=1.5,
        task_strength=2.5,
        overlap=0.6,
        noise_correlation=0.5,
        rows=N_MOMENTS,
        dims=3,
        rotate=False,
    )
    data = dataset.sample(KEY)
    x, z = np.asarray(data.x, np.float64), np.asarray(data.z)
    task = np.asarray(data.task)
    assert task.shape == (2 * N_MOMENTS, 1)
    assert set(np.unique(task)) == {0, 1}
    task = task[:, 0]
    error = 1 / np.sqrt(2 * N_MOMENTS)
    assert np.corrcoef(z, task)[0, 1] == pytest.approx(0.4, abs=5 * error)
    design = np.stack([np.ones_like(task), z, task], axis=1)
    slopes, _, _, _ = np.linalg.lstsq(design, x)
    expected = [[1.5, 0, 0], [2.5 * 0.6, 2.5 * 0.8, 0]]
    # The two columns have a variance of 1/4 and a squared correlation of .16.
    np.testing.assert_allclose(slopes[1:], expected, atol=5 * error / np.sqrt(0.25 * 0.84))
    noise = np.cov((x - design @ slopes).T)
    np.testing.assert_allclose(
        noise, [[1, 0.5, 0], [0.5, 1, 0], [0, 0, 1]], atol=5 * np.sqrt(2) * error
    )
    erased = ej.SPLINCE().fit(data)(data.x)
    assert common.gap_in_sd(x, erased, z) < 1


@pytest.mark.slow
def test_continuous_concepts_explain_the_share_they_say():
    dataset = ej.datasets.ContinuousConcept(
        strength=2.0, curvature=1.5, rows=N_MOMENTS, dims=3, rotate=False
    )
    data = dataset.sample(KEY)
    assert data.num_classes is None
    x, z = np.asarray(data.x, np.float64), np.asarray(data.z, np.float64)
    assert stats.kstest(z, "norm").pvalue > 1e-4
    design = np.stack([np.ones_like(z), z, (z**2 - 1) / np.sqrt(2)], axis=1)
    slopes, _, _, _ = np.linalg.lstsq(design, x)
    np.testing.assert_allclose(slopes[1:], [[2, 0, 0], [0, 1.5, 0]], atol=5 / np.sqrt(N_MOMENTS))
    # R^2 = s^2 / (1 + s^2); the standard error of an R^2 is at most 2 R (1 - R^2) / sqrt(n).
    turned = dataset.replace(rotate=True, curvature=0.0).sample(KEY)
    assert float(ej.metrics.linear_r2(turned)) == pytest.approx(0.8, abs=5 * 0.36 * 0.0071)


@pytest.mark.slow
def test_activations_have_the_spectrum_the_mean_and_the_massive_features():
    dataset = ej.datasets.Activations(rows=5000, dims=32, decay=1.5, mean=20.0)
    data = dataset.sample(KEY)
    x, z = np.asarray(data.x, np.float64), np.asarray(data.z)
    noise = x - np.stack([x[z == j].mean(0) for j in (0, 1)])[z]
    sd = noise.std(axis=0)
    massive = np.sort(np.argsort(sd)[-2:])
    assert np.sort(sd)[-2] > 5 * np.sort(sd)[-3]
    sizes = np.ones(32)
    sizes[massive] = 100
    spectrum = np.linalg.eigvalsh(np.cov((noise / sizes).T))[::-1]
    power = np.arange(1, 33.0) ** -1.5
    # A sample eigenvalue has a relative error of about sqrt(2 / n), and a bias of order d / n.
    np.testing.assert_allclose(spectrum, 32 * power / power.sum(), rtol=5 * np.sqrt(2 / 1e4))
    offset = x.mean(axis=0) / sizes
    assert np.sqrt(np.mean(offset**2)) == pytest.approx(20, rel=5 / np.sqrt(2 * 32))
    accuracy = float(ej.metrics.accuracy(ej.probes.LDA().fit(data), data))
    assert accuracy == pytest.approx(stats.norm.cdf(1.0), abs=5 * np.sqrt(0.16 * 0.84 / 1e4))
    assert common.gap_in_sd(data.x, ej.LEACE().fit(data)(data.x), z) < 1


@pytest.mark.slow
def test_parts_share_the_population():
    dataset = ej.datasets.GaussianClasses(separation=6.0, rows=500, dims=10)
    fitting, fresh = dataset.sample(KEY), dataset.sample(KEY, part=1)
    probe = ej.probes.LDA().fit(fitting)
    assert float(ej.metrics.accuracy(probe, fresh)) > 0.98
    others = [dataset.sample(jax.random.key(seed)) for seed in range(5)]
    assert np.mean([float(ej.metrics.accuracy(probe, other)) for other in others]) < 0.9


@pytest.mark.slow
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
        (ej.datasets.Activations(massive=65), "massive"),
        (ej.datasets.ContinuousConcept(dims=1), "dims"),
        (ej.datasets.SkewedClasses(rows=15), "multiple of ratio"),
        (ej.datasets.SkewedClasses(ratio=0), "ratio"),
        (ej.datasets.TwoConcepts(dims=1), "dims"),
        (ej.datasets.XorClasses(dims=2), "dims"),
        (ej.datasets.XorClasses(rows=(1, 2, 3)), "rows"),
    ],
)
def test_clear_errors(dataset, message):
    with pytest.raises(ValueError, match=message):
        dataset.sample(KEY)
