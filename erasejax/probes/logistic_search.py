"""Logistic regression with many parameters: L-BFGS, preconditioned by the null model's Hessian."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from erasejax import linalg, solves
from erasejax.data import Dataset, codes
from erasejax.linalg import product, safe_reciprocal
from erasejax.moments import Moments

__all__ = ["Prepared", "prepare", "search"]


class Prepared(NamedTuple):
    """Rows, and the Hessian of the null model in factors.

    That Hessian is C x S + the penalty, with S the covariance of x, and C that of the labels in
    contrasts. In the eigenvectors of C it falls apart into one (d, d) matrix a column.
    """

    x: jax.Array  # (n, d)
    y: jax.Array  # (n, m), one-hot labels in contrasts
    weights: jax.Array | None  # (n,), sum 1; None for 1 / n each
    contrasts: jax.Array  # (k, m)
    l2: jax.Array
    moments: Moments
    inverse_sd: jax.Array  # (d,)
    lower: jax.Array  # (m, d, d) Cholesky factors, in units of the features' sd
    curvature: jax.Array  # (m,) eigenvalues of C
    turn: jax.Array  # (m, m) eigenvectors of C


class _Point(NamedTuple):
    weight: jax.Array  # (d, m)
    offset: jax.Array  # (m,) the scores at the mean


def prepare(data: Dataset, l2: jax.Array, contrasts: jax.Array) -> Prepared:
    """Returns what every search over these rows needs; costs a Gram matrix and a factorisation."""
    moments = Moments.of(data)
    dtype = moments.xz.dtype
    eps = jnp.finfo(dtype).eps
    share = class_shares(moments)
    inverse_n = safe_reciprocal(moments.total, moments.total > 0)
    inverse = safe_reciprocal(moments.sd, moments.sd > 0)
    unit = solves.equilibrate(moments.covariance, moments.sd)
    unit = jnp.where(jnp.eye(len(unit), dtype=bool), 1, unit)
    labels = jnp.diag(share) - jnp.outer(share, share)
    curvature, turn = jnp.linalg.eigh(product("ka,kl,lb->ab", contrasts, labels, contrasts))
    # A class without rows has no curvature; nothing depends on its column either.
    curvature = jnp.maximum(curvature, 64 * eps)
    ridge = jnp.diag(l2 * inverse**2 + 64 * eps)
    z, _ = codes(data, dtype)
    return Prepared(
        x=data.x,
        y=product("nk,km->nm", z, contrasts),
        weights=None if data.weights is None else data.weights * inverse_n,
        contrasts=contrasts,
        l2=l2,
        moments=moments,
        inverse_sd=inverse,
        lower=jnp.stack([solves.cholesky(value * unit + ridge) for value in curvature]),
        curvature=curvature,
        turn=turn,
    )


def class_shares(moments: Moments) -> jax.Array:
    """Returns the class frequencies, (k,)."""
    return jnp.maximum(moments.mean_z[0] + moments.mean_z[1], 0)


def search(
    prepared: Prepared, basis: jax.Array, offset: jax.Array, idle: jax.Array, max_steps: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns the optimal weight (d, m), offset (m,), and whether the search converged.

    The variables u are those in which the null model's Hessian, on weights orthogonal to the basis,
    is the identity. The search starts from the step that is optimal for it, about a linear
    discriminant; an iteration is one pass over the rows.

    Args:
      prepared: rows and factors.
      basis: (d, r) orthonormal or zero columns that the weights are orthogonal to; r may be 0.
      offset: (m,) of the null model.
      idle: (), whether the null model is the answer.
      max_steps: bound on the iterations.
    """
    eps = jnp.finfo(offset.dtype).eps
    inverse, curvature = prepared.inverse_sd[:, None], prepared.curvature
    barred = [_barred(factor, inverse * basis) for factor in prepared.lower]
    root = safe_reciprocal(jnp.sqrt(curvature), curvature > 0)

    def unfold(u):  # to a change of the null model
        columns = []
        for j, (factor, bar) in enumerate(zip(prepared.lower, barred, strict=True)):
            free = u[:-1, j : j + 1]
            free = free - product("dr,er,em->dm", bar, bar, free)
            columns.append(inverse * solves.triangular_solve(factor, free, transpose=True))
        weight = product("pa,ba->pb", jnp.concatenate(columns, axis=1), prepared.turn)
        return _Point(weight, offset + product("a,ba->b", root * u[-1], prepared.turn))

    def loss(u):
        return _mean_loss(prepared, unfold(u))

    # The gradient at the null model is the covariance of x and the labels. Its Newton step is safe
    # where the curvature of the null model bounds that of the loss, shortened elsewhere.
    bound = 1 / 4 if offset.shape[0] == 1 else 1 / 2
    start = []
    slopes = product("dk,km,ma->da", prepared.moments.xz, prepared.contrasts, prepared.turn)
    slopes = slopes * safe_reciprocal(prepared.moments.total, prepared.moments.total > 0)
    for j, (factor, bar) in enumerate(zip(prepared.lower, barred, strict=True)):
        step = solves.triangular_solve(factor, inverse * slopes[:, j : j + 1])
        step = step - product("dr,er,em->dm", bar, bar, step)
        start.append(step * jnp.minimum(curvature[j] / bound, 1))
    u = jnp.pad(jnp.concatenate(start, axis=1), ((0, 1), (0, 0)))

    solver = optax.lbfgs(memory_size=10)
    value_and_grad = optax.value_and_grad_from_state(loss)

    def running(carry):
        _, _, size, count = carry
        return (size > eps**0.5) & (count < max_steps)

    def body(carry):
        u, state, _, count = carry
        value, gradient = value_and_grad(u, state=state)
        updates, state = solver.update(
            gradient, state, u, value=value, grad=gradient, value_fn=loss
        )
        size = jnp.linalg.norm(jnp.asarray(gradient)) / (eps**0.5 + value)
        # At the optimum the last step is rounding.
        u = jnp.where(size > eps**0.5, optax.apply_updates(u, updates), u)
        return u, state, size, count + 1

    size = jnp.where(idle, 0, jnp.inf).astype(offset.dtype)
    u, _, size, _ = jax.lax.while_loop(running, body, (u, solver.init(u), size, jnp.int32(0)))
    weight, found = unfold(u)
    return jnp.where(idle, 0, weight), jnp.where(idle, offset, found), size <= eps**0.5


