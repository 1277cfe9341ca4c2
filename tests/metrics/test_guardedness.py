"""The test of Cov(x, z) = 0: its size, its power, its distributions against scipy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import erasejax as ej
from erasejax._linalg import f_distribution
from tests.common import EPS, draw, enable_x64

FLIPS = 199


def unequal(key, n, d, spread, share=0.1):
    """Classes of one mean; the rarer has `spread` times the standard deviation."""
    z = (jnp.arange(n) < round(share * n)).astype(jnp.int32)
    x = jax.random.normal(key, (n, d)) * jnp.where(z == 1, spread, 1.0)[:, None]
    return x, z


def permuted(key, x, z):
    """The p-value of a plain permutation test of Pillai's trace (n > d) or the squared norm."""
    n, d = x.shape
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    x = jnp.linalg.qr(x)[0] if n > 2 * d else x
    z = z - jnp.mean(z)

    def statistic(z):
        return jnp.sum((z @ x) ** 2)

    keys = jax.random.split(key, FLIPS)
    drawn = jax.lax.map(lambda k: statistic(jax.random.permutation(k, z)), keys)
    return (1 + jnp.sum(drawn >= statistic(z))) / (1 + FLIPS)


def flipped(key, x, z, **options):
    options = {"num_classes": 2, "permutations": FLIPS} | options
    return ej.metrics.guardedness_test(x, z, key=key, **options).p_value


@functools.partial(jax.jit, static_argnums=(1, 2))
def p_values(keys, sample, test, setting):
    def one(key):
        rows, own = jax.random.split(key)
        return test(own, *sample(rows, setting))

    return jax.lax.map(jax.vmap(one), keys.reshape(-1, 50)).ravel()


def rejected(sample, test, count, setting=1.0):
    """How many of `count` datasets, sample(key, setting), the test rejects at 5%."""
    keys = jax.random.split(jax.random.key(0), count)
    return int((np.asarray(p_values(keys, sample, test, setting)) <= 0.05).sum())


def unlikely(count, rejections, low, high):
    """Whether a rate within [low, high] would show so few or many rejections once in a million."""
    below = stats.binom.cdf(rejections, count, low)
    above = stats.binom.sf(rejections - 1, count, high)
    return min(below, above) < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize(("n", "d"), [(200, 8), (60, 120)])
def test_size_where_covariances_differ(n, d):
    def sample(key, spread):
        return unequal(key, n, d, spread)

    for spread in (3.0, 1 / 3):
        assert not unlikely(200, rejected(sample, flipped, 200, spread), 0.03, 0.07)


@pytest.mark.slow
def test_permuting_labels_has_the_wrong_size():
    def sample(key, spread):
        return unequal(key, 200, 8, spread)

    assert unlikely(200, rejected(sample, permuted, 200, 3.0), 0.03, 0.07)
    assert not unlikely(200, rejected(sample, permuted, 200, 1.0), 0.03, 0.07)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n", "d"), [(200, 4), (400, 16), (320, 64), (60, 200), (100, 200), (100, 1000)]
)
def test_size_over_a_thousand_datasets(n, d):
    def sample(key, spread):
        return unequal(key, n, d, spread)

    for spread in (1.0, 3.0, 1 / 3):
        rate = rejected(sample, flipped, 1000, spread) / 1000
        assert 0.03 <= rate <= 0.07, spread


def several(key, _, n=240, d=6):
    """Three classes of one mean and three spreads."""
    z = (jnp.arange(n) % 12 > 5).astype(jnp.int32) + (jnp.arange(n) % 12 == 11)
    return jax.random.normal(key, (n, d)) * jnp.array([1.0, 0.5, 3.0])[z][:, None], z


def real(key, _, n=240, d=6):
    """A real concept that sets the spread of the rows, and not their mean."""
    own, rows = jax.random.split(key)
    z = jax.random.normal(own, (n,))
    return jax.random.normal(rows, (n, d)) * (0.2 + jnp.abs(z))[:, None], z


