"""Several concepts as lanes of one program, labels missing here and there, as the page has it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import erasejax as ej

N, D, CONCEPTS = 240, 6, 4


def table(seed=0):
    """Rows and labels (n, c) of three classes, negative where missing."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((N, D)).astype(np.float32)
    scores = x @ rng.standard_normal((D, CONCEPTS)) + 0.3 * rng.standard_normal((N, CONCEPTS))
    z = np.digitize(scores, [-0.7, 0.7])
    return x, np.where(rng.random(z.shape) < 0.2, -1, z)


@pytest.mark.slow
@pytest.mark.parametrize("over", ["vmap", "map"])
@pytest.mark.parametrize(
    "probe", [ej.probes.Logistic(l2=0.1), ej.probes.LDA(), ej.probes.QDA()], ids=lambda p: p.name
)
def test_concepts_are_lanes(probe, over):
    x, z = table()

    def fit(z):
        return probe.fit(x, z, weights=z >= 0, num_classes=3)

    def score(probe, z):
        return ej.metrics.accuracy(probe, x, z, weights=z >= 0)

    lanes = jnp.asarray(z.T)
    if over == "vmap":
        found = jax.vmap(fit)(lanes)
        accuracy = jax.vmap(score)(found, lanes)
    else:
        found = jax.lax.map(fit, lanes)
        accuracy = jax.lax.map(lambda pair: score(*pair), (found, lanes))
    assert found.status.tolist() == [0] * CONCEPTS
    for j in range(CONCEPTS):
        there = z[:, j] >= 0
        alone = probe.fit(x[there], z[there, j])
        one = jax.tree.map(lambda leaf: leaf[j], found)  # noqa: B023
        np.testing.assert_allclose(one.scores(x), alone.scores(x), rtol=1e-3, atol=2e-3)
        expected = ej.metrics.accuracy(alone, x[there], z[there, j])
        assert float(accuracy[j]) == pytest.approx(float(expected), abs=1e-6)


def test_a_concept_of_one_class_fails_alone():
    x, z = table()
    z[:, 2] = np.where(z[:, 2] == 1, 1, -1)
    fit = jax.vmap(lambda z: ej.probes.LDA().fit(x, z, weights=z >= 0, num_classes=3))
    found = fit(jnp.asarray(z.T))
    assert found.status.tolist() == [0, 0, ej.Status.CONSTANT_CONCEPT, 0]
    with pytest.raises(ej.FailedLanesError, match="lane 2: the concept is constant"):
        ej.raise_if_failed(found)


@pytest.mark.slow
def test_a_label_that_is_missing_and_not_said_to_be_fails():
    x, z = table()
    found = jax.vmap(lambda z: ej.probes.LDA().fit(x, z, num_classes=3))(jnp.asarray(z.T))
    assert found.status.tolist() == [ej.Status.LABEL_RANGE] * CONCEPTS
