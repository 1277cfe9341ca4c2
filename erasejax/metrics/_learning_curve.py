"""How a probe's accuracy grows with the rows that it is fitted to."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import struct
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, UInt32

from erasejax._core.programs import program
from erasejax._core.pytrees import Tree
from erasejax._core.status import Status, flag, poison, thrown
from erasejax._core.types import Given, Key
from erasejax._linalg.products import ratio
from erasejax.metrics._training import (
    FRACTIONS,
    Material,
    Trainable,
    as_fractions,
    fit_prefix,
    half_width,
    material,
    prefix_sizes,
    standard_error,
    status_of,
)
from erasejax.rows import Dataset, fold_rows, random_order, reordered, reweighted

__all__ = ["LearningCurve", "learning_curve"]


@struct.dataclass(kw_only=True)
class LearningCurve(Tree):
    """What `learning_curve` found.

    Attributes:
      sizes: (s,) how many rows each probe was fitted to.
      scores: (s,) accuracy on the rows held out; NaN where a class had no row to fit yet.
      low: (s,) lower ends of their intervals.
      high: (s,) upper ends.
      standard_error: (s,) of the scores.
      status: () uint32 bits, see `erasejax.Status`.

    Example:
      >>> data = ej.datasets.GaussianClasses(rows=64, dims=2).sample(jax.random.key(0))
      >>> options = {"fractions": [0.25, 0.5, 1.0], "key": jax.random.key(1)}
      >>> ej.metrics.learning_curve(ej.probes.LDA(), data, **options).sizes.tolist()
      [24, 48, 96]
    """

    sizes: Int[Array, " s"]
    scores: Float[Array, " s"]
    low: Float[Array, " s"]
    high: Float[Array, " s"]
    standard_error: Float[Array, " s"]
    status: UInt32[Array, ""]


def learning_curve(
    probe: Trainable,
    x: Given | Dataset,
    z: Given | None = None,
    *,
    key: Key,
    fractions: ArrayLike | Sequence[float] = FRACTIONS,
    held_out: Given | None = None,
    weights: Given | None = None,
    num_classes: int | None = None,
    groups: Given | None = None,
    level: ArrayLike = 0.95,
    throw: bool = True,
) -> LearningCurve:
    """Returns the accuracy of a probe on rows held out, by how many others it is fitted to.

    The rows to fit come in random order, and each probe is fitted to the first so many: more rows
    are the same and others. All fits are one program.

    The intervals are for other rows to score, with the probes as they are. What the scores of one
    curve have in common, the rows held out, does not blur how they differ.

    Args:
      probe: the configuration of a classifier.
      x: (n, d) floats, or a `Dataset` and no z.
      z: (n,) integer labels.
      key: a typed `jax.random.key`, of the order, the rows held out, and of the probe.
      fractions: (s,) rising, in (0, 1], of the rows that are not held out.
      held_out: (n,) booleans, which rows are scored and not fitted; None for a quarter at random,
        of each class and, with groups, of whole groups.
      weights: (n,) row weights, or None.
      num_classes: number of classes; required under jit.
      groups: (n,) integers of any values, which rows belong together (text where not traced), or
        None. A group is fitted as a whole.
      level: () in (0, 1), how often each interval should cover.
      throw: whether it raises if rows cannot be used; under jit and vmap it never does.

    Returns:
      A `LearningCurve`; NaN where the rows cannot be used, or a fit failed.

    Raises:
      FailedLanesError: the rows cannot be used, or a fit failed, and `throw` is set.
      TypeError: z is not class labels.
      ValueError: fractions do not rise, or shapes do not match.

    Under jit: pure.

    Example:
      >>> data = ej.datasets.GaussianClasses(rows=64, dims=2).sample(jax.random.key(0))
      >>> curve = ej.metrics.learning_curve(ej.probes.LDA(), data, key=jax.random.key(1))
      >>> curve.scores.shape, bool(jnp.isnan(curve.scores[0])), bool(curve.scores[-1] > 0.6)
      ((11,), True, True)
    """
    options = {"weights": weights, "num_classes": num_classes, "groups": groups, "level": level}
    given = material(probe, x, z, key=key, held_out=held_out, **options)
    return thrown(_learning_curve(given, as_fractions(fractions, given.level.dtype)), throw)


@program
def _learning_curve(given: Material, fractions: jax.Array) -> LearningCurve:
    folds, order, own = jax.random.split(given.key, 3)
    held = given.held_out
    held = fold_rows(given.data, given.groups, folds, 4) == 0 if held is None else held
    places = random_order(given.data, given.groups, order, behind=held)
    data = reordered(given.data, places)
    groups = None if given.groups is None else jnp.asarray(given.groups)[places]
    held, weights = held[places], data.row_weights
    fit = reweighted(data, jnp.where(held, 0, weights)).replace(room=data.room)
    scored = jnp.where(held, weights, 0)
    sizes = prefix_sizes(fit.row_weights, groups, fractions)

    def read(size: jax.Array) -> tuple[jax.Array, jax.Array]:
        right, usable, status = fit_prefix(
            given.probe, fit, size, own, lambda probe: probe.predict(data.x) == data.z
        )
        return jnp.asarray(jnp.where(usable, right.astype(weights.dtype), jnp.nan)), status

    right, found = jax.lax.map(read, sizes)
    total = jnp.sum(scored)
    found_right = jnp.sum(jnp.asarray(jnp.where(scored != 0, scored * right, 0)), axis=1)
    scores = ratio(found_right, total)
    error = standard_error(right - scores[:, None], scored, groups)
    width = half_width(error, given.level)
    status = jax.lax.reduce(found, jnp.uint32(0), jax.lax.bitwise_or, (0,))
    status |= status_of(data) | flag(total == 0, Status.NO_WEIGHT)
    curve = LearningCurve(
        sizes=sizes,
        scores=scores,
        low=jnp.maximum(scores - width, 0),
        high=jnp.minimum(scores + width, 1),
        standard_error=error,
        status=status,
    )
    return poison(curve, status)
