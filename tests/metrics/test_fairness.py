"""Fairness: the same numbers as fairlearn's where it has them, and none where there are no rows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import erasejax as ej
from tests.common import draw, enable_x64

METRICS = ej.metrics
EXACT = 1e-12


@st.composite
def decisions(draw, labels=2):
    n = draw(st.integers(2, 40))  # fairlearn cannot take one row
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    y, predicted = random.integers(0, labels, (2, n))
    groups = random.choice(draw(st.sampled_from([[3], [0, 2], [0, 1, 5]])), n)
    weights = random.uniform(0.1, 3, n) if draw(st.booleans()) else None
    return predicted, y, groups, weights


def rate(chosen, weights):
    return np.average(chosen, weights=weights) if len(chosen) else np.nan


def by_hand(predicted, y, groups, weights):
    """P(predicted = 1 | y, g) as a loop, (2, g); NaN where there is no row."""
    weights = np.ones(len(y)) if weights is None else weights
    found = []
    for label in (0, 1):
        rows = [(y == label) & (groups == group) for group in np.unique(groups)]
        found.append([rate(predicted[own] == 1, weights[own]) for own in rows])
    return np.array(found)


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(decisions())
def test_numbers_are_fairlearns(case):
    fairlearn = pytest.importorskip("fairlearn.metrics")
    predicted, y, groups, weights = case
    options = {"sensitive_features": groups, "sample_weight": weights}
    with enable_x64():
        parity = METRICS.demographic_parity_difference(predicted, groups=groups, weights=weights)
        ratio = METRICS.demographic_parity_ratio(predicted, groups=groups, weights=weights)
        odds = METRICS.equalized_odds_difference(predicted, y, groups=groups, weights=weights)
    expected = fairlearn.demographic_parity_difference(y, predicted, **options)
    assert float(parity) == pytest.approx(expected, abs=EXACT)
    if predicted.any():
        expected = fairlearn.demographic_parity_ratio(y, predicted, **options)
        assert float(ratio) == pytest.approx(expected, abs=EXACT)
    else:
        assert np.isnan(ratio)
    rates = by_hand(predicted, y, groups, weights)
    if np.isfinite(rates).all():
        expected = fairlearn.equalized_odds_difference(y, predicted, **options)
    else:  # fairlearn takes a rate of no rows for 0
        gaps = [np.ptp(own[np.isfinite(own)]) for own in rates if np.isfinite(own).sum() > 1]
        expected = max(gaps, default=0 if rates.shape[1] == 1 else np.nan)
    assert float(odds) == pytest.approx(expected, abs=EXACT, nan_ok=True)


@pytest.mark.slow
@settings(max_examples=50, deadline=None)
@given(decisions(labels=4))
def test_recall_by_group_and_label(case):
    predicted, y, groups, weights = case
    weights = np.ones(len(y)) if weights is None else weights
    with enable_x64():
        options = {"groups": groups, "weights": weights, "num_classes": 4}
        found = METRICS.group_rates(predicted, y, **options)
        gap = METRICS.tpr_gap(predicted, y, **options)
        worst = METRICS.worst_group_accuracy(predicted, y, **options)
    recall = np.array([
        [
            rate(predicted[own] == label, weights[own])
            for group in np.unique(groups)
            for own in [(y == label) & (groups == group)]
        ]
        for label in range(4)
    ])
    rates = np.asarray(found.rates)
    np.testing.assert_allclose([rates[j, :, j] for j in range(4)], recall, atol=EXACT)
    squares = [np.ptp(own[np.isfinite(own)]) ** 2 for own in recall if np.isfinite(own).sum() > 1]
    nothing = 0 if recall.shape[1] == 1 else np.nan
    expected = np.sqrt(np.mean(squares)) if squares else nothing
    assert float(gap) == pytest.approx(expected, abs=EXACT, nan_ok=True)
    assert float(worst) == pytest.approx(np.nanmin(recall), abs=EXACT)


def test_two_groups_have_a_signed_gap():
    y, groups = np.array([0, 0, 1, 1, 1]), np.array(["a", "b", "a", "b", "b"])
    found = METRICS.group_rates(np.array([0, 0, 1, 0, 1]), y, groups=groups)
    assert found.gaps.tolist() == [0, -0.5]
    assert found.size.tolist() == [[1, 1], [1, 2]]


def test_the_same_under_jit_and_of_padding():
    random = np.random.default_rng(0)
    predicted, y, groups = random.integers(0, 2, (3, 100))

    @jax.jit
    def compiled(predicted, y, groups, weights):
        options = {"groups": groups, "num_groups": 2, "weights": weights}
        return METRICS.equalized_odds_difference(predicted, y, num_classes=2, **options)

    expected = METRICS.equalized_odds_difference(predicted, y, groups=groups)
    padded = [np.concatenate([rows, 1 - rows]) for rows in (predicted, y, groups)]
    found = compiled(*padded, jnp.repeat(jnp.array([1.0, 0.0]), 100))
    assert float(found) == pytest.approx(float(expected), abs=1e-6)
    assert float(expected) > 0


def test_groups_that_no_label_compares_have_no_difference():
    y = np.array([0, 0, 1, 1])
    assert np.isnan(METRICS.equalized_odds_difference(y, y, groups=y))
    assert np.isnan(METRICS.tpr_gap(y, y, groups=y))
    assert float(METRICS.demographic_parity_difference(y, groups=y)) == 1


def test_groups_of_rows_are_classes():
    x, z = draw(0, 60, 3, 2)
    data = ej.Dataset(x=x, z=z, num_classes=2, task=x[:, :1])
    found = ej.metrics.TPRGap().compute(ej.probes.LDA().fit(x, z), data)
    assert np.isnan(found)


def test_errors():
    y = np.array([0, 1])
    with pytest.raises(TypeError, match="predicted"):
        METRICS.tpr_gap(np.array([0.2, 0.7]), y, groups=y)
    with pytest.raises(TypeError, match="predicted"):
        METRICS.demographic_parity_difference(np.array([0.2, 0.7]), groups=y)
    with pytest.raises(ValueError, match="shape of predicted"):
        METRICS.tpr_gap(np.array([0, 1, 1]), y, groups=y)
    with pytest.raises(ValueError, match="groups"):
        METRICS.tpr_gap(y, y, groups=np.array([0, 1, 1]))
    with pytest.raises(ValueError, match="from 0 to 1"):
        METRICS.tpr_gap(y, y + 1, groups=y, num_classes=2)
    with pytest.raises(ValueError, match="num_classes"):
        jax.jit(lambda y: METRICS.tpr_gap(y, y, groups=np.array([0, 1])))(y)


def test_calibration_within_groups():
    x, z = draw(0, 400, 3, 2)
    probe = ej.probes.Logistic().fit(x, z)
    groups = np.arange(400) % 3
    found = METRICS.calibration_by_group(probe, x, z, groups=groups, bins=4)
    for group in range(3):
        own = groups == group
        expected = METRICS.expected_calibration_error(probe, x[own], z[own], bins=4)
        assert float(found[group]) == pytest.approx(float(expected), abs=1e-5)
    assert float(found[0]) != float(found[1])


@pytest.mark.slow
def test_a_sweep_scores_the_task_by_the_concept():
    """The columns are those of a trial done by hand; concept and task change places by name."""
    dataset = ej.datasets.TwoConcepts(rows=200, dims=6)
    names = ("tpr_gap", "equalized_odds_difference", "worst_group_accuracy")
    metrics = [*names, *(f"task_{name}" for name in names)]
    key, probe = jax.random.key(3), ej.probes.Logistic()
    options = {"metrics": metrics, "protocols": ["fitting"]}
    found = ej.sweep.trial(key, dataset, ej.erasers.Identity(), probe, **options)
    data = dataset.sample(key)
    task = (np.asarray(data.task).reshape(-1) > 0.5).astype(int)
    z = np.asarray(data.z)
    for y, groups, prefix in ((z, task, ""), (task, z, "task_")):
        predicted = probe.fit(data.x, y).predict(data.x)
        for name in names:
            expected = getattr(METRICS, name)(predicted, y, groups=groups)
            got = float(found[f"{prefix}{name}_fitting"])
            assert got == pytest.approx(float(expected), abs=1e-6), (prefix, name)


@pytest.mark.slow
def test_without_another_concept_there_is_no_number():
    options = {"metrics": ["tpr_gap"], "protocols": ["fitting"]}
    dataset = ej.datasets.GaussianClasses(rows=20, dims=3)
    found = ej.sweep.trial(
        jax.random.key(0), dataset, ej.erasers.Identity(), ej.probes.LDA(), **options
    )
    assert np.isnan(found["tpr_gap_fitting"])
