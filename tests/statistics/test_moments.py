"""Streaming, merging and weighting: any way to the same rows gives the same moments."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import erasejax as ej
from erasejax._linalg import platforms
from erasejax.rows._dataset import as_dataset
from tests import common
from tests.common import EPS, draw, seeds

D, K = 6, 3


def stream(x, z, pieces, **options):
    m = ej.Moments.init(x.shape[1], K, **options)
    for part in np.array_split(np.arange(len(z)), pieces):
        m = m.update(x[part], z[part])
    return m


def assert_close(a, b, x):
    """Moments agree to rounding: sums of n terms of |x|^2, each right to a few eps."""
    n = float(a.total)
    sd = x.std(axis=0, dtype=np.float64)
    np.testing.assert_array_equal(a.count.sum(), b.count.sum())
    spacing = EPS * np.abs(x).max(axis=0)
    assert (np.abs(np.asarray(a.mean - b.mean)) <= 2 * spacing).all()
    # What matters for erasure: sub-ulp agreement of the two-part means, in sd.
    gap = np.asarray(a.mean_x, np.float64).sum(0) - np.asarray(b.mean_x, np.float64).sum(0)
    assert (np.abs(gap) <= 32 * EPS * sd).all()
    tolerance = 32 * EPS * n
    assert (np.abs(np.asarray(a.xz - b.xz)) <= tolerance * sd[:, None]).all()
    assert (np.abs(np.asarray(a.zz - b.zz)) <= tolerance).all()
    scale = np.outer(sd, sd) if a.xx.ndim == 2 else sd**2
    assert (np.abs(np.asarray(a.xx - b.xx)) <= tolerance * scale).all()


@pytest.mark.slow
@given(seeds, st.sampled_from([1, 2, 7]), st.booleans(), st.sampled_from([0.0, 1e2, 1e4]))
def test_streaming_is_batch(seed, pieces, in_order_of_label, mean):
    x, z = draw(seed, 210, D, K, dtype=np.float64)
    x = (x + mean).astype(np.float32)
    if in_order_of_label:
        order = np.argsort(z, kind="stable")
        x, z = x[order], z[order]
    batch = ej.Moments.init(D, K).update(x, z)
    assert_close(stream(x, z, pieces), batch, x)


@pytest.mark.slow
@given(seeds)
def test_merge_is_commutative_and_associative(seed):
    x, z = draw(seed, 210, D, K, dtype=np.float64)
    x = (x + 1e3).astype(np.float32)
    a, b, c = (
        ej.Moments.init(D, K).update(x[p], z[p])
        for p in (slice(0, 40), slice(40, 45), slice(45, 210))
    )
    assert_close(ej.merge(a, b), ej.merge(b, a), x[:45])
    assert_close(ej.merge(ej.merge(a, b), c), ej.merge(a, ej.merge(b, c)), x)


def test_merging_nothing_changes_nothing():
    x, z = draw(0, 60, D, K)
    m = ej.Moments.init(D, K).update(x, z)
    for merged in (ej.merge(m, ej.Moments.init(D, K)), ej.merge(ej.Moments.init(D, K), m)):
        jax.tree.map(np.testing.assert_array_equal, merged, m)


@pytest.mark.slow
def test_against_float64():
    x, z = draw(1, 500, D, K, dtype=np.float64)
    x = (x + 1e3).astype(np.float32)
    m = ej.Moments.init(D, K).update(x, z)
    wide = x.astype(np.float64)
    centred, codes = wide - wide.mean(0), np.eye(K)[z]
    sd = wide.std(axis=0)
    np.testing.assert_allclose(m.mean, wide.mean(0), rtol=EPS)
    np.testing.assert_allclose(m.sd, sd, rtol=16 * EPS)
    np.testing.assert_allclose(
        m.covariance, centred.T @ centred / 500, atol=32 * EPS * sd.max() ** 2
    )
    expected = centred.T @ (codes - codes.mean(0))
    np.testing.assert_allclose(m.xz, expected, atol=16 * EPS * 500 * sd.max())


@pytest.mark.parametrize("in_order_of_label", [True, False])
def test_erasure_survives_streaming_at_means_of_1e4_deviations(in_order_of_label):
    x, z = draw(2, 20_000, 8, 2, dtype=np.float64)
    x = (x + 1e4).astype(np.float32)
    if in_order_of_label:
        order = np.argsort(z, kind="stable")
        x, z = x[order], z[order]
    m = ej.Moments.init(8, 2, covariance=False)
    for start in range(0, 20_000, 500):
        m = m.update(x[start : start + 500], z[start : start + 500])
    assert common.gap_in_sd(x, ej.MeanDifference().solve(m)(x), z) < 1


def test_the_count_is_exact_past_float32():
    x, z = draw(3, 999, D, K)
    m = ej.Moments.init(D, K).update(x, z)
    batch = m
    for _ in range(34):
        m = ej.merge(m, m)
    assert int(np.asarray(m.count, np.float64).sum()) == 999 * 2**34
    np.testing.assert_allclose(m.mean, batch.mean, rtol=1e-5)
    np.testing.assert_allclose(m.covariance, batch.covariance, rtol=1e-5, atol=1e-6)
    odd = functools.reduce(lambda acc, _: ej.merge(acc, batch), range(5), m)
    assert int(np.asarray(odd.count, np.float64).sum()) == 999 * (2**34 + 5)


@pytest.mark.slow
def test_solve_is_fit_and_scans():
    x, z = draw(4, 240, D, K)
    fitted = ej.MeanDifference().fit(x, z)
    solved = ej.MeanDifference().solve(stream(x, z, 4, covariance=False))
    np.testing.assert_allclose(solved.matrix(), fitted.matrix(), atol=64 * EPS)
    assert int(solved.rank) == int(fitted.rank) == K - 1

    @jax.jit
    def scanned(x, z):
        start = ej.Moments.init(D, K, covariance=False, one_hot=True)
        return jax.lax.scan(lambda m, rows: (m.update(*rows), None), start, (x, z))[0]

    m = scanned(jnp.asarray(x).reshape(4, 60, D), jnp.asarray(z).reshape(4, 60))
    np.testing.assert_allclose(
        ej.MeanDifference().solve(m).matrix(), fitted.matrix(), atol=64 * EPS
    )


@pytest.mark.slow
def test_weights_are_repetitions():
    x, z = draw(5, 90, D, K)
    weights = np.random.default_rng(5).integers(0, 3, 90)
    rows = np.repeat(np.arange(90), weights)
    weighted = ej.Moments.init(D, K).update(x, z, weights.astype(np.float32))
    repeated = ej.Moments.init(D, K).update(x[rows], z[rows])
    assert_close(weighted, repeated, x)


@pytest.mark.slow
def test_real_and_many_label_concepts_stream_too():
    x, _ = draw(6, 90, D, K)
    z = np.random.default_rng(6).standard_normal((90, 2)).astype(np.float32)
    m = ej.Moments.init(D, 2)
    for part in (slice(0, 33), slice(33, 90)):
        m = m.update(x[part], z[part])
    np.testing.assert_allclose(
        ej.MeanDifference().solve(m).matrix(), ej.MeanDifference().fit(x, z).matrix(), atol=1e-5
    )
    one = ej.Moments.init(D, 1).update(x, z[:, 0])
    assert int(ej.MeanDifference().solve(one).rank) == 1


def test_clear_errors():
    x, z = draw(7, 30, D, K)
    m = ej.Moments.init(D, K)
    with pytest.raises(ValueError, match="d=6 features"):
        m.update(x[:, :5], z)
    with pytest.raises(ValueError, match="differ"):
        ej.merge(m, ej.Moments.init(D, 2))
    with pytest.raises(ValueError, match="covariance=True"):
        _ = ej.Moments.init(D, K, covariance=False).covariance
    with pytest.raises(ValueError, match="positive"):
        ej.Moments.init(0, 1)
    with pytest.raises(ValueError, match="one_hot"):
        ej.Moments.init(D, K, one_hot=True).update(x, np.zeros((30, K), np.float32))


@pytest.mark.slow
def test_bad_values_set_bits():
    x, z = draw(8, 30, D, K)

    def status(**change):
        given = {"x": x, "z": z, "weights": None} | change
        return int(ej.Moments.init(D, K).update(given["x"], given["z"], given["weights"]).status)

    assert status() == 0
    assert status(z=np.where(z == 2, 3, z)) == ej.Status.LABEL_RANGE
    assert status(z=np.where(z == 2, -1, z)) == ej.Status.LABEL_RANGE
    assert status(weights=-np.ones(30, np.float32)) & ej.Status.NEGATIVE_WEIGHT
    broken = np.where(np.arange(30)[:, None] == 3, np.nan, x).astype(np.float32)
    assert status(x=broken) & ej.Status.NONFINITE
    ignored = np.where(np.arange(30) == 3, 0, 1).astype(np.float32)
    assert status(x=broken, weights=ignored) == 0
    none = ej.MeanDifference().fit(x, z, weights=np.zeros(30, np.float32), throw=False)
    assert int(none.status) & ej.Status.NO_WEIGHT


def test_a_dataset_is_its_rows():
    x, z = draw(9, 30, D, K)
    data = as_dataset(x, z)
    with pytest.raises(TypeError, match="leave z out"):
        as_dataset(data, z)
    jax.tree.map(np.testing.assert_array_equal, as_dataset(data), data)


@pytest.mark.slow
@pytest.mark.parametrize("real", [False, True])
def test_weight_between_the_rows_that_are_looked_at_first(real):
    rng = np.random.default_rng(0)
    x = (1e4 + rng.standard_normal((2000, D))).astype(np.float32)
    z = (1e4 + rng.standard_normal(2000)).astype(np.float32) if real else rng.integers(0, 2, 2000)
    for start, stop in ((20, 60), (1990, 2000), (0, 2000)):
        weights = np.zeros(2000, np.float32)
        weights[start:stop] = 1
        moments = ej.Moments.of(as_dataset(x, z, weights=weights))
        own = x[start:stop].astype(np.float64)
        expected = np.cov(own.T, ddof=0)
        scale = np.sqrt(np.outer(expected.diagonal(), expected.diagonal()))
        assert (np.abs(moments.covariance - expected) <= 32 * EPS * scale * (stop - start)).all()
        if real:
            variance = z[start:stop].astype(np.float64).var()
            np.testing.assert_allclose(moments.zz[0, 0] / (stop - start), variance, rtol=1e-4)


@pytest.mark.quick(1)
@pytest.mark.parametrize("n", [200, 20_000])
@pytest.mark.parametrize("d", [1, 16, 64])
def test_rows_that_repeat_and_come_sorted_do_not_drift(n, d):
    # A real concept that such rows are uncorrelated with by exact counts, and neither is symmetric.
    rare = n // 20
    sign = np.repeat([-1.0, 1.0], n // 2).astype(np.float32)
    parts = [(-1, n // 2 - rare), (9, rare), (1, n // 2 - rare), (-9, rare)]
    z = np.concatenate([np.full(size, value, np.float32) for value, size in parts])
    x = np.repeat(sign[:, None], d, axis=1)
    moments = ej.Moments.init(d, 1).update(x, z)
    sd = np.sqrt(np.diagonal(moments.xx) * float(moments.zz[0, 0]))
    # Sums in blocks of 16 round by an eps or two a level; a GPU's, whose 32 lanes each add up 7 of
    # 200 rows and then one another, by up to an eps an addition.
    bound = 8 if platforms.is_cpu() else 7 + 5
    assert (np.abs(np.asarray(moments.xz)[:, 0]) <= bound * EPS * sd).all()
    assert int(ej.LEACE().fit(x, z).rank) == 0
