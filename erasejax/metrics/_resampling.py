"""Intervals for scores, by the bootstrap."""

from collections.abc import Callable
from typing import Self

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, UInt32

from erasejax._core import inputs
from erasejax._core.programs import program
from erasejax._core.pytrees import Tree
from erasejax._core.status import poison
from erasejax._core.types import Given, Key
from erasejax._core.views import Shown, number
from erasejax.metrics._scoring import Fitted, labelled
from erasejax.rows import Dataset, number_groups, roomy

__all__ = ["Interval", "bootstrap"]

_CHUNK = 1 << 18  # rows of resamples scored side by side


@struct.dataclass(kw_only=True)
class Interval(Shown, Tree):
    """A score with its confidence interval.

    Attributes:
      estimate: () the score on the rows as they are.
      low: () lower end.
      high: () upper end.
      standard_error: () standard deviation of the score over the resamples.
      status: () uint32 bits, those of the probe.

    Example:
      >>> data = ej.datasets.GaussianClasses(rows=3, dims=2).sample(jax.random.key(0))
      >>> probe = ej.probes.LDA().fit(data)
      >>> found = ej.metrics.bootstrap(
      ...     ej.metrics.accuracy, probe, data, resamples=20, key=jax.random.key(1)
      ... )
      >>> bool(found.low <= found.estimate <= found.high)
      True
    """

    estimate: Float[Array, ""]
    low: Float[Array, ""]
    high: Float[Array, ""]
    standard_error: Float[Array, ""]
    status: UInt32[Array, ""]

    def _facts(self, lane: Self) -> dict[str, object]:
        return {
            "estimate": number(self.estimate, self.status),
            "from": number(self.low, self.status),
            "to": number(self.high, self.status),
            "standard error": number(self.standard_error, self.status),
        }


def bootstrap(
    metric: Callable[..., jax.Array],
    probe: Fitted,
    x: Given | Dataset,
    z: Given | None = None,
    *,
    key: Key,
    resamples: int = 1000,
    level: ArrayLike = 0.95,
    weights: Given | None = None,
    groups: Given | None = None,
) -> Interval:
    """Returns a percentile bootstrap interval for the score of a fitted probe.

    It says how much the score would vary with other rows to score; the probe is the same
    throughout, so how much it would vary with other rows to fit is not in it. Each resample draws
    as many rows as there are, with replacement, which are multinomial row weights. Rows of one
    name, sentence or template are not independent: with `groups` each resample draws as many groups
    as there are, each with all its rows.

    The interval runs between percentiles of the resampled scores: it stays within the range of the
    score and moves with any monotone change of it. The corrected and accelerated form would need
    the score without each row in turn, n more of them, for a correction that is small in averages
    such as these.

    Args:
      metric: `accuracy`, `auroc`, `balanced_accuracy`, `log_loss`, or any function of (probe, x, z)
        and the keyword weights that returns ().
      probe: a fitted classifier.
      x: (n, d) floats, or a `Dataset` and no z.
      z: (n,) integer labels.
      key: a typed `jax.random.key`.
      resamples: static; how many. The ends are noisy below some hundreds.
      level: () in (0, 1), how often the interval should cover.
      weights: (n,) row weights, or None. Rows of weight 0 are never drawn.
      groups: (n,) integers of any values, which rows belong together (text where not traced); None
        where rows are independent.

    Returns:
      An `Interval`; NaN where the probe failed. Resamples in which the metric is NaN, such as
      AUROC of one class, are left out.

    Raises:
      TypeError: z is not class labels, or groups are not integers or text.
      ValueError: resamples is not positive, or groups are not one a row.

    Under jit: pure; `metric` and `resamples` are static.

    Example:
      >>> dataset = ej.datasets.GaussianClasses(separation=9.0, rows=3, dims=2)
      >>> data = dataset.sample(jax.random.key(0))
      >>> probe = ej.probes.LDA().fit(data)
      >>> found = ej.metrics.bootstrap(
      ...     ej.metrics.accuracy, probe, data, resamples=20, key=jax.random.key(1)
      ... )
      >>> float(found.estimate), float(found.low), float(found.high)
      (1.0, 1.0, 1.0)

    References:
      Efron 1981, doi 10.1139/cjs-1981-3 (the percentile method).
    """
    if int(resamples) != resamples or resamples < 1:
        raise ValueError(f"resamples: expected a positive whole number, got {resamples}")
    probe, data = labelled(probe, x, z, weights)
    level = inputs.as_array("level", level, inputs.compute_dtype(data.x))
    key = inputs.as_key(key)
    if groups is None:
        data = roomy(data, passes=int(resamples))
    else:
        groups = number_groups(groups, data.x.shape[0])
    return _bootstrap(metric, int(resamples), probe, data, groups, level, key)


@program(static_argnums=(0, 1))
def _bootstrap(
    metric: Callable[..., jax.Array],
    resamples: int,
    probe: Fitted,
    data: Dataset,
    groups: jax.Array | np.ndarray | None,
    level: jax.Array,
    key: jax.Array,
) -> Interval:
    n = data.x.shape[0]
    weights = data.row_weights
    seen = weights != 0
    if groups is not None:
        seen = jax.ops.segment_max(seen.astype(jnp.int32), groups, n) > 0
    units, first = jnp.sum(seen), jnp.argsort(~seen, stable=True)

    def score(row_weights):
        return metric(probe, data.x, data.z, weights=row_weights).astype(level.dtype)

    def resampled(i):
        drawn = jax.random.randint(jax.random.fold_in(key, i), (n,), 0, jnp.maximum(units, 1))
        once = (jnp.arange(n) < units).astype(weights.dtype)
        times = jnp.zeros_like(weights).at[first[drawn]].add(once)
        return score(weights * (times if groups is None else times[groups]))

    # Chunks of one size, the last one filled up: a rest would be a second program.
    chunks = -(-resamples // max(_CHUNK // n, 1))
    size = -(-resamples // chunks)
    index = jnp.arange(chunks * size).reshape(chunks, size)
    scores = lax.map(jax.vmap(resampled), index).reshape(-1)[:resamples]
    ends = jnp.nanquantile(scores, jnp.stack([(1 - level) / 2, (1 + level) / 2]))
    interval = Interval(
        estimate=score(weights),
        low=ends[0],
        high=ends[1],
        standard_error=jnp.nanstd(scores),
        status=probe.status,
    )
    return poison(interval, probe.status)
