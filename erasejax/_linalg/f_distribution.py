"""Tails of the F distribution and of its noncentral sister, accurate in float32.

Both are functions of the beta distribution: with F on (p, v) degrees of freedom,
x = p F / (p F + v) has the beta distribution of shapes a = p / 2 and b = v / 2. Differences of
log-gamma functions lose all digits of float32 once a shape reaches 10^5, so the density is written
through deviances and Stirling's series instead (Loader 2000, "Fast and accurate computation of
binomial probabilities").
"""

import jax
import jax.numpy as jnp
from jax import lax

__all__ = ["beta_tail", "beta_upper_quantile", "detectable_noncentrality", "noncentral_tail"]


def beta_tail(a: jax.Array, b: jax.Array, x: jax.Array) -> jax.Array:
    """Returns the probability that a beta variable of shapes a, b > 0 exceeds x in [0, 1].

    Small probabilities keep their relative accuracy, down to the smallest float. NaN where an
    argument is NaN.

    References:
      Didonato and Morris 1992, doi 10.1145/131766.131776 (the continued fraction).
    """
    # The fraction converges fast below the mean: of x, or else of y.
    right = (a + b) * x > a
    y = 1 - x
    own, other = jnp.where(right, b, a), jnp.where(right, a, b)
    gap = (a + b) * x - a
    fraction = _fraction(own, other, jnp.where(right, y, x), jnp.where(right, gap, -gap))
    part = _scaled_density(a, b, x) * fraction
    tail = jnp.where(right, part, 1 - part)
    tail = jnp.where(x <= 0, 1, jnp.where(x >= 1, 0, tail))
    return jnp.where(jnp.isnan(a + b + x), jnp.nan, jnp.clip(tail, 0, 1))


def beta_upper_quantile(a: jax.Array, b: jax.Array, tail: float) -> jax.Array:
    """Returns the x that a beta variable of shapes a, b exceeds with probability `tail`."""
    # In the logarithm of the odds, where rare events lie no closer together than common ones; many
    # points at a time, since a round takes as long as its slowest.
    inner = jnp.arange(1, 33, dtype=a.dtype) / 33

    def cut(_, ends):
        low, width = ends
        points = low + width * inner
        tails = jax.vmap(lambda p: beta_tail(a, b, lax.logistic(p)))(points)
        return low + width * jnp.sum(tails > tail) / 33, width / 33

    start = jnp.log(a) - jnp.log(b) - 20
    low, width = lax.fori_loop(0, 5, cut, (start, jnp.full_like(start, 40)))
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
    return _mixed(_tails(a, b, x, terms), noncentrality)


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
    tails = _tails(a, b, beta_upper_quantile(a, b, level), terms)

    def halve(_, ends):
        low, high = ends
        middle = (low + high) / 2
        weak = _mixed(tails, middle) < power
        return jnp.where(weak, middle, low), jnp.where(weak, high, middle)

    # Up to eight deviations of the Poisson variable above its mean are among the terms.
    limit = jnp.asarray(2 * ((terms + 16) ** 0.5 - 4) ** 2, a.dtype)
    found, _ = lax.fori_loop(0, 30, halve, (jnp.zeros_like(limit), limit))
    found = jnp.where(_mixed(tails, limit) >= power, found, jnp.nan)
    return jnp.asarray(found)


def _tails(a: jax.Array, b: jax.Array, x: jax.Array, terms: int) -> jax.Array:
    """Returns the tails beyond x of beta variables of shapes (a + j, b), j < terms: (terms,).

    Each is the one before plus a term of ratio x (a + b + j) / (a + 1 + j) to the term before.
    """
    j = jnp.arange(terms - 1, dtype=a.dtype)
    ratio = jnp.log(x * (a + b + j) / (a + 1 + j))
    log_terms = jnp.concatenate([jnp.zeros(1, a.dtype), jnp.cumsum(ratio)])
    first = _scaled_density(a, b, x) / a
    steps = first * jnp.exp(log_terms)
    tails = beta_tail(a, b, x) + jnp.concatenate([jnp.zeros(1, a.dtype), jnp.cumsum(steps[:-1])])
    return jnp.clip(tails, 0, 1)


