"""The affine threshold with the best 0-1 accuracy."""

from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from erasejax._core.pytrees import static
from erasejax._linalg.products import product, safe_reciprocal
from erasejax._linalg.sorting import sort_marked
from erasejax.probes._base import LinearClassifier, Probe, linear_probe
from erasejax.rows import Dataset
from erasejax.statistics import Moments, concept_axes, standardized

__all__ = ["ZeroOne"]


@struct.dataclass(kw_only=True)
class ZeroOne(Probe[LinearClassifier]):
    """Looks for the affine threshold that predicts most labels of two classes right.

    Erasing makes every convex loss blind; the 0-1 loss is not convex, and a threshold may still
    beat chance. Its accuracy on the fitting rows is high by selection: compare it with the same on
    permuted labels, permuted *before* the eraser is fitted.

    One or two features: exact. In the plane a line through each row is turned through all angles,
    O(n^2 log n), which meets every way a line can split the rows. More features: random directions
    and the class-mean difference, each improved by random steps of falling length, with the best
    threshold exact along each direction: a lower bound on the best accuracy.

    `fit` needs a key. Two classes only. The search has no test of convergence, so NOT_CONVERGED is
    never set.

    Attributes:
      restarts: static; directions searched side by side, with more than two features.
      rounds: static; steps of each.

    Example:
      >>> dataset = ej.datasets.GaussianClasses(separation=9.0, rows=3, dims=2)
      >>> data = dataset.sample(jax.random.key(0))
      >>> probe = ej.probes.ZeroOne().fit(data, key=jax.random.key(1))
      >>> probe.predict(data.x).tolist()
      [0, 0, 0, 1, 1, 1]
    """

    name: ClassVar[str] = "zero-one"

    restarts: int = static(64)
    rounds: int = static(16)

    needs_key = True

    def _fit(self, data: Dataset, key: jax.Array | None) -> LinearClassifier:
        if data.num_classes != 2:
            raise ValueError(f"num_classes: ZeroOne separates 2 classes, got {data.num_classes}")
        moments = Moments.of(data, covariance=False)
        axes, status = concept_axes(moments)
        inverse = safe_reciprocal(moments.sd, moments.sd > 0)
        data = data.replace(x=standardized(data, moments))
        d = data.x.shape[1]
        if d > 2:
            assert key is not None
            directions, cuts = self._search(data, axes[:, 0], key)
        else:
            directions = jnp.ones((1, 1), data.x.dtype) if d == 1 else _best_in_plane(data)[None]
            cuts = _best_cuts(directions, data)
        best = jnp.argmax(cuts.value)
        direction, cut = directions[best], jax.tree.map(lambda leaf: leaf[best], cuts)
        gains = jnp.isfinite(cut.threshold)
        weight = jnp.asarray(jnp.where(gains, cut.sign * direction * inverse, 0))
        offset = jnp.where(gains, -cut.sign * cut.threshold, cut.sign)
        return linear_probe(LinearClassifier, weight, offset, moments, status)

    def _search(self, data: Dataset, delta: jax.Array, key: jax.Array) -> tuple[jax.Array, "_Cut"]:
        """Returns `restarts` directions (r, d) after `rounds` random steps each, and their cuts."""
        key, start_key = jax.random.split(key)
        shape, dtype = (self.restarts, data.x.shape[1]), data.x.dtype

        def step(carry: tuple[jax.Array, _Cut], i: jax.Array):
            before, best = carry
            first = i == 0  # in the loop, since what is outside would be compiled again
            own = jax.lax.select(first, start_key, jax.random.fold_in(key, i - 1))
            noise = jax.random.normal(own, shape, dtype)
            length = (2.0 ** (-6.0 * i / self.rounds)).astype(dtype)
            trial = before + length * _unit(noise)
            trial = _unit(jnp.where(first, noise.at[0].set(delta), trial))
            found = _best_cuts(trial, data)
            better = found.value >= best.value
            directions = jnp.where(better[:, None], trial, before)
            cuts = jax.tree.map(lambda new, old: jnp.where(better, new, old), found, best)
            return (directions, cuts), None

        none = jnp.full(self.restarts, -jnp.inf, dtype)
        start = (jnp.zeros(shape, dtype), _Cut(none, none, none))
        (directions, cuts), _ = jax.lax.scan(step, start, jnp.arange(self.rounds + 1))
        return directions, cuts


class _Cut(NamedTuple):
    """The best threshold along scores: class 1 is predicted where sign (score - threshold) > 0.

    Attributes:
      value: (...) weight of the rows predicted right.
      sign: (...) 1 or -1.
      threshold: (...) infinite where no cut beats the majority class.
    """

    value: jax.Array
    sign: jax.Array
    threshold: jax.Array


