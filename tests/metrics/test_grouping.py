"""Rows in groups: the size and power of the test, intervals, folds."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from scipy import stats

import erasejax as ej
from erasejax.rows import fold_rows
from tests.common import EPS, draw
from tests.metrics.test_guardedness import FLIPS, rejected, unlikely

KEY = jax.random.key(3)


def examine(x, z, groups=None, key=KEY, **options):
    options = {"permutations": FLIPS, "groups": groups} | options
    return ej.metrics.guardedness_test(x, z, key=key, **options)


def alike(found, expected, *names, rtol=2e-4):
    for name in names or ("statistic", "p_value", "r2", "detectable_r2", "df", "df_residual"):
        np.testing.assert_allclose(
            getattr(found, name), getattr(expected, name), rtol=rtol, atol=1e-4, err_msg=name
        )


def named(key, setting, sizes, d):
    """Rows of names that have `alike` of their variance in common, and nothing linear to find.

    setting: (alike, spread, gap, share, by_row). Of the names, or of the rows where by_row is 1, a
    share has label 1, `spread` times the deviation, and a mean that is `gap` higher in one column.
    """
    alike, spread, gap, share, by_row = setting
    groups = np.repeat(np.arange(len(sizes)), sizes)
    own, names, rows = jax.random.split(key, 3)

    def labels(n):
        return (jax.random.permutation(own, n) < jnp.round(share * n)).astype(jnp.int32)

    of_name = labels(len(sizes))
    z = jnp.where(by_row, labels(len(groups)), of_name[groups])
    spreads = jnp.where(z == 1, spread, 1)[:, None]
    common = jax.random.normal(names, (len(sizes), d))[groups] * jnp.where(by_row, 1, spreads)
    noise = jax.random.normal(rows, common.shape) * spreads
    x = jnp.sqrt(alike) * common + jnp.sqrt(1 - alike) * noise
    return x.at[:, 0].add(gap * z), z


class Trials:
    """The test of one layout of groups on datasets of several settings: one program."""

    def __init__(self, sizes, d, *, use=True, **options):
        groups = np.repeat(np.arange(len(sizes)), sizes) if use else None
        options = {"num_classes": 2} | options

        def one(key, setting):
            rows, own = jax.random.split(key)
            found = examine(*named(rows, setting, sizes, d), groups, own, **options)
            return found.p_value, found.detectable_r2

        def many(keys, setting):
            return jax.lax.map(jax.vmap(lambda key: one(key, setting)), keys.reshape(-1, 50))

        self.run = jax.jit(many)

    def __call__(self, count, alike, spread=1.0, gap=0.0, share=0.1, by_row=False):
        """How many of `count` datasets are rejected at 5%, and the median detectable R^2."""
        keys = jax.random.split(jax.random.key(0), count)
        setting = jnp.array([alike, spread, gap, share, by_row], jnp.float32)
        p_values, detectable = self.run(keys, setting)
        return int((np.asarray(p_values) <= 0.05).sum()), float(np.median(detectable))


FOUR = (4,) * 100


@pytest.mark.slow
def test_size_of_names_and_what_happens_without():
    assert not unlikely(200, Trials(FOUR, 16)(200, 0.95, share=0.5)[0], 0.03, 0.07)
    assert Trials(FOUR, 16, use=False)(50, 0.95, share=0.5)[0] >= 48


@pytest.mark.slow
def test_rows_that_are_each_a_group_are_rows():
    rng = np.random.default_rng(0)
    weights = (np.arange(60) % 4).astype(np.float32)
    for k, shape, options in [
        (3, (60, 5), {"weights": weights}),
        (3, (40, 60), {}),
    ]:
        x, z = draw(k, *shape, k, gap=0.3)
        ids = np.sort(rng.choice(10**6, len(z), replace=False)) - 500
        alike(examine(x, z, ids, **options), examine(x, z, **options))
    real = rng.standard_normal((60, 2)).astype(np.float32)
    alone = examine(draw(2, 60, 5, 2)[0], real, np.arange(60), method="pillai")
    alike(alone, examine(draw(2, 60, 5, 2)[0], real, method="pillai"))
    assert float(alone.design_effect) == pytest.approx(1, rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("n", "d", "k"), [(60, 5, 3), (40, 60, 3)])
def test_copies_of_a_row_are_one_row(n, d, k):
    x, z = draw(1, n, d, k, gap=0.3)
    groups = np.repeat(np.arange(n), 3)
    found = examine(x[groups], z[groups], groups)
    alike(found, examine(x, z), rtol=1e-3)
    assert float(found.design_effect) == pytest.approx(3, rel=1e-4)
    # Copies of unequal number weigh as much.
    times = 1 + np.arange(n) % 4
    groups = np.repeat(np.arange(n), times)
    expected = examine(x, z, weights=times.astype(np.float32))
    found = examine(x[groups], z[groups], groups)
    alike(found, expected, "statistic", "p_value", "r2", "df", "df_residual", rtol=1e-3)


def explained(rows, of):
    """How much of the variance of `of`, (g,), rows (g, d) explain, both without a mean."""
    read = of @ rows
    return read @ np.linalg.solve(rows.T @ rows, read) / (of @ of)


@pytest.mark.slow
def test_pillai_of_groups_is_hotelling_of_their_means_or_differences():
    rng = np.random.default_rng(5)
    groups = np.tile(np.arange(40), 4)
    names = rng.standard_normal((40, 5))[groups]
    x = (names + rng.standard_normal((160, 5))).astype(np.float32)
    one = np.arange(40) % 2
    means = np.array([x[groups == g].astype(np.float64).mean(axis=0) for g in range(40)])
    share = explained(means - means.mean(axis=0), one - one.mean())
    found = examine(x, one[groups], groups, method="pillai")
    assert float(found.statistic) == pytest.approx(share, rel=1e-3)
    assert (float(found.df), float(found.df_residual)) == pytest.approx((5, 34))
    f = share / (1 - share) * 34 / 5
    assert float(found.p_value) == pytest.approx(stats.f.sf(f, 5, 34), rel=1e-3)
    # Every name with both labels: what the name has for itself is in none of the differences.
    both = np.arange(160) // 40 % 2
    halves = [
        np.array([
            x[(groups == g) & (both == j)].astype(np.float64).mean(axis=0) for g in range(40)
        ])
        for j in range(2)
    ]
    share = explained(halves[1] - halves[0], np.ones(40))
    for shift in (0, 100 * names):
        found = examine((x + shift).astype(np.float32), both, groups, method="pillai")
        assert float(found.statistic) == pytest.approx(share, rel=1e-2)
        assert (float(found.df), float(found.df_residual)) == pytest.approx((5, 35))


@pytest.mark.slow
def test_three_classes_in_every_group():
    x, z = draw(4, 120, 4, 3, gap=0.3)
    z = np.arange(120, dtype=np.int32) % 3
    groups = np.arange(120) // 6
    common = np.random.default_rng(1).standard_normal((20, 4))[groups].astype(np.float32)
    found = examine(x + 30 * common, z, groups)
    alike(found, examine(x, z, groups), "statistic", "p_value", "df", "df_residual", rtol=1e-2)
    assert (float(found.df), float(found.df_residual)) == pytest.approx((8, 2 * (40 - 4)))
    assert float(found.statistic) < 2
    # No order of the classes is another.
    alike(examine(x, (z + 1) % 3, groups), examine(x, z, groups), rtol=1e-3)


@pytest.mark.slow
def test_a_lane_that_fails_is_alone():
    x, z = draw(2, 60, 5, 2)
    real = np.random.default_rng(0).standard_normal((3, 60, 2)).astype(np.float32)
    real[1, 7] = np.nan
    groups = np.arange(60) // 4

    def one(z, key):
        return examine(x, z, groups, key, method="pillai")

    found = jax.jit(jax.vmap(one))(jnp.asarray(real), jax.random.split(KEY, 3))
    assert int(found.status[1]) & ej.Status.NONFINITE
    assert np.isnan(found.p_value[1])
    assert np.isfinite(np.asarray(found.p_value)[[0, 2]]).all()
    # A class that no row has adds no degrees of freedom.
    empty = examine(x, 2 * z, groups, num_classes=3, method="pillai")
    alike(empty, examine(x, z, groups, method="pillai"), rtol=1e-3)
    assert int(empty.rank_concept) == 1


def test_only_which_rows_are_together_matters():
    x, z = draw(0, 60, 5, 2, gap=0.2)
    groups = np.sort(np.random.default_rng(0).integers(0, 17, 60))
    plain = examine(x, z, groups)
    for ids in (
        groups * 1000 - 7,
        groups.astype(np.uint8),
        [f"name {g:02d}" for g in groups],
        np.array([f"name {g:02d}" for g in groups], object),
        jnp.asarray(groups),
        groups.astype(np.int64) + 2**40,
    ):
        alike(examine(x, z, ids), plain, rtol=0)
    order = np.random.default_rng(1).permutation(60)
    alike(examine(x[order], z[order], groups[order]), plain, rtol=1e-3)
    scales = np.array([1e-12, 1, 1e12, 8, 1], np.float32)
    alike(examine(x * scales, z, groups), plain, rtol=1e-3)
    more = np.concatenate([x, np.full((3, 5), np.nan, np.float32)])
    weights = np.r_[np.full(60, 2.0), np.zeros(3)].astype(np.float32)
    heavy = examine(more, np.r_[z, [1, 1, 0]], np.r_[groups, 0, 16, 99], weights=weights)
    alike(heavy, plain, "statistic", "r2", "detectable_r2", "df", "df_residual", "design_effect")


@pytest.mark.slow
def test_traced_groups_need_their_number():
    x, z = draw(0, 60, 5, 2, gap=0.2)
    groups = np.stack([np.arange(60) // 4, np.arange(60) // 3, np.arange(60)]) * 5 - 3

    def one(groups, key, num_groups=20):
        return examine(x, z, groups, key, num_classes=2, num_groups=num_groups)

    keys = jax.random.split(KEY, 3)
    found = jax.jit(jax.vmap(one))(groups, keys)
    assert int(found.status[2]) & ej.Status.LABEL_RANGE
    assert np.isnan(found.p_value[2])
    assert list(found.status[:2]) == [0, 0]
    alike(jax.tree.map(lambda a: a[1], found), one(groups[1], keys[1]), rtol=1e-4)
    alike(
        jax.tree.map(lambda a: a[0], found),
        one(groups[0], keys[0], None),
        *("statistic", "r2", "detectable_r2", "df_residual"),
    )
    with pytest.raises(ValueError, match="num_groups: required"):
        jax.jit(functools.partial(one, num_groups=None))(groups[0], KEY)
    for bad, error, message in [
        (np.arange(59), ValueError, r"groups: expected shape \(60,\)"),
        (np.linspace(0, 1, 60), TypeError, "groups: expected integers or text, got float64"),
        ([["a"]], ValueError, "groups: expected shape"),
    ]:
        with pytest.raises(error, match=message):
            examine(x, z, bad)
        with pytest.raises(error, match=message):
            ej.metrics.bootstrap(None, ej.probes.LDA().fit(x, z), x, z, key=KEY, groups=bad)
        with pytest.raises(error, match=message):
            ej.probes.select_l2(ej.probes.LDA(), x, z, l2=[0.1], key=KEY, groups=bad)
    with pytest.raises(ValueError, match="num_groups: expected at least 60, got 20"):
        examine(x, z, groups[2], num_groups=20)


COUNT = 4000  # a rate of 0.05 is then known to 0.0035

LAYOUTS = {
    "alone": (1,) * 200,
    "two": (2,) * 200,
    "four": (4,) * 200,
    "fifty": (50,) * 100,
    "unequal": tuple(np.linspace(1, 100, 200).round().astype(int)),
}


@pytest.mark.slow
@pytest.mark.parametrize("sizes", LAYOUTS.values(), ids=LAYOUTS)
def test_size_over_thousands_of_datasets(sizes):
    trials = Trials(sizes, 4)
    for by_row in (False, True):
        for alike, spread in [(0.5, 3.0), (0.5, 1 / 3), (0.0, 3.0), (0.95, 1.0)]:
            rate = trials(COUNT, alike, spread, by_row=by_row)[0] / COUNT
            assert 0.03 <= rate <= 0.07, (by_row, alike, spread)


FEW = {
    "two": (2,) * 60,
    "fifty": (50,) * 60,
    "unequal": tuple(np.linspace(1, 12, 60).round().astype(int)),
}


@pytest.mark.slow
@pytest.mark.parametrize("sizes", FEW.values(), ids=FEW)
def test_size_of_few_groups_against_features(sizes):
    trials = Trials(sizes, 120)
    for by_row in (False, True):
        for alike, spread in [(0.5, 3.0), (0.5, 1 / 3), (0.0, 3.0)]:
            rate = trials(COUNT, alike, spread, by_row=by_row)[0] / COUNT
            assert 0.03 <= rate <= 0.07, (by_row, alike, spread)


@pytest.mark.slow
@pytest.mark.parametrize("concept", ["three", "real", "three few", "mixed"])
def test_size_of_other_concepts(concept):
    """More classes, of one name each or mixed within it, and real concepts."""
    d, names = (120, 60) if "few" in concept else (6, 120)
    groups = np.repeat(np.arange(names), 1 + np.arange(names) % 7)

    def sample(key, alike):
        own, name, row = jax.random.split(key, 3)
        n = len(groups) if concept == "mixed" else names
        z = jax.random.normal(own, (n,))
        if concept != "real":
            z = (z > 0).astype(jnp.int32) + (z > 1)
        z = z if concept == "mixed" else z[groups]
        common = jax.random.normal(name, (names, d))[groups]
        x = jnp.sqrt(alike) * common + jnp.sqrt(1 - alike) * jax.random.normal(row, common.shape)
        spread = 0.2 + jnp.abs(z) if concept == "real" else jnp.array([1, 0.5, 3.0])[z]
        return x * spread[:, None], z

    def one(key, x, z):
        classes = None if concept == "real" else 3
        return examine(x, z, groups, key, num_classes=classes).p_value

    for alike in (0.0, 0.6):
        assert 0.03 <= rejected(sample, one, 2000, alike) / 2000 <= 0.07


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [(4,) * 160, tuple(1 + np.arange(160) % 12)], ids=["4", "1-12"])
def test_power_at_the_detectable_r2(sizes):
    trials = Trials(sizes, 8, permutations=999)
    for by_row in (False, True):
        for alike in (0.0, 0.5):
            r2 = trials(1000, alike, share=0.5, by_row=by_row)[1]
            gap = 2 * (r2 / (1 - r2)) ** 0.5  # between two classes of one size and unit variance
            found = trials(1000, alike, gap=gap, share=0.5, by_row=by_row)[0]
            assert abs(found / 1000 - 0.95) <= 0.03, (by_row, alike, r2)


@pytest.mark.slow
def test_power_of_pillai_with_groups():
    trials = Trials((4,) * 100, 8, method="pillai")
    for alike in (0.0, 0.5):
        size, r2 = trials(1000, alike, share=0.5)
        assert 0.03 <= size / 1000 <= 0.07
        found = trials(1000, alike, gap=2 * (r2 / (1 - r2)) ** 0.5, share=0.5)[0]
        assert abs(found / 1000 - 0.95) <= 0.03, (alike, r2)


@pytest.mark.slow
def test_bootstrap_draws_groups():
    x, z = draw(0, 240, 3, 2)
    probe = ej.probes.LDA().fit(x, z)
    score = functools.partial(
        ej.metrics.bootstrap, ej.metrics.accuracy, probe, key=KEY, resamples=2000
    )
    once = score(x, z)
    alone = score(x, z, groups=np.arange(240) * 3 - 5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=4 * EPS), alone, once)
    groups = np.repeat(np.arange(60), 4)
    copied = score(x[groups], z[groups], groups=groups)
    p = float(copied.estimate)
    # As of 60 rows, not of 240. A standard deviation of 2,000 draws errs by 1/63; five times that.
    assert float(copied.standard_error) == pytest.approx((p * (1 - p) / 60) ** 0.5, rel=0.08)
    weights = np.r_[np.ones(200), np.zeros(40)].astype(np.float32)
    names = [f"name {g}" for g in groups]
    some = score(x[groups], z[groups], weights=weights, groups=names)
    p = float(some.estimate)
    assert p == pytest.approx(float(np.mean(probe.predict(x[:50]) == z[:50])), abs=50 * EPS)
    assert float(some.standard_error) == pytest.approx((p * (1 - p) / 50) ** 0.5, rel=0.08)


@pytest.mark.slow
def test_folds_split_no_group():
    x, z = draw(8, 96, 3, 2)
    groups = np.random.default_rng(0).integers(0, 24, 96)
    z = (groups % 3 == 0).astype(np.int32)
    data = ej.Dataset(x=jnp.asarray(x), z=jnp.asarray(z), num_classes=2)
    own = np.asarray(fold_rows(data, jnp.asarray(groups), KEY, 4))
    folds = [np.unique(own[groups == g]) for g in np.unique(groups)]
    assert all(len(fold) == 1 for fold in folds)
    for kind in (0, 1):
        held = np.bincount([f[0] for g, f in enumerate(folds) if (g % 3 == 0) == kind], minlength=4)
        assert np.ptp(held) <= 1
    # Labels that copies give away: rows held out look well read, groups held out do not.
    rng = np.random.default_rng(1)
    x = rng.standard_normal((24, 40)).astype(np.float32)[groups]
    z = rng.integers(0, 2, 24)[groups]
    losses = [
        float(
            ej.probes.select_l2(
                ej.probes.Logistic(), x, z, l2=[1e-3], folds=4, key=KEY, groups=g
            ).losses.mean()
        )
        for g in (None, groups)
    ]
    assert losses[0] < np.log(2) < losses[1]
    with pytest.raises(ValueError, match="folds: expected 2 to the number of groups, 24, got 25"):
        ej.probes.select_l2(ej.probes.Logistic(), x, z, l2=[1e-3], folds=25, key=KEY, groups=groups)


def test_missing_ids_and_ids_of_two_kinds_are_refused():
    predicted = [1, 0, 1, 0, 1, 1]
    missing = pd.Series(["a", "a", "b", "b", np.nan, np.nan])
    with pytest.raises(ValueError, match=r"got NaN in row 4 \(2 of 6 rows\)"):
        ej.metrics.demographic_parity_difference(predicted, groups=missing)
    both = np.array([1, "1", "a", "a", 2, 2], object)
    with pytest.raises(TypeError, match="integers or text, got both"):
        ej.metrics.demographic_parity_difference(predicted, groups=both)
