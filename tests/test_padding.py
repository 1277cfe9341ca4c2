"""Rows of weight 0 behind the others change nothing: no result, no draw, no choice between ways."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import erasejax as ej
from tests import common, test_contract

KEY = jax.random.key(3)
D = 5
# Real rows, and rows with those behind them: within a power of two, beyond one, from n < d to
# n > 2 d.
SIZES = {"within": (40, 47), "beyond": (40, 71), "few": (4, 23)}

ERASERS = test_contract.ERASERS | {
    "RLACE, direct": ej.RLACE(closed_form=False, restarts=1, steps=4),
    "RLACE, fantope": ej.RLACE(closed_form=False, game="fantope", steps=5),
}
PROBES = test_contract.ALL_PROBES


def padded(size, *arrays):
    """Arrays with NaN, or the labels of other rows, behind them; and the weights."""
    n = len(arrays[0])

    def more(array):
        array = np.asarray(array)
        if array.dtype.kind == "f":
            rest = np.full((size - n, *array.shape[1:]), np.nan, array.dtype)
        else:
            rest = np.resize(array[::-1], (size - n, *array.shape[1:]))
        return jnp.asarray(np.concatenate([array, rest]))

    weights = np.zeros(size, np.float32)
    weights[:n] = 1
    return *map(more, arrays), jnp.asarray(weights)


def rows(n, k=2, seed=0, d=D):
    x, z = common.draw(seed, n, d, k, gap=2.0)
    return jnp.asarray(x), jnp.asarray(z)


def same(found, expected, tolerance):
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


def tolerance(n, d=D):
    """Rounding of sums of n rows, through factors of d features whose condition is about 100."""
    return 100 * n**0.5 * d**0.5 * common.EPS


def fitted(config, x, z, weights=None):
    options = {"task": x[:, :1] ** 2} if getattr(config, "needs_task", False) else {}
    return config.fit(x, z, weights=weights, num_classes=2, key=KEY, throw=False, **options)


@pytest.mark.quick(15)
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("name", ERASERS)
def test_erasers(name, sizes):
    n, size = SIZES[sizes]
    x, z = rows(n)
    config = ERASERS[name]
    one = fitted(config, x, z)
    other = fitted(config, *padded(size, x, z))
    assert int(one.status) == int(other.status)
    read = (x, z) if one.needs_z else (x,)
    same(other(*read), one(*read), tolerance(n) * float(jnp.abs(x).max()))


@pytest.mark.quick(12)
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("name", PROBES)
def test_probes(name, sizes):
    n, size = SIZES[sizes]
    x, z = rows(n)
    config = PROBES[name]
    if isinstance(config, ej.probes.ContrastProbe):
        yes, no = x, -x + 0.5 * rows(n, seed=1)[0]
        one = config.fit(yes, no, key=KEY, throw=False)
        more = padded(size, yes, no)
        other = config.fit(more[0], more[1], weights=more[2], key=KEY, throw=False)
        found, expected = other.scores(yes, no), one.scores(yes, no)
        if not config.needs_key:
            found = found * jnp.sign(jnp.vdot(found, expected))
    else:
        one, other = fitted(config, x, z), fitted(config, *padded(size, x, z))
        found, expected = other.scores(x), one.scores(x)
    assert int(one.status) == int(other.status)
    same(found, expected, tolerance(n) * max(float(jnp.abs(expected).max()), 1))


METRICS = [
    "accuracy",
    "auroc",
    "balanced_accuracy",
    "expected_calibration_error",
    "log_loss",
]


def test_recall():
    x, z = rows(40)
    probe = ej.probes.LDA().fit(x, z)
    *more, weights = padded(71, x, z)
    found = ej.metrics.recall_at_fpr(probe, *more, fpr=0.2, weights=weights)
    assert found == ej.metrics.recall_at_fpr(probe, x, z, fpr=0.2)


@pytest.mark.quick(5)
@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize("name", METRICS)
def test_scores(name, k):
    x, z = rows(40, k)
    probe = ej.probes.LDA().fit(x, z)
    metric = getattr(ej.metrics, name)
    *more, weights = padded(71, x, z)
    same(metric(probe, *more, weights=weights), metric(probe, x, z), tolerance(40))


@pytest.mark.slow
@pytest.mark.parametrize("sizes", SIZES)
def test_numbers_of_rows(sizes):
    n, size = SIZES[sizes]
    x, z = rows(n)
    more, labels, weights = padded(size, x, z)
    metrics = ej.metrics
    options = {"weights": weights}
    tol = tolerance(n)
    same(metrics.linear_r2(more, labels, **options), metrics.linear_r2(x, z), tol)
    found = metrics.canonical_correlations(more, labels, **options)
    same(found, metrics.canonical_correlations(x, z), tol)
    same(metrics.damage(more, 2 * more, **options), metrics.damage(x, 2 * x), tol)
    same(metrics.majority_rate(labels, **options), metrics.majority_rate(z), tol)
    values = ej.probes.LeastSquares(l2=0.1).fit(x, x[:, 0] ** 2)
    found = metrics.r2(values, more, more[:, 0] ** 2, **options)
    same(found, metrics.r2(values, x, x[:, 0] ** 2), tol)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["sign_flip", "pillai"])
@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("sizes", [*SIZES, "norm"])
def test_guardedness(sizes, grouped, method):
    # From n < 2 d, where the norm is tested, to n > 2 d, too.
    n, size = {**SIZES, "norm": (9, 33)}[sizes]
    if grouped and n < 9:
        return
    x, z = rows(n, seed=4)
    groups = jnp.arange(n, dtype=jnp.int32) // 2
    more, labels, members, weights = padded(size, x, z, groups)
    both = ({"groups": groups}, {"groups": members}) if grouped else ({}, {})
    options = {"method": method, "permutations": 200, "key": KEY}
    one = ej.metrics.guardedness_test(x, z, **both[0], **options)
    other = ej.metrics.guardedness_test(more, labels, weights=weights, **both[1], **options)
    assert (
        one.norm
        == other.norm
        == (
            method == "sign_flip"
            and sizes in ("few", "norm")
            or (grouped and method == "sign_flip" and n < 4 * D)
        )
    )
    for field in ("rank", "rank_concept", "status"):
        assert int(getattr(one, field)) == int(getattr(other, field))
    for field in ("statistic", "p_value", "r2", "detectable_r2", "design_effect", "df_residual"):
        same(getattr(other, field), getattr(one, field), 10 * tolerance(n))


@pytest.mark.quick(1)
@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("metric", ["accuracy", "auroc"])
def test_bootstrap(metric, grouped):
    x, z = rows(40)
    probe = ej.probes.LDA().fit(x, z)
    groups = jnp.arange(40, dtype=jnp.int32) // 2
    more, labels, members, weights = padded(71, x, z, groups)
    both = ({"groups": groups}, {"groups": members}) if grouped else ({}, {})
    metric = getattr(ej.metrics, metric)
    options = {"resamples": 50, "key": KEY}
    one = ej.metrics.bootstrap(metric, probe, x, z, **both[0], **options)
    other = ej.metrics.bootstrap(metric, probe, more, labels, weights=weights, **both[1], **options)
    for field in ("estimate", "low", "high", "standard_error"):
        same(getattr(other, field), getattr(one, field), tolerance(40))


@pytest.mark.slow
@pytest.mark.parametrize("grouped", [False, True])
def test_folds(grouped):
    x, z = rows(40)
    groups = jnp.arange(40, dtype=jnp.int32) // 2
    more, labels, members, weights = padded(71, x, z, groups)
    both = ({"groups": groups}, {"groups": members}) if grouped else ({}, {})
    options = {"l2": [0.1, 1.0], "key": KEY, "folds": 3}
    probe = ej.probes.LeastSquares()
    one = ej.probes.select_l2(probe, x, z, **both[0], **options)
    other = ej.probes.select_l2(probe, more, labels, weights=weights, **both[1], **options)
    same(other.losses, one.losses, tolerance(40))


@pytest.mark.slow
def test_recursion():
    x, z = rows(40)
    *more, weights = padded(71, x, z)
    probe = ej.probes.Logistic()
    one = ej.probes.recursive(probe, x, z, rounds=2)
    other = ej.probes.recursive(probe, *more, weights=weights, rounds=2)
    same(other.trace, one.trace, tolerance(40))
    same(other.basis @ other.basis.T, one.basis @ one.basis.T, 10 * tolerance(40))