def _barred(lower: jax.Array, basis: jax.Array) -> jax.Array:
    """Returns orthonormal columns for L^-1 B, (d, r): what L^-T u may not hold of u."""
    if basis.shape[1] == 0:
        return basis
    solved = solves.triangular_solve(lower, basis)
    transform, _ = linalg.right_basis(solved, 0)
    return product("dr,rs->ds", solved, transform)


@jax.custom_vjp
def _mean_loss(rows: Prepared, point: _Point) -> jax.Array:
    """Returns mean nats plus the penalty, (); value and gradient take one pass together."""
    return _loss_and_gradient(rows, point)[0]


def _loss_and_gradient(rows: Prepared, point: _Point) -> tuple[jax.Array, _Point]:
    dtype, n, mean = point.weight.dtype, rows.x.shape[0], rows.moments.mean

    def part(x, y, weights, fresh):
        x = x.astype(dtype) - mean
        share = jnp.full(x.shape[0], 1 / n, dtype) if weights is None else weights
        seen = fresh
        if weights is not None:
            seen = weights != 0 if fresh is None else (weights != 0) & fresh
        if seen is not None:
            x, share = jnp.where(seen[:, None], x, 0), jnp.where(seen, share, 0)
        logits = product("nd,dm->nm", x, point.weight) + point.offset
        nats = normaliser(logits, rows.contrasts) - jnp.sum(logits * y, axis=1)
        residual = share[:, None] * (probability(logits, rows.contrasts) - y)
        sums = jnp.sum(share * nats), product("nm,nd->md", residual, x), jnp.sum(residual, axis=0)
        return sums

    value, weight, offset = linalg.sum_over_rows(part, (rows.x, rows.y, rows.weights))
    value = value + rows.l2 / 2 * jnp.sum(point.weight**2)
    return value, _Point(weight.T + rows.l2 * point.weight, offset)


_mean_loss.defvjp(
    _loss_and_gradient,
    lambda gradient, g: (None, _Point(g * gradient.weight, g * gradient.offset)),
)


def normaliser(logits: jax.Array, contrasts: jax.Array) -> jax.Array:
    """Returns the log of the sum of the classes' exponentiated scores, (n,)."""
    if logits.shape[1] == 1:
        return jax.nn.softplus(logits[:, 0])
    return jax.nn.logsumexp(product("nm,km->nk", logits, contrasts), axis=1)


def probability(logits: jax.Array, contrasts: jax.Array) -> jax.Array:
    """Returns the class probabilities in contrasts, (n, m)."""
    if logits.shape[1] == 1:
        return jax.nn.sigmoid(logits)
    shares = jax.nn.softmax(product("nm,km->nk", logits, contrasts), axis=1)
    return product("nk,km->nm", shares, contrasts)
