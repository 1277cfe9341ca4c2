"""Cholesky factors and triangular solves against their definition, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from erasejax._linalg import factor

SIZES = [1, 64, 192, 193, 300, 600]  # one call; two tiles that do not fit; more
EPS = float(np.finfo(np.float32).eps)


def definite(d, digits):
    """A matrix whose condition number has so many digits, in float32."""
    rng = np.random.default_rng(d)
    turn = np.linalg.qr(rng.standard_normal((d, d)))[0]
    matrix = (turn * np.logspace(0, -digits, d)) @ turn.T
    return jnp.asarray((matrix + matrix.T) / 2, jnp.float32)


@pytest.mark.parametrize("digits", [0.5, 6])
@pytest.mark.parametrize("d", SIZES)
def test_cholesky_is_backward_stable(d, digits):
    matrix = definite(d, digits)
    lower = np.asarray(jax.jit(factor.cholesky)(matrix), np.float64)
    assert np.array_equal(lower, np.tril(lower))
    # Each entry is a sum of up to d products, whose rounding adds up like a random walk: nearly
    # surely to no more than 2 sqrt(d) units of rounding (Higham and Mary 2019, 10.1137/18M1226312).
    error = np.abs(lower @ lower.T - np.asarray(matrix, np.float64)).max()
    assert error <= d**0.5 * EPS * np.abs(matrix).max()


@pytest.mark.quick(18)
@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize("m", [1, 3, 19])
@pytest.mark.parametrize("d", SIZES)
def test_triangular_solves_are_backward_stable(d, m, transpose):
    lower = jnp.linalg.cholesky(definite(d, 6))
    rhs = np.random.default_rng(m).standard_normal((d, m)).astype(np.float32)
    solve = jax.jit(factor.triangular_solve, static_argnames="transpose")
    found = np.asarray(solve(lower, jnp.asarray(rhs), transpose=transpose), np.float64)
    exact = np.asarray(lower.T if transpose else lower, np.float64)
    error = np.abs(exact @ found - rhs).max()
    assert error <= 2 * EPS * (np.abs(exact) @ np.abs(found)).max()


@pytest.mark.slow
def test_lanes_do_not_meet():
    good = definite(300, 1)
    both = jnp.stack([good, jnp.full_like(good, jnp.nan)])
    lower = jax.jit(jax.vmap(factor.cholesky))(both)
    np.testing.assert_allclose(lower[0], factor.cholesky(good), atol=8 * EPS)
    assert not np.isfinite(lower[1]).all()
