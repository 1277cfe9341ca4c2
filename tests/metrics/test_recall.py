"""Recall at a rate of false positives, against scikit-learn's curve."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_curve

import erasejax as ej
from tests.common import draw, seeds

N = 60
LINE = ej.probes.LinearClassifier(
    weight=jnp.ones(1), offset=jnp.zeros(()), center=jnp.zeros(1), status=jnp.uint32(0)
)


def expected(scores, z, fpr, weights=None):
    """Returns the largest recall of the points of the curve that are allowed."""
    rates, recall, _ = roc_curve(z, scores, sample_weight=weights, drop_intermediate=False)
    return recall[rates <= fpr].max()


@given(
    seeds,
    st.sampled_from([2, 5, 1000]),
    st.sampled_from([0.0, 0.01, 0.1, 1 / 3, 0.7, 1.0]),
    st.booleans(),
)
def test_recall_is_that_of_scikit_learns_curve(seed, levels, fpr, weighted):
    rng = np.random.default_rng(seed)
    z = rng.permutation(np.arange(N) % 2)
    # Few levels are many ties; 30 negative rows put points on the bounds themselves.
    scores = np.round(rng.normal(size=N) + z, 6) if levels > 9 else rng.integers(levels, size=N) + z
    weights = rng.integers(0, 4, N).astype("f4") + (np.arange(N) < 20) if weighted else None
    x = scores.astype("f4")[:, None]
    found = ej.metrics.recall_at_fpr(LINE, x, z, fpr=fpr, weights=weights)
    assert float(found) == pytest.approx(expected(x[:, 0], z, fpr, weights), abs=1e-6)


def test_equal_scores_are_on_one_side_of_the_threshold():
    z = np.array([1, 1, 0, 1, 0, 0])
    x = np.array([3, 2, 2, 2, 1, 0], np.float32)[:, None]
    found = [float(ej.metrics.recall_at_fpr(LINE, x, z, fpr=fpr)) for fpr in (0.3, 0.34, 1.0)]
    np.testing.assert_allclose(found, [1 / 3, 1, 1], rtol=1e-6)


def test_what_has_no_recall_is_not_a_number():
    x, z = np.arange(6, dtype=np.float32)[:, None], np.arange(6) % 2
    recall = ej.metrics.recall_at_fpr
    assert np.isnan(recall(LINE, x, np.ones(6, int)))
    assert np.isnan(recall(LINE, x, np.zeros(6, int)))
    for fpr in (-0.1, 1.1, np.nan):
        assert np.isnan(recall(LINE, x, z, fpr=fpr))
    assert np.isnan(recall(LINE, np.where(x == 2, np.nan, x), z))
    seen = np.float32([1, 1, 0, 1, 1, 1])
    assert np.isfinite(recall(LINE, np.where(x == 2, np.nan, x), z, weights=seen))
    assert np.isnan(recall(LINE.replace(status=jnp.uint32(1)), x, z))


@pytest.mark.slow
def test_classes_are_two():
    x, z = draw(0, 40, 2, 3)
    probe = ej.probes.LDA().fit(x, z)
    with pytest.raises(ValueError, match="two classes"):
        ej.metrics.recall_at_fpr(probe, x, z)
    rows = ej.Dataset(x=jnp.asarray(x), z=jnp.asarray(z), num_classes=3)
    assert np.isnan(ej.metrics.RecallAtFPR().compute(probe, rows))


def test_the_rate_may_be_traced():
    x, z = np.arange(8, dtype=np.float32)[:, None], np.array([0, 1, 0, 1, 0, 1, 0, 1])
    rates = jnp.array([0.0, 0.25, 0.5, 1.0])
    found = jax.vmap(lambda fpr: ej.metrics.recall_at_fpr(LINE, x, z, fpr=fpr))(rates)
    np.testing.assert_allclose(found, [0.25, 0.5, 0.75, 1.0])
