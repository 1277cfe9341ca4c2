"""What the probes find, against references, and that they find nothing where nothing is left."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neighbors import NearestCentroid

import erasejax as ej
from tests import common
from tests.common import CONVEX, EPS, draw, seeds, shapes

KEY = jax.random.key(0)


@pytest.mark.slow
@given(seeds, shapes)
def test_convex_probes_are_the_null_model_after_the_mean_difference(seed, shape):
    n, d, k = shape
    x, z = draw(seed, n, d, k)
    erased = ej.MeanDifference().fit(x, z)(x)
    share = np.bincount(z) / n
    for name in CONVEX:
        probe = common.probes()[name].fit(erased, z)
        np.testing.assert_array_equal(probe.weight, 0, err_msg=name)
        assert (np.asarray(probe.predict(x)) == share.argmax()).all()
        np.testing.assert_allclose(ej.metrics.accuracy(probe, erased, z), share.max(), rtol=4 * EPS)
    entropy = -(share * np.log(share)).sum()
    probe = ej.probes.Logistic().fit(erased, z)
    np.testing.assert_allclose(ej.metrics.log_loss(probe, erased, z), entropy, rtol=16 * EPS)
    r2 = ej.metrics.r2(ej.probes.LeastSquares().fit(erased, z), erased, z)
    assert abs(float(r2)) < 16 * EPS


@pytest.mark.slow
def test_no_lane_of_thousands_is_unlucky():
    def one(key):
        data = ej.datasets.DiscreteFeatures().sample(key)
        erased = ej.MeanDifference().fit(data)(data.x)
        fitted = [common.probes()[name].fit(erased, data.z, num_classes=2) for name in CONVEX]
        return jnp.stack([jnp.abs(probe.weight).max() for probe in fitted])

    largest = jax.jit(lambda keys: jax.lax.map(one, keys, batch_size=512))(
        jax.random.split(jax.random.key(0), 4096)
    )
    assert (np.asarray(largest) == 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", CONVEX)
def test_ablating_another_direction_leaves_the_label_predictable(name):
    data = ej.datasets.DiscreteFeatures(rows=1000).sample(jax.random.key(1))
    for column in range(3):
        eraser = ej.Ablation(directions=jnp.eye(3)[:, column]).fit(data)
        probe = common.probes()[name].fit(eraser(data.x), data.z)
        assert ej.metrics.accuracy(probe, eraser(data.x), data.z) > 0.85


@pytest.mark.slow
def test_both_axes_of_the_experiment_predict_alone():
    data = ej.datasets.DiscreteFeatures(rows=1000).sample(jax.random.key(1))
    for column in range(2):
        x = data.x[:, column : column + 1]
        probe = ej.probes.Logistic().fit(x, data.z)
        assert ej.metrics.accuracy(probe, x, data.z) > 0.8


def check_logistic(x, z, l2, tol):
    """Holds a fit against scikit-learn's by the loss, and the scores by what the loss leaves them.

    The loss F is l2-strongly convex in the weights W, so |W - W*|^2 <= 2 (F(W) - F*) / l2; the best
    bias of W differs from that of W* by at most |W - W*| times the largest row about the mean.
    """
    n, excess = len(z), 1e-6
    wide = x.astype(np.float64)
    probe = ej.raise_if_failed(ej.probes.Logistic(l2=l2).fit(x, z))
    assert int(probe.status) == 0
    reference = LogisticRegression(C=1 / (l2 * n), tol=tol, max_iter=10_000).fit(wide, z)

    def loss(scores, weight):
        if scores.ndim == 1:
            scores = np.stack([np.zeros(n), scores], axis=1)
        nats = np.logaddexp.reduce(scores, axis=1) - scores[np.arange(n), z]
        return nats.mean() + l2 / 2 * (weight**2).sum()

    weight = np.asarray(probe.weight, np.float64)
    scores, expected = wide @ weight + np.asarray(probe.bias), reference.decision_function(wide)
    lowest = loss(expected, reference.coef_)
    assert loss(scores, weight) <= (1 + excess) * lowest
    apart = np.sqrt(2 * excess * lowest / l2)
    longest = np.linalg.norm(wide - wide.mean(0), axis=1).max()
    np.testing.assert_allclose(scores, expected, atol=2 * longest * apart)
    np.testing.assert_allclose(probe.scores(x), scores, atol=32 * EPS * np.abs(scores).max())


@given(seeds, st.sampled_from([(120, 3, 2), (120, 16, 3)]), st.sampled_from([1e-3, 1e-1]))
def test_logistic_is_scikit_learns(seed, shape, l2):
    n, d, k = shape
    check_logistic(*draw(seed, n, d, k), l2, tol=1e-12)


@pytest.mark.slow
def test_logistic_beyond_newton_is_scikit_learns():
    check_logistic(*draw(0, 400, 300, 6), l2=0.1, tol=1e-10)


@pytest.mark.slow
def test_logistic_on_separable_classes_without_a_penalty_says_so():
    x = np.array([[-1.0], [-2.0], [1.0], [2.0]], np.float32)
    z = np.array([0, 0, 1, 1])
    probe = ej.probes.Logistic(l2=0.0, max_steps=5).fit(x, z)
    assert int(probe.status) == ej.Status.NOT_CONVERGED
    assert ej.metrics.accuracy(probe, x, z) == 1
    assert np.isfinite(probe.weight).all()


@pytest.mark.slow
@pytest.mark.parametrize("d", [4, 200])
def test_a_penalty_that_is_no_number_ends_and_touches_its_own_lane_only(d):
    x, z = draw(0, 300, d, 2)

    def fit(l2):
        return ej.probes.Logistic(l2=l2).fit(x, z, num_classes=2)

    both = jax.vmap(fit)(jnp.array([jnp.nan, 0.1]))
    np.testing.assert_array_equal(both.status, [ej.Status.NOT_CONVERGED, 0])
    # Either is within eps of the least loss, and the penalty bounds how far apart that lets them.
    apart = np.linalg.norm(both.weight[1] - fit(0.1).weight)
    assert apart <= 2 * np.sqrt(2 * EPS / 0.1)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_logistic_without_a_penalty_has_no_units(scale):
    x, z = draw(3, 300, 4, 2, gap=0.5)
    far = (x.astype(np.float64) * scale + 100 * scale).astype(np.float32)
    a, b = (ej.probes.Logistic(l2=0.0).fit(v, z) for v in (x, far))
    np.testing.assert_allclose(a.scores(x), b.scores(far), atol=2e-4)


@given(seeds, st.sampled_from([(120, 3, 2), (120, 16, 3)]))
def test_lda_is_scikit_learns(seed, shape):
    n, d, k = shape
    x, z = draw(seed, n, d, k)
    probe = ej.raise_if_failed(ej.probes.LDA().fit(x, z))
    reference = LinearDiscriminantAnalysis(solver="lsqr").fit(x.astype(np.float64), z)
    expected = reference.predict_log_proba(x.astype(np.float64))
    scale = np.abs(expected).max()
    np.testing.assert_allclose(probe.log_proba(x), expected, atol=2e-4 * scale)


@given(seeds, st.sampled_from([(120, 3, 2), (120, 16, 3)]), st.sampled_from([0.0, 0.1]))
def test_least_squares_is_scikit_learns(seed, shape, l2):
    n, d, k = shape
    x, z = draw(seed, n, d, k)
    probe = ej.raise_if_failed(ej.probes.LeastSquares(l2=l2).fit(x, z))
    target = 2.0 * z - 1 if k == 2 else np.eye(k)[z]
    reference = Ridge(alpha=l2 * n).fit(x.astype(np.float64), target)
    expected = reference.predict(x)
    np.testing.assert_allclose(probe.scores(x), expected, atol=1e-4)
    np.testing.assert_allclose(
        ej.metrics.r2(probe, x, z),
        reference.score(x, target)
        if k == 2
        else 1 - ((expected - target) ** 2).sum() / ((target - target.mean(0)) ** 2).sum(),
        atol=1e-4,
    )


@pytest.mark.slow
def test_least_squares_predicts_real_concepts():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200, 4)).astype(np.float32)
    z = (x @ [1, 2, 0, -1] + 5).astype(np.float32)
    probe = ej.probes.LeastSquares().fit(x, z)
    np.testing.assert_allclose(probe.weight, [1, 2, 0, -1], atol=1e-5)
    np.testing.assert_allclose(probe.predict(x), z, atol=1e-4)
    assert ej.metrics.r2(probe, x, z) > 1 - 1e-6
    with pytest.raises(TypeError, match="class labels"):
        ej.probes.LDA().fit(x, z)


@given(seeds, st.sampled_from([(120, 3, 2), (120, 16, 3)]))
def test_mean_difference_probe_is_the_nearest_mean(seed, shape):
    n, d, k = shape
    x, z = draw(seed, n, d, k)
    probe = ej.probes.MeanDifferenceProbe().fit(x, z)
    agree = np.mean(np.asarray(probe.predict(x)) == NearestCentroid().fit(x, z).predict(x))
    assert agree >= 1 - 1 / n  # but for a row that lies half way


@pytest.mark.slow
@pytest.mark.parametrize("name", CONVEX)
def test_row_weights_are_repetitions(name):
    x, z = draw(1, 90, 4, 3)
    weights = np.random.default_rng(1).integers(0, 3, 90)
    broken = np.where(weights[:, None] > 0, x, np.nan).astype(np.float32)
    rows = np.repeat(np.arange(90), weights)
    weighted = common.probes()[name].fit(broken, z, weights=weights.astype(np.float32))
    repeated = common.probes()[name].fit(x[rows], z[rows], num_classes=3)
    np.testing.assert_allclose(weighted.scores(x), repeated.scores(x), atol=5e-4)


@pytest.mark.quick(1)
@pytest.mark.parametrize("name", CONVEX)
def test_a_class_without_rows_is_never_predicted(name):
    x, z = draw(2, 90, 4, 3)
    probe = ej.raise_if_failed(common.probes()[name].fit(x, z, num_classes=4))
    labels = np.asarray(probe.predict(x))
    assert set(labels) <= {0, 1, 2}
    reference = common.probes()[name].fit(x, z)
    assert np.mean(labels == np.asarray(reference.predict(x))) > 0.98


@pytest.mark.slow
def test_rare_classes_and_large_means():
    rng = np.random.default_rng(0)
    z = (np.arange(5000) % 500 == 0).astype(int)
    x = (rng.standard_normal((5000, 3)) + z[:, None] + 1e3).astype(np.float32)
    wide = x.astype(np.float64)
    standard = (wide - wide.mean(0)) / wide.std(0)
    reference = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(standard, z)
    probe = ej.raise_if_failed(ej.probes.Logistic(l2=0.0).fit(x, z))
    np.testing.assert_allclose(
        probe.scores(x), reference.decision_function(standard), rtol=1e-3, atol=1e-2
    )


def test_bad_calls_are_clear():
    x, z = draw(0, 30, 4, 2)
    with pytest.raises(TypeError, match="cast it"):
        ej.probes.Logistic().fit(x.astype(int), z)
    with pytest.raises(ValueError, match="z: expected"):
        ej.probes.Logistic().fit(x, z[:-1])
    with pytest.raises(ValueError, match="largest label is 900"):
        ej.probes.Logistic().fit(x, np.where(z == 1, 900, z))
    with pytest.raises(ValueError, match="4 features"):
        ej.probes.Logistic().fit(x, z).scores(x[:, :3])
    with pytest.raises(TypeError, match="key"):
        ej.probes.ZeroOne().fit(x, z)
    with pytest.raises(ValueError, match="2 classes"):
        ej.probes.ZeroOne().fit(x, np.arange(30) % 3, key=KEY)
    with pytest.raises(ValueError, match="axes"):
        ej.probes.Logistic().fit(x[0], z)
