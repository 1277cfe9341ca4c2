"""Tails of the F distribution and of its noncentral sister, accurate in float32.

Both are functions of the beta distribution: with F on (p, v) degrees of freedom,
x = p F / (p F + v) has the beta distribution of shapes a = p / 2 and b = v / 2. Differences of
log-gamma functions lose all digits of float32 once a shape reaches 10^5, so the density is written
through deviances and Stirling's series instead (Loader 2000, "Fast and accurate computation of
binomial probabilities").
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

__all__ = ["beta_tail", "beta_upper_quantile", "detectable_noncentrality", "noncentral_tail"]


def beta_tail(a: jax.Array, b: jax.Array, x: jax.Array) -> jax.Array:
    """Returns the probability that a beta variable of shapes a, b >= 1/2 exceeds x in [0, 1].

    Small probabilities keep their relative accuracy, down to the smallest float. NaN where an
    argument is NaN.

    Args:
      a: (...) shape.
      b: (...) shape.
      x: (...).

    References:
      Takahasi and Mori 1974, doi 10.2977/prims/1195192451 (the quadrature).
    """
    # The smaller of the two tails, so that it is a sum of small numbers: of x, or of 1 - x.
    gap = (a + b) * x - a
    right = gap > 0
    own, other = jnp.where(right, b, a), jnp.where(right, a, b)
    y, rest = jnp.where(right, 1 - x, x), jnp.where(right, x, 1 - x)
    part = _scaled_density(a, b, x) * _ratio(own, other, y, rest, jnp.abs(gap))
    tail = jnp.where(right, part, 1 - part)
    tail = jnp.where(x <= 0, 1, jnp.where(x >= 1, 0, tail))
    return jnp.where(jnp.isnan(a + b + x), jnp.nan, jnp.clip(tail, 0, 1))


def beta_upper_quantile(a: jax.Array, b: jax.Array, tail: float) -> jax.Array:
    """Returns the x that a beta variable of shapes a, b, (), exceeds with probability `tail`."""
    # In the logarithm of the odds, where rare events lie no closer together than common ones.
    inner = jnp.arange(1, 8, dtype=a.dtype) / 8

    def cut(_, ends):
        low, width = ends
        tails = beta_tail(a, b, lax.logistic(low + width * inner))
        return low + width * jnp.sum(tails > tail) / 8, width / 8

    start = jnp.log(a) - jnp.log(b) - 20
    low, width = lax.fori_loop(0, 9, cut, (start, jnp.full_like(start, 40)))
    return lax.logistic(low + width / 2)


def noncentral_tail(
    a: jax.Array, b: jax.Array, x: jax.Array, noncentrality: jax.Array, *, terms: int
) -> jax.Array:
    """Returns the probability that a noncentral beta variable exceeds x.

    With x the critical value of an F test on (2 a, 2 b) degrees of freedom it is the test's power.
    It is the mean of tails of beta variables of shapes (a + j, b) over a Poisson j.

    Args:
      a: () shape, half the degrees of freedom of the hypothesis.
      b: () shape, half those of the error.
      x: () in (0, 1).
      noncentrality: () >= 0, the mean of the Poisson variable is half of it.
      terms: static number of terms; above that many the Poisson variable must be rare.
    """
    return _mixed(_tails(a, b, x, beta_tail(a, b, x), terms), noncentrality)


def detectable_noncentrality(
    a: jax.Array, b: jax.Array, *, level: float, power: float, terms: int
) -> jax.Array:
    """Returns the noncentrality at which an F test of a level has a power; NaN beyond the terms.

    Args:
      a: () half the degrees of freedom of the hypothesis.
      b: () half those of the error.
      level: static, the size of the test.
      power: static.
      terms: static, as in `noncentral_tail`.
    """
    critical = beta_upper_quantile(a, b, level)
    tails = _tails(a, b, critical, jnp.full_like(a, level), terms)

    def halve(_, ends):
        low, high = ends
        middle = (low + high) / 2
        strong = _mixed(tails, middle) >= power
        return jnp.where(strong, low, middle), jnp.where(strong, middle, high)

    # Up to eight deviations of the Poisson variable above its mean are among the terms.
    limit = jnp.asarray(2 * ((terms + 16) ** 0.5 - 4) ** 2, a.dtype)
    found, high = lax.fori_loop(0, 30, halve, (jnp.zeros_like(limit), limit))
    return jnp.asarray(jnp.where(high < limit, found, jnp.nan))


def _tails(a: jax.Array, b: jax.Array, x: jax.Array, first: jax.Array, terms: int) -> jax.Array:
    """Returns the tails beyond x of beta variables of shapes (a + j, b), j < terms: (terms,).

    Each is the one before, of which `first` is the first, plus a density.
    """
    own = a + jnp.arange(terms - 1, dtype=a.dtype)
    steps = _scaled_density(own, jnp.full_like(own, b), jnp.full_like(own, x)) / own
    return jnp.clip(jnp.cumsum(jnp.concatenate([first[None], steps])), 0, 1)


def _mixed(tails: jax.Array, noncentrality: jax.Array) -> jax.Array:
    """Returns the mean of tails (terms,) over a Poisson variable of mean noncentrality / 2."""
    mean = noncentrality / 2
    j = jnp.arange(1, tails.shape[0], dtype=tails.dtype)
    # By its deviance, as the density: no large logarithms cancel.
    rest = jnp.log(2 * jnp.pi * j) / 2 + _stirling(j)
    some = jnp.exp(-mean * _phi((j - mean) / jnp.where(mean > 0, mean, 1)) - rest)
    weight = jnp.concatenate([jnp.exp(-mean)[None], jnp.where(mean > 0, some, 0)])
    return jnp.sum(weight * tails) / jnp.sum(weight)


def _scaled_density(a: jax.Array, b: jax.Array, x: jax.Array) -> jax.Array:
    """Returns x^a (1 - x)^b / B(a, b)."""
    inside = (x > 0) & (x < 1)
    x = jnp.where(inside, x, 0.5)
    n = a + b
    gap = n * x - a
    means = jnp.stack([n * x, n * (1 - x)])
    deviance = jnp.sum(means * _phi(jnp.stack([-gap, gap]) / means), axis=0)
    of_n, of_a, of_b = _stirling(jnp.stack([n, a, b]))
    log = (jnp.log(a) + jnp.log(b) - jnp.log(2 * jnp.pi * n)) / 2 - deviance
    return jnp.where(inside, jnp.exp(log + (of_n - of_a - of_b)), 0)


def _phi(u: jax.Array) -> jax.Array:
    """Returns (1 + u) log(1 + u) - u for u >= -1."""
    near = jnp.abs(u) < 0.1
    small = jnp.where(near, u, 0)
    series = jnp.zeros_like(u)
    for i in range(12, 1, -1):
        series = small * series + (-1.0) ** i / (i * (i - 1))
    far = jnp.where(near, 1, u)
    return jnp.where(near, small * small * series, (1 + far) * jnp.log1p(far) - far)


def _stirling(a: jax.Array) -> jax.Array:
    """Returns log Gamma(a + 1) less Stirling's formula, log(sqrt(2 pi a) (a / e)^a), a > 0."""
    # Shifted up to where the asymptotic series holds: s(a) = s(a + 1) - 1 + (a + 1/2) log(1 + 1/a).
    steps = a[..., None] + jnp.arange(8, dtype=a.dtype)
    small = steps < 8
    total = jnp.sum(jnp.where(small, (steps + 0.5) * jnp.log1p(1 / steps) - 1, 0), axis=-1)
    shifted = a + jnp.sum(small, axis=-1)
    square = 1 / (shifted * shifted)
    series = 1 / 12 - square * (1 / 360 - square * (1 / 1260 - square * (1 / 1680 - square / 1188)))
    return total + series / shifted


