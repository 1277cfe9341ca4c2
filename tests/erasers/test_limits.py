"""The limits that erasure is promised to hold in, each with the name of what is hard about it."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import erasejax as ej
from erasejax.statistics import null_model
from tests import common
from tests.common import draw, seeds


def exact(x, z, rank=None):
    """Asserts that every method erases z from float32 x, and not by way of the identity."""
    x = np.asarray(x, np.float32)
    rank = len(np.unique(z)) - 1 if rank is None else rank
    for name, method in common.BLIND.items():
        eraser = ej.raise_if_failed(method.fit(x, z))
        assert int(eraser.rank) == rank, name
        assert common.gap_in_sd(x, eraser(x), z) < 1, name


@given(seeds, st.sampled_from([(64, 3, 2), (300, 16, 3)]))
def test_features_scaled_by_anything(seed, shape):
    x, z = draw(seed, *shape, dtype=np.float64)
    scale = 10.0 ** np.random.default_rng(seed).uniform(-15, 15, x.shape[1])
    exact(x * scale, z)


@pytest.mark.parametrize("scale", [1e-15, 1e-8, 1e8, 1e15])
def test_all_features_scaled_alike(scale):
    x, z = draw(1, 300, 16, 3, dtype=np.float64)
    exact(x * scale, z)


@given(seeds, st.sampled_from([1e2, 1e3, 1e4]))
def test_means_far_from_zero(seed, mean):
    x, z = draw(seed, 300, 16, 3, dtype=np.float64)
    exact(x + mean, z)


def test_means_far_from_zero_and_scaled():
    x, z = draw(5, 300, 16, 3, dtype=np.float64)
    scale = 10.0 ** np.random.default_rng(5).uniform(-15, 11, 16)
    exact((x + 1e4) * scale, z)


def on_one_axis(seed, n, d):
    z = np.arange(n) % 2
    x = np.random.default_rng(seed).standard_normal((n, d), dtype=np.float32)
    x[:, 0] += 2 * z
    return x, z


@given(seeds, st.sampled_from([(12, 3), (1_000, 2), (10_000, 3)]))
def test_a_concept_on_one_axis(seed, shape):
    """Of that feature little is left, and the rounding of what was taken must not be read in it."""
    x, z = on_one_axis(seed, *shape)
    for name, method in common.BLIND.items():
        eraser = method.fit(x, z)
        erased = eraser(x)
        probe = ej.probes.LeastSquares().fit(erased, z)
        assert float(ej.metrics.accuracy(probe, erased, z)) == 0.5, name
        assert int(probe.status) == 0, name


@given(seeds, st.sampled_from(["one quantity in three units", "two in six", "categories"]))
def test_features_of_which_nothing_but_rounding_is_left(seed, kind):
    """Erasing takes all that they vary by; then rounding is what a probe could read."""
    rng = np.random.default_rng(seed)
    k = {"one quantity in three units": 2, "two in six": 3, "categories": 4}[kind]
    z = np.arange(200) % k
    if kind == "categories":
        x = np.eye(3)[np.where(rng.random(200) < 0.5, z % 3, rng.integers(0, 3, 200))]
    else:
        x = rng.standard_normal((200, k - 1)) + 2 * rng.standard_normal((k, k - 1))[z]
        units = rng.standard_normal((k - 1, 6))
        x = x * [1, 1.8, 3.3] if kind.startswith("one") else x @ units
    x = x.astype(np.float32)
    for name, method in common.BLIND.items():
        erased = method.fit(x, z)(x)
        probe = ej.probes.LeastSquares().fit(erased, z)
        least = float(np.max(np.bincount(z))) / 200
        read = float(ej.metrics.accuracy(probe, erased, z))
        assert abs(read - least) < 1e-6 or int(probe.status) & ej.Status.UNRESOLVED, name


def test_the_slope_of_an_eraser_is_its_matrix_everywhere():
    """At the centre and at the origin, too, where nothing is left of a row."""
    x, z = draw(6, 100, 4, 3)
    for eraser in (ej.LEACE().fit(x, z), ej.LEACE(keep_mean=False).fit(x, z)):
        for row in (eraser.center, np.zeros(4, np.float32), x[0]):
            np.testing.assert_allclose(jax.jacfwd(eraser)(row), eraser.matrix(), atol=1e-5)
            np.testing.assert_allclose(jax.jacrev(eraser)(row), eraser.matrix(), atol=1e-5)
    # One quantity in two units: what is left of every row is nothing.
    x = x[:, :1] * np.float32([1, 2.54])
    eraser = ej.LEACE().fit(x, z > 0, num_classes=2)
    np.testing.assert_allclose(jax.jacfwd(eraser)(x[0]), eraser.matrix(), atol=1e-5)


@given(seeds, st.sampled_from([30, 100, 300]))
def test_what_is_left_of_classes_far_apart_is_warned_of(seed, separation):
    """What is left is some eps of the gap that was: a probe predicts the constant, or says so."""
    rng = np.random.default_rng(seed)
    z = np.arange(1_000) % 2
    x = rng.standard_normal((1_000, 4), dtype=np.float32)
    x = x + np.float32(separation) * z[:, None].astype(np.float32) * np.sign(x[0])
    for name, method in {**common.BLIND, "OracleLEACE": ej.OracleLEACE()}.items():
        eraser = method.fit(x, z)
        erased = eraser(x, z) if eraser.needs_z else eraser(x)
        for probe in (ej.probes.LeastSquares(), ej.probes.Logistic()):
            fitted = probe.fit(erased, z)
            if float(ej.metrics.accuracy(fitted, erased, z)) != 0.5:
                assert int(fitted.status) & ej.Status.UNRESOLVED, name


def methods(**options):
    return {"LEACE": ej.LEACE(**options), "MeanDifference": ej.MeanDifference(**options)}


@given(seeds, st.sampled_from([1e-3, 1e-4, 1e-5]), st.booleans())
def test_copies_of_one_quantity_are_warned_of(seed, apart, whole_numbers):
    """What is left of them is so small that the kernel's own rounding may show in it."""
    x, z = copies(seed, apart, whole_numbers)
    late = np.arange(400) >= 200  # other rows than the first alone have a weight
    twice, labels = np.tile(x, (2, 1)), np.tile(z, 2)
    loud = np.float32(1e25) * np.tile(np.float32([1, 1, -1, -1]), 50)  # and tells no class
    both = np.column_stack([x, loud])
    for name, method in common.BLIND.items():
        assert int(method.fit(x, z).status) & ej.Status.UNRESOLVED, name
        assert int(method.fit(twice, labels, weights=late).status) & ej.Status.UNRESOLVED, name
    assert int(ej.MeanDifference().fit(both, z).status) & ej.Status.UNRESOLVED
    for name, method in methods(keep_mean=False).items():
        assert int(method.fit(x + np.float32(8), z).status) & ej.Status.UNRESOLVED, name