@pytest.mark.slow
@pytest.mark.parametrize(("sample", "classes"), [(several, 3), (real, None)])
def test_size_for_more_classes_and_real_concepts(sample, classes):
    for n, d in [(240, 6), (80, 160)]:
        rate = rejected(
            functools.partial(sample, n=n, d=d),
            functools.partial(flipped, num_classes=classes),
            1000,
        )
        assert 0.03 <= rate / 1000 <= 0.07


def with_r2(key, n, d, r2, classes=2):
    """Equal classes of covariance I whose R^2 of labels on x is `r2`, the same for each contrast.

    Between-class variance b and within-class variance 1 give b / (1 + b) along each contrast.
    """
    z = jnp.arange(n) % classes
    noise = jax.random.normal(key, (n, d))
    codes = jnp.sqrt(classes) * jax.nn.one_hot(z, classes) - jnp.sqrt(1 / classes)
    _, _, axes = jnp.linalg.svd(codes[:classes])
    between = jnp.sqrt(r2 / (1 - r2))
    shift = between * (codes @ axes.T)[:, : classes - 1]
    return noise.at[:, : classes - 1].add(shift), z


@functools.partial(jax.jit, static_argnums=(1, 2, 3, 4))
def detectable(key, n, d, classes, method):
    x, z = with_r2(key, n, d, 0.1, classes)
    found = ej.metrics.guardedness_test(
        x, z, num_classes=classes, key=key, method=method, permutations=1
    )
    return found.detectable_r2


def power_at_detectable(n, d, classes, method, count, permutations):
    r2 = float(detectable(jax.random.key(0), n, d, classes, method))

    def sample(key, _):
        return with_r2(key, n, d, r2, classes)

    def test(key, x, z):
        return flipped(key, x, z, num_classes=classes, method=method, permutations=permutations)

    return rejected(sample, test, count)


@pytest.mark.slow
def test_power_of_pillai_is_what_it_says():
    found = power_at_detectable(100, 5, 2, "pillai", 400, 1)
    assert not unlikely(400, found, 0.92, 0.98)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["sign_flip", "pillai"])
@pytest.mark.parametrize(
    ("n", "d", "classes", "within"),
    [
        (320, 16, 2, 0.03),
        (640, 32, 2, 0.03),
        (80, 16, 2, 0.1),
        (180, 36, 2, 0.1),
        (320, 8, 3, 0.03),
    ],
)
def test_power_over_a_thousand_datasets(n, d, classes, within, method):
    found = power_at_detectable(n, d, classes, method, 1000, 999)
    assert abs(found / 1000 - 0.95) <= within


@pytest.mark.slow
def test_pillai_is_hotelling_for_two_classes():
    x, z = draw(0, 60, 5, 2, gap=0.3)
    found = ej.metrics.guardedness_test(x, z, method="pillai")
    wide = x.astype(np.float64)
    one, two = wide[z == 0], wide[z == 1]
    n, d = wide.shape
    pooled = (len(one) * np.cov(one.T, ddof=0) + len(two) * np.cov(two.T, ddof=0)) / (n - 2)
    gap = one.mean(0) - two.mean(0)
    t2 = len(one) * len(two) / n * gap @ np.linalg.solve(pooled, gap)
    f = (n - d - 1) / (d * (n - 2)) * t2
    assert float(found.p_value) == pytest.approx(stats.f.sf(f, d, n - d - 1), rel=1e-3)
    assert (float(found.df), float(found.df_residual)) == (d, n - d - 1)
    assert float(found.statistic) == pytest.approx(t2 / (t2 + n - 2), rel=1e-4)
    assert float(found.r2) == pytest.approx(float(ej.metrics.linear_r2(x, z)), rel=1e-4)


