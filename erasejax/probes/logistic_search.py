"""Logistic regression with many parameters: L-BFGS, preconditioned by a Hessian."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from erasejax import linalg, solves
from erasejax.data import Dataset, centered, codes
from erasejax.linalg import product, safe_reciprocal
from erasejax.moments import Moments

__all__ = ["Prepared", "prepare", "probability", "row_nats", "search"]

_RUN = 20  # iterations before the Hessian is taken anew


class _Factors(NamedTuple):
    """A Hessian that falls apart into a (d + 1, d + 1) matrix a column of the turned parameters.

    The features are in units of their standard deviations, the last row is the offset's.
    """

    lower: jax.Array  # (m, d + 1, d + 1) Cholesky factors
    turn: jax.Array  # (m, m) orthogonal: contrasts from columns


class Prepared(NamedTuple):
    """Rows in standardised features, and the Hessian of the null model in factors."""

    x: jax.Array  # (n, d); zero where a row does not count
    y: jax.Array  # (n, m), one-hot labels in contrasts
    share: jax.Array  # (n,) weights of sum 1
    contrasts: jax.Array  # (k, m)
    l2: jax.Array
    moments: Moments
    inverse_sd: jax.Array  # (d,)
    curvature: jax.Array  # (m,) of the null model, along the turned contrasts
    factors: _Factors


class _Point(NamedTuple):
    weight: jax.Array  # (d, m) of standardised features
    offset: jax.Array  # (m,) the scores at the mean


def prepare(data: Dataset, l2: jax.Array, contrasts: jax.Array) -> Prepared:
    """Returns what every search over these rows needs; costs a Gram matrix and a factorisation.

    The Hessian of the null model is C x S + the penalty, with S the covariance of x, and C that of
    the labels in contrasts. The eigenvectors of C turn it into one matrix a column.
    """
    moments = Moments.of(data)
    dtype = moments.xz.dtype
    eps = jnp.finfo(dtype).eps
    share = moments.concept_mean
    inverse_n = safe_reciprocal(moments.total, moments.total > 0)
    inverse = safe_reciprocal(moments.sd, moments.sd > 0)
    unit = solves.equilibrate(moments.covariance, moments.sd)
    unit = jnp.pad(unit, (0, 1)).at[-1, -1].set(1)
    labels = jnp.diag(share) - jnp.outer(share, share)
    curvature, turn = jnp.linalg.eigh(product("ka,kl,lb->ab", contrasts, labels, contrasts))
    # A class without rows has no curvature; nothing depends on its column either.
    curvature = jnp.maximum(curvature, 64 * eps)
    penalty = jnp.append(l2 * inverse**2, 0)
    z, _ = codes(data, dtype)
    weights = jnp.ones(len(z), dtype) if data.weights is None else data.weights
    return Prepared(
        x=centered(data, moments.mean).x * inverse,
        y=product("nk,km->nm", z, contrasts),
        share=weights * inverse_n,
        contrasts=contrasts,
        l2=l2,
        moments=moments,
        inverse_sd=inverse,
        curvature=curvature,
        factors=_Factors(jnp.stack([_factor(value * unit, penalty) for value in curvature]), turn),
    )


def _factor(hessian: jax.Array, penalty: jax.Array) -> jax.Array:
    """Returns the Cholesky factor of a Hessian (p, p) with a penalty (p,) and a ridge."""
    diagonal = jnp.diagonal(hessian)
    whole = diagonal * (1 + 64 * jnp.finfo(hessian.dtype).eps) + penalty
    whole = jnp.where(whole > 0, whole, 1)  # a constant feature
    eye = jnp.eye(len(whole), dtype=bool)
    return solves.cholesky(jnp.where(eye, whole, hessian))  # pyright: ignore


def search(
    prepared: Prepared, basis: jax.Array, offset: jax.Array, idle: jax.Array, max_steps: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns the optimal weight (d, m), offset (m,), and whether the search converged.

    The variables u are those in which the Hessian, on weights orthogonal to the basis, is the
    identity: at first that of the null model, and the search starts from the step that is optimal
    for it, about a linear discriminant. An iteration is one pass over the rows. Where 20 of them do
    not suffice, as on separable classes, the Hessian at that point takes its place.

    Args:
      prepared: rows and factors.
      basis: (d, r) orthonormal or zero columns that the weights are orthogonal to; r may be 0.
      offset: (m,) of the null model.
      idle: (), whether the null model is the answer.
      max_steps: bound on the iterations.
    """
    eps = jnp.finfo(offset.dtype).eps
    inverse = prepared.inverse_sd[:, None]
    scaled = jnp.pad(inverse * basis, ((0, 1), (0, 0)))  # as the weights of standardised features
    solver = optax.lbfgs(memory_size=10)

    def unfold(factors, bars, point, u):
        columns = [
            solves.triangular_solve(lower, _free(bar, u[:, j : j + 1]), transpose=True)
            for j, (lower, bar) in enumerate(zip(factors.lower, bars, strict=True))
        ]
        change = product("pa,ba->pb", jnp.concatenate(columns, axis=1), factors.turn)
        return _Point(point.weight + change[:-1], point.offset + change[-1])

    def run(carry):
        """Searches from a point, for as long as one Hessian is good for."""
        point, factors, u, start, size, count = carry
        bars = [_barred(lower, scaled) for lower in factors.lower]
        stop = jnp.minimum(count + _RUN, max_steps)

        def loss(u):
            return _mean_loss(prepared, unfold(factors, bars, point, u))

        value_and_grad = optax.value_and_grad_from_state(loss)

        def running(carry):
            *_, size, count = carry
            return (size > eps**0.5) & (count < stop)

        def body(carry):
            u, state, _, _, count = carry
            value, gradient = value_and_grad(u, state=state)
            updates, state = solver.update(
                gradient, state, u, value=value, grad=gradient, value_fn=loss
            )
            size = jnp.linalg.norm(jnp.asarray(gradient)) / (eps**0.5 + value)
            # At the optimum the last step is rounding.
            u = jnp.where(size > eps**0.5, optax.apply_updates(u, updates), u)  # pyright: ignore
            return u, state, value, size, count + 1

        first = (u, solver.init(u), start, size, count)
        u, _, value, size, count = jax.lax.while_loop(running, body, first)
        point = unfold(factors, bars, point, u)
        # A run that gains nothing, with the Hessian of where it began, ends in rounding.
        size = jnp.where(start - value <= 16 * eps * value, 0, size)
        return point, factors, jnp.zeros_like(u), value, size, count

    def unfinished(carry):
        *_, size, count = carry
        return (size > eps**0.5) & (count < max_steps)

    def again(carry):
        point, _, *rest = carry
        return run((point, _factors_at(prepared, point), *rest))

    null = _Point(jnp.zeros((len(basis), len(offset)), offset.dtype), offset)
    size = jnp.where(idle, 0, jnp.inf).astype(offset.dtype)
    worst = jnp.full((), jnp.inf, offset.dtype)
    first = run((null, prepared.factors, _first_step(prepared), worst, size, jnp.int32(0)))
    point, *_, size, _ = jax.lax.while_loop(unfinished, again, first)
    weight = jnp.where(idle, 0, inverse * point.weight)
    return weight, jnp.where(idle, offset, point.offset), size <= eps**0.5  # pyright: ignore


