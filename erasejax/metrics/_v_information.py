"""How much a family of probes can learn of labels from features, in bits."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax.typing import ArrayLike
from jaxtyping import Array, Float, UInt32

from erasejax._core.programs import program
from erasejax._core.pytrees import Tree
from erasejax._core.status import Status, failed, flag, poison, thrown
from erasejax._core.types import Given, Key
from erasejax._linalg.products import safe_reciprocal
from erasejax.metrics._base import Metric
from erasejax.metrics._scoring import mean, members
from erasejax.metrics._training import (
    Material,
    Trainable,
    half_width,
    losses,
    material,
    standard_error,
    status_of,
)
from erasejax.rows import Dataset, fold_rows, reweighted

__all__ = ["UsableInformation", "VInformation", "v_information"]


@struct.dataclass(kw_only=True)
class UsableInformation(Tree):
    """What `v_information` found, all in bits a row.

    Attributes:
      bits: () null_loss less loss; its null is 0, and it is below where a probe overfits.
      low: () lower end of its interval.
      high: () upper end.
      standard_error: () of `bits`.
      null_loss: () mean log-loss of who knows the frequencies of the labels alone, or of the probe
        with `given` alone.
      loss: () mean log-loss of the probe.
      status: () uint32 bits, see `erasejax.Status`.

    Example:
      >>> dataset = ej.datasets.GaussianClasses(separation=9.0, rows=64, dims=2)
      >>> data = dataset.sample(jax.random.key(0))
      >>> found = ej.metrics.v_information(ej.probes.LDA(), data, key=jax.random.key(1))
      >>> bool(found.bits == found.null_loss - found.loss), round(float(found.bits), 2)
      (True, 1.0)
    """

    bits: Float[Array, ""]
    low: Float[Array, ""]
    high: Float[Array, ""]
    standard_error: Float[Array, ""]
    null_loss: Float[Array, ""]
    loss: Float[Array, ""]
    status: UInt32[Array, ""]


def v_information(
    probe: Trainable,
    x: Given | Dataset,
    z: Given | None = None,
    *,
    key: Key,
    given: Given | None = None,
    held_out: Given | None = None,
    weights: Given | None = None,
    num_classes: int | None = None,
    groups: Given | None = None,
    level: ArrayLike = 0.95,
    throw: bool = True,
) -> UsableInformation:
    """Returns how many bits of a label a probe of this kind gains from the features of a row.

    The log-loss on rows held out of the label frequencies among the rows that are fitted, less that
    of the probe fitted to those. No such probe can gain more than the mutual information, and an
    erased concept leaves a linear one nothing. Where rows to fit are few the probe overfits, and
    the number is too small; below 0, where it would do better to ignore the features.

    With `given`, features w, it is the gain from x beyond w: the loss of the probe on w with zeros
    in the place of x, less that on both, as in Hewitt et al. 2021.

    The interval is for other rows to score, with the probes as they are.

    Args:
      probe: the configuration of a classifier with a likelihood.
      x: (n, d) floats, or a `Dataset` and no z.
      z: (n,) integer labels.
      key: a typed `jax.random.key`, of the rows held out and of the probe.
      given: (n, m) floats, what is known without x, or None.
      held_out: (n,) booleans, which rows are scored and not fitted; None for a quarter at random,
        of each class and, with groups, of whole groups.
      weights: (n,) row weights, or None.
      num_classes: number of classes; required under jit.
      groups: (n,) integers of any values, which rows belong together (text where not traced); None
        where rows are independent.
      level: () in (0, 1), how often the interval should cover.
      throw: whether it raises if a fit failed; under jit and vmap it never does.

    Returns:
      A `UsableInformation`; NaN where a fit failed, and where a class has rows held out and none
      fitted: then both losses are infinite.

    Raises:
      FailedLanesError: there is no such number, and `throw` is set.
      TypeError: z is not class labels, or the probe has no likelihood.
      ValueError: shapes do not match.

    Under jit: pure.

    Example:
      >>> dataset = ej.datasets.GaussianClasses(separation=9.0, rows=64, dims=2)
      >>> data, probe = dataset.sample(jax.random.key(0)), ej.probes.Logistic()
      >>> key = jax.random.key(1)
      >>> found = ej.metrics.v_information(probe, data, key=key)
      >>> beyond = ej.metrics.v_information(probe, data, given=data.x, key=key)
      >>> bool(found.bits > 0.9), bool(abs(beyond.bits) < 0.1)
      (True, True)

    References:
      Xu et al. 2020, arXiv 2002.10689; Hewitt et al. 2021, arXiv 2109.09234 (conditional).
    """
    options = {"weights": weights, "num_classes": num_classes, "groups": groups, "level": level}
    rows = material(probe, x, z, key=key, held_out=held_out, given=given, **options)
    return thrown(_v_information(rows), throw)


class VInformation(Metric):
    """`v_information` by its name: bits a row of what is scored.

    Example:
      >>> ej.metrics.VInformation.name, ej.metrics.VInformation.of
      ('v_information', 'fit')
    """

    name = "v_information"
    title = "V-information (bits)"
    of = "fit"
    needs = frozenset({"classes", "likelihood"})

    def compute(
        self, probe: Trainable, fitted: Any, fit: Dataset, score: Dataset, *, key: jax.Array
    ) -> jax.Array:
        """Returns the loss of the label frequencies of `fit` less that of the probe, on `score`."""
        gain = mean(_null_losses(fit, score.z) - losses(fitted, score.x, score.z), score)
        return jnp.where(failed(fitted.status), jnp.nan, gain)


@program
def _v_information(rows: Material) -> UsableInformation:
    data, beside = rows.data, rows.data.task
    folds, own = jax.random.split(rows.key)
    weights, held = data.row_weights, rows.held_out
    held = fold_rows(data, rows.groups, folds, 4) == 0 if held is None else held
    data = reweighted(data.replace(task=None), jnp.where(held, 0, weights))
    scored = jnp.where(held, weights, 0)

    def lost(share: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns the losses of a probe of x times a number () and what is given, (n,)."""
        x = data.x
        if beside is not None:
            x = jnp.concatenate([jnp.where(share > 0, x, 0), beside.astype(x.dtype)], axis=1)
        found: Any = rows.probe.fit(data.replace(x=x), key=own)
        return losses(found, x, data.z).astype(weights.dtype), found.status

    kinds = jnp.ones(1) if beside is None else jnp.arange(2.0)
    both, found = jax.lax.map(lost, kinds)
    if beside is None:
        both = jnp.stack([_null_losses(data, data.z), both[0]])
    status = jax.lax.reduce(found, jnp.uint32(0), jax.lax.bitwise_or, (0,))
    total = jnp.sum(scored)
    means = jnp.sum(jnp.where(scored != 0, scored * both, 0), axis=1)
    means *= safe_reciprocal(total, total > 0)
    bits = means[0] - means[1]
    status = status | status_of(rows.data) | flag(total == 0, Status.NO_WEIGHT)
    status |= flag(jnp.isnan(bits) & ~failed(status), Status.NONFINITE)
    error = standard_error(both[0] - both[1] - bits, scored, rows.groups)
    width = half_width(error, rows.level)
    information = UsableInformation(
        bits=bits,
        low=bits - width,
        high=bits + width,
        standard_error=error,
        null_loss=means[0],
        loss=means[1],
        status=status,
    )
    return poison(information, status)


def _null_losses(data: Dataset, z: jax.Array) -> jax.Array:
    """Returns -log2 of the frequencies among `data` of labels z, (n,); infinite where 0."""
    size = jnp.sum(members(data), axis=0)
    return -jnp.log2(size / jnp.sum(size))[z]
