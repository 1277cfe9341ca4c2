"""The multilayer perceptron: what it reads that no linear probe does, and no more."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler

import erasejax as ej
from erasejax.probes import _mlp as mlp
from tests import common
from tests.common import draw

KEY = jax.random.key(0)
SMALL = ej.probes.MLP(width=16, batch=32, steps=100)


def xor(seed, n):
    """Two signs and two columns of noise; the label is whether the signs agree."""
    rng = np.random.default_rng(seed)
    signs = rng.choice([-1.0, 1.0], (n, 2))
    x = np.concatenate([signs, np.zeros((n, 2))], axis=1) + 0.3 * rng.standard_normal((n, 4))
    return x.astype(np.float32), (signs.prod(axis=1) > 0).astype(np.int32)


@pytest.mark.slow
def test_reads_what_a_linear_probe_cannot():
    x, z = xor(0, 400)
    fresh, labels = xor(1, 2000)
    for depth in (1, 2):
        probe = ej.raise_if_failed(ej.probes.MLP(depth=depth).fit(x, z, key=KEY))
        assert len(probe.layers) == depth + 1
        assert ej.metrics.accuracy(probe, fresh, labels) > 0.95
        assert ej.metrics.log_loss(probe, fresh, labels) < 0.2
    linear = ej.probes.Logistic().fit(x, z)
    assert abs(float(ej.metrics.accuracy(linear, fresh, labels)) - 0.5) < 0.1
    erased = ej.LEACE().fit(x, z)
    probe = ej.probes.MLP().fit(erased(x), z, key=KEY)  # one of two directions is left
    assert ej.metrics.accuracy(probe, erased(fresh), labels) > 0.85


@pytest.mark.slow
def test_labels_independent_of_x_are_left_to_the_prior():
    lanes, n, d, m = 32, 400, 10, 4000
    rng = np.random.default_rng(0)
    x, fresh = (rng.standard_normal((lanes, rows, d)).astype(np.float32) for rows in (n, m))
    z, labels = (rng.binomial(1, 0.3, (lanes, rows)) for rows in (n, m))

    @jax.jit
    @jax.vmap
    def excess(x, z, fresh, labels, key):
        probe = ej.probes.MLP().fit(x, z, num_classes=2, key=key)
        share = jnp.mean(z)
        prior = -jnp.log(jnp.where(labels == 1, share, 1 - share))
        return ej.metrics.log_loss(probe, fresh, labels) - jnp.mean(prior)

    found = np.asarray(excess(x, z, fresh, labels, jax.random.split(KEY, lanes)))
    # A model e nats worse than the prior differs from it by 2 e a row in the mean square, so on v
    # validation rows it looks the better only by a draw of c > e / sqrt(2 e / v) deviations:
    # e < 2 c^2 / v. The best of a dozen rounds that follow each other has c^2 of about 2.
    assert -0.01 < found.mean() < 2 * 2 / (0.2 * n)
    assert found.max() < 2 * 2 * np.log(12 * lanes) / (0.2 * n)


@pytest.mark.slow
def test_the_prior_itself_where_no_feature_varies():
    z = np.arange(100) % 5 % 3
    x = np.full((100, 8), 7.0, np.float32)
    probe = ej.raise_if_failed(SMALL.fit(x, z, key=KEY))
    assert int(probe.steps) == 0
    assert int(probe.status) == 0
    np.testing.assert_allclose(jnp.exp(probe.log_proba(x[:1]))[0], [0.4, 0.4, 0.2], rtol=1e-6)


@pytest.mark.slow
def test_early_stopping_keeps_the_best():
    x, z = draw(0, 60, 20, 2, gap=0.1)
    config = ej.probes.MLP(width=16, steps=300, patience=1000, learning_rate=0.03)
    probe = ej.raise_if_failed(config.fit(x, z, key=KEY))
    assert int(probe.steps) == 300
    assert int(probe.status) == ej.Status.NOT_CONVERGED
    # What is kept has the loss that is reported, on the rows held out.
    init_key, split_key, order_key = jax.random.split(KEY, 3)
    held = np.asarray(mlp._split(split_key, jnp.ones(60, bool), jnp.float32(0.2)))
    assert held.sum() == 12
    loss = float(ej.metrics.log_loss(probe, x[held], z[held]))
    np.testing.assert_allclose(loss, probe.validation_loss, rtol=1e-5)
    assert loss <= -np.log(np.bincount(z)[z[held]] / 60).mean() + 1e-6

    @jax.jit
    def trained(x, z):
        data = ej.Dataset(x, z, num_classes=2)
        rows = mlp._rows(data, ej.Moments.of(data), split_key, jnp.float32(0.2))
        prior = jnp.log(jnp.mean(z) / (1 - jnp.mean(z)))[None]
        start = mlp._start([x.shape[1], config.width, 1], prior, init_key)
        return config._train(start, rows, jnp.asarray(False), order_key)

    # Trained to the end it knows its rows by heart, and has lost on the others.
    last = trained(jnp.asarray(x), jnp.asarray(z))
    np.testing.assert_allclose(last.best_loss, loss, rtol=1e-3)
    assert last.loss > last.best_loss + 0.1
    stopped = config.replace(patience=4).fit(x, z, key=KEY)
    assert int(stopped.steps) < 300
    assert int(stopped.status) == 0


@pytest.mark.slow
def test_same_key_same_result_and_another_key_another():
    x, z = draw(0, 100, 8, 3)
    a, b, c = (SMALL.fit(x, z, key=jax.random.key(seed)) for seed in (0, 0, 1))
    for left, right in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(left, right)
    assert np.abs(np.asarray(a.scores(x) - c.scores(x))).max() > 1e-3


@jax.jit
@jax.vmap
def many(key, rate):
    """Three classes, 100 rows, by key and learning rate."""
    x, z = draw(0, 100, 8, 3)
    return SMALL.replace(learning_rate=rate).fit(x, z, num_classes=3, key=key)


@pytest.mark.slow
def test_vmap_over_seeds_and_rates_is_a_loop():
    x, z = draw(0, 100, 8, 3)
    keys, rates = jax.random.split(KEY, 3), jnp.array([1e-3, 3e-3, 1e-2])
    batch = many(keys, rates)
    for i in range(3):
        one = SMALL.replace(learning_rate=rates[i]).fit(x, z, key=keys[i])
        scores = jax.tree.map(lambda leaf, i=i: leaf[i], batch).scores(x)
        np.testing.assert_allclose(scores, one.scores(x), atol=1e-4)


@pytest.mark.slow
def test_training_that_diverges_says_so_and_harms_no_other_lane():
    x, _ = draw(0, 100, 8, 3)
    keys = jax.random.split(KEY, 3)
    good = many(keys, jnp.array([3e-3, 3e-3, 3e-3]))
    probe = many(keys, jnp.array([3e-3, 1e30, 3e-3]))
    assert int(probe.status[1]) == ej.Status.NOT_CONVERGED
    scores, expected = (jax.vmap(lambda p: p.scores(x))(p) for p in (probe, good))
    assert np.isfinite(scores).all()
    np.testing.assert_array_equal(scores[jnp.array([0, 2])], expected[jnp.array([0, 2])])


def test_features_have_no_units():
    x, z = draw(0, 100, 8, 3)
    reference = np.asarray(SMALL.fit(x, z, key=KEY).scores(x))
    for scale in (2.0**-10, 2.0**20):
        np.testing.assert_array_equal(SMALL.fit(x * scale, z, key=KEY).scores(x * scale), reference)
    scale = 10.0 ** np.linspace(-3, 6, 8)
    wide = ((x + 5.0) * scale).astype(np.float32)
    np.testing.assert_allclose(SMALL.fit(wide, z, key=KEY).scores(wide), reference, atol=1e-3)


@pytest.mark.slow
def test_rows_of_weight_zero_are_not_read():
    x, z = draw(0, 100, 8, 3)
    weights = np.where(np.arange(100) % 4 == 0, 0, 2).astype(np.float32)
    fitted = []
    for junk in (np.nan, 1e6):
        broken = np.where(weights[:, None] > 0, x, junk).astype(np.float32)
        labels = np.where(weights > 0, z, 0 if np.isnan(junk) else 2)
        fitted.append(ej.raise_if_failed(SMALL.fit(broken, labels, weights=weights, key=KEY)))
    np.testing.assert_array_equal(*(probe.scores(x) for probe in fitted))
    held = mlp._split(KEY, jnp.asarray(weights > 0), jnp.float32(0.2))
    assert int(held.sum()) == 15
    assert not np.asarray(held)[weights == 0].any()


@pytest.mark.slow
def test_weights_count():
    # The same rows bear both labels; which one is right is for the weights to say.
    x, _ = draw(0, 50, 8, 2)
    twice, z = np.concatenate([x, x]), np.repeat([0, 1], 50)
    right = (x[:, 0] > 0).astype(int)
    weights = np.where(np.concatenate([right, right]) == z, 9.0, 1.0).astype(np.float32)
    probe = ej.raise_if_failed(SMALL.fit(twice, z, weights=weights, num_classes=3, key=KEY))
    assert np.mean(np.asarray(probe.predict(x)) == right) > 0.8
    # A class without rows is never predicted.
    assert probe.num_classes == 3
    assert (np.asarray(probe.log_proba(x))[:, 2] == -np.inf).all()


@pytest.mark.slow
def test_three_rows():
    x, z = draw(0, 3, 4, 2)
    probe = ej.raise_if_failed(SMALL.fit(x, z, num_classes=2, key=KEY))
    assert np.isfinite(probe.scores(x)).all()
    assert np.isfinite(probe.validation_loss)


@pytest.mark.slow
def test_a_key_draws_what_it_always_drew():
    # Recorded when the layers were flax's: each took one key for its kernel and one for its bias.
    x, z = draw(0, 30, 3, 3)
    config = ej.probes.MLP(width=2, depth=2, batch=8, steps=10)
    first, second, last = mlp._start([3, 2, 2, 3], jnp.zeros(3), jax.random.key(5))
    kernel = [[0.3669707, 0.9942577], [-0.5850345, 1.0674508], [0.5355988, 0.0233940]]
    np.testing.assert_allclose(first["kernel"], kernel, atol=1e-6)
    np.testing.assert_allclose(
        second["kernel"], [[1.7265066, 0.7554206], [-0.8736410, 0.2258126]], atol=1e-6
    )
    assert not last["kernel"].any()
    probe = config.fit(x, z, key=jax.random.key(5))
    np.testing.assert_allclose(probe.validation_loss, 1.0685172, rtol=1e-4)


def test_it_is_saved_and_loaded(tmp_path):
    x, z = draw(0, 100, 8, 3)
    probe = SMALL.fit(x, z, key=KEY)
    ej.save(probe, tmp_path / "p.safetensors")
    back = ej.load(tmp_path / "p.safetensors")
    assert jax.tree.structure(back) == jax.tree.structure(probe)
    np.testing.assert_array_equal(back.scores(x), probe.scores(x))


@pytest.mark.slow
def test_float32_stays_where_jax_has_64_bits():
    x, z = draw(0, 100, 8, 3)
    plain = SMALL.fit(x, z, key=KEY)
    with common.enable_x64():
        wide = SMALL.fit(jnp.asarray(x), z, key=jax.random.key(0))
        assert wide.scores(x).dtype == jnp.float32
        assert [a.dtype for a in jax.tree.leaves(wide)] == [a.dtype for a in jax.tree.leaves(plain)]


@pytest.mark.slow
def test_as_good_as_scikit_learns_on_digits():
    x, z = load_digits(return_X_y=True)
    x = x.astype(np.float32)
    train, test = slice(0, 1000), slice(1000, None)
    probe = ej.raise_if_failed(ej.probes.MLP().fit(x[train], z[train], key=KEY))
    ours = float(ej.metrics.accuracy(probe, x[test], z[test]))
    scaler = StandardScaler().fit(x[train])
    reference = MLPClassifier((64,), max_iter=200, random_state=0).fit(
        scaler.transform(x[train]), z[train]
    )
    theirs = reference.score(scaler.transform(x[test]), z[test])
    assert ours > theirs - 0.03  # four standard errors of an accuracy of 0.93 on 797 rows


@pytest.mark.slow
def test_bad_calls_are_clear():
    x, z = draw(0, 30, 4, 2)
    with pytest.raises(TypeError, match="key"):
        SMALL.fit(x, z)
    with pytest.raises(TypeError, match="class labels"):
        SMALL.fit(x, x[:, 0], key=KEY)
    with pytest.raises(ValueError, match="depth: expected at least 1, got 0"):
        SMALL.replace(depth=0).fit(x, z, key=KEY)
    with pytest.raises(ValueError, match="4 features"):
        SMALL.fit(x, z, key=KEY).scores(x[:, :3])
