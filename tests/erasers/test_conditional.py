"""Erasing within the classes of a task: what a row's task does not already say of its concept."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import erasejax as ej
from tests.common import enable_x64

ERASERS = (ej.LEACE, ej.MeanDifference, ej.SAL)


def rows(seed, n=600, d=6, classes=2, tasks=2, agree=0.6, scale=1.0):
    """Two concepts that agree in a share of the rows, each along directions of its own."""
    random = np.random.default_rng(seed)
    y = random.integers(0, tasks, n)
    z = np.where(random.random(n) < agree, y % classes, random.integers(0, classes, n))
    x = random.standard_normal((n, d)) @ random.standard_normal((d, d))
    x += random.standard_normal((tasks, d))[y] * 2 + random.standard_normal((classes, d))[z] * 3
    return (scale * x).astype(np.float32), z.astype(np.int32), y.astype(np.int32)


def gaps(x, z, y):
    """(tasks, classes, d) means of the classes within a task less the task's, in sd of x."""
    x = np.asarray(x, np.float64)
    sd = x.std(axis=0) + (x.std(axis=0) == 0)
    return [
        [(x[(y == j) & (z == c)].mean(0) - x[y == j].mean(0)) / sd for c in np.unique(z[y == j])]
        for j in np.unique(y)
    ]


def most(nested):
    return max(np.abs(each).max() for own in nested for each in own)


@pytest.mark.quick(1)
@pytest.mark.parametrize("method", ERASERS)
@given(
    seed=st.integers(0, 2**31),
    classes=st.integers(2, 3),
    tasks=st.integers(2, 3),
    scale=st.sampled_from([1e-12, 1, 1e12]),
)
@settings(max_examples=15, deadline=None)
def test_nothing_is_left_within_any_task(method, seed, classes, tasks, scale):
    x, z, y = rows(seed, d=9, classes=classes, tasks=tasks, scale=scale)
    eraser = method(given="each").fit(x, z, task=y)
    before = np.asarray(x, np.float64).std(axis=0)
    erased = np.asarray(eraser(x), np.float64) / before
    assert int(eraser.rank) == tasks * (classes - 1)
    assert (
        max(
            np.abs(erased[(y == j) & (z == c)].mean(0) - erased[y == j].mean(0)).max()
            for j in range(tasks)
            for c in range(classes)
        )
        < 1e-5
    )
    assert most(gaps(x, z, y)) > 0.1


@pytest.mark.quick(1)
@pytest.mark.parametrize("method", ERASERS)
@pytest.mark.parametrize("classes", [2, 3])
def test_pooled_is_the_mean_over_the_tasks(method, classes):
    x, z, y = rows(1, classes=classes, tasks=3, d=8)
    eraser = method(given="pooled").fit(x, z, task=y)
    assert int(eraser.rank) == classes - 1
    erased = np.asarray(eraser(x), np.float64)
    total = 0.0
    for j in range(3):
        own = y == j
        one = np.eye(classes)[z[own]]
        total = total + own.mean() * np.cov(erased[own].T, one.T, bias=True)[:8, 8:]
    assert np.abs(total / erased.std(axis=0)[:, None]).max() < 1e-5
    assert most(gaps(erased, z, y)) > 1e-3  # not each by itself


@pytest.mark.slow
def test_it_is_the_least_damage():
    """In float64, K is the sum over the tasks, and T its whitened one, as by hand."""
    x, z, y = rows(2)
    with enable_x64():
        eraser = ej.LEACE(given="pooled").fit(x.astype(float), z, task=y)
        found = np.asarray(eraser(x.astype(float)))
    x = x.astype(float)
    within = np.zeros(len(z))
    for j in (0, 1):
        within[y == j] = z[y == j] - z[y == j].mean()
    k = (x - x.mean(0)).T @ within / len(z)
    t = np.linalg.solve(np.cov(x.T, bias=True), k)
    expected = x - np.outer((x - x.mean(0)) @ t, k) / (t @ k)
    np.testing.assert_allclose(found, expected, atol=1e-9)


@pytest.mark.slow
def test_wide_rows():
    x, z, y = rows(3, n=60, d=100)
    for method in ERASERS:
        erased = method(given="each").fit(x, z, task=y)(x)
        assert most(gaps(np.asarray(erased) / x.std(0), z, y)) < 1e-4 * 6  # of what is left


@pytest.mark.slow
@pytest.mark.parametrize("how", ["pooled", "each"])
@pytest.mark.parametrize("method", ERASERS)
def test_streamed_moments_of_both_together(method, how):
    x, z, y = rows(4, classes=3, tasks=2, d=7)
    moments = ej.Moments.init(7, 6, one_hot=True)
    for part in np.array_split(np.arange(len(z)), 4):
        moments = moments.update(x[part], y[part] * 3 + z[part])
    streamed = method(given=how).solve(moments, tasks=2)
    whole = method(given=how).fit(x, z, task=y)
    np.testing.assert_allclose(streamed(x), whole(x), atol=2e-4 * np.abs(x).max())
    erased = np.asarray(streamed(x), np.float64)
    if how == "each":
        assert most(gaps(erased, z, y)) < 1e-4


