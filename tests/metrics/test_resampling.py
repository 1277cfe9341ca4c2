"""Bootstrap intervals and calibration errors, against numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import erasejax as ej
from tests.common import EPS, draw


def test_bootstrap_of_accuracy_is_binomial():
    x, z = draw(0, 200, 3, 2)
    probe = ej.probes.LDA().fit(x, z)
    found = ej.metrics.bootstrap(
        ej.metrics.accuracy, probe, x, z, key=jax.random.key(0), resamples=2000
    )
    p = float(found.estimate)
    assert p == float(ej.metrics.accuracy(probe, x, z))
    sd = (p * (1 - p) / 200) ** 0.5
    # A standard deviation of 2,000 draws errs by 1/63 of itself; five times that.
    assert float(found.standard_error) == pytest.approx(sd, rel=0.08)
    assert float(found.low) == pytest.approx(p - 1.96 * sd, abs=0.3 * sd)
    assert float(found.high) == pytest.approx(p + 1.96 * sd, abs=0.3 * sd)


def reference(confidence, hit, weights, bins):
    confidence, hit, weights = (np.asarray(a, np.float64) for a in (confidence, hit, weights))
    below = np.array([weights[confidence < c].sum() for c in confidence])
    place = np.minimum(np.floor(below * bins / weights.sum()), bins - 1)
    gaps = [abs((weights * (confidence - hit))[place == b].sum()) for b in range(bins)]
    return sum(gaps) / weights.sum()


@pytest.mark.parametrize("k", [2, 3])
def test_calibration_is_the_references(k):
    x, z = draw(1, 120, 3, k)
    probe = ej.probes.LDA().fit(x, z)
    proba = np.exp(np.asarray(probe.log_proba(x)))
    if k == 2:
        confidence, hit = proba[:, 1], z == 1
    else:
        confidence, hit = proba.max(axis=1), z == proba.argmax(axis=1)
    for weights in (np.ones(120, np.float32), (np.arange(120) % 4).astype(np.float32)):
        expected = reference(confidence, hit, weights, 15)
        found = ej.metrics.expected_calibration_error(probe, x, z, weights=weights)
        assert float(found) == pytest.approx(expected, abs=120 * EPS)


def test_the_null_model_is_calibrated():
    x, z = draw(2, 60, 3, 2)
    erased = jnp.asarray(ej.MeanDifference().fit(x, z)(x))
    probe = ej.probes.LDA().fit(erased, z)
    assert float(ej.metrics.expected_calibration_error(probe, erased, z)) <= 60 * EPS
    with pytest.raises(ValueError, match="bins"):
        ej.metrics.expected_calibration_error(probe, x, z, bins=0)
    with pytest.raises(ValueError, match="resamples"):
        ej.metrics.bootstrap(ej.metrics.accuracy, probe, x, z, key=jax.random.key(0), resamples=0)
