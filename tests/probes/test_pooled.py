"""Probes over tokens: padding is never read, and where attention ends is a minimum."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import erasejax as ej
from erasejax._linalg import platforms
from tests.common import enable_x64

KEY = jax.random.key(3)
PROBE = ej.probes.AttentionProbe(l2=1e-2)
N, T, D = 80, 6, 4


def sequences(n=N, classes=2, seed=0):
    """Tokens of which one, large in feature 0, has the label in feature 1; NaN is padding."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, T, D)).astype(np.float32)
    z = rng.permutation(np.arange(n) % classes)
    length = rng.integers(2, T + 1, n)
    place = (rng.random(n) * length).astype(int)
    x[np.arange(n), place, 0] += 5
    x[np.arange(n), place, 1] += 4 * (z - (classes - 1) / 2)
    mask = np.arange(T) < length[:, None]
    return np.where(mask[:, :, None], x, np.nan), z, mask


def fit(x, z, mask=None, probe=PROBE, **options):
    return probe.fit(x, z, mask=mask, key=KEY, **options)


def close(a, b, tol=1e-5**0.5):
    """Scores agree as far as both fits are searched: to 1e-5 of the loss, to its root in scores."""
    np.testing.assert_allclose(a, b, rtol=0, atol=tol * max(np.abs(b).max(), 1))


@pytest.mark.slow
@pytest.mark.parametrize("heads", [1, 2])
def test_attention_finds_the_token_that_the_mean_hides(heads):
    x, z, mask = sequences(400)
    more, labels, seen = sequences(400, seed=1)
    probe = fit(x, z, mask, PROBE.replace(heads=heads))
    assert int(probe.status) == 0
    accuracy = np.mean(np.asarray(probe.predict(more, seen)) == labels)
    rows = ej.probes.mean_pooled(x, mask), ej.probes.mean_pooled(more, seen)
    mean = ej.metrics.accuracy(ej.probes.Logistic().fit(rows[0], z), rows[1], labels)
    assert accuracy > 0.95 > 0.93 > mean
    assert ej.metrics.accuracy(probe.linear, probe.pooled(more, seen), labels) == pytest.approx(
        accuracy, abs=1e-6
    )


@pytest.mark.slow
@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("classes", [2, 3])
def test_where_it_ends_is_a_minimum(classes, heads):
    x, z, mask = sequences(90, classes)
    probe = fit(x, z, mask, PROBE.replace(heads=heads))
    share = mask / mask.sum(axis=1, keepdims=True) / len(z)
    clean = np.where(mask[:, :, None], x, 0)
    mean = np.einsum("nt,ntd->d", share, clean)
    sd = np.sqrt(np.einsum("nt,ntd->d", share, (clean - mean) ** 2))
    tokens = (clean - mean) / sd

    def objective(queries, weight, bias):
        logits = jnp.where(mask[:, None], jnp.einsum("ntd,hd->nht", tokens, queries), -jnp.inf)
        pooled = jnp.einsum("nht,ntd->nhd", jax.nn.softmax(logits, axis=2), tokens)
        scores = jnp.einsum("nhd,hdk->nk", pooled, weight) + bias
        if classes == 2:
            scores = jnp.concatenate([jnp.zeros_like(scores), scores], axis=1)
        nats = -jnp.take_along_axis(jax.nn.log_softmax(scores), z[:, None], axis=1)
        return nats.mean() + PROBE.l2 / 2 * (jnp.sum(queries**2) + jnp.sum(weight**2))

    weight = probe.linear.weight.reshape(heads, D, -1) * sd[:, None]
    at = probe.queries * sd, weight, jnp.atleast_1d(probe.linear.offset)
    value, slopes = jax.value_and_grad(objective, (0, 1, 2))(*at)
    start, steep = jax.value_and_grad(objective, (0, 1, 2))(*(leaf / 2 for leaf in at))
    assert value < start
    norm = [float(sum(jnp.sum(leaf**2) for leaf in leaves)) ** 0.5 for leaves in (slopes, steep)]
    assert norm[0] < 0.02 * norm[1]
    nats = -np.asarray(probe.log_proba(x, mask))[np.arange(90), z].mean()
    penalty = float(jnp.sum(at[0] ** 2) + jnp.sum(weight**2)) * PROBE.l2 / 2
    assert nats + penalty == pytest.approx(float(value), rel=1e-4)


@pytest.mark.slow
def test_of_single_tokens_it_is_logistic_regression():
    x, z, _ = sequences()
    rows = x[:, 0]
    unit = (rows - rows.mean(axis=0)) / rows.std(axis=0)
    found = fit(rows[:, None], z).scores(rows[:, None])
    close(found, ej.probes.Logistic(l2=PROBE.l2).fit(unit, z).scores(unit), 2e-2)


