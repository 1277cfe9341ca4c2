"""Features far from zero, and classes far from each other: what can be read, and what cannot."""

import jax
import numpy as np
import pytest
from flax import struct
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis, QuadraticDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestCentroid

import erasejax as ej
from erasejax.probes._base import Classifier, Probe
from tests.common import EPS

N = 600
Z = np.arange(N) % 2
KEY = jax.random.key(0)

PEERS = {
    "Logistic": (ej.probes.Logistic(l2=1e-6), LogisticRegression(C=1e6 / N)),
    "LDA": (ej.probes.LDA(), LinearDiscriminantAnalysis()),
    "MeanDifferenceProbe": (ej.probes.MeanDifferenceProbe(), NearestCentroid()),
    "QDA": (ej.probes.QDA(), QuadraticDiscriminantAnalysis()),
}


def rows(mean: float, gap: float, seed: int = 0) -> np.ndarray:
    """Two features of deviation 1 in float32; in the first the classes lie `gap` apart."""
    x = mean + np.random.default_rng(seed).standard_normal((N, 2))
    x[:, 0] += gap * Z
    return x.astype(np.float32)


def read(probe, x) -> tuple[float, int]:
    fitted = probe.fit(x, Z, key=KEY)
    return float(ej.metrics.accuracy(fitted, x, Z)), int(fitted.status)


@pytest.mark.quick(1)
@pytest.mark.parametrize("name", PEERS)
@pytest.mark.parametrize("mean", [1e0, 1e2, 1e4, 1e5, 3e5, 1e6])
def test_probes_read_what_scikit_learn_reads(name, mean):
    probe, peer = PEERS[name]
    for gap in (0.1, 0.3, 1, 2, 4):
        x = rows(mean, gap)
        exact = x.astype(np.float64)
        exact -= exact.mean(axis=0)
        found, status = read(probe, x)
        if status:
            assert status == ej.Status.UNRESOLVED
            assert gap < 16 * EPS * mean  # nowhere but where the spacing of floats is as large
        else:
            assert abs(found - peer.fit(exact, Z).score(exact, Z)) <= 0.01


@pytest.mark.slow
@pytest.mark.parametrize("mean", [1e0, 1e4, 1e6])
def test_nothing_is_read_after_erasing(mean):
    for gap in (0.1, 1, 4):
        x = rows(mean, gap)
        for method in (ej.LEACE(), ej.MeanDifference(), ej.OracleLEACE()):
            eraser = method.fit(x, Z)
            y = eraser(x, Z) if eraser.needs_z else eraser(x)
            for name in ("Logistic", "LDA", "MeanDifferenceProbe"):
                fitted = PEERS[name][0].fit(y, Z)
                assert (np.asarray(fitted.weight) == 0).all()
            # Subtracting one number from all rows of a class rounds them alike, by half a spacing.
            left = EPS * mean if eraser.needs_z else 0
            assert float(ej.metrics.linear_r2(y, Z)) <= left**2
        y = ej.QLEACE().fit(x, Z)(x, Z)
        assert read(PEERS["QDA"][0], y)[0] == 0.5


@pytest.mark.parametrize("mean", [1e0, 1e5, 1e6])
def test_certificates_are_of_the_values_as_they_are(mean):
    for gap in (0.1, 0.3, 2):
        x = rows(mean, gap)
        exact = x.astype(np.float64)
        exact = exact - exact.mean(axis=0)
        target = Z - 0.5
        explained = exact @ np.linalg.lstsq(exact, target, rcond=None)[0]
        expected = (explained**2).sum() / (target**2).sum()
        assert float(ej.metrics.linear_r2(x, Z)) == pytest.approx(expected, rel=1e-3)
        assert float(ej.metrics.guardedness_test(x, Z, key=KEY).r2) == pytest.approx(
            expected, rel=1e-3
        )


# float64, where JAX computes in float32

SECONDS = 1.7e9 + 1800 * np.random.default_rng(1).standard_normal((N, 2)) + 3600 * np.c_[Z, 0 * Z]
NEAR = SECONDS - 1.7e9


@pytest.mark.quick(3)
@pytest.mark.parametrize("name", [*PEERS, "LeastSquares", "LinearSVM", "MLP", "KernelRidge"])
def test_float64_is_centred_before_it_is_cast(name):
    probe = PEERS[name][0] if name in PEERS else getattr(ej.probes, name)()
    far, near = (probe.fit(x, Z, key=KEY) for x in (SECONDS, NEAR))
    scores, expected = np.asarray(far.scores(SECONDS)), np.asarray(near.scores(NEAR))
    # The two origins differ, and with them the last digits of rows; not the rows by 128 seconds.
    np.testing.assert_allclose(scores, expected, atol=2e-3 * np.abs(expected).max())
    assert float(ej.metrics.accuracy(far, SECONDS, Z)) == pytest.approx(
        float(ej.metrics.accuracy(near, NEAR, Z)), abs=0.004
    )