@given(seeds, st.sampled_from([1, 0.1]), st.booleans())
def test_features_that_are_no_copies_are_not_warned_of(seed, apart, whole_numbers):
    x, z = copies(seed, apart, whole_numbers)
    for unit in (1, 1e-30, 1e30):
        for name, method in common.BLIND.items():
            assert int(method.fit(x * np.float32(unit), z).status) == 0, name
    for name, method in methods(keep_mean=False).items():
        assert int(method.fit(x + np.float32(8), z).status) == 0, name


@given(seeds)
def test_copies_of_which_nothing_or_enough_is_left_are_not_warned_of(seed):
    x, z = copies(seed, 1e-4, whole_numbers=False)
    sex = np.eye(2, dtype=np.float32)[z]
    for name, method in methods().items():
        for rows in (sex, np.repeat(x[:, :1], 2, axis=1)):
            eraser = method.fit(rows, z)
            assert int(eraser.status) == 0, name
            assert (np.ptp(eraser(rows), axis=0) == 0).all(), name
        assert int(ej.erasers.Partial(of=method, strength=0.5).fit(x, z).status) == 0, name


@given(seeds)
def test_float64_resolves_copies_that_float32_does_not(seed):
    x, z = copies(seed, 1e-4, whole_numbers=False)
    with common.enable_x64():
        for name, method in methods().items():
            assert int(method.fit(x.astype(np.float64), z).status) == 0, name


