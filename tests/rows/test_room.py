"""Rows in buffers with room for more: another number of rows compiles nothing."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import erasejax as ej
from erasejax._linalg import platforms
from erasejax.rows import roomy
from erasejax.statistics import knowing, shared_moments
from tests import common, test_contract

KEY = jax.random.key(0)
N, FEWER = 300, 290
BY_PAIRS = (ej.probes.ContrastProbe,)


@pytest.fixture(scope="module")
def compiled():
    """Names of all programs that were compiled since the list was cleared."""
    names = []

    def heard(event, _, **about):
        if "backend_compile" in event:
            names.append(about.get("fun_name", event))

    jax.monitoring.register_event_duration_secs_listener(heard)
    return names


def rows(n, kind=np.asarray):
    x, z = common.draw(0, N, 5, 2, gap=2.0)
    return kind(x[:n]), kind(z[:n].astype(np.int32))


# On an accelerator rows lie where only a program moves them, and it is of their number.
MOVING = () if platforms.is_cpu() else ("jit(_pad)", "jit(_whole)")


def again(compiled, call):
    """Calls with N rows, of numpy and of JAX, then with fewer; what the second time compiled."""
    for kind in (np.asarray, jax.device_put):
        call(*rows(N, kind))
    given = [rows(FEWER, kind) for kind in (np.asarray, jax.device_put)]
    compiled.clear()
    for pair in given:
        call(*pair)
    return [name for name in compiled if name not in MOVING]


def test_methods_share_the_moments_of_rows(compiled):
    """The program that makes them is compiled once for those with a covariance, once for others."""
    x, z = common.draw(1, N, 37, 2, gap=2.0)  # of as many features as no other test
    compiled.clear()
    ej.LEACE().fit(x, z)
    ej.probes.LeastSquares().fit(x, z)
    ej.metrics.linear_r2(x, z)
    assert sum("_shared" in name for name in compiled) == 1
    ej.MeanDifference().fit(x, z)
    ej.probes.LDA().fit(x, z)
    ej.probes.Logistic().fit(x, z)
    assert sum("_shared" in name for name in compiled) == 2


def test_moments_are_known_of_the_rows_they_came_with_only():
    x, z = common.draw(2, N, 5, 2, gap=2.0)
    rows = roomy(ej.Dataset(jnp.asarray(x), jnp.asarray(z), num_classes=2))
    moments = shared_moments(rows, covariance=True)
    with knowing(rows, moments):
        assert ej.Moments.of(rows) is moments
        assert ej.Moments.of(rows, covariance=False).xx.ndim == 1
        for copy in (rows.replace(z=1 - rows.z), dataclasses.replace(rows, x=rows.x + 1)):
            assert ej.Moments.of(copy) is not moments
    assert ej.Moments.of(rows) is not moments


@pytest.mark.quick(6)
@pytest.mark.parametrize("name", test_contract.ERASERS)
def test_erasers_of_another_number_of_rows(compiled, name):
    method = test_contract.ERASERS[name]

    def call(x, z):
        options = {"task": np.asarray(x)[:, :1]} if method.needs_task else {}
        eraser = method.fit(x, z, num_classes=2, key=KEY, throw=False, **options)
        eraser(x, z) if eraser.needs_z else eraser(x)

    assert not again(compiled, call)


@pytest.mark.quick(3)
@pytest.mark.parametrize("name", test_contract.ALL_PROBES)
def test_probes_of_another_number_of_rows(compiled, name):
    probe = test_contract.ALL_PROBES[name]
    if isinstance(probe, BY_PAIRS):
        pytest.skip("pairs have no room")

    def call(x, z):
        found = probe.fit(x, z, num_classes=2, key=KEY, throw=False)
        found.predict(x)
        if hasattr(found, "log_proba"):
            found.log_proba(x)

    assert not again(compiled, call)


METRICS = {
    "accuracy": lambda probe, x, z: ej.metrics.accuracy(probe, x, z),
    "balanced accuracy": lambda probe, x, z: ej.metrics.balanced_accuracy(probe, x, z),
    "auroc": lambda probe, x, z: ej.metrics.auroc(probe, x, z),
    "log-loss": lambda probe, x, z: ej.metrics.log_loss(probe, x, z),
    "calibration": lambda probe, x, z: ej.metrics.expected_calibration_error(probe, x, z),
    "linear R^2": lambda probe, x, z: ej.metrics.linear_r2(x, z, num_classes=2),
    "correlations": lambda probe, x, z: ej.metrics.canonical_correlations(x, z, num_classes=2),
    "damage": lambda probe, x, z: ej.metrics.damage(x, x),
    "majority": lambda probe, x, z: ej.metrics.majority_rate(z, num_classes=2),
    "test": lambda probe, x, z: ej.metrics.guardedness_test(
        x, z, num_classes=2, key=KEY, permutations=20
    ),
    "bootstrap": lambda probe, x, z: ej.metrics.bootstrap(
        ej.metrics.accuracy, probe, x, z, key=KEY, resamples=20
    ),
    "codelength": lambda probe, x, z: ej.metrics.codelength(
        ej.probes.LDA(), x, z, num_classes=2, key=KEY
    ),
    "curve": lambda probe, x, z: ej.metrics.learning_curve(
        ej.probes.LDA(), x, z, num_classes=2, key=KEY
    ),
    "selectivity": lambda probe, x, z: ej.metrics.selectivity(
        ej.probes.LDA(), x, z, num_classes=2, key=KEY
    ),
    "V-information": lambda probe, x, z: ej.metrics.v_information(
        ej.probes.LDA(), x, z, num_classes=2, key=KEY
    ),
    "selection": lambda probe, x, z: ej.probes.select_l2(
        ej.probes.LeastSquares(), x, z, num_classes=2, l2=[0.1, 1.0], folds=3, key=KEY
    ),
    "recursion": lambda probe, x, z: ej.probes.recursive(
        ej.probes.LeastSquares(), x, z, num_classes=2, rounds=2
    ),
}


@pytest.mark.quick(9)
@pytest.mark.parametrize("name", METRICS)
def test_metrics_of_another_number_of_rows(compiled, name):
    probe = ej.probes.LDA().fit(*rows(N))
    assert not again(compiled, lambda x, z: METRICS[name](probe, x, z))


@pytest.mark.parametrize("n", [1, 3, 17, 300])
def test_erased_rows_are_those_of_one_program(n):
    x, z = rows(N)
    eraser = ej.LEACE().fit(x, z)
    whole = jax.jit(lambda eraser, x: eraser(x))(eraser, jnp.asarray(x[:n]))
    assert eraser(x[:n]).shape == whole.shape
    np.testing.assert_allclose(eraser(x[:n]), whole, atol=8 * common.EPS * np.abs(x).max())


@pytest.mark.parametrize("d", [1, 3, 64, 384, 768, 4096, 1 << 18])
def test_sizes_hold_all_rows_and_waste_little_where_they_are_many(d):
    sizes = set()
    for n in [1, 2, 63, 64, 65, 1000, 4095, 4097, 10_000, 123_457]:
        size = platforms.rows_of_room(n, d)
        sizes.add(size)
        assert size >= n
        if n * d > 1 << 23:
            assert size - n <= n / 8 + 1
        elif n * d > 1 << 21 and n > 64:
            assert size - n <= n / 2 + 1
        cuts = platforms.pieces(n, d)
        assert cuts[0][0] == 0
        assert all(a + s == b for (a, s), (b, _) in zip(cuts, cuts[1:], strict=False))
        last = cuts[-1]
        assert last[0] < n <= sum(last)
        assert len({size for _, size in cuts}) <= 2
    assert len({platforms.rows_of_room(n, d) for n in range(1, 4096) if n * d <= 1 << 23}) <= 7


def test_rows_under_jit_have_no_room():
    x, z = rows(N, jnp.asarray)
    seen = []

    @jax.jit
    def call(x):
        seen.append(roomy(ej.Dataset(jnp.asarray(x), jnp.asarray(z), num_classes=2)))
        return x

    call(x)
    assert seen[0].room is None
    assert seen[0].x.shape == (N, 5)
    assert roomy(ej.Dataset(jnp.asarray(x), jnp.asarray(z), num_classes=2)).x.shape[0] > N


@pytest.mark.slow
def test_known_rows_in_a_program_of_the_callers_are_read_as_they_are():
    x, z = rows(N, jnp.asarray)
    probe = ej.probes.LDA().fit(x, z)

    def both():
        erased = ej.LEACE().fit(x, z, num_classes=2)(x)
        return erased, probe.predict(x), ej.metrics.accuracy(probe, x, z)

    for inside, outside in zip(jax.jit(both)(), both(), strict=True):
        np.testing.assert_allclose(inside, outside, atol=64 * common.EPS)


@pytest.mark.slow
def test_rows_with_other_weights_have_no_room():
    rows_of = roomy(ej.Dataset(*rows(N, jnp.asarray), num_classes=2))
    assert rows_of.room is not None
    turned = {name: getattr(rows_of, name)[::-1] for name in ("x", "z", "weights")}
    backwards = rows_of.replace(**turned)
    assert backwards.room is None
    own, other = (ej.Moments.of(data) for data in (rows_of, backwards))
    np.testing.assert_allclose(own.covariance, other.covariance, atol=64 * common.EPS)


@pytest.mark.slow
def test_many_rows_are_not_copied():
    data = ej.Dataset(x=jnp.zeros((1 << 17, 257)), z=jnp.zeros(1 << 17, int), num_classes=2)
    assert roomy(data) is data