@pytest.mark.slow
def test_padding_tokens_and_rows_change_nothing():
    x, z, mask = sequences()
    probe = fit(x, z, mask)
    for filler in (0.0, 1e30, np.inf):
        other = np.where(mask[:, :, None], x, np.float32(filler))
        assert (probe.scores(other, mask) == probe.scores(x, mask)).all()
        for a, b in zip(jax.tree.leaves(fit(other, z, mask)), jax.tree.leaves(probe), strict=True):
            assert (a == b).all()
    longer = np.pad(x, ((0, 30), (0, 3), (0, 0)), constant_values=np.nan)
    seen = np.pad(mask, ((0, 30), (0, 3)))
    weights = np.pad(np.ones(N, np.float32), (0, 30))
    padded = fit(longer, np.pad(z, (0, 30), constant_values=-1), seen, weights=weights)
    close(padded.scores(x, mask), probe.scores(x, mask))
    close(probe.scores(longer[:N], seen[:N]), probe.scores(x, mask), 1e-5)
    pooled = ej.probes.mean_pooled(longer[:N], seen[:N])
    np.testing.assert_allclose(pooled, np.nanmean(x, axis=1), rtol=0, atol=1e-5)


@pytest.mark.slow
def test_masks_of_integers_and_no_mask():
    x, z, mask = sequences()
    whole = np.where(mask[:, :, None], x, 0)
    assert (fit(x, z, mask.astype(int)).scores(x, mask) == fit(x, z, mask).scores(x, mask)).all()
    every = np.ones((N, T), bool)
    assert (fit(whole, z).scores(whole) == fit(whole, z, every).scores(whole, every)).all()
    assert not (fit(whole, z).scores(whole) == fit(x, z, mask).scores(x, mask)).all()
    with pytest.raises(TypeError, match="mask: expected booleans"):
        fit(x, z, mask.astype(float))
    with pytest.raises(ValueError, match="other numbers"):
        fit(x, z, 2 * mask)
    with pytest.raises(ValueError, match="mask: expected"):
        fit(x, z, mask[:, :2])
    with pytest.raises(ValueError, match="sequences, tokens, features"):
        fit(x[:, 0], z)
    with pytest.raises(ValueError, match="heads"):
        fit(x, z, mask, ej.probes.AttentionProbe(heads=0))
    with pytest.raises(ValueError, match="4 features"):
        fit(x, z, mask).scores(x[:, :, :2], mask)
    with pytest.raises(TypeError, match="class labels"):
        fit(x, z.astype(float), mask)
    with pytest.raises(TypeError, match="key"):
        PROBE.fit(x, z, mask=mask)


@pytest.mark.slow
def test_a_sequence_without_tokens_is_an_error():
    x, z, mask = sequences()
    empty = mask.copy()
    empty[7] = False
    with pytest.raises(ej.FailedLanesError, match="no token"):
        fit(x, z, empty)
    jitted = jax.jit(lambda mask: fit(x, z, mask, num_classes=2))
    failed = jitted(empty)
    assert int(failed.status) == ej.Status.NO_TOKENS
    assert np.isnan(failed.queries).all()
    assert (failed.predict(x, mask) == -1).all()
    weights = (np.arange(N) != 7).astype(np.float32)
    probe = fit(x, z, empty, weights=weights)
    assert int(probe.status) == 0
    with pytest.raises(ValueError, match="sequence 7 has no token"):
        probe.scores(x, empty)
    with pytest.raises(ValueError, match="sequence 7 has no token"):
        ej.probes.mean_pooled(x, empty)
    lost = np.arange(N) == 7
    assert (np.isnan(jax.jit(probe.scores)(x, empty)) == lost).all()
    assert ((np.asarray(jax.jit(probe.predict)(x, empty)) == -1) == lost).all()
    assert (np.isnan(jax.jit(probe.log_proba)(x, empty)).all(axis=1) == lost).all()
    assert (np.isnan(jax.jit(ej.probes.mean_pooled)(x, empty)).all(axis=1) == lost).all()


@pytest.mark.slow
def test_what_only_values_show_is_in_the_status():
    x, z, mask = sequences()

    def status(x, z, mask, probe=PROBE, **options):
        found = fit(x, z, mask, probe, num_classes=2, throw=False, **options)
        scores = probe_scores(found)
        return ej.Status(int(found.status)), bool(np.isnan(scores).any())

    def probe_scores(found):
        return np.asarray(found.scores(x, mask))

    assert status(np.where(mask[:, :, None], np.nan, x), z, mask) == (ej.Status.NONFINITE, True)
    assert status(x, 0 * z, mask) == (ej.Status.CONSTANT_CONCEPT, True)
    found, lost = status(x, z + 5, mask)
    assert lost
    assert ej.Status.LABEL_RANGE in found
    zeros = np.zeros(N, np.float32)
    assert ej.Status.NO_WEIGHT in status(x, z, mask, weights=zeros)[0]
    few = PROBE.replace(max_steps=1)
    assert status(x, z, mask, few) == (ej.Status.NOT_CONVERGED, False)
    still = np.where(mask[:, :, None], 1.0, np.nan).astype(np.float32)
    probe = fit(still, z, mask)
    assert int(probe.status) == 0
    np.testing.assert_allclose(probe.scores(still, mask), 0, atol=1e-5)  # classes of one size