METHODS = [ej.LEACE(), ej.MeanDifference(), ej.OracleLEACE(), ej.QLEACE(), ej.INLP(rounds=2)]


@pytest.mark.quick(2)
@pytest.mark.parametrize("method", METHODS, ids=lambda m: type(m).__name__)
def test_erasers_of_float64(method):
    far, near = (method.fit(x, Z, key=KEY) for x in (SECONDS, NEAR))
    given = (Z,) if far.needs_z else ()
    y = np.asarray(far(SECONDS, *given), np.float64)
    expected = np.asarray(near(NEAR, *given), np.float64) + 1.7e9
    # float32 at 1.7e9 has numbers 128 apart; what is erased is known to half of that.
    assert np.abs(y - expected).max() <= 2 * 128
    before, after = (float(ej.metrics.linear_r2(x, Z)) for x in (SECONDS, y))
    assert before > 0.4
    # Where a direction is gone rounding is all there is, with the R^2 of noise.
    assert isinstance(method, ej.INLP) or after < 10 / N


@pytest.mark.slow
def test_moments_of_float64_batches():
    moments = ej.Moments.init(2, 2, one_hot=True)
    classes = ej.ClassMoments.init(2, 2)
    for start in range(0, N, 100):
        part = slice(start, start + 100)
        moments = moments.update(SECONDS[part], Z[part])
        classes = classes.update(SECONDS[part], Z[part])
    sd = SECONDS.std(axis=0)
    mean = np.asarray(moments.mean_x, np.float64).sum(axis=0)
    assert (np.abs(mean - SECONDS.mean(axis=0)) <= 16 * EPS * sd).all()
    np.testing.assert_allclose(moments.sd, sd, rtol=1e-6)
    means = np.asarray(classes.means, np.float64) + np.asarray(classes.rest)
    expected = np.stack([SECONDS[Z == j].mean(axis=0) for j in range(2)])
    assert (np.abs(means - expected) <= 16 * EPS * sd).all()
    eraser = ej.LEACE().solve(moments)
    assert (np.abs(np.asarray(eraser(SECONDS), np.float64) - SECONDS).max(axis=0) > 0).any()


def test_an_eraser_about_the_origin_stays_there():
    eraser = ej.MeanDifference(keep_mean=False).fit(SECONDS, Z)
    assert (np.asarray(eraser.center) == 0).all()


def test_damage_of_float64():
    y = np.asarray(ej.LEACE().fit(SECONDS, Z)(SECONDS))
    expected = float(ej.metrics.damage(NEAR, ej.LEACE().fit(NEAR, Z)(NEAR)))
    assert float(ej.metrics.damage(SECONDS, y)) == pytest.approx(expected, rel=0.01)
    exact = y.astype(np.float64)
    moved = ((exact - SECONDS) ** 2).sum() / ((SECONDS - SECONDS.mean(axis=0)) ** 2).sum()
    assert float(ej.metrics.damage(SECONDS, exact)) == pytest.approx(moved, rel=1e-4)


# Classes that hardly overlap

NOISE = np.random.default_rng(2).standard_normal((N, 3))


@pytest.mark.quick(2)
@pytest.mark.parametrize("name", ["Logistic", "LDA", "QDA", "LeastSquares", "LinearSVM", "ZeroOne"])
def test_a_feature_that_is_the_label_is_read(name):
    probe = getattr(ej.probes, name)()
    for x in (
        np.c_[Z, NOISE],
        np.c_[2 * Z - 1, NOISE],
        np.c_[Z, 1 - Z, NOISE[:, :2]],
        np.c_[1e5 * Z + NOISE[:, 0], NOISE],
        np.c_[1e-20 * Z, NOISE],
        np.c_[1e20 * Z, NOISE],
    ):
        fitted = probe.fit(x.astype(np.float32), Z, key=KEY)
        if name in {"Logistic", "LinearSVM"} and x[:, 0].max() < 1e-10:
            continue  # a penalty on weights as they are, and this one would be 1e20
        assert int(fitted.status) & 0xFFFF == 0
        assert float(ej.metrics.accuracy(fitted, x.astype(np.float32), Z)) == 1
        if hasattr(fitted, "log_proba"):
            assert float(ej.metrics.log_loss(fitted, x.astype(np.float32), Z)) < 0.1


