"""Transport between Gaussians: maps, distances, barycentres and their gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from erasejax.transport import barycenter, distance, ot_map
from tests import common
from tests.quadratic import root


def spd(rng, d, k=None, dtype=np.float64):
    """Random covariances, (d, d) or (k, d, d), of condition about 100."""
    a = rng.standard_normal((k or 1, d, d))
    a = (a @ a.transpose(0, 2, 1) / d + 0.05 * np.eye(d)).astype(dtype)
    return a if k else a[0]


@pytest.mark.parametrize("double", [False, True])
def test_the_map_takes_one_covariance_to_the_other(double):
    dtype = np.float64 if double else np.float32
    eps = float(np.finfo(dtype).eps)
    with common.enable_x64() if double else jax.default_device(None):
        rng = np.random.default_rng(0)
        for scale in (1e-12, 1.0, 1e12):
            a, b = spd(rng, 8, dtype=dtype), (scale * spd(rng, 8)).astype(dtype)
            t = np.asarray(ot_map(a, b))
            assert t.dtype == dtype
            wide = t.astype(np.float64)
            condition = np.linalg.cond(a)
            condition = float(condition)
            assert condition < 1e3
            error = np.linalg.norm(wide @ a @ wide - b) / np.linalg.norm(b)
            assert error < 32 * eps * condition
            assert np.abs(wide - wide.T).max() <= 8 * eps * np.abs(wide).max()
            assert np.linalg.eigvalsh(wide)[0] > 0
            inner = root(root(a) @ b @ root(a))
            square = np.trace(a) + np.trace(b) - 2 * np.trace(inner)
            assert float(distance(a, b)) == pytest.approx(np.sqrt(square), rel=64 * eps * condition)
        # Where the difference of traces would leave sqrt(eps).
        assert float(distance(a, a)) < 64 * eps * condition * np.sqrt(np.trace(a))


def test_distance_counts_means_and_lost_dimensions():
    a, b = np.diag([4.0, 0.0]).astype("f4"), np.diag([1.0, 9.0]).astype("f4")
    assert float(distance(a, b)) == pytest.approx(np.sqrt(1 + 9), rel=1e-6)
    assert float(distance(b, a)) == pytest.approx(np.sqrt(1 + 9), rel=1e-6)
    far = np.array([3.0, 4.0], "f4")
    assert float(distance(a, a, mean_a=far)) == pytest.approx(5, rel=1e-6)
    assert float(distance(a, b, mean_a=far, mean_b=far)) == pytest.approx(np.sqrt(10), rel=1e-6)
    np.testing.assert_allclose(ot_map(a, b), np.diag([0.5, 0.0]), atol=1e-6)


def test_the_barycentre_of_commuting_covariances_is_known():
    rng = np.random.default_rng(1)
    basis = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    roots, weights = rng.uniform(0.1, 3, (3, 6)), np.array([5.0, 3.0, 2.0])
    each = np.einsum("ij,kj,lj->kil", basis, roots**2, basis)
    expected = basis * (weights @ roots / 10) ** 2 @ basis.T
    for scale in (1e-12, 1.0, 1e12):
        found = barycenter((scale * each).astype("f4"), weights.astype("f4"))
        np.testing.assert_allclose(
            found / scale, expected, atol=1e3 * common.EPS * np.abs(expected).max()
        )


@pytest.mark.slow
def test_the_barycentre_is_the_least_mean_squared_distance_and_has_derivatives():
    with common.enable_x64():
        rng = np.random.default_rng(2)
        each, weights = spd(rng, 7, 3), np.array([0.7, 0.2, 0.1])

        def loss(b, each=each):
            squares = jax.vmap(lambda s: distance(b, s) ** 2)(jnp.asarray(each))
            return jnp.sum(weights * squares)

        found = barycenter(each, weights)
        mean = np.einsum("k,kij->ij", weights, each)
        slope = jnp.linalg.norm(jax.grad(loss)(found))
        assert float(slope) < 1e-10
        assert float(jnp.linalg.norm(jax.grad(loss)(mean))) > 1e-2
        assert loss(found) < loss(mean)
        turn = spd(rng, 7, 3) - spd(rng, 7, 3)
        for function in (
            lambda s: jnp.sum(barycenter(s, weights) ** 2),
            lambda s: jnp.sum(ot_map(s[0], s[1]) ** 2),
            lambda s: distance(s[0], s[1]),
        ):
            step = 1e-5
            numeric = (function(each + step * turn) - function(each - step * turn)) / (2 * step)
            back = jnp.sum(jax.grad(function)(jnp.asarray(each)) * turn)
            forward = jax.jvp(function, (jnp.asarray(each),), (jnp.asarray(turn),))[1]
            assert float(back) == pytest.approx(float(numeric), rel=1e-5)
            assert float(forward) == pytest.approx(float(back), rel=1e-9)


@pytest.mark.slow
def test_gradients_are_finite_where_eigenvalues_repeat_or_vanish():
    eye, half = jnp.eye(4), jnp.diag(jnp.array([1.0, 1, 0, 0]))
    firsts = jnp.stack([eye, eye, half, eye, half])
    seconds = jnp.stack([eye, 2 * eye, eye, half, 2 * half])
    for function in (
        distance,
        lambda a, b: jnp.sum(ot_map(a, b)),
        lambda a, b: jnp.sum(barycenter(jnp.stack([a, b]), jnp.ones(2), steps=8)),
    ):
        for slope in jax.vmap(jax.grad(function, argnums=(0, 1)))(firsts, seconds):
            assert np.isfinite(slope).all()
    # Not only finite: d/dt of the distance of I and t I, (sqrt(t) - 1) sqrt(d).
    slope = jax.grad(lambda t: distance(eye, t * eye))(4.0)
    assert float(slope) == pytest.approx(0.5, rel=1e-5)


def test_transport_says_what_it_expects():
    with pytest.raises(ValueError, match="one shape"):
        ot_map(np.eye(3, dtype="f4"), np.eye(2, dtype="f4"))
    with pytest.raises(TypeError, match="cast it"):
        distance(np.eye(2, dtype=int), np.eye(2, dtype="f4"))
    with pytest.raises(ValueError, match=r"\(k, d, d\)"):
        barycenter(np.ones((2, 3, 3), "f4"), np.ones(3, "f4"))
    with pytest.raises(ValueError, match="steps"):
        barycenter(np.ones((2, 3, 3), "f4"), np.ones(2, "f4"), steps=0)
    assert np.isnan(barycenter(np.full((2, 3, 3), np.nan, "f4"), np.ones(2, "f4"))).all()