def _first_step(prepared: Prepared) -> jax.Array:
    """Returns the Newton step from the null model, (d + 1, m), without a pass over the rows.

    The gradient there is the covariance of x and the labels. The step is safe where the curvature
    of the null model bounds that of the loss, and shortened elsewhere.
    """
    moments, factors = prepared.moments, prepared.factors
    slopes = product("dk,km,ma->da", moments.xz, prepared.contrasts, factors.turn)
    slopes = slopes * safe_reciprocal(moments.total, moments.total > 0)
    slopes = jnp.pad(prepared.inverse_sd[:, None] * slopes, ((0, 1), (0, 0)))
    bound = 1 / 4 if len(prepared.curvature) == 1 else 1 / 2
    steps = [
        solves.triangular_solve(lower, slopes[:, j : j + 1])
        for j, lower in enumerate(factors.lower)
    ]
    return jnp.concatenate(steps, axis=1) * jnp.minimum(prepared.curvature / bound, 1)


def _factors_at(prepared: Prepared, point: _Point) -> _Factors:
    """Returns the Hessian at a point, without what it has between different contrasts."""
    m = len(point.offset)

    def part(x, y, share, fresh):
        scores = product("nd,dm->nm", x, point.weight) + point.offset
        mean = probability(scores, prepared.contrasts)
        if m == 1:
            curvature = mean * (1 - mean)
        else:
            shares = jax.nn.softmax(product("nm,km->nk", scores, prepared.contrasts), axis=1)
            curvature = product("nk,km->nm", shares, prepared.contrasts**2) - mean**2
        share = share if fresh is None else jnp.where(fresh, share, 0)
        heavy = share[:, None] * jnp.maximum(curvature, 0)  # pyright: ignore
        x = jnp.concatenate([x, jnp.ones_like(x[:, :1])], axis=1)
        return [linalg.gram(x, x * one[:, None]) for one in heavy.T]

    hessians = linalg.sum_over_rows(part, (prepared.x, prepared.y, prepared.share))
    penalty = jnp.append(prepared.l2 * prepared.inverse_sd**2, 0)
    lower = jnp.stack([_factor(hessian, penalty) for hessian in hessians])
    return _Factors(lower, jnp.eye(m, dtype=lower.dtype))


