"""Codelength: against a loop over the prefixes, and of labels whose length is known."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import erasejax as ej
from erasejax import metrics
from erasejax.rows import random_order
from tests.common import bits_of, complete, draw

KEY = jax.random.key(7)
LOGISTIC = ej.probes.Logistic(l2=0.1)


def loop(config, x, z, weights, sizes):
    """The online code, prefix by prefix: bits of each row, in order."""
    k = int(z.max()) + 1
    bits = np.full(len(z), math.log2(k))
    for start, stop in zip(sizes[:-1], sizes[1:], strict=True):
        if not complete(z, start, len(set(z.tolist()))):
            continue
        probe = config.fit(x[:start], z[:start], weights=weights[:start], num_classes=k)
        bits[start:stop] = bits_of(probe, x[start:stop], z[start:stop])
    return bits


def in_order(x, z, weights, groups, permutations=1):
    """Rows in the order in which they are sent."""
    data = ej.Dataset(x=jnp.asarray(x), z=jnp.asarray(z), num_classes=int(z.max()) + 1)
    data = data.replace(weights=jnp.asarray(weights))
    own = jax.random.split(KEY, 2 + permutations)[1]
    order = np.asarray(random_order(data, groups, own))[: np.sum(weights != 0)]
    return order


@pytest.mark.slow
@settings(deadline=None, max_examples=12)
@given(
    seed=st.integers(0, 1000),
    k=st.sampled_from([2, 3]),
    weighted=st.booleans(),
    grouped=st.booleans(),
)
def test_codelength_is_that_of_a_loop(seed, k, weighted, grouped):
    x, z = draw(seed, 120, 4, k, gap=1.5)
    rng = np.random.default_rng(seed)
    weights = rng.integers(0, 3, 120).astype(np.float32) if weighted else np.ones(120, np.float32)
    groups = None
    if grouped:  # of many sizes, numbered 0, 1, ...
        groups = np.unique(rng.integers(0, 30, 120), return_inverse=True)[1].astype(np.int32)
    options = {"weights": weights if weighted else None, "groups": groups, "num_classes": k}
    found = metrics.codelength(LOGISTIC, x, z, key=KEY, fractions=[0.1, 0.3, 1.0], **options)
    order = in_order(x, z, weights, groups)
    sizes = np.asarray(found.sizes)
    bits = loop(LOGISTIC, x[order], z[order], weights[order], sizes)
    total = np.sum(weights[order] * bits)
    assert float(found.bits) == pytest.approx(total, rel=1e-4)
    parts = np.split(weights[order] * bits, sizes[:-1])
    np.testing.assert_allclose(found.block_bits, [part.sum() for part in parts], rtol=1e-3)
    uniform = np.sum(weights) * math.log2(k)
    assert float(found.uniform) == pytest.approx(uniform, rel=1e-6)
    assert float(found.compression) == pytest.approx(uniform / total, rel=1e-4)
    if groups is not None:
        members = [set(part.tolist()) for part in np.split(groups[order], sizes[:-1])]
        assert sum(map(len, members)) == len(set.union(*members))
    elif not weighted:
        assert sizes.tolist() == [12, 36, 120]


@pytest.mark.slow
def test_default_prefixes_are_those_of_the_paper():
    x, z = draw(0, 2000, 2, 2)
    found = metrics.codelength(ej.probes.LDA(), x, z, key=KEY, permutations=0)
    assert found.sizes.tolist() == [2, 4, 8, 16, 32, 64, 125, 250, 500, 1000, 2000]
    assert np.isnan(found.null)


@pytest.mark.slow
def test_labels_without_information_take_the_uniform_code():
    x = jax.random.normal(KEY, (8192, 4))
    z = jax.random.randint(jax.random.key(1), (8192,), 0, 2)
    found = metrics.codelength(ej.probes.Logistic(), x, z, key=KEY)
    assert float(found.bits) == pytest.approx(8192, rel=0.02)
    assert float(found.null) == pytest.approx(8192, rel=0.02)
    assert float(found.uniform) == 8192


def test_separable_labels_take_few_bits():
    dataset = ej.datasets.GaussianClasses(separation=12.0, rows=1024, dims=4)
    found = metrics.codelength(ej.probes.Logistic(), dataset.sample(KEY), key=KEY)
    assert float(found.compression) > 20
    assert float(found.low) <= float(found.bits) <= float(found.high) < 0.1 * float(found.null)


@pytest.mark.slow
def test_rare_classes_take_their_entropy():
    x = jax.random.normal(KEY, (8192, 3))
    z = (jax.random.uniform(jax.random.key(1), (8192,)) < 0.1).astype(jnp.int32)
    found = metrics.codelength(ej.probes.Logistic(), x, z, key=KEY)
    share = float(z.mean())
    entropy = -8192 * (share * math.log2(share) + (1 - share) * math.log2(1 - share))
    assert float(found.null) == pytest.approx(entropy, rel=0.03)
    assert float(found.bits) == pytest.approx(entropy, rel=0.03)


@pytest.mark.slow
def test_a_prefix_without_a_class_goes_on_with_the_uniform_code():
    x, z = draw(3, 64, 3, 2, gap=8.0)
    z = np.where(np.arange(64) == in_order(x, z, np.ones(64), None)[40], 1, 0)
    found = metrics.codelength(LOGISTIC, x, z, key=KEY, fractions=[0.25, 0.5, 0.75, 1.0])
    np.testing.assert_allclose(found.block_bits[:3], 16, rtol=1e-6)
    assert 0 < float(found.block_bits[3]) < 16
    assert int(found.status) == 0


@pytest.mark.slow
def test_a_class_that_never_occurs_is_waited_for_by_nobody():
    x, z = draw(3, 64, 3, 2, gap=8.0)
    two = metrics.codelength(LOGISTIC, x, z, key=KEY)
    three = metrics.codelength(LOGISTIC, x, z, key=KEY, num_classes=3)
    assert float(three.uniform) == pytest.approx(64 * math.log2(3), rel=1e-6)
    # The same blocks take the uniform code, and each of their labels log2 of 3 bits.
    rows = np.diff(two.sizes, prepend=0)
    uniform = np.isclose(two.block_bits, rows)
    assert 0 < rows[uniform].sum() < 8
    np.testing.assert_array_equal(np.isclose(three.block_bits, rows * math.log2(3)), uniform)


@pytest.mark.slow
def test_certainty_in_what_is_wrong_is_paid_in_full():
    x = np.linspace(-1, 1, 64, dtype=np.float32)[:, None]
    z = np.random.default_rng(0).integers(0, 2, 64)
    sure = metrics.codelength(ej.probes.Logistic(l2=0.0), x * 1e3, z, key=KEY, throw=False)
    calm = metrics.codelength(ej.probes.Logistic(l2=1e3), x, z, key=KEY)
    assert float(sure.bits) > float(calm.bits)
    assert np.isfinite(calm.bits)


@pytest.mark.slow
def test_the_interval_of_a_code_is_that_of_its_blocks():
    x, z = draw(5, 400, 3, 2, gap=1.5)
    found = metrics.codelength(LOGISTIC, x, z, key=KEY, level=0.9)
    order, sizes = in_order(x, z, np.ones(400), None), np.asarray(found.sizes)
    bits = loop(LOGISTIC, x[order], z[order], np.ones(400, np.float32), sizes)
    rest = np.concatenate([part - part.mean() for part in np.split(bits, sizes[:-1]) if len(part)])
    error = math.sqrt(np.sum(rest**2) * 400 / 399)
    assert float(found.standard_error) == pytest.approx(error, rel=1e-3)
    assert float(found.high - found.bits) == pytest.approx(1.6449 * error, rel=1e-3)


@pytest.mark.slow
def test_lanes_of_many_rows_are_those_of_single_calls():
    """Traced rows are fitted by way of a shorter copy, which lanes of unequal weights share."""
    n, eighth = 300, 7
    x, z = map(np.stack, zip(*(draw(seed, n, 3, 2) for seed in range(4)), strict=True))
    weights = np.ones((4, n), np.float32)
    weights[1] = np.random.default_rng(0).integers(0, 3, n)
    weights[2, in_order(x[2], z[2], weights[2], None, 0)[:100]] = 0.01

    def bits(x, z, weights):
        options = {"key": KEY, "num_classes": 2, "permutations": 0}
        code = metrics.codelength(ej.probes.LDA(), x, z, weights=weights, **options)
        return code.bits, code.sizes

    pairs = [rows.reshape(2, 2, *rows.shape[1:]) for rows in (x, z, weights)]
    found, sizes = jax.jit(jax.vmap(jax.vmap(bits)))(*pairs)
    single, ends = map(np.stack, zip(*map(bits, x, z, weights), strict=True))
    np.testing.assert_array_equal(sizes.reshape(4, -1), ends)
    np.testing.assert_allclose(found.ravel(), single, rtol=1e-5)
    assert ends[2, eighth] > n / 6 > ends[0, eighth]  # of one lane alone it takes the whole