@pytest.mark.parametrize("gap", [1e1, 1e3, 1e4, 1e5, 1e6])
def test_discriminants_of_distant_classes(gap):
    x = NOISE.copy()
    x[:, 1] += 0.5 * x[:, 0]
    x[:, 0] += gap * Z
    x = x.astype(np.float32)
    exact = x.astype(np.float64)
    means = np.stack([exact[Z == j].mean(axis=0) for j in range(2)])
    centred = exact - means[Z]
    expected = np.linalg.solve(centred.T @ centred / N, means[1] - means[0])
    weight = np.asarray(ej.probes.LDA().fit(x, Z).weight)
    # Rows less their class mean are exact; what is left is the rounding of the solve.
    np.testing.assert_allclose(weight, expected, atol=256 * EPS * np.abs(expected).max())
    found = ej.probes.QDA().fit(x, Z)
    whiten = np.asarray(found.whiten, np.float64)
    for j in range(2):
        own = exact[Z == j] - means[j]
        unit = own @ whiten[j].T
        np.testing.assert_allclose(unit.T @ unit / len(own), np.eye(3), atol=1e-4)


@pytest.mark.slow
def test_a_whole_feature_is_erased_to_a_constant():
    # What is left of a copy of the label is rounding, and rounding of it would be a copy again.
    x = np.c_[2 * Z - 1, NOISE].astype(np.float32)
    for method in (ej.LEACE(), ej.SPLINCE()):
        task = {"task": NOISE[:, 0] + 0.1 * Z} if isinstance(method, ej.SPLINCE) else {}
        y = np.asarray(method.fit(x, Z, **task)(x))
        if not task:
            assert np.ptp(y[:, 0]) == 0
        spread = y.std(axis=0)
        scaled = (y - y.mean(axis=0)) / np.where(spread > 0, spread, 1)
        assert LogisticRegression().fit(scaled, Z).score(scaled, Z) <= 0.5


def test_one_row_keeps_its_digits():
    eraser, near = ej.LEACE().fit(SECONDS, Z), ej.LEACE().fit(NEAR, Z)
    probe = ej.probes.LDA().fit(SECONDS, Z)
    expected = np.asarray(ej.probes.LDA().fit(NEAR, Z).scores(NEAR[:3]))
    for i in range(3):
        row = np.asarray(eraser(SECONDS[i : i + 1]), np.float64)
        assert np.abs(row - 1.7e9 - np.asarray(near(NEAR[i : i + 1]))).max() <= 2 * 128
        score = float(probe.scores(SECONDS[i : i + 1])[0])
        assert score == pytest.approx(expected[i], abs=2e-3 * float(np.abs(expected).max()))


def test_numbers_near_zero_are_cast_as_they_are():
    x = NOISE + 2
    wide, narrow = ej.LEACE().fit(x, Z), ej.LEACE().fit(x.astype(np.float32), Z)
    np.testing.assert_array_equal(wide(x), narrow(x.astype(np.float32)))


@struct.dataclass
class Sign(Classifier):
    """The sign of the first feature less a threshold: of somebody else, who knows no origins."""

    threshold: jax.Array
    status: jax.Array

    dims, num_classes = 2, 2

    def _scores(self, x):
        return x[:, 0] - self.threshold


@struct.dataclass
class SignProbe(Probe):
    def _fit(self, data, key):
        return Sign(jax.numpy.mean(data.x[:, 0]), jax.numpy.uint32(0))


def test_probes_that_cannot_be_moved():
    fitted = SignProbe().fit(NEAR.astype(np.float32), Z)
    for x in (NEAR, NEAR + 1e6):  # as they are, about zero
        read = ej.metrics.accuracy(fitted, x, Z)
        right = (x[:, 0] > float(fitted.threshold)) == Z
        np.testing.assert_array_equal(np.asarray(fitted.predict(x)) == Z, right)
        assert float(read) == pytest.approx(right.mean())
    with pytest.raises(TypeError, match="float64 rows far from zero .* Sign has no _moved"):
        SignProbe().fit(SECONDS, Z)


@pytest.mark.slow
def test_weights_of_any_size_do_not_hide_a_gap():
    # Gaps of 3/4 and 0 of a spacing, eps |mean|.
    x = np.random.default_rng(3).standard_normal((N, 2))
    for j in range(2):
        x[Z == j] -= x[Z == j].mean(axis=0)
    x = (1e6 + x + 0.75e6 * EPS * Z[:, None] * [1, 0]).astype(np.float32)
    for weight in (1.0, 1e-6, 1 / N, 1e6):
        fitted = ej.probes.LDA().fit(x, Z, weights=np.full(N, weight, np.float32))
        assert int(fitted.status) == ej.Status.UNRESOLVED
