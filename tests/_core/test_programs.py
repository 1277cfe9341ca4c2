"""How programs are traced and compiled.

Flags of JAX that a user may have set: whatever works under the defaults works under them. And what
is compiled quickly gives the same.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import erasejax as ej
from erasejax._core.programs import program, quick_options, thoroughly
from tests._core.test_foreign import CASES, Given, X, Z, fitted, moments, plain

STRICT = {
    "jax_numpy_rank_promotion": "raise",
    "jax_numpy_dtype_promotion": "strict",
    "jax_legacy_prng_key": "error",
}
QUICK = [
    "LEACE.fit|LEACE",
    "Projection.__call__",
    "Moments.of",
    "ClassMoments.of",
    "merge|Moments",
    "Logistic.fit|class_weights",
    "QuadraticClassifier.log_proba|QDA",
    "CCSClassifier.mean_scores",
    "auroc",
    "barycenter",
    "TwoConcepts.sample",
]


@pytest.fixture
def strict():
    before = {name: getattr(jax.config, name) for name in STRICT}
    for name, value in STRICT.items():
        jax.config.update(name, value)
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def assert_runs(name):
    given = Given(plain)
    jax.block_until_ready(CASES[name](given.own, given.own))


@pytest.mark.quick(4)
@pytest.mark.parametrize("name", QUICK)
def test_strict_promotion(name, strict):
    assert_runs(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in CASES if name not in QUICK])
def test_strict_promotion_everywhere(name, strict):
    assert_runs(name)


@pytest.mark.slow
def test_strict_promotion_under_the_users_own_jit(strict):
    found = jax.jit(lambda x, z: ej.LEACE().fit(x, z, num_classes=2)(x))(jnp.array(X), Z)
    assert found.shape == X.shape
    slope = jax.grad(lambda a: ej.transport.distance(a, 2 * a + jnp.eye(5)))(jnp.eye(5))
    assert np.isfinite(slope).all()


@pytest.mark.slow
def test_properties_of_results_under_strict_promotion(strict):
    eraser, probe = fitted("LEACE"), fitted("Logistic")
    found = [eraser.affine(), eraser.restrict(0), probe.bias]
    for kind in ("Moments", "ClassMoments"):
        one = moments(kind)
        names = [name for name in dir(type(one)) if isinstance(getattr(type(one), name), property)]
        found += [getattr(one, name) for name in names]
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))


@pytest.mark.parametrize("around", [jax.jit, jax.grad, lambda f: lambda s: jax.vmap(f)(s[None])[0]])
def test_known_rows_in_a_program_of_the_callers(around):
    alone = ej.LEACE().fit(jnp.array(X), Z)(X)

    def total(scale):
        return scale * jnp.sum(ej.LEACE().fit(jnp.array(X), Z, num_classes=2)(X) ** 2)

    np.testing.assert_allclose(around(total)(jnp.float32(1)), jnp.sum(alone**2), rtol=1e-5)


@pytest.mark.slow
def test_what_is_compiled_thoroughly_gives_the_same():
    def numbers():
        probe = ej.probes.Logistic().fit(jnp.array(X), Z)
        return probe.weight, ej.metrics.accuracy(probe, jnp.array(X), Z)

    quick = numbers()
    with thoroughly():
        calm = numbers()
    for a, b in zip(calm, quick, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_only_the_outermost_program_has_options_of_the_compiler():
    """JAX refuses them inside another program, also where all that it is given is known."""

    @program
    def inner(x):
        return x + 1

    outer = program(lambda x: x + inner(jnp.ones(3)))
    np.testing.assert_array_equal(outer(jnp.ones(3)), 3)
    known = jnp.ones(3)
    np.testing.assert_array_equal(jax.jit(lambda x: x + inner(known))(known), 3)
    dataset = ej.datasets.GaussianClasses(rows=3, dims=2)
    assert jax.eval_shape(dataset.sample, jax.random.key(0)).x.shape == (6, 2)
    assert jax.jit(lambda key: dataset.sample(key).x)(jax.random.key(0)).shape == (6, 2)
    double = jax.jit(lambda x: 2 * x, compiler_options=quick_options())
    assert float(double(jnp.float32(3))) == 6


def test_long_loops_over_small_numbers_are_compiled_thoroughly(monkeypatch):
    asked = []
    jit = jax.jit

    def heard(function, **options):
        asked.append(bool(options.pop("compiler_options", None)))
        return jit(function, **options)

    monkeypatch.setattr(jax, "jit", heard)
    for thorough in (False, True):
        one = program(lambda x: x + 1, thorough=thorough)
        assert float(one(jnp.float32(1))) == 2
        with thoroughly():
            assert float(one(jnp.float32(1))) == 2
    assert asked == [False, *([True] if quick_options() else []), False]