@pytest.mark.slow
def test_pillai_of_three_classes_against_its_approximation():
    x, z = draw(1, 90, 6, 3, gap=0.4)
    found = ej.metrics.guardedness_test(x, z, method="pillai")
    wide = x.astype(np.float64)
    mean = wide.mean(axis=0)
    total = (wide - mean).T @ (wide - mean)
    between = sum(
        (z == j).sum() * np.outer(*[wide[z == j].mean(axis=0) - mean] * 2) for j in range(3)
    )
    trace = np.trace(np.linalg.solve(total, between))
    n, p, q, s = 90, 6, 2, 2
    m, error = (abs(p - q) - 1) / 2, (n - 1 - q - p - 1) / 2
    f = (2 * error + s + 1) / (2 * m + s + 1) * trace / (s - trace)
    expected = stats.f.sf(f, s * (2 * m + s + 1), s * (2 * error + s + 1))
    assert float(found.statistic) == pytest.approx(trace, rel=1e-4)
    assert float(found.p_value) == pytest.approx(expected, rel=1e-3)
    assert float(found.r2) == pytest.approx(trace / 2, rel=1e-4)


def test_detectable_r2_against_scipy():
    x, z = draw(0, 60, 5, 2, gap=0.3)
    r2 = float(ej.metrics.guardedness_test(x, z, method="pillai").detectable_r2)
    critical = stats.f.isf(0.05, 5, 54)
    assert stats.ncf.sf(critical, 5, 54, 60 * r2 / (1 - r2)) == pytest.approx(0.95, abs=1e-4)


@pytest.mark.slow
def test_tails_against_scipy():
    a, b, tail = (
        v.ravel()
        for v in np.meshgrid([0.5, 1, 8, 300], [0.5, 5, 5e3, 5e6], [0.99, 0.5, 0.05, 1e-12])
    )
    x = stats.beta.isf(tail, a, b).astype(np.float32)
    inside = (x > 0) & (x < 1 - 1e-3)
    a, b, x = (v[inside].astype(np.float32) for v in (a, b, x))
    wide = [v.astype(np.float64) for v in (a, b, x)]
    expected = stats.beta.sf(wide[2], wide[0], wide[1])
    # x is exact; what the density sums have rounded grows with their logarithm, log(1e-12) = -28.
    np.testing.assert_allclose(
        jax.vmap(f_distribution.beta_tail)(a, b, x), expected, rtol=2000 * EPS
    )
    critical = jax.vmap(lambda a, b: f_distribution.beta_upper_quantile(a, b, 0.05))(a, b)
    keep = np.asarray(critical) < 1 - 1e-3
    back = stats.beta.sf(np.asarray(critical, "f8"), wide[0], wide[1])
    np.testing.assert_allclose(back[keep], 0.05, rtol=2000 * EPS)


def test_noncentral_tail_against_scipy():
    a, b, much = (
        v.ravel().astype(np.float32)
        for v in np.meshgrid([0.5, 8, 40], [3, 50, 5e4], [1e-3, 5, 40, 200])
    )
    critical = stats.f.isf(0.05, 2.0 * a, 2.0 * b)
    x = (a * critical / (a * critical + b)).astype(np.float32)
    power = jax.jit(jax.vmap(lambda *v: f_distribution.noncentral_tail(*v, terms=512)))(
        a, b, x, much
    )
    expected = stats.ncf.sf(critical, 2.0 * a, 2.0 * b, much.astype("f8"))
    np.testing.assert_allclose(power, expected, atol=1e-4)


@pytest.mark.slow
def test_signs_are_those_of_a_loop():
    x, z = draw(3, 50, 4, 2, gap=0.2)
    wide = x.astype(np.float64)
    key = jax.random.key(5)
    found = ej.metrics.guardedness_test(x, z, key=key, permutations=FLIPS)
    from erasejax.metrics import _sign_flips as sign_flips

    words = sign_flips._words(key, FLIPS, 50)
    observed, *signs = np.asarray(sign_flips._signs(words, 50), np.float64)
    assert (observed == 1).all()
    assert set(np.unique(signs)) == {-1.0, 1.0}
    centred = wide - wide.mean(axis=0)
    codes = z - z.mean()

    def trace(rows):
        rows = rows - rows.mean(axis=0)
        read = codes @ rows
        return read @ np.linalg.solve(rows.T @ rows, read) / (codes @ codes)

    # The same robust centre as the library's: weights q / (leverage + d).
    lever = np.einsum("nd,de,ne->n", centred, np.linalg.inv(centred.T @ centred / 50), centred)
    heavy = 1 / (lever + 4)
    centre = heavy @ centred / heavy.sum()
    drawn = [trace(s[:, None] * (centred - centre)) for s in signs]
    larger = sum(t >= trace(centred) for t in drawn)
    assert float(found.p_value) == pytest.approx((1 + larger) / (1 + FLIPS))
    assert float(found.statistic) == pytest.approx(trace(centred), rel=1e-4)


