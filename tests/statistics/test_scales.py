"""Features of every scale that float32 has, side by side."""

import jax
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

import erasejax as ej
from tests import common

N = 400
Z = np.arange(N) % 2
KEY = jax.random.key(0)
EXPONENTS = np.array([0, 0, -9, -15, -18, -20, -25, -30, -32, -33, -35, -37, -38, -40, -44])
LARGE = np.array([0, 0, 9, 15, 18, 20, 25, 30, 33, 35, 37, -9, -18, -30, -38])


def rows(exponents, seed=0) -> np.ndarray:
    x = np.random.default_rng(seed).standard_normal((N, len(exponents))) + 0.8 * Z[:, None]
    return (x * 10.0**exponents).astype(np.float32)


def gaps(x, y) -> np.ndarray:
    """Gaps of y in deviations of x, in float64, where nothing vanishes."""
    means = common.class_means(y, Z)
    sd = x.astype(np.float64).std(axis=0)
    return np.abs(means[1] - means[0]) / np.where(sd > 0, sd, 1)


def accuracy_of_scaled(y) -> float:
    """What scikit-learn reads of features in units of their deviations."""
    y = np.asarray(y, np.float64)
    sd = y.std(axis=0)
    scaled = (y - y.mean(axis=0)) / np.where(sd > 0, sd, 1)
    return LogisticRegression().fit(scaled, Z).score(scaled, Z)


@pytest.mark.slow
@pytest.mark.parametrize("exponents", [EXPONENTS, LARGE, LARGE[::-1]], ids=["small", "all", "back"])
@pytest.mark.parametrize("name", common.BLIND)
def test_everything_is_erased(name, exponents):
    x = rows(exponents)
    eraser = common.BLIND[name].fit(x, Z)
    assert int(eraser.rank) == 1
    assert int(eraser.status) == 0
    y = np.asarray(eraser(x))
    assert np.isfinite(y).all()
    assert gaps(x, y).max() < 1e-5
    # Set to the centre: only what has fewer digits than others, or lies 1e50 below the largest,
    # or is erased whole.
    flat = np.asarray(eraser.flat)
    whole = np.ptp(y.astype(np.float64), axis=0) == 0
    assert (whole == (flat | (x.astype(np.float64).std(axis=0) < 1.2e-38))).all()
    assert not flat[(exponents > -12) & (exponents < 30)].any()
    assert accuracy_of_scaled(x) > 0.9
    assert accuracy_of_scaled(y) == 0.5
    for probe in (ej.probes.Logistic(), ej.probes.LDA(), ej.probes.LeastSquares()):
        assert (np.asarray(probe.fit(y, Z).weight) == 0).all()
    assert float(ej.metrics.linear_r2(y, Z)) == 0
    assert np.isfinite(ej.metrics.damage(x, y))


@pytest.mark.slow
def test_erasers_that_read_labels():
    small = rows(EXPONENTS[:7])
    for method in (ej.OracleLEACE(), ej.QLEACE()):
        eraser = method.fit(small, Z)
        assert int(eraser.status) == 0
        assert gaps(small, eraser(small, Z)).max() < 1e-5
    # Below 1e-31 values have fewer digits: one sets them to the centre, the other says so.
    x = rows(EXPONENTS)
    eraser = ej.QLEACE().fit(x, Z)
    assert int(eraser.status) == 0
    assert gaps(x, eraser(x, Z)).max() < 1e-5
    assert int(ej.OracleLEACE().fit(x, Z).status) == ej.Status.UNRESOLVED


