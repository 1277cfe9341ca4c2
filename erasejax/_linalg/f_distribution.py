"""Tails of the F distribution and of its noncentral sister, accurate in float32.

Both are functions of the beta distribution: with F on (p, v) degrees of freedom,
x = p F / (p F + v) has the beta distribution of shapes a = p / 2 and b = v / 2. Differences of
log-gamma functions lose all digits of float32 once a shape reaches 10^5, so the density is written
through deviances and Stirling's series instead (Loader 2000, "Fast and accurate computation of
binomial probabilities").
"""

import math

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
    return _tail(a, b, x, _log_factor(a, b))


def _tail(a: jax.Array, b: jax.Array, x: jax.Array, log_factor: jax.Array) -> jax.Array:
    # The smaller of the two tails, so that it is a sum of small numbers: of x, or of 1 - x.
    gap = (a + b) * x - a
    right = gap > 0
    own, other = jnp.where(right, b, a), jnp.where(right, a, b)
    y, rest = jnp.where(right, 1 - x, x), jnp.where(right, x, 1 - x)
    part = _scaled_density(a, b, x, log_factor) * _ratio(own, other, y, rest, jnp.abs(gap))
    tail = jnp.where(right, part, 1 - part)
    tail = jnp.where(x <= 0, 1, jnp.where(x >= 1, 0, tail))
    return jnp.where(jnp.isnan(a + b + x), jnp.nan, jnp.clip(tail, 0, 1))


def beta_upper_quantile(a: jax.Array, b: jax.Array, tail: float) -> jax.Array:
    """Returns the x that a beta variable of shapes a, b, (), exceeds with probability `tail`."""
    return _upper_quantile(a, b, tail, _log_factor(a, b))


def _upper_quantile(a: jax.Array, b: jax.Array, tail: float, log_factor: jax.Array) -> jax.Array:
    # In the logarithm of the odds, where rare events lie no closer together than common ones.
    inner = jnp.arange(1, 8, dtype=a.dtype) / 8

    def cut(_, ends):
        low, width = ends
        tails = _tail(a, b, lax.logistic(low + width * inner), log_factor)
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
    shapes = a + jnp.arange(terms, dtype=a.dtype)
    log_factors = _log_factor(shapes, b)
    first = _tail(a, b, x, log_factors[0])
    return _mixed(_tails(shapes, b, x, first, log_factors), noncentrality)


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
    shapes = a + jnp.arange(terms, dtype=a.dtype)
    log_factors = _log_factor(shapes, b)
    critical = _upper_quantile(a, b, level, log_factors[0])
    tails = _tails(shapes, b, critical, jnp.full_like(a, level), log_factors)

    def halve(_, ends):
        low, high = ends
        middle = (low + high) / 2
        strong = _mixed(tails, middle) >= power
        return jnp.where(strong, low, middle), jnp.where(strong, middle, high)

    # Up to eight deviations of the Poisson variable above its mean are among the terms.
    limit = jnp.asarray(2 * ((terms + 16) ** 0.5 - 4) ** 2, a.dtype)
    found, high = lax.fori_loop(0, 30, halve, (jnp.zeros_like(limit), limit))
    return jnp.asarray(jnp.where(high < limit, found, jnp.nan))


def _tails(
    a: jax.Array, b: jax.Array, x: jax.Array, first: jax.Array, log_factors: jax.Array
) -> jax.Array:
    """Returns the tails beyond x of beta variables of shapes a, a + 1, ..., (terms,), and b, ().

    Each is the one before, of which `first` is the first, plus a density.
    """
    steps = _scaled_density(a, b, x, log_factors) / a
    return jnp.clip(first + jnp.cumsum(steps) - steps, 0, 1)


def _mixed(tails: jax.Array, noncentrality: jax.Array) -> jax.Array:
    """Returns the mean of tails (terms,) over a Poisson variable of mean noncentrality / 2."""
    mean = noncentrality / 2
    j = jnp.arange(len(tails), dtype=tails.dtype)
    # By its deviance, as the density: no large logarithms cancel.
    rest = np.array([
        math.lgamma(i + 1) - (i * math.log(i) - i if i else 0) for i in range(len(tails))
    ])
    gap = (j - mean) / jnp.where(mean > 0, mean, 1)
    weight = jnp.exp(-mean * _phi(gap) - jnp.asarray(rest, tails.dtype))
    weight = jnp.where(mean > 0, weight, j == 0)
    return jnp.sum(weight * tails) / jnp.sum(weight)


def _scaled_density(a: jax.Array, b: jax.Array, x: jax.Array, log_factor: jax.Array) -> jax.Array:
    """Returns x^a (1 - x)^b / B(a, b); `log_factor` is that of a and b."""
    inside = (x > 0) & (x < 1)
    x = jnp.where(inside, x, 0.5)
    n = a + b
    gap = n * x - a
    # Of x and of 1 - x, on an axis of its own.
    sign = jnp.array([1, -1], n.dtype)
    means = (n * x)[..., None] * (sign > 0) + (n * (1 - x))[..., None] * (sign < 0)
    deviance = jnp.sum(means * _phi(-sign * gap[..., None] / means), axis=-1)
    return jnp.where(inside, jnp.exp(log_factor - deviance), 0)


def _log_factor(a: jax.Array, b: jax.Array) -> jax.Array:
    """Returns the logarithm of x^a (1 - x)^b / B(a, b) where x is the mean, a / (a + b)."""
    of_a, of_b = np.array([[1, 1, 0], [1, 0, 1]], np.float32)
    both = a[..., None] * of_a + b[..., None] * of_b  # a + b, a, b
    rest = jnp.sum(_stirling(both) * np.array([1, -1, -1], np.float32), axis=-1)
    return (jnp.log(a) + jnp.log(b) - jnp.log(2 * jnp.pi * (a + b))) / 2 + rest


def _phi(u: jax.Array) -> jax.Array:
    """Returns (1 + u) log(1 + u) - u for u >= -1."""
    whole = u <= -1
    near = jnp.abs(u) < 0.1
    small = jnp.where(near, u, 0)
    series = jnp.zeros_like(u)
    for i in range(12, 1, -1):
        series = small * series + (-1.0) ** i / (i * (i - 1))
    far = jnp.where(near | whole, 1, u)
    value = jnp.where(near, small * small * series, (1 + far) * jnp.log1p(far) - far)
    return jnp.where(whole, 1, value)


def _stirling(a: jax.Array) -> jax.Array:
    """Returns log Gamma(a + 1) less Stirling's formula, log(sqrt(2 pi a) (a / e)^a), a > 0."""
    # Shifted up to where the asymptotic series holds: s(a) = s(a + 1) - 1 + (a + 1/2) log(1 + 1/a).
    steps = a[..., None] + jnp.arange(8, dtype=a.dtype)
    small = steps < 8
    total = jnp.sum(jnp.where(small, (steps + 0.5) * jnp.log1p(1 / steps) - 1, 0), axis=-1)
    shifted = a + jnp.clip(jnp.ceil(8 - a), 0, 8)
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
