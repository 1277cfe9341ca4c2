"""Contrast pairs: what probes without labels find, and what they are fooled by."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import erasejax as ej
from erasejax._linalg import platforms
from tests.common import EPS, enable_x64

KEY = jax.random.key(0)
PLAIN = ej.datasets.ContrastPairs(rows=100, dims=32, directions=4)
CCS = ej.probes.CCS(epochs=200)
# Rows large against the unit start, and a truth large against the noise: "easy" pairs.
EASY = ej.datasets.ContrastPairs(
    rows=50, dims=256, directions=200, truth=200.0, noise=2.0, content=4.0, offset=100.0
)


def parts(dataset, key=KEY):
    return dataset.sample(key), dataset.sample(key, part=1)


def about(pairs, z):
    """The same pairs, asked about other labels."""
    return pairs.replace(labels=z)


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def published_ccs(halves, theta, bias, epochs, basis=None):
    """The published search of one start in numpy; projects whenever the paper does."""
    x, y = halves
    basis = np.zeros((x.shape[1], 0)) if basis is None else basis

    def project(vector):
        return vector - basis @ (basis.T @ vector)

    theta = project(theta)
    first = second = np.zeros(len(theta) + 1)
    for epoch in range(1, epochs + 1):
        p, q = (sigmoid(half @ project(theta) + bias) for half in (x, y))
        low = p < q
        slope_p = (2 * (p + q - 1) + 2 * p * low) * p * (1 - p) / len(x)
        slope_q = (2 * (p + q - 1) + 2 * q * ~low) * q * (1 - q) / len(x)
        gradient = np.append(project(x.T @ slope_p + y.T @ slope_q), (slope_p + slope_q).sum())
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        step = (first / (1 - 0.9**epoch)) / (np.sqrt(second / (1 - 0.999**epoch)) + 1e-8)
        both = np.append(theta, bias) * (1 - 1e-2 * 1e-2) - 1e-2 * step
        theta, bias = project(both[:-1]), both[-1]
    p, q = (sigmoid(half @ theta + bias) for half in (x, y))
    return theta, bias, np.mean((p + q - 1) ** 2 + np.minimum(p, q) ** 2)


@pytest.mark.slow
def test_ccs_is_the_published_update_and_recursion_projects_as_published():
    with enable_x64():
        key = jax.random.key(0)
        pairs = ej.datasets.ContrastPairs(rows=10, dims=6, directions=2).sample(key)
        probe = ej.probes.CCS(starts=3, epochs=100)
        found = ej.probes.recursive_ccs(probe, pairs, rounds=3, key=key)
        alone = probe.fit(pairs, key=jax.random.fold_in(key, 0))
        halves = [
            np.asarray(x) - np.asarray(x).mean(axis=0) for x in (pairs.positive, pairs.negative)
        ]
        basis = np.zeros((6, 0))
        for i in range(3):
            starts = np.array(jax.random.normal(jax.random.fold_in(key, i), (3, 6)))
            starts /= np.linalg.norm(starts, axis=1, keepdims=True)
            theirs = [published_ccs(halves, start, 0.0, 100, basis) for start in starts]
            for j, (theta, bias, loss) in enumerate(theirs):
                np.testing.assert_allclose(found.start_weights[i, j], theta, atol=1e-9)
                np.testing.assert_allclose(found.start_biases[i, j], bias, atol=1e-9)
                np.testing.assert_allclose(found.start_losses[i, j], loss, atol=1e-9)
            best = min(theirs, key=lambda one: one[2])[0]
            np.testing.assert_allclose(found.weight[i], best, atol=1e-9)
            basis = np.column_stack([basis, best / np.linalg.norm(best)])
        # Without a basis the rows are not projected: rounding may differ, nothing else.
        np.testing.assert_allclose(alone.start_weights, found.start_weights[0], atol=1e-9)
        np.testing.assert_allclose(alone.loss_on(pairs), alone.loss, rtol=1e-12)
        p, q = (sigmoid(x @ np.asarray(alone.weight) + float(alone.bias)) for x in halves)
        np.testing.assert_allclose(alone.proba(pairs), (p + 1 - q) / 2, atol=1e-12)


@pytest.mark.slow
def test_rows_that_outgrow_the_cache_are_trained_on_alike(monkeypatch):
    with enable_x64():
        rows = jax.random.normal(jax.random.key(0), (2 * 700, 5))
        share = jnp.arange(1.0, 701.0) / jnp.sum(jnp.arange(1.0, 701.0))
        starts = jax.random.normal(jax.random.key(1), (3, 5))
        probe = ej.probes.CCS(epochs=5)
        monkeypatch.setattr(platforms, "_CACHED", rows.nbytes)
        at_once = probe._train(rows, share, starts)
        monkeypatch.setattr(platforms, "_CACHED", 0)  # three blocks, the last one starts early
        in_blocks = probe._train(rows, share, starts)
    assert np.abs(at_once[0] - starts).max() > 1e-2
    for a, b in zip(at_once, in_blocks, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-12)


@pytest.mark.quick(1)
@pytest.mark.parametrize("shape", [(40, 6), (20, 30)])
def test_crc_is_the_top_principal_component(shape):
    n, d = shape
    dataset = ej.datasets.ContrastPairs(rows=n // 2, dims=d, directions=2, templates=2, offset=5.0)
    pairs = dataset.sample(KEY)
    weights = np.arange(n) % 3
    broken = np.where(weights[:, None] > 0, pairs.positive, np.nan)
    found = ej.probes.CRC().fit(pairs.replace(positive=jnp.asarray(broken)), weights=weights)
    halves = np.stack([pairs.positive, pairs.negative]).astype(np.float64)
    for t in (0, 1):
        rows = np.asarray(pairs.templates) == t
        halves[:, rows] -= np.average(halves[:, rows], axis=1, weights=weights[rows])[:, None]
    difference = halves[0] - halves[1]
    values, vectors = np.linalg.eigh((weights[:, None] * difference).T @ difference)
    gap = 1 - values[-2] / values[-1]
    cosine = abs(float(vectors[:, -1] @ np.asarray(found.weight, np.float64)))
    assert 1 - cosine < 64 * n * EPS / gap**2
    scores = np.asarray(found.scores(pairs), np.float64)
    turned = difference @ np.asarray(found.weight, np.float64)
    np.testing.assert_allclose(scores, turned, atol=1e3 * EPS * np.abs(turned).max())


@pytest.mark.slow
def test_normalisation_is_kept_per_template():
    dataset = PLAIN.replace(templates=2, offset=30.0)
    train, test = parts(dataset)
    for scale in ("none", "features", "common"):
        kept = ej.PairNormalization.of(train, scale=scale)
        for pairs, statistics in ((train, "training"), (test, "own")):
            normal = kept(pairs, statistics=statistics)
            for half in (normal.positive, normal.negative):
                for t in (0, 1):
                    rows = np.asarray(half, np.float64)[np.asarray(pairs.templates) == t]
                    assert np.abs(rows.mean(axis=0)).max() < 64 * EPS * 30 * max(rows.std(), 1)
                    if scale == "features":
                        np.testing.assert_allclose(rows.std(axis=0), 1, rtol=1e-3)
        if scale == "common":
            both = np.stack([kept(train).positive, kept(train).negative])
            np.testing.assert_allclose((both**2).mean(), 1, rtol=1e-4)
    probe = ej.probes.CRC().fit(train)
    alone = jax.tree.map(lambda leaf: leaf[:5], test)
    # Whoever else is scored: the same but for the order of a sum over the features.
    near = 8 * EPS * float(jnp.abs(probe.scores(test)).max())
    np.testing.assert_allclose(probe.scores(alone), probe.scores(test)[:5], rtol=0, atol=near)
    assert not np.allclose(
        probe.scores(alone, statistics="own"), probe.scores(test, statistics="own")[:5]
    )
    unseen = probe.scores(alone.replace(templates=jnp.array([0, 1, 2, -1, 0])))
    np.testing.assert_array_equal(np.isnan(unseen), [False, False, True, True, False])
    only = train.replace(weights=(train.templates == 0).astype(jnp.float32))
    half_known = ej.raise_if_failed(ej.probes.CRC().fit(only))
    np.testing.assert_array_equal(np.isnan(half_known.scores(test)), test.templates == 1)
    # Offsets of the templates are the most prominent feature, unless each has its own mean.
    together = ej.probes.CRC().fit(train.positive, train.negative)
    assert float(probe.accuracy(test)) > 0.9
    assert float(together.accuracy(test.replace(templates=None))) < 0.6


@pytest.mark.slow
def test_on_easy_redundant_pairs_every_probe_is_good():
    train, test = parts(PLAIN)
    noise = 4 * (0.25 / 200) ** 0.5  # of an accuracy on 200 pairs, 4 deviations
    ccs = CCS.fit(train, key=KEY)
    differences = [ccs.normalization.differences(pairs) for pairs in (train, test)]
    for labelled in (ej.probes.Logistic(), ej.probes.MeanDifferenceProbe()):
        theirs = float(ej.metrics.accuracy(labelled.fit(differences[0]), differences[1]))
        assert theirs > 0.9
        for probe in (ccs, ej.probes.CRC().fit(train)):
            assert abs(float(probe.accuracy(test)) - theirs) < noise
            assert float(probe.oriented(train).accuracy(test, sign="kept")) > 0.9
    worst = float(ccs.oriented(train, z=1 - train.labels).accuracy(test, sign="kept"))
    np.testing.assert_allclose(worst, 1 - ccs.accuracy(test), atol=1e-6)
    train, test = parts(EASY)
    fit = jax.vmap(lambda key: ej.probes.RandomDirection().fit(train, key=key).accuracy(test))
    assert float(fit(jax.random.split(KEY, 50)).mean()) > 0.75


@pytest.mark.slow
def test_the_more_prominent_feature_wins():
    for prominence, truth_wins in ((1.0, True), (8.0, False)):
        train, test = parts(PLAIN.replace(distractor=prominence))
        for probe in (CCS.fit(train, key=KEY), ej.probes.CRC().fit(train)):
            truth = float(probe.accuracy(test))
            other = float(probe.accuracy(about(test, test.distractor)))
            won, lost = (truth, other) if truth_wins else (other, truth)
            assert won > 0.85
            assert lost < 0.6
        # Labels tell the two apart, however prominent the distractor is.
        kept = probe.normalization
        logistic = ej.probes.Logistic().fit(kept.differences(train))
        assert float(ej.metrics.accuracy(logistic, kept.differences(test))) > 0.85


@pytest.mark.slow
def test_many_starts_together_are_better_than_one_and_a_test_loss_may_be_above_the_constant():
    seeds = 600  # the gain is a sixth of its deviation
    hard = ej.datasets.ContrastPairs(rows=20, dims=64, directions=4, truth=1.0)
    probe = ej.probes.CCS(epochs=200, starts=20)

    @jax.jit
    def run(key):
        train, test = hard.sample(key), hard.replace(rows=200).sample(key, part=1)
        found = probe.fit(train, key=key)
        each = jax.vmap(lambda one: one.accuracy(test))(found.each_start())
        right = jnp.mean((found.mean_scores(test) > 0) == test.labels)
        return found.loss, found.loss_on(test), each.mean(), jnp.maximum(right, 1 - right)

    loss, test_loss, each, together = jax.lax.map(run, jax.random.split(KEY, seeds))
    assert (loss < 0.05).all()
    assert (test_loss > 0.2).any()
    gain = np.asarray(together - each)
    assert gain.mean() > 2 * gain.std(ddof=1) / seeds**0.5


@pytest.mark.slow
def test_the_best_constant_has_a_loss_of_one_fifth():
    train, _ = parts(PLAIN)
    found = ej.probes.CCS(epochs=1, starts=1).fit(train, key=KEY)
    constant = found.replace(weight=0 * found.weight, bias=jnp.log(0.4 / 0.6))
    np.testing.assert_allclose(constant.loss_on(train), 0.2, rtol=8 * EPS)


@pytest.mark.slow
def test_without_the_mean_difference_nothing_linear_is_left():
    train, test = parts(PLAIN)
    n, d = train.positive.shape
    noise = 4 * (0.25 / n) ** 0.5
    for mode in ("oracle", "honest"):
        clean_train, clean_test = ej.ablate_pairs(train, test, mode=mode)
        kept = ej.PairNormalization.of(clean_train)
        inside, outside = kept.differences(clean_train), kept.differences(clean_test)
        assert not ej.probes.Logistic().fit(inside).weight.any()  # exactly the null model
        x, z = np.asarray(outside.x, np.float64), np.asarray(outside.z)
        gap = x[z == 1].mean(axis=0) - x[z == 0].mean(axis=0)
        sd = x.std(axis=0)
        if mode == "oracle":
            assert (np.abs(gap) < 1e-5 * sd).all()
            assert not ej.probes.Logistic().fit(outside).weight.any()
        else:
            # The direction's error, and the scored rows' own noise: MATH 2(d).
            own = d * 4 / n
            assert (gap**2).sum() < 2 * 2 * own * PLAIN.noise**2
            assert (np.abs(gap) > 1e-5 * sd).any()
        for probe in (CCS, ej.probes.CRC(), ej.probes.RandomDirection()):
            found = probe.fit(clean_train, key=KEY)
            assert float(found.accuracy(clean_test)) < 0.5 + noise
    # Where wording and label coincide, each template's own mean has taken the difference already.
    same = train.replace(templates=train.labels, num_templates=2)
    np.testing.assert_array_equal(
        ej.ablate_pairs(same, same, mode="honest")[1].positive, same.positive
    )


@pytest.mark.slow
def test_orthogonal_directions_go_on_where_the_truth_is_redundant_and_not_otherwise():
    rounds = 24
    probe = ej.probes.CCS(epochs=50, starts=3)

    @jax.jit
    def accuracies(train, test):
        found = ej.probes.recursive_ccs(probe, train, rounds=rounds, key=KEY)
        return jax.vmap(lambda one: one.accuracy(test))(found), found.weight

    many, weight = accuracies(*parts(EASY))
    few, _ = accuracies(*parts(EASY.replace(directions=2)))
    assert (many > 0.95).all()
    assert few[0] > 0.95
    assert few[14:].mean() < 0.8
    unit = np.asarray(weight, np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    np.testing.assert_allclose(unit @ unit.T, np.eye(rounds), atol=64 * EPS)


@pytest.mark.slow
def test_weights_are_repetitions():
    train, test = parts(PLAIN.replace(rows=10, dims=8, directions=2, templates=2))
    weights = np.arange(20) % 3
    rows = np.repeat(np.arange(20), weights)
    probe = ej.probes.CCS(epochs=30, starts=2, scale="features")
    weighted = probe.fit(train, weights=weights, key=KEY)
    repeated = probe.fit(jax.tree.map(lambda leaf: leaf[rows], train), key=KEY)
    np.testing.assert_allclose(weighted.start_losses, repeated.start_losses, rtol=1e-3)
    np.testing.assert_allclose(weighted.scores(test), repeated.scores(test), atol=2e-3)


@pytest.mark.slow
def test_common_scale_takes_the_units_away():
    train, test = parts(PLAIN.replace(rows=10, dims=8, directions=2))
    probe = ej.probes.CCS(epochs=30, starts=2, scale="common")
    tiny = [
        pairs.replace(positive=pairs.positive * 2.0**-40, negative=pairs.negative * 2.0**-40)
        for pairs in (train, test)
    ]
    # A power of two rounds nothing.
    np.testing.assert_array_equal(
        probe.fit(tiny[0], key=KEY).scores(tiny[1]), probe.fit(train, key=KEY).scores(test)
    )


@pytest.mark.slow
def test_fitted_probes_are_saved(tmp_path):
    train, test = parts(PLAIN.replace(rows=10, dims=8, directions=2, templates=2))
    for probe in (ej.probes.CCS(epochs=2, scale="features"), ej.probes.CRC()):
        found = probe.fit(train, key=KEY)
        ej.save(found, tmp_path / "probe.safetensors")
        loaded = ej.load(tmp_path / "probe.safetensors")
        np.testing.assert_array_equal(loaded.scores(test), found.scores(test))
        assert loaded.normalization.rule == found.normalization.rule


@pytest.mark.slow
def test_bad_calls_are_clear():
    train, _ = parts(PLAIN.replace(rows=10, dims=8, directions=2, templates=2))
    x, y = train.positive, train.negative
    crc = ej.probes.CRC()
    with pytest.raises(TypeError, match="x_neg: missing"):
        crc.fit(x)
    with pytest.raises(TypeError, match="leave x_neg out"):
        crc.fit(train, y)
    with pytest.raises(ValueError, match="x_neg: expected the shape"):
        crc.fit(x, y[:-1])
    with pytest.raises(TypeError, match="key: CCS draws"):
        ej.probes.CCS().fit(train)
    with pytest.raises(TypeError, match="templates: expected integers"):
        crc.fit(x, y, templates=x[:, 0])
    with pytest.raises(ValueError, match="scale: expected one of"):
        ej.probes.CRC(scale="sd").fit(train)
    with pytest.raises(ValueError, match="rounds: expected 1 to 8"):
        ej.probes.recursive_ccs(ej.probes.CCS(), train, rounds=9, key=KEY)
    with pytest.raises(ValueError, match="epochs"):
        ej.probes.CCS(epochs=0).fit(train, key=KEY)
    found = crc.fit(train)
    with pytest.raises(ValueError, match="templates: required"):
        found.scores(x, y)
    with pytest.raises(ValueError, match="8 features"):
        found.scores(x[:, :3], y[:, :3])
    with pytest.raises(TypeError, match="z: missing"):
        found.accuracy(x, y, templates=train.templates)
    with pytest.raises(ValueError, match="statistics: expected"):
        found.scores(train, statistics="test")
    with pytest.raises(ValueError, match="mode: expected"):
        ej.ablate_pairs(train, train, mode="cheating")
    with pytest.raises(TypeError, match="train: has no labels"):
        ej.ablate_pairs(about(train, None), train, mode="honest")
    with pytest.raises(ValueError, match="directions: expected"):
        ej.datasets.ContrastPairs(dims=4, directions=4).sample(KEY)