@pytest.mark.slow
def test_erased_rows_lose_a_rank_and_held_out_rows_are_tested_on_it():
    data = ej.datasets.GaussianClasses(rows=100, dims=6, num_classes=3, directions=2)
    fit, other = (data.sample(jax.random.key(0), part=i) for i in range(2))
    eraser = ej.LEACE().fit(fit)
    left = ej.metrics.guardedness_test(eraser(other.x), other.z, method="pillai")
    assert (int(left.rank), int(left.rank_concept)) == (4, 2)
    assert float(left.df) == 8
    seen = ej.metrics.guardedness_test(eraser(fit.x), fit.z, method="pillai")
    assert (float(seen.p_value), float(seen.r2), float(seen.statistic)) == (1, 0, 0)


@pytest.mark.slow
def test_no_scale_and_no_row_of_weight_zero_matters():
    x, z = draw(0, 50, 4, 2, gap=0.2)
    key = jax.random.key(0)

    def test(x, z, weights=None):
        found = ej.metrics.guardedness_test(
            x, z, key=key, permutations=FLIPS, weights=weights, num_classes=2
        )
        return np.array([found.p_value, found.r2, found.detectable_r2, found.df_residual])

    plain = test(x, z)
    scaled = test(x * np.array([1e-12, 1, 1e12, 8], np.float32), z)
    np.testing.assert_allclose(scaled, plain, rtol=1e-4)
    more = np.concatenate([x, np.full((1, 4), np.nan, np.float32)])
    weights = np.r_[np.full(50, 3.0), 0].astype(np.float32)
    heavy = test(more, np.r_[z, 1], weights)
    np.testing.assert_allclose(heavy[1:], plain[1:], rtol=1e-4)
    assert heavy[0] == pytest.approx(plain[0], abs=2 / (FLIPS + 1))


@pytest.mark.slow
def test_a_failing_lane_is_alone_and_float64_stays():
    x, z = draw(0, 50, 4, 2)
    xs = jnp.stack([x, jnp.asarray(x).at[0, 0].set(jnp.nan), x])
    zs = jnp.stack([z, z, jnp.zeros_like(z)])
    keys = jax.random.split(jax.random.key(0), 3)

    def test(x, z, key):
        return ej.metrics.guardedness_test(x, z, key=key, permutations=FLIPS, num_classes=2)

    found = jax.jit(jax.vmap(test))(xs, zs, keys)
    assert int(found.status[1]) & ej.Status.NONFINITE
    assert int(found.status[2]) & ej.Status.CONSTANT_CONCEPT
    assert np.isnan(found.p_value[1:]).all()
    assert np.isnan(found.detectable_r2[1:]).all()
    assert (found.rank[1:] == -1).all()
    assert np.isfinite(found.p_value[0])
    shapes = jax.eval_shape(test, xs[0], zs[0], keys[0])
    assert shapes.p_value.dtype == jnp.float32
    with enable_x64():
        wide = jax.ShapeDtypeStruct((50, 4), jnp.float64)
        shapes = jax.eval_shape(test, wide, zs[0], jax.random.key(0))
        floats = [a.dtype for a in jax.tree.leaves(shapes) if jnp.issubdtype(a.dtype, jnp.floating)]
        assert set(floats) == {jnp.dtype(jnp.float64)}


def test_clear_errors():
    x, z = draw(0, 50, 4, 2)
    with pytest.raises(TypeError, match="key"):
        ej.metrics.guardedness_test(x, z)
    with pytest.raises(ValueError, match="sign_flip, pillai"):
        ej.metrics.guardedness_test(x, z, method="permute")
    with pytest.raises(ValueError, match="permutations"):
        ej.metrics.guardedness_test(x, z, key=jax.random.key(0), permutations=0)
