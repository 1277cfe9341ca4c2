"""Selectivity, V-information, learning curves: against loops, in known cases; what all share."""

import importlib
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import erasejax as ej
from erasejax import metrics
from erasejax.rows import fold_rows, random_order
from tests.common import bits_of, complete, draw

KEY = jax.random.key(7)
LOGISTIC = ej.probes.Logistic(l2=0.1)
PATHS = {"codelength": metrics.codelength, "learning_curve": metrics.learning_curve}
ALL = PATHS | {"selectivity": metrics.selectivity, "v_information": metrics.v_information}


@pytest.mark.quick(3)
@pytest.mark.parametrize("place", [0, 30, 63])
@pytest.mark.parametrize("name", ALL)
def test_what_cannot_be_read_is_never_a_number(name, place):
    x, z = draw(3, 64, 3, 2)
    x[place] = np.nan
    with pytest.raises(ej.FailedLanesError, match="NaN"):
        ALL[name](LOGISTIC, x, z, key=KEY)
    found = ALL[name](LOGISTIC, x, z, key=KEY, throw=False)
    assert int(found.status) & ej.Status.NONFINITE
    assert all(np.isnan(leaf).all() for leaf in jax.tree.leaves(found) if leaf.dtype == np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_one_class_and_labels_out_of_range(name):
    x, z = draw(3, 64, 3, 2)
    with pytest.raises(ej.FailedLanesError, match="constant"):
        ALL[name](LOGISTIC, x, np.zeros(64, int), key=KEY)
    z[5] = -1
    found = jax.jit(lambda z: ALL[name](LOGISTIC, x, z, num_classes=2, key=KEY))(z)
    assert int(found.status) & ej.Status.LABEL_RANGE


# Selectivity.


@pytest.mark.slow
def test_memory_is_not_selective():
    # As many features as rows: least squares learns any labels by heart.
    x, z = draw(0, 40, 60, 2, gap=3.0)
    found = metrics.selectivity(ej.probes.LeastSquares(l2=1e-6), x, z, key=KEY, controls=5)
    assert float(found.accuracy) == 1
    rounding = 4 * float(np.finfo(np.float32).eps)  # of a mean over the controls
    assert float(found.control) == pytest.approx(1, abs=rounding)
    assert float(found.selectivity) == pytest.approx(0, abs=rounding)


@pytest.mark.slow
def test_a_linear_probe_of_a_linear_concept_is_selective():
    data = ej.datasets.GaussianClasses(separation=4.0, rows=500, dims=4).sample(KEY)
    found = metrics.selectivity(ej.probes.Logistic(), data, key=KEY, controls=5)
    assert float(found.selectivity) > 0.4
    assert float(found.low) > 0.35
    assert float(found.share) == 1


def words(seed, types=20, each=20, spread=0.2):
    """Rows about the random vector of their type, half of the types of each class."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(types), each)
    vectors = rng.normal(size=(types, 2 * types))
    x = vectors[groups] + spread * rng.normal(size=(types * each, 2 * types))
    return x.astype(np.float32), groups % 2, groups


@pytest.mark.slow
def test_types_of_words_can_be_learnt_by_heart():
    # In more dimensions than there are types, a linear probe learns any label of each type.
    x, z, groups = words(0)
    found = metrics.selectivity(LOGISTIC, x, z, groups=groups, key=KEY, controls=3)
    assert float(found.accuracy) == 1
    assert float(found.control) > 0.95
    # In two, it cannot, and the concept is one of them.
    x = np.stack([z + 0.1 * x[:, 0], x[:, 1]], axis=1).astype(np.float32)
    found = metrics.selectivity(LOGISTIC, x, z, groups=groups, key=KEY, controls=3)
    assert float(found.selectivity) > 0.25


def test_control_labels_are_of_groups_and_have_the_frequencies_of_the_concept():
    from erasejax.metrics._selectivity import _drawn

    z = jnp.asarray(np.repeat([0, 1, 2], [1400, 400, 200]).astype(np.int32))
    data = ej.Dataset(x=jnp.zeros((2000, 1)), z=z, num_classes=3)
    drawn = np.asarray(_drawn(data, None, KEY))
    np.testing.assert_allclose(np.bincount(drawn) / 2000, [0.7, 0.2, 0.1], atol=0.03)
    groups = np.arange(2000) % 50
    grouped = np.asarray(_drawn(data, groups, KEY))
    assert all(len(set(grouped[groups == g])) == 1 for g in range(50))
    weighted = data.replace(weights=jnp.where(z == 2, 1.0, 0.0).at[0].set(1e-9))
    assert (np.asarray(_drawn(weighted, None, KEY)) == 2).mean() > 0.99


@pytest.mark.slow
def test_only_rows_of_fitted_groups_are_scored():
    x, z, groups = words(1)
    held = (groups < 4) | (np.arange(400) % 4 == 0)
    found = metrics.selectivity(LOGISTIC, x, z, groups=groups, held_out=held, key=KEY)
    assert float(found.share) == pytest.approx(80 / (80 + 80), abs=1e-6)
    held = groups < 4
    with pytest.raises(ej.FailedLanesError, match="weight"):
        metrics.selectivity(LOGISTIC, x, z, groups=groups, held_out=held, key=KEY)
    with pytest.raises(ValueError, match="held_out: only with groups"):
        metrics.selectivity(LOGISTIC, x, z, held_out=held, key=KEY)


# V-information.


@pytest.mark.slow
def test_v_information_is_the_gain_in_log_loss():
    x, z = draw(2, 200, 4, 3, gap=1.5)
    rng = np.random.default_rng(0)
    weights, held = rng.integers(0, 3, 200).astype(np.float32), rng.uniform(size=200) < 0.4
    found = metrics.v_information(LOGISTIC, x, z, held_out=held, weights=weights, key=KEY)
    probe = LOGISTIC.fit(x[~held], z[~held], weights=weights[~held])
    share = np.bincount(z[~held], weights[~held])
    null = -np.log2(share / share.sum())[z[held]]
    own = bits_of(probe, x[held], z[held])
    for name, rows in (("null_loss", null), ("loss", own), ("bits", null - own)):
        assert float(getattr(found, name)) == pytest.approx(
            np.average(rows, weights=weights[held]), rel=1e-3, abs=1e-5
        )
    loss = metrics.log_loss(probe, x[held], z[held], weights=weights[held])
    assert float(found.loss) * math.log(2) == pytest.approx(float(loss), rel=1e-4)


@pytest.mark.slow
def test_a_quarter_is_held_out_of_each_class_and_whole_groups():
    z = np.repeat([0, 1], [40, 8]).astype(np.int32)
    x = np.random.default_rng(0).normal(size=(48, 2)).astype(np.float32)
    data = ej.Dataset(x=jnp.asarray(x), z=jnp.asarray(z), num_classes=2)
    own = jax.random.split(KEY)[0]
    held = np.asarray(fold_rows(data, None, own, 4)) == 0
    assert held[:40].sum() == 10
    assert held[40:].sum() == 2
    found = metrics.v_information(LOGISTIC, x, z, key=KEY)
    same = metrics.v_information(LOGISTIC, x, z, held_out=held, key=KEY)
    assert float(found.bits) == pytest.approx(float(same.bits), rel=1e-5)
    groups = np.arange(48) // 4
    held = np.asarray(fold_rows(data, groups, own, 4)) == 0
    assert all(len(set(held[groups == g])) == 1 for g in range(12))
    found = metrics.v_information(LOGISTIC, x, z, groups=groups, key=KEY)
    same = metrics.v_information(LOGISTIC, x, z, groups=groups, held_out=held, key=KEY)
    assert float(found.bits) == pytest.approx(float(same.bits), rel=1e-5)


@pytest.mark.slow
def test_erased_rows_have_no_linear_information():
    train, test = (
        ej.datasets.GaussianClasses(separation=3.0, rows=2000, dims=8).sample(KEY, part=i)
        for i in (0, 1)
    )
    eraser = ej.LEACE().fit(train)
    before = metrics.v_information(LOGISTIC, test, key=KEY)
    after = metrics.v_information(LOGISTIC, eraser(test.x), test.z, key=KEY)
    assert float(before.low) > 0.4
    assert abs(float(after.bits)) < 0.01
    assert float(after.null_loss) == pytest.approx(1, abs=0.01)


@pytest.mark.slow
def test_conditional_information_is_what_is_new():
    rng = np.random.default_rng(0)
    z = rng.integers(0, 2, 4000)
    a, b = (z + rng.normal(size=4000) for _ in range(2))
    noise = rng.normal(size=4000)
    x = np.stack([a, b, noise], axis=1).astype(np.float32)
    own = {"key": KEY, "held_out": np.arange(4000) % 4 == 0}
    probe = ej.probes.Logistic()
    known = metrics.v_information(probe, x[:, :1], z, given=x[:, :1], **own)
    assert abs(float(known.bits)) < 0.003
    assert abs(float(metrics.v_information(probe, x[:, 2:], z, given=x[:, :1], **own).bits)) < 0.003
    new = metrics.v_information(probe, x[:, 1:2], z, given=x[:, :1], **own)
    both = metrics.v_information(probe, x[:, :2], z, **own)
    first = metrics.v_information(probe, x[:, :1], z, **own)
    # A chain: what both say is what one says, and what the other adds.
    assert float(new.bits) == pytest.approx(float(both.bits - first.bits), abs=1e-4)
    assert float(new.low) > 0.02
    assert float(new.null_loss) == pytest.approx(float(first.loss), rel=1e-4)


@pytest.mark.slow
def test_a_class_held_out_and_never_fitted_has_no_number():
    x, z = draw(2, 60, 3, 2)
    with pytest.raises(ej.FailedLanesError):
        metrics.v_information(
            LOGISTIC, x, np.append(z[:-1], 2), held_out=np.arange(60) > 49, key=KEY
        )


@pytest.mark.slow
def test_intervals_cover():
    probe, truth = ej.probes.LDA(), []
    dataset = ej.datasets.GaussianClasses(separation=2.0, rows=100, dims=2)

    def one(key):
        data = dataset.sample(key)
        held = jnp.arange(200) % 2 == 0
        found = metrics.v_information(probe, data, held_out=held, key=key, level=0.9)
        fresh = dataset.replace(rows=4000).sample(key, part=1)
        fitted = probe.fit(data.replace(weights=jnp.where(held, 0.0, 1.0)))
        expected = 1 - metrics.log_loss(fitted, fresh) / math.log(2)
        return (found.low <= expected) & (expected <= found.high)

    truth = jax.jit(jax.vmap(one))(jax.random.split(KEY, 300))
    assert 0.84 <= float(truth.mean()) <= 0.95


# Learning curves.


@pytest.mark.slow
@pytest.mark.parametrize("grouped", [False, True])
def test_a_curve_is_that_of_a_loop(grouped):
    x, z = draw(4, 160, 4, 3, gap=2.0)
    groups = (np.arange(160) // 2).astype(np.int32) if grouped else None
    held = np.arange(160) // 2 % 4 == 0
    options = {"held_out": held, "groups": groups, "fractions": [0.05, 0.3, 1.0], "key": KEY}
    found = metrics.learning_curve(LOGISTIC, x, z, **options)
    assert found.sizes.tolist() == [6, 36, 120]
    data = ej.Dataset(x=jnp.asarray(x), z=jnp.asarray(z), num_classes=3)
    behind = jnp.asarray(held)
    order = np.asarray(random_order(data, groups, jax.random.split(KEY, 3)[1], behind=behind))
    assert not held[order[:120]].any()
    for size, score, error in zip(found.sizes, found.scores, found.standard_error, strict=True):
        rows = order[: int(size)]
        if not complete(z[rows], len(rows), 3):
            assert np.isnan(score)
            continue
        right = np.asarray(LOGISTIC.fit(x[rows], z[rows]).predict(x[held])) == z[held]
        assert float(score) == pytest.approx(right.mean(), abs=1e-6)
        own = (right - right.mean()).reshape((20, 2) if grouped else (40, 1)).sum(axis=1)
        units = len(own)
        expected = math.sqrt(np.sum(own**2) * units / (units - 1)) / 40
        assert float(error) == pytest.approx(expected, rel=1e-4)


@pytest.mark.slow
def test_more_rows_read_better():
    data = ej.datasets.GaussianClasses(separation=2.0, rows=2000, dims=32).sample(KEY)
    found = metrics.learning_curve(LOGISTIC, data, key=KEY, fractions=[0.02, 0.1, 1.0])
    assert float(found.scores[0]) < float(found.low[2])
    assert float(found.high[2]) <= 1


# What all have in common.


def numbers(found):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(found)]


def close(found, expected, rtol=2e-3):
    for a, b in zip(numbers(found), numbers(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("name", ALL)
def test_rows_of_weight_0_change_nothing(name, grouped):
    x, z = draw(6, 60, 3, 2, gap=2.0)
    groups = np.arange(60) // 3 if grouped else None
    one = ALL[name](LOGISTIC, x, z, groups=groups, key=KEY)
    more = np.concatenate([x, np.full((13, 3), np.nan, np.float32)])
    labels, weights = np.append(z, z[:13]), np.repeat([1.0, 0.0], [60, 13]).astype(np.float32)
    groups = np.append(groups, groups[:13]) if grouped else None
    close(ALL[name](LOGISTIC, more, labels, weights=weights, groups=groups, key=KEY), one)


@pytest.mark.slow
@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("name", ALL)
def test_under_jit_and_vmap(name, grouped):
    groups = np.arange(60) // 3 if grouped else None
    both = [draw(seed, 60, 3, 2, gap=2.0) for seed in range(2)]

    def run(x, z):
        return ALL[name](LOGISTIC, x, z, groups=groups, key=KEY, num_classes=2)

    x, z = (np.stack(rows) for rows in zip(*both, strict=True))
    several = jax.jit(jax.vmap(run))(x, z)
    for i, rows in enumerate(both):
        close(jax.tree.map(lambda leaf, i=i: leaf[i], several), run(*rows))


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_text_groups_float64_and_far_rows(name):
    x, z = draw(6, 60, 3, 2, gap=2.0)
    groups = np.arange(60) // 3
    options = {"key": KEY}
    one = ALL[name](LOGISTIC, x, z, groups=groups, **options)
    close(ALL[name](LOGISTIC, x, z, groups=np.array([f"g{g:03}" for g in groups]), **options), one)
    far = x.astype(np.float64) + 1e7
    close(ALL[name](LOGISTIC, far, z, groups=groups, **options), one)


@pytest.mark.quick(2)
@pytest.mark.parametrize("name", ALL)
def test_other_floats_do_not_compile_again(name):
    x, z = draw(6, 60, 3, 2, gap=2.0)
    ALL[name](ej.probes.Logistic(l2=0.5), x, z, key=KEY, level=0.5)
    with jax.log_compiles(False):
        core = getattr(importlib.import_module(f"erasejax.metrics._{name}"), f"_{name}")
        before = core._cache_size()
        ALL[name](ej.probes.Logistic(l2=1), x[:50], z[:50], key=jax.random.key(3), level=0.9)
        assert core._cache_size() == before


@pytest.mark.parametrize("name", ["codelength", "v_information"])
def test_a_likelihood_is_needed(name):
    x, z = draw(6, 60, 3, 2)
    with pytest.raises(TypeError, match="no likelihood"):
        ALL[name](ej.probes.LinearSVM(), x, z, key=KEY)


def test_slips_are_told():
    x, z = draw(6, 60, 3, 2)
    with pytest.raises(TypeError, match="not fitted"):
        metrics.codelength(LOGISTIC.fit(x, z), x, z, key=KEY)  # pyright: ignore
    with pytest.raises(TypeError, match="class labels"):
        metrics.codelength(LOGISTIC, x, x[:, 0], key=KEY)
    for wrong in ([0.5, 0.2], [0.0, 1.0], [0.5, 1.5], []):
        with pytest.raises(ValueError, match="fractions"):
            metrics.codelength(LOGISTIC, x, z, key=KEY, fractions=wrong)
    with pytest.raises(ValueError, match="permutations"):
        metrics.codelength(LOGISTIC, x, z, key=KEY, permutations=-1)
    with pytest.raises(ValueError, match="controls"):
        metrics.selectivity(LOGISTIC, x, z, key=KEY, controls=0)
    with pytest.raises(ValueError, match="held_out: expected 60"):
        metrics.v_information(LOGISTIC, x, z, key=KEY, held_out=[True, False])
    with pytest.raises(ValueError, match="given: expected 60"):
        metrics.v_information(LOGISTIC, x, z, key=KEY, given=x[:5])


# In sweeps.

NAMES = ("codelength", "selectivity", "v_information")


@pytest.mark.slow
def test_metrics_of_a_fit_are_what_the_functions_say():
    data = ej.datasets.GaussianClasses(separation=2.0, rows=40, dims=3).sample(KEY)
    other = ej.datasets.GaussianClasses(separation=2.0, rows=40, dims=3).sample(KEY, part=1)
    fitted = LOGISTIC.fit(data)
    found = {
        name: kind().compute(LOGISTIC, fitted, data, other, key=KEY)
        for name, kind in ej.names.known("metric").items()
        if kind.of == "fit"
    }
    assert set(found) == set(NAMES)
    code = metrics.codelength(LOGISTIC, data, key=KEY, permutations=0)
    assert float(found["codelength"]) == pytest.approx(float(code.bits), rel=1e-5)
    both = ej.Dataset(
        x=jnp.concatenate([data.x, other.x]), z=jnp.concatenate([data.z, other.z]), num_classes=2
    )
    gain = metrics.v_information(LOGISTIC, both, held_out=np.arange(160) >= 80, key=KEY)
    assert float(found["v_information"]) == pytest.approx(float(gain.bits), rel=1e-4)
    assert float(found["selectivity"]) == pytest.approx(
        float(metrics.selectivity(LOGISTIC, data, key=KEY).selectivity), abs=0.15
    )


@pytest.mark.slow
def test_sweeps_take_them_by_name(tmp_path):
    (tmp_path / "spec.toml").write_text(
        'eraser = ["identity", "leace"]\nprobe = ["logistic", "linear-svm"]\nseeds = 2\n'
        f"metrics = {[*NAMES, 'task_codelength']}\n"
        '[dataset]\nname = "two-concepts"\nrows = 60\ndims = 4\n'
    )
    frame = ej.sweep.run(tmp_path / "spec.toml", out=tmp_path / "out").to_pandas()
    of = frame.set_index(["eraser", "probe"])
    read = of.xs("logistic", level="probe")
    assert np.isfinite(read.codelength_fresh).all()
    assert np.isfinite(read.task_codelength_fresh).all()
    assert read.loc["leace"].codelength_fresh.mean() > read.loc["identity"].codelength_fresh.mean()
    assert read.loc["identity"].v_information_fresh.mean() > 0.1
    assert abs(read.loc["leace"].v_information_fresh.mean()) < 0.1
    other = of.xs("linear-svm", level="probe")
    assert other.codelength_fresh.isna().all()
    assert other.selectivity_fitting.notna().all()
