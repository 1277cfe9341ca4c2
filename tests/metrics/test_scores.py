"""Scores against scikit-learn, with ties, weights and many classes."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as reference

import erasejax as ej
from tests.common import EPS, draw, seeds


@pytest.mark.slow
@given(seeds, st.sampled_from([2, 4]), st.booleans())
def test_scores_are_scikit_learns(seed, k, weighted):
    x, z = draw(seed, 80, 3, k)
    weights = np.random.default_rng(seed).uniform(0.1, 2, 80).astype("f4") if weighted else None
    probe = ej.probes.Logistic(l2=0.1).fit(x, z)
    labels, proba = np.asarray(probe.predict(x)), np.exp(np.asarray(probe.log_proba(x), "f8"))
    proba /= proba.sum(axis=1, keepdims=True)
    given = {"sample_weight": weights}
    assert ej.metrics.accuracy(probe, x, z, weights=weights) == pytest.approx(
        reference.accuracy_score(z, labels, **given), rel=1e-5
    )
    assert ej.metrics.balanced_accuracy(probe, x, z, weights=weights) == pytest.approx(
        reference.balanced_accuracy_score(z, labels, **given), rel=1e-5
    )
    assert ej.metrics.log_loss(probe, x, z, weights=weights) == pytest.approx(
        reference.log_loss(z, proba, **given), rel=1e-4, abs=1e-6
    )
    scores = np.asarray(probe.scores(x))
    if k == 2:
        area = reference.roc_auc_score(z, scores, **given)
    else:
        area = np.mean([reference.roc_auc_score(z == j, scores[:, j], **given) for j in range(k)])
    assert ej.metrics.auroc(probe, x, z, weights=weights) == pytest.approx(area, abs=1e-5)


@pytest.mark.parametrize("n", [41, 47])  # n times 1 / n is less than 1
def test_rows_that_are_all_right_score_one(n):
    z = np.arange(2 * n) % 2
    x = (2.0 * z - 1).astype(np.float32)[:, None]
    probe = ej.probes.MeanDifferenceProbe().fit(x, z)
    for score in (ej.metrics.accuracy, ej.metrics.balanced_accuracy):
        assert score(probe, x, z) == 1
        assert score(probe, x, z, weights=np.full(2 * n, 0.5, np.float32)) == 1
        assert jax.jit(lambda x, z, score=score: score(probe, x, z))(x, z) == 1
    groups = z.astype(int)
    rates = ej.metrics.group_rates(z, z, groups=groups).rates
    assert rates[1, 1, 1] == 1


@pytest.mark.parametrize("weights", [np.zeros(8), np.full(8, 3e38), np.r_[np.inf, np.ones(7)]])
def test_no_score_of_weights_without_a_sum(weights):
    x, z = draw(0, 8, 2, 2, gap=9.0)
    probe = ej.probes.LDA(l2=1.0).fit(x, z)
    for score in (ej.metrics.accuracy, ej.metrics.balanced_accuracy):
        assert np.isnan(score(probe, x, z, weights=weights.astype(np.float32)))


@pytest.mark.slow
def test_auroc_counts_ties_half():
    x = np.array([[0.0], [0.0], [1.0], [1.0], [1.0], [2.0]], np.float32)
    z = np.array([0, 1, 0, 1, 1, 1])
    probe = ej.probes.MeanDifferenceProbe().fit(x, z)
    expected = reference.roc_auc_score(z, x[:, 0])
    assert float(ej.metrics.auroc(probe, x, z)) == pytest.approx(expected)
    ones = np.ones(6, np.float32)
    assert float(ej.metrics.auroc(probe, x, z, weights=ones)) == pytest.approx(expected)
    constant = ej.probes.MeanDifferenceProbe().fit(np.zeros((6, 1), np.float32), z)
    assert float(ej.metrics.auroc(constant, x, z)) == 0.5


def test_auroc_of_one_class_is_not_a_number():
    x, z = draw(0, 20, 2, 2)
    probe = ej.probes.LDA().fit(x, z)
    assert np.isnan(ej.metrics.auroc(probe, x, np.ones(20, int)))


@given(seeds, st.sampled_from([1e-12, 1.0, 1e12]))
def test_damage_is_the_share_of_variance_moved(seed, scale):
    x, z = draw(seed, 64, 3, 2)
    x = x * np.float32(scale)
    y = np.asarray(ej.MeanDifference().fit(x, z)(x))
    wide = x.astype(np.float64)
    expected = ((wide - y) ** 2).sum() / ((wide - wide.mean(0)) ** 2).sum()
    assert float(ej.metrics.damage(x, y)) == pytest.approx(expected, rel=1e-4)
    assert float(ej.metrics.damage(x, x)) == 0


def test_majority_rate():
    z = np.array([0, 1, 1, 2, 1])
    assert float(ej.metrics.majority_rate(z)) == pytest.approx(0.6)
    assert float(ej.metrics.majority_rate(z, weights=np.array([9.0, 1, 1, 1, 1]))) == pytest.approx(
        9 / 13
    )
    traced = jax.jit(lambda z: ej.metrics.majority_rate(z, num_classes=3))(z)
    assert float(traced) == pytest.approx(0.6)
    with pytest.raises(TypeError, match="class labels"):
        ej.metrics.majority_rate(z.astype(float))


@pytest.mark.slow
def test_a_dataset_can_be_scored_as_it_is():
    data = ej.datasets.GaussianClasses().sample(jax.random.key(0))
    probe = ej.probes.LDA().fit(data)
    assert ej.metrics.accuracy(probe, data) == ej.metrics.accuracy(probe, data.x, data.z)


def test_clear_errors():
    x, z = draw(0, 20, 2, 2)
    probe = ej.probes.LeastSquares().fit(x, z)
    with pytest.raises(TypeError, match="no likelihood"):
        ej.metrics.log_loss(probe, x, z)
    with pytest.raises(ValueError, match="shape of x"):
        ej.metrics.damage(x, x[:, :1])
    with pytest.raises(TypeError, match="class labels"):
        ej.metrics.accuracy(probe, x, z.astype(np.float32))


def test_r2_of_the_constant_is_zero():
    x, z = draw(1, 40, 3, 2)
    erased = ej.MeanDifference().fit(x, z)(x)
    probe = ej.probes.LeastSquares().fit(erased, z)
    assert abs(float(ej.metrics.r2(probe, erased, z))) <= 8 * EPS


def test_rows_of_another_width_are_said_as_they_were_given():
    x, z = draw(0, 60, 5, 2)
    probe = ej.probes.Logistic().fit(x, z)
    for score in (ej.metrics.accuracy, ej.metrics.log_loss, ej.metrics.auroc):
        for width in (1, 3):
            message = rf"^x: this probe was fitted on 5 features, got shape \(60, {width}\)$"
            with pytest.raises(ValueError, match=message):
                score(probe, x[:, :width], z)
        with pytest.raises(ValueError, match=r"\(60, 3\)"):
            score(probe, ej.Dataset(x=x[:, :3], z=z, num_classes=2), None)


@pytest.mark.slow
def test_a_score_of_several_probes_at_once_says_how_it_is_read():
    x, z = draw(0, 60, 5, 2)
    fit = jax.vmap(lambda l2: ej.probes.LDA(l2=l2).fit(x, z, num_classes=2))
    with pytest.raises(ValueError, match=r"a batch of \(3,\)"):
        ej.metrics.accuracy(fit(np.ones(3, np.float32)), x, z)


@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1e-6, 1e18, 1e30])
def test_scores_do_not_depend_on_the_unit_of_the_weights(scale):
    x, z = draw(3, 200, 3, 2)
    probe = ej.probes.LDA().fit(x, z)
    ones = np.ones(200, np.float32)
    for score in (
        ej.metrics.accuracy,
        ej.metrics.balanced_accuracy,
        ej.metrics.auroc,
        ej.metrics.log_loss,
        ej.metrics.expected_calibration_error,
    ):
        expected = score(probe, x, z, weights=ones)
        np.testing.assert_allclose(score(probe, x, z, weights=scale * ones), expected, rtol=1e-5)
    key = jax.random.key(0)
    bits = [
        ej.metrics.v_information(ej.probes.LDA(), x, z, key=key, weights=own * ones)
        for own in (1, scale)
    ]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), *bits)


def test_rows_that_cannot_be_scored_have_no_score():
    x, z = draw(4, 60, 3, 2)
    probe = ej.probes.LDA().fit(x, z)
    gaps = x.copy()
    gaps[::3, 1] = np.nan
    counted = np.arange(60) % 3 != 0
    for score in (ej.metrics.accuracy, ej.metrics.balanced_accuracy, ej.metrics.auroc):
        assert np.isnan(score(probe, gaps, z))
        assert np.isnan(score(probe, x, np.where(z == 1, 7, z)))
        assert np.isnan(score(probe, x, z, weights=np.where(counted, 1.0, -1.0)))
        # What has no weight is not read.
        left = score(probe, gaps, z, weights=counted.astype(float))
        right = score(probe, x[counted], z[counted])
        assert float(left) == pytest.approx(float(right), rel=1e-6)
