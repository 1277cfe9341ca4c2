"""Whether a probe reads the concept or learns any labels by heart: control tasks."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax.typing import ArrayLike
from jaxtyping import Array, Float, UInt32

from erasejax._core.programs import program
from erasejax._core.pytrees import Tree
from erasejax._core.status import Status, flag, poison, thrown
from erasejax._core.types import Given, Key
from erasejax._linalg.products import ratio
from erasejax.metrics._accuracy import accuracy
from erasejax.metrics._base import Metric
from erasejax.metrics._scoring import members
from erasejax.metrics._training import (
    Material,
    Trainable,
    half_width,
    material,
    standard_error,
    status_of,
)
from erasejax.rows import Dataset, fold_rows, reweighted

__all__ = ["ControlTask", "Selectivity", "selectivity"]


@struct.dataclass(kw_only=True)
class ControlTask(Tree):
    """What `selectivity` found.

    Attributes:
      selectivity: () accuracy less control, in [-1, 1]; its null is 0.
      low: () lower end of its interval.
      high: () upper end.
      standard_error: () of `selectivity`.
      accuracy: () share of the rows whose concept is predicted.
      control: () share of the same rows whose random label a probe fitted to such labels predicts.
      share: () share of the rows held out that are scored: those whose group was fitted, too.
      status: () uint32 bits, see `erasejax.Status`.

    Example:
      >>> dataset = ej.datasets.GaussianClasses(separation=9.0, rows=64, dims=2)
      >>> data = dataset.sample(jax.random.key(0))
      >>> found = ej.metrics.selectivity(ej.probes.LDA(), data, key=jax.random.key(1))
      >>> bool(found.selectivity == found.accuracy - found.control), float(found.accuracy)
      (True, 1.0)
    """

    selectivity: Float[Array, ""]
    low: Float[Array, ""]
    high: Float[Array, ""]
    standard_error: Float[Array, ""]
    accuracy: Float[Array, ""]
    control: Float[Array, ""]
    share: Float[Array, ""]
    status: UInt32[Array, ""]


def selectivity(
    probe: Trainable,
    x: Given | Dataset,
    z: Given | None = None,
    *,
    key: Key,
    groups: Given | None = None,
    held_out: Given | None = None,
    controls: int = 1,
    weights: Given | None = None,
    num_classes: int | None = None,
    level: ArrayLike = 0.95,
    throw: bool = True,
) -> ControlTask:
    """Returns a probe's accuracy less what it has on labels drawn at random, one for each group.

    The labels of the control task are drawn from the frequencies of the concept's, once for each
    group: each type of word has a random label of its own. They say nothing of the rows but which
    group each is of, so who predicts them has learnt that by heart. A probe that could do so for
    the concept, too, has shown nothing of how the concept is encoded, however accurate it is.

    That can be seen only in rows whose group was fitted: the label of another is anybody's guess,
    and a probe that memorises would look selective there. Both accuracies are of such rows. With
    `groups` a quarter of the rows is held out, at random, and scored if others of their group were
    fitted. Without, each row is a group, and the rows that are fitted are scored themselves: how
    much better the probe fits the concept than any labels.

    The interval is for other groups, with the probes as they are.

    Args:
      probe: the configuration of a classifier.
      x: (n, d) floats, or a `Dataset` and no z.
      z: (n,) integer labels.
      key: a typed `jax.random.key`, of the control labels, the rows held out, and of the probe.
      groups: (n,) integers of any values (text where not traced), such as the type of word or the
        template of each row; None where each row is one.
      held_out: (n,) booleans, which rows are scored and not fitted; only with `groups`. None for a
        quarter at random.
      controls: static; how many control tasks, of which `control` is the mean.
      weights: (n,) row weights, or None.
      num_classes: number of classes; required under jit.
      level: () in (0, 1), how often the interval should cover.
      throw: whether it raises if a fit failed; under jit and vmap it never does.

    Returns:
      A `ControlTask`; NaN where a fit failed, as where all random labels are the same, or where no
      group is both fitted and held out.

    Raises:
      FailedLanesError: a fit failed, or no row is scored, and `throw` is set.
      TypeError: z is not class labels.
      ValueError: shapes do not match, or there is held_out without groups.

    Under jit: pure.

    Example:
      >>> dataset = ej.datasets.GaussianClasses(separation=9.0, rows=64, dims=2)
      >>> data, groups = dataset.sample(jax.random.key(0)), np.arange(128) % 8
      >>> found = ej.metrics.selectivity(
      ...     ej.probes.LDA(), data, groups=groups, key=jax.random.key(1)
      ... )
      >>> float(found.accuracy), bool(found.selectivity > 0.2)
      (1.0, True)

    References:
      Hewitt and Liang 2019, arXiv 1909.03368.
    """
    if int(controls) != controls or controls < 1:
        raise ValueError(f"controls: expected a positive whole number, got {controls}")
    if held_out is not None and groups is None:
        raise ValueError(
            "held_out: only with groups; where each row is a group, no row held out is of one that "
            "was fitted"
        )
    options = {"weights": weights, "num_classes": num_classes, "groups": groups, "level": level}
    given = material(probe, x, z, key=key, held_out=held_out, **options)
    return thrown(_selectivity(given, int(controls)), throw)


class Selectivity(Metric):
    """`selectivity` by its name: on the rows that the probe is fitted to, with each as a group.

    Example:
      >>> ej.metrics.Selectivity.name, ej.metrics.Selectivity.of
      ('selectivity', 'fit')
    """

    name = "selectivity"
    title = "selectivity"
    of = "fit"
    needs = frozenset({"classes"})

    def compute(
        self, probe: Trainable, fitted: Any, fit: Dataset, score: Dataset, *, key: jax.Array
    ) -> jax.Array:
        """Returns the accuracy of the probe on `fit`, less that of one fitted to random labels."""
        labels, own = jax.random.split(key)
        control = fit.replace(z=_drawn(fit, None, labels))
        random: Any = probe.fit(control, key=own)
        return accuracy(fitted, fit) - accuracy(random, control)


@program(static_argnums=1)
def _selectivity(given: Material, controls: int) -> ControlTask:
    data, groups = given.data, given.groups
    folds, own, *_ = keys = jax.random.split(given.key, 2 + controls)
    weights = data.row_weights
    fit, scored = data, weights
    if groups is not None:
        held = given.held_out
        held = fold_rows(data, None, folds, 4) == 0 if held is None else held
        fit = reweighted(data, jnp.where(held, 0, weights))
        fitted = jax.ops.segment_max((fit.weights != 0).astype(jnp.int32), groups, len(weights))
        held_out = jnp.where(held, weights, 0)
        scored = jnp.where(fitted[groups] > 0, held_out, 0)
        share = ratio(jnp.sum(scored), jnp.sum(held_out))
    else:
        share = jnp.ones_like(jnp.sum(weights))

    def correct(z: jax.Array) -> tuple[jax.Array, jax.Array]:
        found: Any = given.probe.fit(fit.replace(z=z), key=own)
        return (found.predict(data.x) == z).astype(weights.dtype), found.status

    drawn = jax.vmap(lambda key: _drawn(fit, groups, key))(keys[2:])
    right, found = jax.lax.map(correct, jnp.concatenate([data.z[None], drawn]))
    status = jax.lax.reduce(found, jnp.uint32(0), jax.lax.bitwise_or, (0,)) | status_of(data)
    total = jnp.sum(scored)
    status |= flag(total == 0, Status.NO_WEIGHT)
    both = jnp.stack([right[0], jnp.mean(right[1:], axis=0)])
    means = ratio(jnp.sum(jnp.where(scored != 0, scored * both, 0), axis=1), total)
    value = means[0] - means[1]
    error = standard_error(both[0] - both[1] - value, scored, groups)
    width = half_width(error, given.level)
    task = ControlTask(
        selectivity=value,
        low=jnp.maximum(value - width, -1),
        high=jnp.minimum(value + width, 1),
        standard_error=error,
        accuracy=means[0],
        control=means[1],
        share=share,
        status=status,
    )
    return poison(task, status)


def _drawn(data: Dataset, groups: Any, key: jax.Array) -> jax.Array:
    """Returns a random label for each group, from the frequencies of the labels: (n,) int32."""
    size = jnp.cumsum(jnp.sum(members(data), axis=0))
    place = jax.random.uniform(key, data.z.shape, size.dtype) * size[-1]
    label = jnp.sum(place[:, None] >= size[:-1], axis=1, dtype=jnp.int32)
    return label if groups is None else label[groups]