def _ratio(a: jax.Array, b: jax.Array, x: jax.Array, rest: jax.Array, gap: jax.Array) -> jax.Array:
    """Returns I_x(a, b) as a multiple of the scaled density, by quadrature.

    With t = x e^-s in its integral it is that of (1 - t)^-1 (t / x)^a ((1 - t) / (1 - x))^b over
    s > 0. Below the mean the logarithm of the last two is concave and falls: it is a sum of three
    terms, none of them positive.

    Args:
      a: (...) shape.
      b: (...) shape.
      x: (...) at most about the mean.
      rest: (...) 1 - x, which x near 1 cannot say with all its digits.
      gap: (...) a - (a + b) x, which x near 1 cannot either.
    """
    a, b, x, rest, gap = (v[..., None] for v in jnp.broadcast_arrays(a, b, x, rest, gap))
    slope, odds = gap / rest, x / rest
    # How far it takes to fall by about one.
    width = 1 / (slope + jnp.sqrt(b * odds / rest))
    nodes, weights = (jnp.asarray(part, x.dtype) for part in _NODES)
    s = width * nodes
    growth = odds * -jnp.expm1(-s)
    log = -slope * s - b * (odds * _rest_of_exp(-s) + _rest_of_exp(jnp.log1p(growth)))
    return jnp.sum(weights * width * jnp.exp(log) / (rest * (1 + growth)), axis=-1)


def _nodes() -> tuple[np.ndarray, np.ndarray]:
    """Returns nodes and weights of a sum that is an integral over s > 0 of what falls as e^-s.

    The trapezoidal rule in t, s = exp(t - e^-t), whose error falls with the exponential of the
    reciprocal step: of 1/8, to 2e-15 for all shapes from 1/2 to 10^6.
    """
    t = np.arange(-3.5, 4.3, 1 / 8)
    s = np.exp(t - np.exp(-t))
    return s, s * (1 + np.exp(-t)) / 8


_NODES = _nodes()


def _rest_of_exp(u: jax.Array) -> jax.Array:
    """Returns e^u - 1 - u."""
    near = jnp.abs(u) < 0.1
    small = jnp.where(near, u, 0)
    series = jnp.zeros_like(u)
    for i in range(10, 2, -1):
        series = small / i * (1 + series)
    return jnp.where(near, small * small / 2 * (1 + series), jnp.expm1(u) - u)