def copies(seed, apart, whole_numbers):
    """Returns a quantity in three units, each with noise of its own, and the two classes."""
    rng = np.random.default_rng(seed)
    z = np.arange(200) % 2
    quantity = rng.standard_normal(200) + 2 * z
    noise = rng.standard_normal((200, 3))
    if whole_numbers:
        quantity, noise = np.round(3 * quantity) / 3, np.round(noise)
    return (quantity[:, None] * [1, 2, 3] + apart * noise).astype(np.float32), z


@given(seeds)
def test_rows_that_were_not_erased_are_not_warned_of(seed):
    rng = np.random.default_rng(seed)
    x, z = rng.standard_normal((10_000, 2), dtype=np.float32), rng.integers(0, 2, 10_000)
    assert int(ej.probes.LeastSquares().fit(x, z, num_classes=2).status) == 0


@given(seeds)
def test_moments_of_a_concept_on_one_axis(seed):
    x, z = on_one_axis(seed, 10_000, 3)
    moments = ej.Moments.of(ej.Dataset(x, z, num_classes=2))
    null, status = null_model(ej.LEACE().solve(moments).erased_moments(moments))
    assert bool(null)
    assert int(status) == 0


@pytest.mark.slow
def test_constant_and_duplicate_features():
    x, z = draw(2, 200, 6, 2)
    x = np.concatenate([x, x[:, :2], np.full((200, 1), 7.1), np.zeros((200, 1))], axis=1)
    exact(x, z)
    y = np.asarray(ej.MeanDifference().fit(x.astype(np.float32), z)(x.astype(np.float32)))
    assert np.ptp(y[:, -2:], axis=0).max() == 0


@pytest.mark.slow
def test_fewer_rows_than_features():
    exact(*draw(3, 40, 500, 4))


@pytest.mark.slow
def test_fewer_features_than_classes():
    x, z = draw(3, 60, 2, 5)
    exact(x, z, rank=2)


@pytest.mark.slow
def test_one_feature():
    x, z = draw(3, 60, 1, 2)
    exact(x, z)
    assert np.ptp(np.asarray(ej.MeanDifference().fit(x, z)(x))) == 0


@pytest.mark.slow
def test_rare_classes():
    rng = np.random.default_rng(4)
    z = (np.arange(20_000) % 1000 == 0).astype(np.int32)
    x = rng.standard_normal((20_000, 12)) + z[:, None] * rng.standard_normal(12)
    exact(x, z)


@pytest.mark.slow
def test_weak_concepts():
    rng = np.random.default_rng(5)
    z = rng.integers(0, 2, 20_000)
    x = rng.standard_normal((20_000, 12)) + 0.01 * z[:, None]
    exact(x, z)


@pytest.mark.slow
@pytest.mark.parametrize("order", ["random", "sorted"])
def test_rare_weak_far_and_scaled_at_once(order):
    rng = np.random.default_rng(6)
    z = (rng.random(50_000) < 1e-3).astype(np.int32)
    x = (rng.standard_normal((50_000, 8)) + 0.01 * z[:, None] + 1e3) * 10.0 ** np.arange(-4, 4)
    rows = np.argsort(z, kind="stable") if order == "sorted" else np.arange(len(z))
    exact(x[rows], z[rows])


@pytest.mark.slow
def test_repeated_values_sorted_by_label():
    # Equal addends make a plain running sum drift; the sums here must not.
    rng = np.random.default_rng(7)
    x = np.concatenate([
        rng.choice([-1, -0.5, 0.1], (50_000, 4)),
        rng.choice([0.7, 1], (50_000, 4)),
    ])
    z = np.repeat([0, 1], 50_000)
    exact(x, z)
    x = x.astype(np.float32)
    erased = ej.MeanDifference().fit(x, z)(x)
    assert (np.asarray(ej.probes.Logistic().fit(erased, z).weight) == 0).all()


@pytest.mark.slow
def test_classes_separated_along_directions_of_very_different_strength():
    rng = np.random.default_rng(8)
    z = np.arange(600) % 3
    means = np.array([[0, 0], [1, 0], [1, 1e-3]]) * 3
    x = rng.standard_normal((600, 5))
    x[:, :2] += means[z]
    exact(x, z)