def _free(bar: jax.Array, u: jax.Array) -> jax.Array:
    """Returns u (p, m) without its part in the span of the orthonormal columns of `bar`."""
    return u - product("pr,qr,qm->pm", bar, bar, u)


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
    logits = product("nd,dm->nm", rows.x, point.weight) + point.offset
    nats = jnp.sum(rows.share * row_nats(logits, rows.y, rows.contrasts))
    residual = rows.share[:, None] * (probability(logits, rows.contrasts) - rows.y)
    # The product with one column, or with few the other way round, is read as the rows lie.
    slope = product("nm,nd->md", residual, rows.x).T
    raw = rows.inverse_sd[:, None] * point.weight
    penalty = rows.l2 / 2 * jnp.sum(raw**2)
    slope = slope + rows.l2 * rows.inverse_sd[:, None] * raw
    return nats + penalty, _Point(slope, jnp.sum(residual, axis=0))


_mean_loss.defvjp(
    _loss_and_gradient,
    lambda gradient, g: (None, _Point(g * gradient.weight, g * gradient.offset)),
)


def row_nats(logits: jax.Array, y: jax.Array, contrasts: jax.Array) -> jax.Array:
    """Returns the log-loss of rows, (n,), to the relative accuracy of the differences of scores.

    The log of the sum less the label's score would be rounded to eps of the largest score, which on
    separable classes is more than the loss.

    Args:
      logits: (n, m) in contrasts.
      y: (n, m) one-hot labels in contrasts.
      contrasts: (k, m).
    """
    if logits.shape[1] == 1:
        return jax.nn.softplus(jnp.where(y > 0.5, -logits, logits)[:, 0])
    scores = product("nm,km->nk", logits, contrasts)
    own = product("nm,km->nk", y, contrasts) + 1 / len(contrasts) > 0.5
    behind = scores - jnp.sum(logits * y, axis=1, keepdims=True)
    return jax.nn.softplus(jax.nn.logsumexp(jnp.where(own, -jnp.inf, behind), axis=1))


def probability(logits: jax.Array, contrasts: jax.Array) -> jax.Array:
    """Returns the class probabilities in contrasts, (n, m)."""
    if logits.shape[1] == 1:
        return jax.nn.sigmoid(logits)
    shares = jax.nn.softmax(product("nm,km->nk", logits, contrasts), axis=1)
    return product("nk,km->nm", shares, contrasts)
