"""The game of R-LACE as published: stochastic gradients, and the Fantope."""

import functools

import jax
import jax.numpy as jnp

from erasejax._core.status import failed
from erasejax._linalg.products import product
from erasejax.erasers._response import Found, Ridge, best_response
from erasejax.rows import Dataset, codes
from erasejax.statistics import Moments

__all__ = ["fantope", "published_game"]

# Published defaults (Ravfogel et al. 2022, arXiv 2201.12091, and the code beside it).
_LEARNING_RATE, _DECAY, _BATCH, _EVERY, _NEAR = 0.005, 1e-4, 128, 1000, 0.0015


def fantope(matrix: jax.Array, rank: int) -> jax.Array:
    """Returns the nearest P with 0 <= P <= I and trace `rank`, in the Frobenius norm.

    Eigenvalues l become clip(l - t, 0, 1), with t such that they add up to the rank, found by
    bisection.

    Args:
      matrix: (d, d), made symmetric.
      rank: static, at most d.

    References:
      Vu, Cho, Lei and Rohe 2013 (Fantope projection), NIPS 26.
    """
    values, vectors = jnp.linalg.eigh((matrix + matrix.T) / 2)

    def halve(_, ends):
        low, high = ends
        middle = (low + high) / 2
        more = jnp.sum(jnp.clip(values - middle, 0, 1)) > rank
        return jnp.where(more, middle, low), jnp.where(more, high, middle)

    # One halving a bit of the mantissa, and a few for the ends.
    halvings = jnp.finfo(values.dtype).nmant + 8
    low, high = jax.lax.fori_loop(0, halvings, halve, (values[0] - 1, values[-1]))
    kept = jnp.clip(values - (low + high) / 2, 0, 1)
    return product("ij,j,kj->ik", vectors, kept, vectors)


def published_game(
    data: Dataset, moments: Moments, probe: Ridge, rank: int, key: jax.Array, steps: int
) -> Found:
    """Returns where the published loop ends.

    An iteration is a gradient step up on P with a projection onto the Fantope, and one down on the
    probe, each on a batch of its own. Every thousand iterations the probe is refitted to the top
    `rank` eigenvectors of P; the basis with the highest refitted loss is kept. Stops where the
    refitted accuracy is within .0015 of the largest class.

    Args:
      data: the rows, about their mean; rows of weight 0 are never drawn.
      moments: of these rows.
      probe: the one that is refitted.
      rank: static.
      key: for the start and the batches.
      steps: static; the most iterations.
    """
    import optax  # when it is needed: it takes a while

    dtype, d = moments.xz.dtype, data.x.shape[1]
    z, _ = codes(data, dtype)
    variance: jax.Array = jnp.diagonal(moments.zz) / jnp.where(moments.total > 0, moments.total, 1)
    scale = jnp.sqrt(jnp.where(variance > 0, variance, 1))
    prepared = probe._prepare(data)
    optimiser = optax.chain(optax.add_decayed_weights(_DECAY), optax.sgd(_LEARNING_RATE))
    upto = jnp.cumsum(data.row_weights)
    majority = jnp.max(moments.concept_mean)

    def rows(key):
        drawn = upto[-1] * jax.random.uniform(key, (_BATCH,), dtype)
        at = jnp.searchsorted(upto, drawn, side="right")  # never a row of weight 0
        return data.x[at], z[at]

    def loss(matrix, theta, batch):
        x, z = batch
        weight, offset = theta
        scores = product("nd,dk->nk", x - product("nd,de->ne", x, matrix), weight) + offset
        if data.is_classes:
            return jnp.mean(optax.softmax_cross_entropy(scores, z))
        return jnp.mean(((scores - z) / scale) ** 2)

    def iterate(i, carry, key):
        matrix, theta, state = carry
        key = jax.random.fold_in(key, i)
        first, second = (rows(k) for k in jax.random.split(key))
        up = jax.grad(lambda p: -loss((p + p.T) / 2, theta, first))(matrix)
        matrix = matrix - _LEARNING_RATE * (up + _DECAY * matrix)
        matrix = fantope(matrix, rank)
        down = jax.grad(loss, argnums=1)(matrix, theta, second)
        updates, state = optimiser.update(down, state, theta)
        return matrix, optax.apply_updates(theta, updates), state

    def running(carry):
        *_, count, stopped = carry
        return (count * _EVERY < steps) & ~stopped

    def epoch(carry):
        inner, best, trace, count, _ = carry
        here = jax.random.fold_in(key, count)
        last = jnp.minimum(_EVERY, steps - count * _EVERY)
        inner = jax.lax.fori_loop(0, last, functools.partial(iterate, key=here), inner)
        basis = jnp.linalg.eigh(inner[0])[1][:, -rank:]
        response = best_response(probe, prepared, data, moments, basis, probe._begin(prepared))
        better = response.loss > best[1]
        best = (jnp.where(better, basis, best[0]), jnp.where(better, response.loss, best[1]))
        stopped = jnp.bool_(False)
        if data.is_classes:
            right = response.probe.predict(data.x) == data.z
            weights = data.row_weights
            accuracy = jnp.sum(jnp.where(right, weights, 0)) / jnp.sum(weights)
            stopped = jnp.abs(accuracy - majority) < _NEAR
        return inner, best, trace.at[count].set(response.loss), count + 1, stopped

    start, drawn = jax.random.split(jax.random.fold_in(key, steps))
    matrix = fantope(jax.random.normal(start, (d, d), dtype) / d**0.5, rank)
    theta = (
        jax.random.normal(drawn, (d, z.shape[1]), dtype) / d**0.5,
        jnp.zeros(z.shape[1], dtype),
    )
    evaluations = -(-steps // _EVERY)
    first = (
        (matrix, theta, optimiser.init(theta)),
        (jnp.eye(d, rank, dtype=dtype), jnp.full((), -jnp.inf, dtype)),
        jnp.full(evaluations, jnp.nan, dtype),
        jnp.int32(0),
        failed(moments.outcome),
    )
    _, best, trace, count, stopped = jax.lax.while_loop(running, epoch, first)
    converged = stopped | (not data.is_classes)
    return Found(best[0], trace, jnp.minimum(count * _EVERY, steps), converged)