def _unit(rows: jax.Array) -> jax.Array:
    length = jnp.linalg.norm(rows, axis=1, keepdims=True)
    return rows * safe_reciprocal(length, length > 0)


def _best_cuts(directions: jax.Array, data: Dataset) -> _Cut:
    """Returns the best cut along each of directions (r, d).

    Rows whose scores agree to rounding are never separated.
    """
    scores = product("nd,rd->rn", data.x, directions)
    eps = jnp.finfo(scores.dtype).eps
    spacing = 16 * eps * jnp.max(jnp.abs(scores), axis=-1, keepdims=True)
    scores, positive, weights = _sorted(scores, data.z == 1, data)
    signed = jnp.where(positive, weights, -weights)
    below = jnp.cumsum(signed, axis=-1)
    ones = jnp.sum(jnp.where(positive, weights, 0), axis=-1, keepdims=True)
    zeros = jnp.sum(weights, axis=-1, keepdims=True) - ones
    apart = scores[..., 1:] - scores[..., :-1] > spacing
    inner = below[..., :-1]
    upward = jnp.where(apart, ones - inner, -jnp.inf)  # class 1 above the cut
    downward = jnp.where(apart, zeros + inner, -jnp.inf)
    value = jnp.maximum(upward, downward)
    cut = jnp.argmax(value, axis=-1, keepdims=True)
    best = jnp.take_along_axis(value, cut, axis=-1)
    middle = (scores[..., :-1] + scores[..., 1:]) / 2
    constant = jnp.maximum(ones, zeros)
    gains = best > constant
    rises = jnp.take_along_axis(upward, cut, axis=-1) >= best
    sign = jnp.where(jnp.where(gains, rises, ones > zeros), 1, -1).astype(scores.dtype)
    threshold = jnp.where(gains, jnp.take_along_axis(middle, cut, axis=-1), jnp.inf)
    return _Cut(jnp.maximum(best, constant)[..., 0], sign[..., 0], threshold[..., 0])


def _sorted(
    values: jax.Array, mark: jax.Array, data: Dataset
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns values (..., n) of rows with a mark and the row weights, as `sort_marked` does."""

    def alike(rows):
        return None if rows is None else jnp.broadcast_to(rows, values.shape)

    mark = jnp.broadcast_to(mark, values.shape)
    return sort_marked(values, mark, alike(data.own_weights), alike(data.seen))


def _best_in_plane(data: Dataset) -> jax.Array:
    """Returns the normal (2,) of a line that splits rows of two features best, over all lines.

    A line that splits the rows can be moved until it touches one of them, so it is enough to turn
    a line about each row and count what crosses it.
    """
    x, positive, ones = data.x, data.z == 1, data.row_weights
    signed = jnp.where(positive, ones, -ones)
    total_one = jnp.sum(jnp.where(positive, ones, 0))
    total_zero = jnp.sum(ones) - total_one
    eps = jnp.finfo(x.dtype).eps

    def turn(row):
        anchor, seen = row
        away = x - anchor
        same = jnp.abs(away).max(axis=1) <= 16 * eps * jnp.max(jnp.abs(x))
        angle = jnp.arctan2(away[:, 1], away[:, 0])
        upper = angle >= 0  # on the left of the line at angle 0, until it turns past `angle`
        crossing = jnp.where(same, jnp.inf, jnp.where(upper, angle, angle + jnp.pi))
        left = jnp.sum(jnp.where(upper & ~same, signed, 0))
        here = jnp.sum(jnp.where(same, signed, 0))
        enters_one = jnp.where(upper, ~positive, positive)  # whether `left` rises at the crossing
        crossing, rises, size = _sorted(crossing, enters_one, data)
        left = jnp.concatenate([left[None], left + jnp.cumsum(jnp.where(rises, size, -size))])
        start = jnp.concatenate([jnp.zeros(1, x.dtype), crossing])
        stop = jnp.concatenate([crossing, jnp.full(1, jnp.pi, x.dtype)])
        stop = jnp.minimum(stop, jnp.pi)
        value = jnp.maximum(
            total_zero + jnp.maximum(left, left + here),
            total_one - jnp.minimum(left, left + here),
        )
        value = jnp.where(seen & (stop - start > 32 * eps), value, -jnp.inf)
        best = jnp.argmax(value)
        return value[best], (start[best] + stop[best]) / 2

    value, angle = jax.lax.map(turn, (x, ones != 0), batch_size=min(len(x), 256))
    angle = angle[jnp.argmax(value)]
    return jnp.stack([-jnp.sin(angle), jnp.cos(angle)])
