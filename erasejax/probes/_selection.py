"""Choosing a probe's penalty by cross-validation, in one program."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.core import Tracer
from jax.typing import ArrayLike
from jaxtyping import Array, Float, UInt32

from erasejax._core import inputs
from erasejax._core.programs import program
from erasejax._core.pytrees import Tree
from erasejax._core.status import failed
from erasejax._core.types import Given, Key
from erasejax._linalg.products import safe_reciprocal
from erasejax.probes._base import FittedProbe, Likelihood, Probe
from erasejax.rows import (
    Dataset,
    as_dataset_about,
    codes,
    columns_of,
    count_groups,
    fold_rows,
    moved,
    number_groups,
    remember_columns,
    reweighted,
    roomy,
)

__all__ = ["Selection", "select_l2"]


@struct.dataclass
class Selection(Tree):
    """A probe with the penalty that did best on rows held out.

    Attributes:
      probe: fitted to all rows with the penalty chosen.
      l2: () the penalty.
      losses: (m, folds) loss of each penalty on each fold held out.
      status: () uint32 bits of the probe.

    Example:
      >>> dataset = ej.datasets.GaussianClasses(separation=9.0, rows=3, dims=2)
      >>> data = dataset.sample(jax.random.key(0))
      >>> chosen = ej.probes.select_l2(
      ...     ej.probes.LeastSquares(), data, l2=[0.1, 1.0], folds=3, key=jax.random.key(1)
      ... )
      >>> chosen.losses.shape, chosen.probe.predict(data.x).tolist()
      ((2, 3), [0, 0, 0, 1, 1, 1])
    """

    probe: FittedProbe
    l2: Float[Array, ""]
    losses: Float[Array, "m f"]
    status: UInt32[Array, ""]

    def _moved(self, origin: jax.Array) -> "Selection":
        return self.replace(probe=moved(self.probe, origin))


def select_l2(
    probe: Probe[FittedProbe],
    x: Given | Dataset,
    z: Given | None = None,
    *,
    l2: ArrayLike,
    key: Key,
    folds: int = 5,
    weights: Given | None = None,
    num_classes: int | None = None,
    groups: Given | None = None,
) -> Selection:
    """Fits a probe with each of several penalties to all but each fold, and keeps the best.

    Folds are masks of row weights, so all fits are one program: the folds one after the other, the
    penalties side by side. Classes are spread evenly over the folds; with `groups` no group is in
    two folds, and groups are spread evenly by the class of their first row. What is compared is the
    mean loss of the rows held out: nats for a likelihood, the share of wrong labels for other
    classifiers, squared error for real concepts; the first of equals wins.

    A score of the chosen probe on the rows it was chosen by is too good: score it on others.

    Args:
      probe: configuration of a probe with a field `l2`, whose own value is not used.
      x: (n, d) floats, or a `Dataset` and no z.
      z: the concept, as in `Probe.fit`.
      l2: (m,) penalties.
      key: assigns the rows to folds; the probe draws from it too, if it draws.
      folds: static; at least 2.
      weights: (n,) row weights, or None.
      num_classes: required under jit and vmap.
      groups: (n,) integers of any values, which rows belong together (text where not traced); None
        where rows are independent.

    Returns:
      `Selection`.

    Raises:
      TypeError: the probe has no penalty, groups are not integers or text, or as in `Probe.fit`.
      ValueError: shapes do not match, or folds is not between 2 and n, or the number of groups
        where they are not traced.

    Under jit: pure.

    Example:
      >>> dataset = ej.datasets.GaussianClasses(separation=9.0, rows=3, dims=2)
      >>> data = dataset.sample(jax.random.key(0))
      >>> chosen = ej.probes.select_l2(
      ...     ej.probes.LeastSquares(), data, l2=[0.1, 1.0], folds=3, key=jax.random.key(1)
      ... )
      >>> float(chosen.l2) in (1.0, np.float32(0.1))
      True
    """
    data, origin = as_dataset_about(x, z, weights=weights, num_classes=num_classes)
    if not hasattr(probe, "l2"):
        raise TypeError(f"probe: {type(probe).__name__} has no l2")
    probe._check(data, key)
    key = inputs.as_key(key)
    most, what = data.x.shape[0], "n="
    if groups is not None:
        groups = number_groups(groups, most)
        if not isinstance(groups, Tracer):
            most, what = count_groups(groups, None), "the number of groups, "
    if not 2 <= folds <= most:
        raise ValueError(f"folds: expected 2 to {what}{most}, got {folds}")
    if groups is None:
        data = roomy(data)
    values = inputs.as_array("l2", l2, inputs.compute_dtype(data.x))
    if values.ndim != 1 or not len(values):
        raise ValueError(f"l2: expected penalties (m,), got shape {values.shape}")
    found = moved(
        _select(inputs.numbers(probe, values.dtype), data, groups, values, key, folds), origin
    )
    remember_columns(found.probe, columns_of(x))
    return found


@program(static_argnames="folds")
def _select(
    probe: Probe[FittedProbe],
    data: Dataset,
    groups: jax.Array | np.ndarray | None,
    l2: jax.Array,
    key: jax.Array,
    folds: int,
) -> Selection:
    first, second = jax.random.split(key)
    own = fold_rows(data, groups, first, folds)
    weights = data.row_weights

    def held_out(fold):
        inside = own == fold
        training = reweighted(data, jnp.where(inside, 0, weights))
        share = jnp.where(inside, weights, 0)

        def one(value):
            fitted = probe.replace(l2=value)._fit(training, second)
            lost = jnp.where(share != 0, share * _losses(fitted, data), 0)
            lost = jnp.sum(lost) * safe_reciprocal(jnp.sum(share), jnp.sum(share) > 0)
            return jnp.where(failed(fitted.status), jnp.nan, lost)

        return jax.vmap(one)(l2), jnp.sum(share)

    losses, size = jax.lax.map(held_out, jnp.arange(folds))
    mean = jnp.sum(losses * size[:, None], axis=0) / jnp.sum(size)
    best = jnp.argmin(jnp.where(jnp.isnan(mean), jnp.inf, mean))
    fitted = probe.replace(l2=l2[best])._fit(data, second)
    chosen = jnp.where(failed(fitted.status), jnp.nan, l2[best])
    return Selection(probe=fitted, l2=chosen, losses=losses.T, status=fitted.status)


def _losses(fitted: Any, data: Dataset) -> jax.Array:
    """Returns the loss of each row, (n,)."""
    if isinstance(fitted, Likelihood):
        return -jnp.take_along_axis(fitted.log_proba(data.x), data.z[:, None], axis=1)[:, 0]
    if data.is_classes:
        return (fitted.predict(data.x) != data.z).astype(inputs.compute_dtype(data.x))
    scores = fitted.scores(data.x)
    z, _ = codes(data, scores.dtype)
    return jnp.sum((scores.reshape(z.shape) - z) ** 2, axis=1)
