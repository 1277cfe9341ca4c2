"""Random orthogonal maps: orthogonal, and as random as they say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from erasejax.datasets._turning import mixed, turned

KEY = jax.random.key(7)
MANY = 4000
EPS = np.finfo(np.float32).eps


def maps(of, d):
    """Many maps, (maps, d, d): row j is where axis j goes."""
    return np.asarray(jax.vmap(lambda key: of(key, jnp.eye(d)))(jax.random.split(KEY, MANY)))


@pytest.mark.quick(2)
@pytest.mark.parametrize("d", [1, 2, 16, 17, 30, 97])
def test_maps_are_orthogonal(d):
    for of in (mixed, lambda key, x: turned(key, x, 1), lambda key, x: turned(key, x, d)):
        found = np.asarray(of(KEY, jnp.eye(d)), np.float64)
        # A reflection rounds by some eps, and there are up to d of them.
        np.testing.assert_allclose(found @ found.T, np.eye(d), atol=8 * d**0.5 * EPS)


def assert_uniform(frames):
    """Frames (maps, k, d) have the moments of uniform ones, and first entries their law."""
    count, k, d = frames.shape
    flat = frames.reshape(count, k * d)
    error = 5 / (d * count**0.5)  # five standard errors of a mean of products of two entries
    np.testing.assert_allclose(flat.T @ flat / count, np.eye(k * d) / d, atol=2 * error)
    np.testing.assert_allclose(flat.mean(axis=0), 0, atol=5 / (d * count) ** 0.5)
    for entry in (flat[:, 0], flat[:, d - 1], flat[:, -1]):
        assert stats.kstest((entry + 1) / 2, stats.beta((d - 1) / 2, (d - 1) / 2).cdf).pvalue > 1e-4


@pytest.mark.parametrize(("d", "count"), [(3, 1), (5, 2), (4, 4)])
def test_the_first_axes_go_to_a_uniform_frame(d, count):
    assert_uniform(maps(lambda key, x: turned(key, x, count), d)[:, :count])


@pytest.mark.parametrize("d", [5, 20])
def test_the_leading_axes_of_a_mixture_are_a_uniform_frame(d):
    assert_uniform(maps(mixed, d)[:, :2])


def test_every_axis_of_a_mixture_is_spread_over_the_features():
    d = 97
    found = np.asarray(mixed(KEY, jnp.eye(d)))
    # An axis that stayed where it was would have an entry of 1; of a random vector the largest of
    # d^2 entries is some sqrt(2 log(d^2) / d).
    assert np.abs(found).max() < np.sqrt(4 * np.log(d**2) / d)
    assert np.abs(np.asarray(turned(KEY, jnp.eye(d), 16))[16:]).max() > 0.5  # what it is there for
