"""What projecting out the class-mean differences does, on any data."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import erasejax as ej
from tests import common
from tests.common import EPS, draw, seeds, shapes


@given(seeds, shapes)
def test_class_means_coincide_in_every_direction(seed, shape):
    n, d, k = shape
    x, z = draw(seed, n, d, k)
    eraser = ej.MeanDifference().fit(x, z)
    assert int(eraser.rank) == min(k - 1, d)
    assert common.gap_in_sd(x, eraser(x), z) < 1


@given(seeds, shapes)
def test_the_mean_stays_where_it_is(seed, shape):
    n, d, k = shape
    x, z = draw(seed, n, d, k)
    moved = np.asarray(ej.MeanDifference().fit(x, z)(x), np.float64).mean(0) - x.mean(0, np.float64)
    assert np.abs(moved).max() <= 4 * EPS * np.abs(x).max()


@pytest.mark.slow
@given(seeds, shapes)
def test_keep_mean_false_zeroes_the_directions_themselves(seed, shape):
    n, d, k = shape
    x, z = draw(seed, n, d, k)
    eraser = ej.MeanDifference(keep_mean=False).fit(x, z)
    means = common.class_means(x, z)
    u, singular, _ = np.linalg.svd((means - means[0]).T, full_matrices=False)
    u = u[:, : k - 1]
    read = np.asarray(eraser(x), np.float64) @ u
    # A direction u known to within eps / (relative singular value) reads that share of |x|.
    bound = 8 * EPS * np.linalg.norm(x, axis=1).max() * singular[0] / singular[k - 2]
    assert np.abs(read).max() <= bound
    np.testing.assert_array_equal(eraser.center, 0)


@given(seeds, shapes)
def test_idempotent(seed, shape):
    n, d, k = shape
    x, z = draw(seed, n, d, k)
    eraser = ej.MeanDifference().fit(x, z)
    once = eraser(x)
    condition = np.linalg.norm(eraser.kernel) * np.linalg.norm(eraser.test)
    bound = 8 * EPS * condition * np.linalg.norm(x, axis=1).max()
    assert np.abs(np.asarray(eraser(once) - once)).max() <= bound


@given(seeds, shapes)
def test_rank_of_what_is_removed(seed, shape):
    n, d, k = shape
    x, z = draw(seed, n, d, k)
    removed = np.asarray(x - ej.MeanDifference().fit(x, z)(x), np.float64)
    singular = np.linalg.svd(removed, compute_uv=False)
    assert singular[k - 2] > 1e-2 * singular[0]
    assert singular[k - 1] < 32 * EPS * np.sqrt(n * d) * np.abs(x).max()


@given(seeds, shapes)
def test_orthogonal_readouts_are_untouched(seed, shape):
    n, d, k = shape
    x, z = draw(seed, n, d, k)
    eraser = ej.MeanDifference().fit(x, z)
    rng = np.random.default_rng(seed)
    v = rng.standard_normal(d)
    kernel = np.linalg.qr(np.asarray(eraser.kernel, np.float64))[0]
    v -= kernel @ (kernel.T @ v)
    before, after = x.astype(np.float64) @ v, np.asarray(eraser(x), np.float64) @ v
    bound = 8 * EPS * np.abs(v).sum() * np.abs(x).max()  # rounding of y, entry by entry
    assert np.abs(before - after).max() <= bound


def test_features_outside_the_kernel_keep_every_bit():
    x, z = draw(0, 50, 5, 2)
    eraser = ej.Ablation(directions=np.eye(5, dtype=np.float32)[:, 2]).fit(x, z)
    others = [0, 1, 3, 4]
    np.testing.assert_array_equal(np.asarray(eraser(x))[:, others], x[:, others])
    assert np.ptp(np.asarray(eraser(x))[:, 2]) == 0  # no rounding noise to read the label from


def test_a_second_concept_orthogonal_to_the_test_keeps_its_covariance():
    rng = np.random.default_rng(3)
    n = 400
    z = rng.integers(0, 2, n)
    x = rng.standard_normal((n, 6)).astype(np.float32)
    x[:, 0] += 2 * z
    eraser = ej.MeanDifference().fit(x, z)
    test = np.asarray(eraser.test, np.float64)[:, 0]
    centred = x - x.mean(axis=0, dtype=np.float64)
    # Of the real concepts y = x . a, one whose covariance with x the test direction does not see.
    sigma = centred.T @ centred / n
    a = rng.standard_normal(6)
    a -= test * (test @ sigma @ a) / (test @ sigma @ test)
    y = centred @ a
    before = centred.T @ y / n
    after = np.asarray(eraser(x), np.float64)
    after = (after - after.mean(axis=0)).T @ y / n
    assert abs(test @ before) < 1e-6 * np.linalg.norm(before)
    np.testing.assert_allclose(after, before, atol=8 * EPS * np.abs(x).max() * np.abs(y).max())


@given(seeds, shapes)
def test_row_order_and_label_names_change_nothing(seed, shape):
    n, d, k = shape
    x, z = draw(seed, n, d, k)
    rng = np.random.default_rng(seed)
    order, names = rng.permutation(n), rng.permutation(k)
    reference = ej.MeanDifference().fit(x, z).matrix()
    shuffled = ej.MeanDifference().fit(x[order], z[order]).matrix()
    renamed = ej.MeanDifference().fit(x, names[z]).matrix()
    tolerance = 64 * EPS * _condition(x, z)
    np.testing.assert_allclose(shuffled, reference, atol=tolerance)
    np.testing.assert_allclose(renamed, reference, atol=tolerance)


@given(seeds, shapes)
def test_orthogonal_maps_commute(seed, shape):
    n, d, k = shape
    x, z = draw(seed, n, d, k)
    q = np.linalg.qr(np.random.default_rng(seed).standard_normal((d, d)))[0]
    turned = (x.astype(np.float64) @ q).astype(np.float32)
    direct = np.asarray(ej.MeanDifference().fit(turned, z).matrix(), np.float64)
    mapped = q.T @ np.asarray(ej.MeanDifference().fit(x, z).matrix(), np.float64) @ q
    # The rounded rotation moves the class means by eps; the projection by that over their gap.
    np.testing.assert_allclose(direct, mapped, atol=64 * EPS * _condition(x, z))


@pytest.mark.slow
@given(seeds, shapes)
def test_weights_are_repetitions(seed, shape):
    n, d, k = shape
    x, z = draw(seed, n, d, k)
    rng = np.random.default_rng(seed)
    weights = np.ones(n, int)
    others = np.setdiff1d(np.arange(n), [np.flatnonzero(z == j)[0] for j in range(k)])
    # As many repeated rows in every example: another number would compile again.
    weights[others] = rng.permutation(np.resize([0, 1, 2, 3], len(others)))
    poisoned = x.copy()
    poisoned[weights == 0] = np.nan  # rows of weight zero are never read
    weighted = ej.MeanDifference().fit(poisoned, z, weights=weights.astype(np.float32))
    rows = np.repeat(np.arange(n), weights)
    repeated = ej.MeanDifference().fit(x[rows], z[rows], num_classes=k)
    tolerance = 64 * EPS * _condition(x[rows], z[rows])
    np.testing.assert_allclose(weighted.matrix(), repeated.matrix(), atol=tolerance)
    np.testing.assert_allclose(weighted.center, repeated.center, atol=8 * EPS * np.abs(x).max())


def _condition(x, z) -> float:
    """How much the span of the class-mean differences moves when the means move by eps sd."""
    means = common.class_means(x, z)
    singular = np.linalg.svd(means - means.mean(axis=0), compute_uv=False)
    largest = np.linalg.norm(x, axis=1).max()
    return float(largest / singular[len(means) - 2] * np.sqrt(len(means)))


@pytest.mark.slow
@given(seeds, st.sampled_from([(64, 3), (120, 16)]))
def test_real_concepts_lose_their_covariance(seed, shape):
    n, d = shape
    rng = np.random.default_rng(seed)
    z = rng.standard_normal((n, 2)).astype(np.float32) * [1, 1e-6]
    x = (rng.standard_normal((n, d)) + z @ rng.standard_normal((2, d))).astype(np.float32)
    eraser = ej.MeanDifference().fit(x, z.astype(np.float32))
    y = np.asarray(eraser(x), np.float64)
    centred = (z - z.mean(axis=0)) / z.std(axis=0)
    covariance = (y - y.mean(axis=0)).T @ centred / n / x.std(axis=0, dtype=np.float64)[:, None]
    assert int(eraser.rank) == 2
    assert np.abs(covariance).max() < 1e-5


@pytest.mark.slow
def test_binary_labels_in_columns_are_concepts_of_their_own():
    rng = np.random.default_rng(0)
    z = rng.integers(0, 2, (200, 2))
    x = (rng.standard_normal((200, 8)) + z @ rng.standard_normal((2, 8))).astype(np.float32)
    eraser = ej.MeanDifference().fit(x, z)
    assert int(eraser.rank) == 2
    for column in range(2):
        assert common.gap_in_sd(x, eraser(x), z[:, column]) < 1


def test_the_null_concept_is_rank_zero_with_a_warning():
    x = np.tile(np.array([[1.0], [-9.0], [-1.0], [9.0]], np.float32), (1, 3))
    counts = [90, 10, 90, 10]
    x = np.repeat(x, counts, axis=0)
    z = np.repeat([1, 1, 0, 0], counts)
    eraser = ej.raise_if_failed(ej.MeanDifference().fit(x, z))
    assert int(eraser.rank) == 0
    assert int(eraser.status) & ej.Status.RANK_ZERO
    np.testing.assert_array_equal(eraser(x), x)


def test_agrees_with_plain_numpy_on_the_experiment():
    for normalize in (False, True):
        dataset = ej.datasets.DiscreteFeatures(normalize=normalize)
        for seed in range(20):
            data = dataset.sample(jax.random.key(seed))
            eraser = ej.MeanDifference(keep_mean=False).fit(data)
            expected = common.project(data.x, np.asarray(data.z))
            np.testing.assert_allclose(eraser(data.x), expected, atol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
def test_narrow_floats_come_back_as_they_were(dtype):
    x, z = draw(1, 100, 5, 2)
    x = jnp.asarray(x, dtype)
    eraser = ej.MeanDifference().fit(x, z)
    assert eraser.kernel.dtype == jnp.float32
    assert eraser(x).dtype == dtype
    gap = np.ptp(common.class_means(np.asarray(eraser(x), np.float32), z), axis=0)
    assert gap.max() < 8 * float(jnp.finfo(dtype).eps)


@pytest.mark.slow
def test_float64_is_computed_in_float64():
    with common.enable_x64():
        x, z = draw(2, 120, 16, 3, dtype=np.float64)
        eraser = ej.MeanDifference().fit(x, z)
        y = np.asarray(eraser(x))
        assert y.dtype == np.float64
        assert np.ptp(common.class_means(y, z), axis=0).max() < 1e-13