def _mixed(tails: jax.Array, noncentrality: jax.Array) -> jax.Array:
    """Returns the mean of tails (terms,) over a Poisson variable of mean noncentrality / 2."""
    mean = noncentrality / 2
    j = jnp.arange(tails.shape[0], dtype=tails.dtype)
    # From the mode outwards, so that no large logarithms cancel.
    mode = jnp.floor(jnp.minimum(mean, tails.shape[0] - 1))
    log_ratio = jnp.log(mean / jnp.maximum(j, 1))
    log_ratio = jnp.where(j > 0, log_ratio, 0)
    log_weight = jnp.cumsum(jnp.where(j > mode, log_ratio, 0)) - (
        jnp.cumsum(jnp.where(j <= mode, log_ratio, 0)[::-1])[::-1]
        - jnp.where(j <= mode, log_ratio, 0)
    )
    weight = jnp.where(mean > 0, jnp.exp(log_weight), jnp.where(j == 0, 1, 0))
    return jnp.sum(weight * tails) / jnp.sum(weight)


def _scaled_density(a: jax.Array, b: jax.Array, x: jax.Array) -> jax.Array:
    """Returns x^a (1 - x)^b / B(a, b)."""
    inside = (x > 0) & (x < 1)
    x = jnp.where(inside, x, 0.5)
    n = a + b
    gap = n * x - a
    deviance = n * x * _phi(-gap / (n * x)) + n * (1 - x) * _phi(gap / (n * (1 - x)))
    log = (jnp.log(a) + jnp.log(b) - jnp.log(2 * jnp.pi * n)) / 2 - deviance
    log = log + _stirling(n) - _stirling(a) - _stirling(b)
    return jnp.where(inside, jnp.exp(log), 0)


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
    shifted, total = a, jnp.zeros_like(a)
    for _ in range(8):
        small = shifted < 8
        total = total + jnp.where(small, (shifted + 0.5) * jnp.log1p(1 / shifted) - 1, 0)
        shifted = jnp.where(small, shifted + 1, shifted)
    square = 1 / (shifted * shifted)
    series = 1 / 12 - square * (1 / 360 - square * (1 / 1260 - square * (1 / 1680 - square / 1188)))
    return total + series / shifted


def _fraction(a: jax.Array, b: jax.Array, x: jax.Array, gap: jax.Array) -> jax.Array:
    """Returns I_x(a, b) as a multiple of the scaled density, by a continued fraction.

    Args:
      a: () shape.
      b: () shape.
      x: () at most about the mean.
      gap: () a - (a + b) x, which x near 1 cannot say with all its digits.
    """
    eps = jnp.finfo(x.dtype).eps
    tiny = float(jnp.finfo(x.dtype).tiny) / float(eps)

    def nonzero(value: jax.Array) -> jax.Array:
        return jnp.where(jnp.abs(value) < tiny, tiny, value)

    def step(state):
        m, front, back, value, _ = state
        # Divided by a, so that large shapes do not overflow.
        share, odd = m / a, 1 + (2 * m - 1) / a
        width = m * (b - m) * x
        before = 1 + (m - 1) / a
        top = before * (before + b / a) * (width * x) / (odd * odd)
        bottom = m + width / (a * odd) + (1 + share) / (odd + 2 / a) * (1 + gap + m * (2 - x))
        back = 1 / nonzero(bottom + top * back)
        front = nonzero(bottom + top / front)
        change = front * back
        return m + 1, front, back, value * change, jnp.abs(change - 1)

    first = nonzero((1 + gap) * (a / (a + 1)))
    state = (jnp.ones_like(x), first, jnp.zeros_like(x), first, jnp.full_like(x, jnp.inf))
    # Rounding may keep the last bits moving; a NaN lane stops at once.
    return 1 / lax.while_loop(lambda s: (s[4] > 4 * eps) & (s[0] < 2000), step, state)[3]
