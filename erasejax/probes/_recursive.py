"""One probe after another, each blind to the directions of those before it."""

from typing import Annotated

import jax
import jax.numpy as jnp
from flax import struct
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, UInt32

from erasejax._core import inputs
from erasejax._core.programs import program
from erasejax._core.pytrees import Inner, Tree
from erasejax._core.status import Status, flag, poison
from erasejax._core.types import DTypeLike, Given, Key
from erasejax._linalg import products
from erasejax._linalg.products import product, safe_reciprocal
from erasejax.probes._base import LinearProbe, Probe, decide
from erasejax.projection import Projection
from erasejax.rows import Dataset, as_dataset_about, centered, codes, move_point, moved, roomy
from erasejax.statistics import Moments, null_model

__all__ = ["Recursion", "recurse", "recursive"]


@struct.dataclass
class Recursion(Tree):
    """What successive probes found, each on what the ones before it left.

    Attributes:
      probes: the fitted probes, every leaf with a leading axis of rounds. Their weights are
        orthogonal to all earlier ones, so they score rows as they are:
        `jax.vmap(lambda probe: accuracy(probe, x, z))(recursion.probes)`.
      basis: (d, rounds * c) orthonormal columns that span the weights found; c is 1 for two classes
        or one concept and classes - 1 otherwise. Columns not needed are zero.
      trace: (rounds,) accuracy on the fitting rows, R^2 for real concepts; NaN beyond `steps`, but
        for the round that was stopped at.
      steps: () int32, the rounds that found something.
      center: (d,) mean of the rows.
      status: () uint32 bits, see `erasejax.Status`. NOT_CONVERGED where the last round's
        probe still found something, and something is left; or where a probe's own fit did not.

    Example:
      >>> dataset = ej.datasets.GaussianClasses(separation=9.0, rows=3, dims=2)
      >>> data = dataset.sample(jax.random.key(0))
      >>> found = ej.probes.recursive(ej.probes.LeastSquares(), data, rounds=2)
      >>> found.trace.shape, found.basis.shape
      ((2,), (2, 2))
    """

    probes: Annotated[LinearProbe, Inner("m")]
    basis: Float[Array, "d b"]
    trace: Float[Array, " m"]
    steps: Int[Array, ""]
    center: Float[Array, " d"]
    status: UInt32[Array, ""]

    def _moved(self, origin: jax.Array) -> "Recursion":
        probes = jax.vmap(lambda probe: probe._moved(origin))(self.probes)
        center = move_point(self.center, origin)[0]
        return self.replace(probes=probes, center=center)


def recursive(
    probe: Probe[LinearProbe],
    x: Given | Dataset,
    z: Given | None = None,
    *,
    rounds: int,
    stop_at: ArrayLike | None = None,
    weights: Given | None = None,
    num_classes: int | None = None,
    key: Key | None = None,
) -> Recursion:
    """Fits a linear probe again and again, each time orthogonal to all the weights before.

    How many orthogonal directions still predict the concept is `steps`, and how well each does is
    `trace`. `INLP` is this with the directions projected out.

    Args:
      probe: configuration of a linear probe, one whose fit has a `weight`.
      x: (n, d) floats, or a `Dataset` and no z.
      z: the concept, as in `Probe.fit`.
      rounds: static; the most probes.
      stop_at: () accuracy (R^2 for real concepts) at or below which a probe has found nothing and
        the rounds end. None for the share of the largest class, and for an R^2 of 0.
      weights: (n,) row weights, or None.
      num_classes: required under jit and vmap.
      key: where the probe draws; round i gets `fold_in(key, i)`.

    Returns:
      `Recursion`.

    Raises:
      TypeError: the probe is not linear, or as in `Probe.fit`.
      ValueError: rounds is not positive, or as in `Probe.fit`.

    Under jit: pure; one loop, that ends under vmap when the last lane does.

    Example:
      >>> dataset = ej.datasets.GaussianClasses(separation=9.0, rows=3, dims=2)
      >>> data = dataset.sample(jax.random.key(0))
      >>> found = ej.probes.recursive(ej.probes.LeastSquares(), data, rounds=2)
      >>> first, second = found.probes.weight
      >>> abs(float(first @ second)) < 1e-4, float(found.trace[0])
      (True, 1.0)
    """
    data, origin = as_dataset_about(x, z, weights=weights, num_classes=num_classes)
    key = probe._check(data, key)
    config = inputs.numbers((probe, stop_at), inputs.compute_dtype(data.x))
    return moved(_recursive(*config, roomy(data), key, rounds), origin)


@program(static_argnames="rounds")
def _recursive(
    probe: Probe[LinearProbe],
    stop_at: ArrayLike | None,
    data: Dataset,
    key: jax.Array | None,
    rounds: int,
) -> Recursion:
    return recurse(probe, stop_at, data, key, rounds)


