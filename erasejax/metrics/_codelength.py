"""How many bits labels take for who has the features: online coding with a probe."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, UInt32

from erasejax._core.programs import program
from erasejax._core.pytrees import Tree
from erasejax._core.status import Status, failed, flag, poison, thrown
from erasejax._core.types import Given, Key
from erasejax._linalg.products import safe_reciprocal
from erasejax.metrics._base import Metric
from erasejax.metrics._training import (
    FRACTIONS,
    Material,
    Trainable,
    as_fractions,
    fit_prefix,
    half_width,
    losses,
    material,
    prefix_sizes,
    standard_error,
    status_of,
)
from erasejax.rows import Dataset, random_order, reordered

__all__ = ["Codelength", "OnlineCode", "codelength"]


@struct.dataclass(kw_only=True)
class OnlineCode(Tree):
    """What `codelength` found. Bits are of all rows together; rows of weight w count w times.

    Attributes:
      bits: () length of the labels' code.
      low: () lower end of its interval.
      high: () upper end.
      standard_error: () of `bits`.
      uniform: () bits of the code that knows nothing, rows times log2 of the number of classes.
      compression: () uniform / bits: above 1 where features tell something of the labels.
      null: () bits that permuted labels take, the mean over the permutations; NaN of none.
      sizes: (s,) how many rows there are up to the end of each block.
      block_bits: (s,) bits of each block.
      status: () uint32 bits, see `erasejax.Status`.

    Example:
      >>> dataset = ej.datasets.GaussianClasses(separation=9.0, rows=64, dims=2)
      >>> data = dataset.sample(jax.random.key(0))
      >>> code = ej.metrics.codelength(ej.probes.LDA(), data, key=jax.random.key(1))
      >>> float(code.uniform), int(code.sizes[-1]), bool(code.bits < code.null)
      (128.0, 128, True)
    """

    bits: Float[Array, ""]
    low: Float[Array, ""]
    high: Float[Array, ""]
    standard_error: Float[Array, ""]
    uniform: Float[Array, ""]
    compression: Float[Array, ""]
    null: Float[Array, ""]
    sizes: Int[Array, " s"]
    block_bits: Float[Array, " s"]
    status: UInt32[Array, ""]


def codelength(
    probe: Trainable,
    x: Given | Dataset,
    z: Given | None = None,
    *,
    key: Key,
    fractions: ArrayLike | Sequence[float] = FRACTIONS,
    permutations: int = 1,
    weights: Given | None = None,
    num_classes: int | None = None,
    groups: Given | None = None,
    level: ArrayLike = 0.95,
    throw: bool = True,
) -> OnlineCode:
    """Returns how many bits the labels take, sent block by block to who has the features.

    The rows come in random order, in blocks that end at fractions of them. The first block is sent
    with the uniform code, log2 k bits a label; each further one with the probabilities of the probe
    fitted to all rows before it, -log2 p(z) bits a label. So it counts how well a probe reads and
    how few rows it needs for that. Labels that the features say nothing of take a little more than
    the uniform code, or of unequal classes than their entropy: `null` says how much.

    While one of the classes has no row yet, no probe is fitted, and the uniform code goes on: who
    receives it knows as much, so it can be read, and a probe would give that class no probability
    and take infinitely many bits. A probe that is sure of what is wrong pays for it in full. Where
    a probe gives a label probability 0 the length is infinite.

    The interval is for other rows to send, with the probes as they are: the deviations of the rows
    from the means of their blocks.

    Args:
      probe: the configuration of a classifier with a likelihood.
      x: (n, d) floats, or a `Dataset` and no z.
      z: (n,) integer labels.
      key: a typed `jax.random.key`, of the order of the rows, of permutations and of the probe.
      fractions: (s,) rising, in (0, 1]; the last is taken for 1.
      permutations: static; how many times labels are permuted, for `null`. Each takes as long as
        the code itself, and no program of its own.
      weights: (n,) row weights, or None.
      num_classes: number of classes; required under jit.
      groups: (n,) integers of any values, which rows belong together (text where not traced), or
        None. No group is in two blocks, so that none is read by who has seen its rows.
      level: () in (0, 1), how often the interval should cover.
      throw: whether it raises if rows cannot be used; under jit and vmap it never does.

    Returns:
      An `OnlineCode`; NaN where the rows cannot be used, or a fit failed.

    Raises:
      FailedLanesError: the rows cannot be used, or a fit failed, and `throw` is set.
      TypeError: z is not class labels, or the probe has no likelihood.
      ValueError: fractions do not rise, or shapes do not match.

    Under jit: pure.

    Example:
      >>> dataset = ej.datasets.GaussianClasses(separation=9.0, rows=64, dims=2)
      >>> data = dataset.sample(jax.random.key(0))
      >>> code = ej.metrics.codelength(ej.probes.LDA(), data, key=jax.random.key(1))
      >>> bool(code.compression > 3)
      True

    References:
      Voita and Titov 2020, arXiv 2003.12298.
    """
    if int(permutations) != permutations or permutations < 0:
        raise ValueError(f"permutations: expected a whole number of at least 0, got {permutations}")
    options = {"weights": weights, "num_classes": num_classes, "groups": groups, "level": level}
    given = material(probe, x, z, key=key, **options)
    steps = as_fractions(fractions, given.level.dtype)
    return thrown(_codelength(given, steps, int(permutations)), throw)


class Codelength(Metric):
    """`codelength` by its name: bits of the labels of the rows that the probe is fitted to.

    Example:
      >>> ej.metrics.Codelength.name, ej.metrics.Codelength.of
      ('codelength', 'fit')
    """

    name = "codelength"
    title = "codelength (bits)"
    of = "fit"
    needs = frozenset({"classes", "likelihood"})

    def compute(
        self, probe: Trainable, fitted: Any, fit: Dataset, score: Dataset, *, key: jax.Array
    ) -> jax.Array:
        """Returns the bits that the labels of `fit` take."""
        return codelength(probe, fit, key=key, permutations=0, throw=False).bits


@program(static_argnums=2)
def _codelength(given: Material, fractions: jax.Array, permutations: int) -> OnlineCode:
    own, *_ = keys = jax.random.split(given.key, 2 + permutations)
    draw = jax.vmap(lambda key: random_order(given.data, given.groups, key))
    orders = draw(keys[1:])
    data = reordered(given.data, orders[0])
    groups = None if given.groups is None else jnp.asarray(given.groups)[orders[0]]
    weights, rows = data.row_weights, jnp.arange(data.x.shape[0])
    sizes = prefix_sizes(weights, groups, fractions.at[-1].set(1))
    nothing = jnp.full(rows.shape, np.log2(data.num_classes or 2), weights.dtype)

    def sent(z: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns the bits of each label, (n,), and a status word."""
        labelled = data.replace(z=z)

        def block(code: tuple[jax.Array, jax.Array], ends: tuple[jax.Array, jax.Array]):
            start, stop = ends
            lost, usable, found = fit_prefix(
                given.probe, labelled, start, own, lambda probe: losses(probe, data.x, z)
            )
            now = (rows >= start) & (rows < stop) & usable
            bits = jnp.where(now, lost.astype(weights.dtype), code[0])
            return (bits, code[1] | found), None

        ends = sizes[:-1], sizes[1:]
        return jax.lax.scan(block, (nothing, status_of(labelled)), ends)[0]

    # Labels in another order than the features: permuted.
    bits, status = jax.lax.map(sent, given.data.z[orders])
    counted = jnp.where(weights != 0, weights * bits, 0)
    totals = jnp.sum(jnp.asarray(counted), axis=1)
    starts = jnp.concatenate([jnp.zeros_like(sizes[:1]), sizes[:-1]])
    inside = (rows >= starts[:, None]) & (rows < sizes[:, None])
    block_bits = jnp.sum(jnp.where(inside, counted[0], 0), axis=1)
    block_weight = jnp.sum(jnp.where(inside, weights, 0), axis=1)
    means = block_bits * safe_reciprocal(block_weight, block_weight > 0)
    total = jnp.sum(weights)
    own_mean = jnp.sum(jnp.where(inside, means[:, None], 0), axis=0)
    error = total * standard_error(bits[0] - own_mean, weights, groups)
    width = half_width(error, given.level)
    uniform = total * nothing[0]
    status = status[0] | flag(jnp.isnan(totals[0]) & ~failed(status[0]), Status.NONFINITE)
    code = OnlineCode(
        bits=totals[0],
        low=jnp.maximum(totals[0] - width, 0),
        high=totals[0] + width,
        standard_error=error,
        uniform=uniform,
        compression=uniform / totals[0],
        null=jnp.mean(totals[1:]) if permutations else jnp.full_like(total, jnp.nan),
        sizes=sizes,
        block_bits=block_bits,
        status=status,
    )
    return poison(code, status)
