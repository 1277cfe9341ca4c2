"""The probe's side of the game: its best answer to a projection, and what that costs."""

from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from erasejax._linalg.products import product, safe_reciprocal
from erasejax.probes import (
    LeastSquares,
    LinearClassifier,
    LinearRegressor,
    Logistic,
    Prepared,
    Start,
    Until,
)
from erasejax.projection import Projection
from erasejax.rows import Dataset, codes
from erasejax.statistics import Moments

__all__ = ["Found", "Ridge", "best_response"]

Ridge: TypeAlias = Logistic | LeastSquares  # the probes that play


class Found(NamedTuple):
    """Where a game ended.

    Attributes:
      basis: (d, rank) orthonormal.
      trace: (m,) the refitted losses; NaN beyond the last.
      steps: () int32, how many steps were made.
      converged: () bool; False where the steps ran out first.
    """

    basis: jax.Array
    trace: jax.Array
    steps: jax.Array
    converged: jax.Array


class Response(NamedTuple):
    """The probe's best answer to a basis U.

    Attributes:
      loss: () its loss with the penalty: mean nats for classes; for real concepts the share of the
        variance that is not explained, the mean over them.
      slope: (d, r) gradient of that loss in U.
      along: (r, c) gradient of that loss in the weights along U, what keeps them orthogonal to it.
      curvature: (n,) the second derivative of the loss in a score of each row, the mean over the
        scores, times the row's share of the weight.
      probe: the fitted probe, its weights orthogonal to U.
      end: where the fit to another basis may begin.
    """

    loss: jax.Array
    slope: jax.Array
    along: jax.Array
    curvature: jax.Array
    probe: LinearClassifier | LinearRegressor
    end: Start | None


def best_response(
    probe: Ridge,
    prepared: Prepared | None,
    data: Dataset,
    moments: Moments,
    basis: jax.Array,
    start: Start | None,
    until: Until | None = None,
) -> Response:
    """Fits the probe to what a projection leaves.

    With w the weights, orthogonal to U, and G the gradient of the loss in them, the loss at fixed w
    changes with U as -w (U^T G)^T; by Danskin's theorem so does the minimum over w.

    Args:
      probe: `Logistic` for classes, `LeastSquares` for real concepts.
      prepared: what `probe._prepare(data)` returned.
      data: the rows, about their mean; zeros where the weight is 0.
      moments: of these rows.
      basis: (d, r) orthonormal U.
      start: `probe._begin(prepared)`, or the `end` of a response to another basis.
      until: where the fit may end before its optimum, or None.
    """
    dtype = basis.dtype
    through = Projection(
        kernel=basis,
        test=basis,
        center=moments.mean,
        rank=jnp.int32(0),
        status=moments.outcome,
    )
    fitted, end = probe._follow_through(prepared, data, through, start, until)
    weight = fitted.weight.reshape(basis.shape[0], -1)
    weight = weight - product("dr,er,ec->dc", basis, basis, weight)
    fitted = fitted.replace(weight=weight.reshape(fitted.weight.shape))
    inverse_n = safe_reciprocal(moments.total, moments.total > 0)
    z, _ = codes(data, dtype)
    shift = fitted.offset - product("d,dc->c", fitted.center, weight)
    variance = jnp.diagonal(moments.zz) * inverse_n
    per_variance = safe_reciprocal(variance, variance > 0) / variance.shape[0]
    both = jnp.concatenate([weight, basis], axis=1)
    columns = weight.shape[1]

    share = data.row_weights * inverse_n
    seen = product("nd,de->ne", data.x, both)
    scores, along = seen[:, :columns] + shift, seen[:, columns:]
    if not data.is_classes:
        left = jnp.where((share != 0)[:, None], scores - z, 0)
        residual = 2 * left * per_variance
        curvature = jnp.broadcast_to(2 * jnp.mean(per_variance), share.shape)
        losses = jnp.sum(left**2 * per_variance, axis=1)
    elif columns == 1:
        residual = jax.nn.sigmoid(scores) - z[:, 1:]
        curvature = jax.nn.sigmoid(scores[:, 0]) * jax.nn.sigmoid(-scores[:, 0])
        losses = jax.nn.softplus(scores[:, 0]) - scores[:, 0] * z[:, 1]
    else:
        residual = jax.nn.softmax(scores) - z
        p = jax.nn.softmax(scores)
        curvature = jnp.sum(p * (1 - p), axis=1) / (columns - 1)
        losses = jax.nn.logsumexp(scores, axis=1) - jnp.sum(jnp.where(z > 0, scores, 0), axis=1)
    loss = jnp.sum(jnp.where(share != 0, share * losses, 0))
    pull = product("nr,nc->rc", along, share[:, None] * residual)
    if data.is_classes:
        penalty = probe.l2 / 2 * jnp.sum(weight**2)
    else:
        penalty = probe.l2 * jnp.sum(weight**2 * per_variance)
    return Response(
        loss=loss + penalty,
        slope=-product("dc,rc->dr", weight, pull),
        along=pull,
        curvature=jnp.where(share != 0, share * curvature, 0),
        probe=fitted,
        end=end,
    )