def recurse(
    probe: Probe[LinearProbe],
    stop_at: ArrayLike | None,
    data: Dataset,
    key: jax.Array | None,
    rounds: int,
) -> Recursion:
    """Returns what `recursive` does, for checked input.

    Args:
      probe: with numeric leaves as arrays.
      stop_at: () or None.
      data: the rows.
      key: or None.
      rounds: static.

    Raises:
      TypeError: the probe is not linear.
      ValueError: rounds is not positive.
    """
    if rounds < 1:
        raise ValueError(f"rounds: expected a positive number, got {rounds}")
    moments = Moments.of(data, covariance=False)
    center, dtype, d = moments.mean, moments.xz.dtype, moments.xz.shape[0]
    if stop_at is None:
        stop_at = jnp.max(moments.concept_mean) if data.is_classes else jnp.zeros((), dtype)
    # About the mean once, not in every pass of every round.
    data = centered(data, center)
    weights = data.row_weights
    share = weights * safe_reciprocal(jnp.sum(weights), jnp.sum(weights) > 0)
    # No closer than rounding: half the lightest row of an accuracy.
    slack = 64 * jnp.finfo(dtype).eps
    if data.is_classes:
        slack = jnp.min(jnp.where(share > 0, share, 1)) / 2
    prepared = probe._prepare(data)

    def fit(basis, i):
        through = Projection(
            kernel=basis,
            test=basis,
            center=jnp.zeros_like(center),
            rank=jnp.int32(0),
            status=moments.outcome,
        )
        return probe._fit_through(
            prepared, data, through, None if key is None else jax.random.fold_in(key, i)
        )

    found = jax.eval_shape(fit, jnp.zeros((d, 1), dtype), 0)
    if not isinstance(found, LinearProbe):
        raise TypeError(
            f"probe: expected a linear one, whose fit has a weight; {type(probe).__name__} has none"
        )
    contrasts = _contrasts(found.weight.shape[1:], data.is_classes, dtype)
    width = contrasts.shape[1]

    def running(carry) -> jax.Array:
        _, i, stopped = carry
        return (i < rounds) & ~stopped

    def body(carry):
        state, i, _ = carry
        fitted = fit(state.basis, i)
        # The part along earlier weights is rounding, or reads what the projection left at zero.
        weight = fitted.weight.reshape(d, -1)
        for _ in range(2):
            weight = weight - product("dr,er,ec->dc", state.basis, state.basis, weight)
        offset = fitted.offset - product("d,dc->c", fitted.center, weight).reshape(
            fitted.offset.shape
        )
        weight = weight.reshape(fitted.weight.shape)
        fitted = fitted.replace(weight=weight, offset=offset, center=center)
        scores = product("nd,d...->n...", data.x, weight) + offset
        score = _score(scores, data, share, fitted.status)
        stopped = ~(score > stop_at + slack)
        weight = weight.reshape(d, -1)
        columns = jnp.where(stopped, 0, _orthonormal(product("dc,cm->dm", weight, contrasts)))
        at = (jnp.int32(0), i * width)
        state = Recursion(
            probes=jax.tree.map(lambda all_, one: all_.at[i].set(one), state.probes, fitted),
            basis=jax.lax.dynamic_update_slice(state.basis, columns, at),
            trace=state.trace.at[i].set(score),
            steps=state.steps + ~stopped,
            center=center,
            status=state.status | fitted.status,
        )
        return state, i + 1, stopped

    first = Recursion(
        probes=jax.tree.map(lambda leaf: jnp.zeros((rounds, *leaf.shape), leaf.dtype), found),
        basis=jnp.zeros((d, rounds * width), dtype),
        trace=jnp.full(rounds, jnp.nan, dtype),
        steps=jnp.int32(0),
        center=center,
        status=moments.outcome,
    )
    last, _, _ = jax.lax.while_loop(running, body, (first, jnp.int32(0), jnp.bool_(False)))
    # Where the means of what is left coincide, the next probe of a convex loss is the constant.
    nothing, _ = null_model(moments._off(last.basis))
    unfinished = flag((last.steps == rounds) & ~nothing, Status.NOT_CONVERGED)
    last = last.replace(status=last.status | unfinished)
    return poison(last, last.status)


def _contrasts(shape: tuple[int, ...], classes: bool, dtype: DTypeLike) -> jax.Array:
    """Returns what turns a weight (d, c) into the columns that matter: (c, m).

    Of classes only differences of scores do.
    """
    columns = shape[0] if shape else 1
    eye = jnp.eye(columns, dtype=dtype)
    return eye[:, 1:] - eye[:, :1] if classes and columns > 1 else eye


def _orthonormal(columns: jax.Array) -> jax.Array:
    """Returns an orthonormal basis of the span of columns (d, m), zero where they depend."""
    peak = jnp.max(jnp.abs(columns))
    unit = columns * safe_reciprocal(peak, peak > 0)
    eps = jnp.finfo(columns.dtype).eps
    transform, _ = products.right_basis(unit, 8 * eps * columns.shape[0] ** 0.5)
    unit = product("dm,mr->dr", unit, transform)
    # Once more: the columns of a weight may have been nearly parallel.
    transform, _ = products.right_basis(unit, 0.5)
    return product("dm,mr->dr", unit, transform)


def _score(scores: jax.Array, data: Dataset, share: jax.Array, status: jax.Array) -> jax.Array:
    """Returns the accuracy, or R^2, of scores of rows that have shares (n,) of the weight: ()."""
    if data.is_classes:
        right = decide(status, scores) == data.z
        return jnp.sum(jnp.where(share != 0, share * right, 0))
    z, _ = codes(data, share.dtype)
    found = scores.reshape(z.shape)
    share = share[:, None]

    def mean(rows: jax.Array) -> jax.Array:
        return jnp.sum(jnp.where(share != 0, share * rows, 0), axis=0)

    spread = mean((z - mean(z)) ** 2)
    varies = spread > 0
    explained = 1 - mean((z - found) ** 2) * safe_reciprocal(spread, varies)
    return jnp.sum(jnp.where(varies, explained, 0)) / jnp.sum(varies)
