"""Lanes that take turns under vmap: the numbers of a loop, in a loop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from erasejax._linalg import platforms
from erasejax._linalg.lanes import in_turn


def norm(x, scale):
    return {"norm": jnp.sum(x**2) * scale["by"], "rows": x * scale["by"]}


SCALE = {"by": jnp.float32(2)}
LARGE = jnp.arange(3 * 5000, dtype=jnp.float32).reshape(3, 5000) / 5000


@pytest.mark.parametrize("columns", [4, 5000])
def test_lanes_are_a_loop_of_calls(columns):
    x = LARGE[:, :columns]
    found = jax.vmap(in_turn(norm), (0, None))(x, SCALE)
    for lane in range(3):
        alone = norm(x[lane], SCALE)
        for name, one in alone.items():
            np.testing.assert_allclose(found[name][lane], one, rtol=1e-5)
    twice = jax.vmap(jax.vmap(in_turn(norm), (0, None)), (0, None))(x[None], SCALE)
    np.testing.assert_allclose(twice["norm"][0], found["norm"], rtol=1e-6)


def test_large_lanes_take_turns_on_a_cpu_and_nowhere_else():
    assert platforms.take_turns(LARGE[0].nbytes)
    for columns, platform, loops in ((5000, "cpu", 1), (5000, "cuda", 0), (4, "cpu", 0)):
        run = jax.jit(jax.vmap(in_turn(norm), (0, None)))
        exported = export.export(run, platforms=[platform])(LARGE[:, :columns], SCALE)
        assert exported.mlir_module().count("stablehlo.while") == loops, (columns, platform)


def test_derivatives_forwards():
    def total(x):
        return jnp.sum(jax.vmap(in_turn(norm), (0, None))(x, SCALE)["norm"])

    _, found = jax.jvp(total, (LARGE,), (LARGE,))
    np.testing.assert_allclose(found, 4 * jnp.sum(LARGE**2), rtol=1e-4)