@pytest.mark.slow
def test_probes_say_what_they_cannot_read():
    x = rows(EXPONENTS)
    for name in ("Logistic", "LDA", "LeastSquares", "QDA"):
        fitted = getattr(ej.probes, name)().fit(x, Z)
        assert int(fitted.status) == ej.Status.UNRESOLVED
        assert np.isfinite(fitted.scores(x)).all()
    # The rest they do read, and as if all were of one scale.
    own, one = rows(EXPONENTS[:7]), rows(np.zeros(7))
    for name in ("LDA", "LeastSquares", "QDA"):
        scores = [getattr(ej.probes, name)().fit(a, Z).scores(a) for a in (own, one)]
        np.testing.assert_allclose(*scores, rtol=1e-3, atol=1e-3)
    far = ej.probes.MeanDifferenceProbe().fit(rows(LARGE), Z, throw=False)  # squares of 1e37
    assert int(far.status) & ej.Status.NONFINITE


@pytest.mark.slow
def test_streams_and_batches_of_other_scales():
    x = rows(EXPONENTS)
    for cuts in ([100, 200, 300], [1, 2, 399]):
        moments = ej.Moments.init(x.shape[1], 2, one_hot=True)
        for part, z in zip(np.split(x, cuts), np.split(Z, cuts), strict=True):
            moments = moments.update(part, z)
        for method in (ej.LEACE(), ej.MeanDifference()):
            assert gaps(x, method.solve(moments)(x)).max() < 1e-5
    # A feature that is tiny in one batch and not in the next.
    x = np.random.default_rng(1).standard_normal((N, 3)).astype(np.float32) + 0.5 * Z[:, None]
    x[:200, 0] *= 1e-30
    halves = [
        ej.Moments.init(3, 2, one_hot=True).update(x[i], Z[i]) for i in (slice(200), slice(200, N))
    ]
    for a, b in (halves, halves[::-1]):
        merged = ej.merge(a, b)
        np.testing.assert_allclose(merged.sd, x.astype(np.float64).std(axis=0), rtol=1e-5)
        np.testing.assert_array_equal(merged.scale, 1)


def test_units_are_one_where_squares_fit():
    x = rows(np.array([0, 9, -9]))
    moments = ej.Moments.init(3, 2, one_hot=True).update(x, Z)
    np.testing.assert_array_equal(moments.scale, 1)
    centred = x.astype(np.float64) - x.astype(np.float64).mean(axis=0)
    np.testing.assert_allclose(moments.xx, centred.T @ centred, rtol=1e-4, atol=1e-12)


@pytest.mark.parametrize("columns", [1, 2])
def test_units_are_of_x_and_not_of_a_real_concept(columns):
    x = rows(np.array([0, 3, -3, 20]))
    z = 1e3 * np.random.default_rng(4).standard_normal((N, columns)) + x[:, :1]
    moments = ej.Moments.init(4, columns).update(x, z)
    np.testing.assert_array_equal(np.asarray(moments.scale)[:3], 1)
    np.testing.assert_allclose(moments.sd, x.astype(np.float64).std(axis=0), rtol=1e-5)


def test_what_shows_in_few_rows_only_is_not_silent():
    # Rows from which the units are taken are all zero there, and so are all squares.
    x = np.random.default_rng(2).standard_normal((2048, 3)).astype(np.float32)
    z = np.arange(2048) % 2
    x[:, 0] = 0
    x[21:60:2, 0] = 1e-30
    fitted = ej.LEACE().fit(x, z)
    y = np.asarray(fitted(x), np.float64)
    assert y[:, 0].std() == 0 or int(fitted.status) & ej.Status.UNRESOLVED


@pytest.mark.slow
def test_values_that_differ_in_the_last_place():
    # 2^24 apart from zero a spacing is 2: the label in the last bit of a float.
    x = np.random.default_rng(3).standard_normal((N, 3)).astype(np.float32)
    x[:, 0] = 1e8 + 8 * Z
    for method in (ej.LEACE(), ej.MeanDifference()):
        eraser = method.fit(x, Z)
        assert np.ptp(np.asarray(eraser(x))[:, 0]) == 0
    assert int(ej.MeanDifference(keep_mean=False).fit(x, Z).status) & ej.Status.UNRESOLVED
    assert int(ej.probes.LDA().fit(x, Z).status) & ej.Status.UNRESOLVED
