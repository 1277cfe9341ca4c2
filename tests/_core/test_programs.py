"""How programs are compiled: quickly by themselves, by the caller's rules inside the caller's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import erasejax as ej
from erasejax._core.programs import program, quick_options


@pytest.fixture
def rows():
    data = ej.datasets.GaussianClasses(rows=20, dims=4).sample(jax.random.key(0))
    return data.x, data.z


@pytest.mark.parametrize("around", [jax.jit, jax.grad, lambda f: lambda s: jax.vmap(f)(s[None])[0]])
def test_known_rows_in_a_program_of_the_callers(rows, around):
    x, z = rows
    alone = ej.LEACE().fit(x, z)(x)

    def total(scale):
        return scale * jnp.sum(ej.LEACE().fit(x, z, num_classes=2)(x) ** 2)

    np.testing.assert_allclose(around(total)(jnp.float32(1)), jnp.sum(alone**2), rtol=1e-5)


def test_the_compiler_knows_the_options():
    double = jax.jit(lambda x: 2 * x, compiler_options=quick_options())
    assert float(double(jnp.float32(3))) == 6


def test_errors_of_the_function_itself_are_raised():
    @program
    def refuse(x):
        raise ValueError(f"x: expected nothing, got {x.shape}")

    with pytest.raises(ValueError, match="expected nothing"):
        refuse(jnp.ones(3))


def test_a_program_is_compiled_once_for_one_shape():
    @program
    def double(x):
        return 2 * x

    before = double._cache_size()
    for _ in range(2):
        double(jnp.ones(3))
    assert double._cache_size() == before + 1