@pytest.mark.slow
def test_a_task_may_be_columns_and_a_batch():
    x, z, y = rows(5, tasks=3)
    columns = np.eye(3, dtype=np.float32)[y]
    method = ej.LEACE(given="each")
    expected = method.fit(x, z, task=y)(x)
    np.testing.assert_allclose(method.fit(x, z, task=columns)(x), expected, atol=1e-5)

    @jax.jit
    @jax.vmap
    def many(weights):
        return method.fit(x, z, task=columns, num_classes=2, weights=weights)(x)

    weights = jnp.stack([jnp.ones(len(z)), jnp.ones(len(z)).at[:50].set(0)])
    found = many(weights)
    np.testing.assert_allclose(found[0], expected, atol=1e-4)
    rest = method.fit(x[50:], z[50:], task=columns[50:])(x)
    np.testing.assert_allclose(found[1], rest, atol=1e-3)


@pytest.mark.slow
def test_a_concept_that_the_task_says_all_of():
    x, _, y = rows(6)
    with pytest.raises(ej.FailedLanesError, match="concept is constant"):
        ej.LEACE(given="each").fit(x, y, task=y)
    z = np.where(y == 0, np.arange(len(y)) % 2, 1).astype(np.int32)  # free in one task only
    eraser = ej.LEACE(given="each").fit(x, z, task=y)
    assert int(eraser.rank) == 1
    assert most(gaps(eraser(x), z, y)) < 1e-4


@pytest.mark.slow
def test_equalized_odds():
    """The example of the mathematics: unconditional erasure makes the odds worse, this equal."""

    def sample(seed, n=40_000):
        random = np.random.default_rng(seed)
        y = random.integers(0, 2, n)
        z = np.where(random.random(n) < 0.85, y, 1 - y)
        x = random.standard_normal((n, 6)).astype(np.float32)
        x[:, 0] += 2 * y
        x[:, 1] += 3 * z
        return x, z.astype(np.int32), y.astype(np.int32)

    (x, z, y), (fresh, fresh_z, fresh_y) = sample(0), sample(1)

    def odds(method):
        eraser = method.fit(x, z, task=y)
        predicted = ej.probes.Logistic().fit(eraser(x), y).predict(eraser(fresh))
        found = ej.metrics.equalized_odds_difference(predicted, fresh_y, groups=fresh_z)
        return float(found), float(jnp.mean(predicted == fresh_y))

    assert odds(ej.erasers.Identity())[0] > 0.15
    assert odds(ej.LEACE())[0] > 0.25
    for how in ("pooled", "each"):
        difference, accuracy = odds(ej.LEACE(given=how))
        assert difference < 0.02
        assert accuracy > 0.83


@pytest.mark.slow
def test_a_sweep_has_it_as_an_axis(tmp_path):
    spec = {
        "dataset": {"name": "two-concepts", "rows": 200, "dims": 6, "correlation": 0.7},
        "eraser": {"name": "leace", "given": ["none", "pooled", "each"]},
        "probe": "logistic",
        "protocols": "fitting",
        "metrics": ["task_accuracy", "task_equalized_odds_difference", "rank"],
        "seeds": 8,
    }
    table = ej.sweep.run(spec, out=tmp_path).to_pandas()
    by_how = table.groupby("eraser.given")[
        ["task_equalized_odds_difference_fitting", "rank"]
    ].mean()
    assert by_how["rank"].to_dict() == {"none": 1, "pooled": 1, "each": 2}
    odds = by_how["task_equalized_odds_difference_fitting"]
    assert odds["pooled"] < odds["none"] / 2


@pytest.mark.slow
def test_errors():
    x, z, y = rows(7)
    method = ej.LEACE(given="pooled")
    with pytest.raises(TypeError, match="task: missing"):
        method.fit(x, z)
    with pytest.raises(TypeError, match="class labels"):
        method.fit(x, z.astype(np.float32) + 0.5, task=y)
    with pytest.raises(ValueError, match="needs classes"):
        method.fit(x, z, task=x[:, 0])
    with pytest.raises(ValueError, match="given"):
        ej.LEACE(given="some").fit(x, z, task=y)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="tasks"):
        method.solve(ej.Moments.of(ej.rows.as_dataset(x, z)))
    with pytest.raises(ValueError, match="tasks"):
        ej.LEACE().solve(ej.Moments.of(ej.rows.as_dataset(x, z)), tasks=2)
    bad = jax.jit(lambda z: method.fit(x, z, task=np.eye(2)[y], num_classes=2))(z.copy() * 5)
    assert int(bad.status) != 0