def test_a_class_without_rows_has_probability_zero():
    x, z, mask = sequences()
    probe = fit(x, 2 * z, mask, num_classes=3)
    proba = np.exp(probe.log_proba(x, mask))
    assert (proba[:, 1] == 0).all()
    np.testing.assert_allclose(proba.sum(axis=1), 1, atol=1e-5)
    assert np.mean(np.asarray(probe.predict(x, mask)) == 2 * z) > 0.9


def test_units_and_places_do_not_matter():
    x, z, mask = sequences()
    scale = np.float32([1e-12, 1, 1e12, 100])
    expected = fit(x, z, mask).scores(x, mask)
    moved = x * scale + np.float32([0, 50, 0, 1e4])
    close(fit(moved, z, mask).scores(moved, mask), expected, 2e-2)


@pytest.mark.slow
def test_float64_far_from_zero_keeps_its_digits():
    x, z, mask = sequences()
    far = np.where(mask[:, :, None], x.astype(np.float64) + 1e9, 1e30)
    probe = fit(far, z, mask)
    close(probe.scores(far, mask), fit(x, z, mask).scores(x, mask))
    np.testing.assert_allclose(
        probe.attention(far, mask), fit(x, z, mask).attention(x, mask), atol=2e-3
    )
    with enable_x64():
        wide = fit(x.astype(np.float64), z, mask)
        assert wide.queries.dtype == np.float64
        # Its draws are others, and so is the start.
        found = wide.scores(x.astype(np.float64), mask)
        close(found, fit(x, z, mask).scores(x, mask), 2e-2)


@pytest.mark.slow
def test_weights_count_rows():
    x, z, mask = sequences()
    weights = np.random.default_rng(0).integers(1, 4, N)
    again = [np.repeat(a, weights, axis=0) for a in (x, z, mask)]
    close(fit(x, z, mask, weights=weights).scores(x, mask), fit(*again).scores(x, mask))
    balanced = np.where(z == 0, 0.5 / (z == 0).mean(), 0.5 / (z == 1).mean())
    close(
        fit(x, z, mask, class_weights="balanced").scores(x, mask),
        fit(x, z, mask, weights=balanced).scores(x, mask),
    )


@pytest.mark.slow
def test_attention_weighs_tokens():
    x, z, mask = sequences()
    probe = fit(x, z, mask, PROBE.replace(heads=2))
    attention = np.asarray(probe.attention(x, mask))
    assert attention.shape == (N, 2, T)
    np.testing.assert_allclose(attention.sum(axis=2), 1, atol=1e-5)
    assert (attention[~np.broadcast_to(mask[:, None], attention.shape)] == 0).all()
    pooled = np.einsum("nht,ntd->nhd", attention, np.where(mask[:, :, None], x, 0))
    np.testing.assert_allclose(probe.pooled(x, mask), pooled.reshape(N, -1), atol=1e-4)
    np.testing.assert_allclose(
        probe.linear.scores(probe.pooled(x, mask)), probe.scores(x, mask), atol=1e-3
    )


@pytest.mark.slow
def test_lanes_are_a_loop_and_a_failed_one_is_alone():
    x, z, mask = sequences()
    labels = jnp.stack([z, 0 * z, 1 - z])
    lanes = jax.jit(jax.vmap(lambda z: fit(x, z, mask, num_classes=2)))(labels)
    assert [int(s) for s in lanes.status] == [0, ej.Status.CONSTANT_CONCEPT, 0]
    for lane in (0, 2):
        one = jax.tree.map(lambda leaf: leaf[lane], lanes)  # noqa: B023
        close(one.scores(x, mask), fit(x, labels[lane], mask).scores(x, mask))
    assert np.isnan(lanes.queries[1]).all()
    with pytest.raises(ValueError, match="batch"):
        lanes.scores(x, mask)


def test_the_key_decides_and_a_saved_probe_is_the_same(tmp_path):
    x, z, mask = sequences()
    one, same = fit(x, z, mask), fit(x, z, mask)
    assert (one.queries == same.queries).all()
    assert not (one.queries == PROBE.fit(x, z, mask=mask, key=jax.random.key(4)).queries).all()
    ej.save(one, tmp_path / "probe.safetensors")
    loaded = ej.load(tmp_path / "probe.safetensors")
    assert (loaded.scores(x, mask) == one.scores(x, mask)).all()


@pytest.mark.slow
def test_another_number_of_sequences_compiles_nothing():
    names = []

    def heard(event, _, **about):
        if "backend_compile" in event:
            names.append(about.get("fun_name", event))

    jax.monitoring.register_event_duration_secs_listener(heard)
    x, z, mask = sequences(300)
    for n in (300, 290):
        names.clear()
        for kind in (np.asarray, jax.device_put):
            rows, labels, seen = (kind(a[:n]) for a in (x, z.astype(np.int32), mask))
            probe = fit(rows, labels, seen, num_classes=2)
            jax.block_until_ready((probe.predict(rows, seen), ej.probes.mean_pooled(rows, seen)))
    assert not names


def test_room_for_rows_wider_than_what_takes_no_time():
    assert platforms.rows_of_room(10, 1 << 25) >= 10
