"""Contrast pairs: a statement answered yes and no, and how the two halves are normalised.

Each half has an offset that only says which answer was appended. It is removed by subtracting each
half's own mean, per template where statements come in several wordings.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.core import Tracer
from jaxtyping import Array, Float, Int, UInt32

from erasejax._core import inputs
from erasejax._core.foreign import as_jax_or_numpy
from erasejax._core.programs import program
from erasejax._core.pytrees import Tree, static
from erasejax._core.status import Status, flag, poison
from erasejax._core.types import DTypeLike, Given
from erasejax._linalg.products import product, safe_reciprocal
from erasejax.rows._columns import check_columns, columns_of
from erasejax.rows._dataset import Dataset

__all__ = ["PairNormalization", "Pairs", "as_pairs"]

_SCALES = ("none", "features", "common")
_STATISTICS = ("training", "own")


@struct.dataclass
class Pairs(Tree):
    """Contrast pairs: the features of statements answered yes, and of the same answered no.

    Attributes:
      positive: (n, d) floats, features of the statements answered yes.
      negative: (n, d), of the same statements answered no.
      labels: (n,) int32, 1 where yes is true; None where unknown.
      templates: (n,) int32 in [0, num_templates), the wording of each statement, or None for one.
      distractor: (n,) int32, another binary feature of the statements, 0 or 1, or None.
      weights: (n,) row weights >= 0, or None for all equal. Pairs of weight 0 are never read.
      num_templates: static; how many templates there are, None without.

    Example:
      >>> pairs = ej.Pairs(positive=jnp.ones((6, 2)), negative=jnp.zeros((6, 2)))
      >>> pairs.positive.shape, pairs.labels is None
      ((6, 2), True)
    """

    positive: Float[Array, "n d"]
    negative: Float[Array, "n d"]
    labels: Int[Array, " n"] | None = None
    templates: Int[Array, " n"] | None = None
    distractor: Int[Array, " n"] | None = None
    weights: Float[Array, " n"] | None = None
    num_templates: int | None = static(None)


def as_pairs(
    x_pos: Given | Pairs,
    x_neg: Given | None = None,
    z: Given | None = None,
    *,
    weights: Given | None = None,
    templates: Given | None = None,
    num_templates: int | None = None,
    of: object = None,
) -> Pairs:
    """Checks and coerces what contrast probes are given into `Pairs`.

    Args:
      x_pos: (n, d) floats, or `Pairs`, and then x_neg is left out.
      x_neg: (n, d) floats.
      z: (n,) integer or boolean labels, or None.
      weights: (n,) or None.
      templates: (n,) integers, or None for one template.
      num_templates: static; counted where it is None and the templates are concrete.
      of: what was fitted and reads them, of the same columns.

    Returns:
      `Pairs` of JAX arrays, both halves of one dtype; a given option replaces that of the pairs.

    Raises:
      TypeError: the halves are not floating point, one is missing, or labels or templates are not
        integers.
      ValueError: shapes or columns do not match, or num_templates is missing or makes no sense.
    """
    check_columns("x_pos", x_pos, of)
    distractor = None
    if isinstance(x_pos, Pairs):
        if x_neg is not None:
            raise TypeError("x_neg: Pairs bring both halves; leave x_neg out")
        pairs, distractor = x_pos, x_pos.distractor
        x_pos, x_neg = pairs.positive, pairs.negative
        z = pairs.labels if z is None else z
        weights = pairs.weights if weights is None else weights
        num_templates = pairs.num_templates if num_templates is None else num_templates
        templates = pairs.templates if templates is None else templates
    elif x_neg is None:
        raise TypeError("x_neg: missing; give both halves (x_pos, x_neg), or Pairs")
    names = columns_of(x_pos), columns_of(x_neg)
    if None not in names and names[0] != names[1]:
        raise ValueError("x_neg: expected the columns of x_pos, in their order")
    x_pos, x_neg = inputs.features("x_pos", x_pos), inputs.features("x_neg", x_neg)
    if x_pos.shape != x_neg.shape:
        raise ValueError(f"x_neg: expected the shape of x_pos {x_pos.shape}, got {x_neg.shape}")
    dtype = jnp.result_type(x_pos, x_neg)
    n = x_pos.shape[0]
    if templates is None:
        num_templates = None
    else:
        templates = _integers("templates", templates, n)
        if num_templates is None:
            num_templates = _count_templates(templates)
        if num_templates < 1:
            raise ValueError(f"num_templates: expected at least 1, got {num_templates}")
    return Pairs(
        positive=x_pos.astype(dtype),
        negative=x_neg.astype(dtype),
        labels=None if z is None else _integers("z", z, n),
        templates=templates,
        distractor=None if distractor is None else _integers("distractor", distractor, n),
        weights=inputs.row_weights(weights, n, inputs.compute_dtype(x_pos, x_neg)),
        num_templates=num_templates,
    )


def _integers(name: str, value: Given, n: int) -> jax.Array:
    """Returns integers (n,) as int32.

    Raises:
      TypeError: they are not integers or booleans.
      ValueError: there are not n.
    """
    value = as_jax_or_numpy(name, value)
    if value.dtype != bool and not jnp.issubdtype(value.dtype, jnp.integer):
        raise TypeError(f"{name}: expected integers, got {value.dtype}")
    if value.shape != (n,):
        hint = f"; pass {name}[:, 0]" if value.shape == (n, 1) else ""
        raise ValueError(f"{name}: expected shape ({n},), one a pair, got {value.shape}{hint}")
    return inputs.as_labels(name, value)


def _count_templates(templates: jax.Array) -> int:
    """Returns 1 + the largest template.

    Raises:
      ValueError: the templates are traced, or larger than the number of pairs allows.
    """
    if isinstance(templates, Tracer):
        raise ValueError(
            "num_templates: required with templates under jit, vmap or grad, where values are not "
            "known; pass num_templates=..., or Pairs, which carry it"
        )
    count, n = int(np.asarray(templates).max()) + 1, len(templates)
    if count > n:
        raise ValueError(f"templates: the largest is {count - 1} but there are only {n} pairs")
    return count


@struct.dataclass
class PairNormalization(Tree):
    """How contrast pairs are normalised: what is subtracted from each half, and what divides it.

    Attributes:
      mean: (2, t, d) mean of the first half, answered yes, and of the second, for each of t
        templates; NaN for a template without rows, whose pairs then have NaN scores.
      scale: (2, t, d) what the difference is divided by; 1 where nothing is, 0 where a feature is
        constant and not read.
      status: () uint32 bits, see `erasejax.Status`.
      rule: static; "none", "features" or "common", see `of`.

    Example:
      >>> pairs = ej.datasets.ContrastPairs(rows=3, dims=2, directions=1).sample(jax.random.key(0))
      >>> normalization = ej.PairNormalization.of(pairs)
      >>> np.allclose(normalization(pairs).positive.mean(axis=0), 0, atol=1e-5)
      True
      >>> normalization.differences(pairs).x.shape
      (6, 2)
    """

    mean: Float[Array, "2 t d"]
    scale: Float[Array, "2 t d"]
    status: UInt32[Array, ""]
    rule: str = static("none")

    @classmethod
    def of(cls, pairs: Pairs, *, scale: str = "none") -> "PairNormalization":
        """Returns the statistics of pairs.

        Args:
          pairs: the pairs; their templates are used where they have them.
          scale: static. "none" divides by nothing. "features" divides each feature of each half by
            its standard deviation. "common" divides everything by one number, the root of the mean
            variance of a feature, which changes the units and nothing else.

        Returns:
          `PairNormalization`.

        Raises:
          ValueError: the scale is unknown.

        Under jit: pure; what only values show sets `status` bits.
        """
        inputs.choice("scale", scale, _SCALES)
        return _statistics(as_pairs(pairs), scale)

    def __call__(self, pairs: Pairs, *, statistics: str = "training") -> Pairs:
        """Normalises pairs.

        Args:
          pairs: n pairs of d features, with templates where this was fitted with several.
          statistics: static. "training" uses the statistics kept here, those of the rows that were
            fitted. "own" takes those of the given pairs instead, so that a pair's result depends
            on which others it comes with: the published evaluation.

        Returns:
          `Pairs`, in at least float32.

        Raises:
          ValueError: another number of features, templates are missing, or the option is unknown.
        """
        pairs = self._checked(as_pairs(pairs), statistics)
        x = _normalized(self, pairs, statistics)
        return pairs.replace(positive=x[0], negative=x[1])

    def differences(self, pairs: Pairs, *, statistics: str = "training") -> Dataset:
        """Returns the differences of the normalised halves with their labels: a `Dataset`.

        Any labelled probe reads truth from these: logistic regression on contrast pairs is
        `Logistic().fit(normalization.differences(train))`.

        Args:
          pairs: n pairs with labels.
          statistics: static; as in `__call__`.

        Returns:
          `Dataset`: x (n, d), z the labels, two classes, the pairs' weights.

        Raises:
          TypeError: the pairs have no labels.
          ValueError: as `__call__`.
        """
        pairs = self(pairs, statistics=statistics)
        if pairs.labels is None:
            raise TypeError("pairs: have no labels, which a labelled probe needs")
        return Dataset(
            x=pairs.positive - pairs.negative,
            z=pairs.labels,
            num_classes=2,
            weights=pairs.weights,
        )

    def _checked(self, pairs: Pairs, statistics: str) -> Pairs:
        """Returns the pairs with the templates that this normalisation knows, if any.

        Raises:
          ValueError: they do not match it, or the option is unknown.
        """
        inputs.choice("statistics", statistics, _STATISTICS)
        _, count, d = self.mean.shape[-3:]
        if pairs.positive.shape[1] != d:
            raise ValueError(f"x_pos: fitted on {d} features, got {pairs.positive.shape}")
        if count > 1 and pairs.templates is None:
            raise ValueError(f"templates: required, fitted with {count} templates")
        if count == 1:
            return pairs.replace(templates=None, num_templates=None)
        return pairs.replace(num_templates=count)


def normalized_rows(normalization: PairNormalization, pairs: Pairs) -> Float[Array, "2 n d"]:
    """Returns normalised halves, (2, n, d), zeros where the weight is 0, whatever was there."""
    mean, scale = (_of_rows(a, pairs) for a in (normalization.mean, normalization.scale))
    x = jnp.stack([pairs.positive, pairs.negative]).astype(mean.dtype)
    x = (x - mean) * safe_reciprocal(scale, scale > 0)
    if pairs.weights is not None:
        x = jnp.where((pairs.weights != 0)[:, None], x, 0)
    return x


def _of_rows(statistic: jax.Array, pairs: Pairs) -> jax.Array:
    """Returns a statistic (2, t, d) for each row, (2, 1 or n, d); NaN for unknown templates."""
    if pairs.templates is None:
        return statistic
    known = (pairs.templates >= 0) & (pairs.templates < statistic.shape[1])
    of_row = statistic[:, jnp.where(known, pairs.templates, 0)]
    return jnp.where(known[:, None], of_row, jnp.nan)


def shares(pairs: Pairs, dtype: DTypeLike) -> Float[Array, " n"]:
    """Returns each pair's share of the total weight, (n,)."""
    n = pairs.positive.shape[0]
    if pairs.weights is None:
        return jnp.full(n, 1 / n, dtype)
    total = jnp.sum(pairs.weights)
    return (pairs.weights * safe_reciprocal(total, total != 0)).astype(dtype)


@program(static_argnames="statistics")
def _normalized(normalization: PairNormalization, pairs: Pairs, statistics: str) -> jax.Array:
    if statistics == "own":
        own = _statistics(pairs, normalization.rule)
        # What failed in fitting stays failed.
        normalization = poison(own, normalization.status)
    # Pairs of weight 0 are normalised too: they may be wanted.
    return normalized_rows(normalization, pairs.replace(weights=None))


@program(static_argnames="rule")
def _statistics(pairs: Pairs, rule: str) -> PairNormalization:
    dtype = inputs.compute_dtype(pairs.positive)
    x = jnp.stack([pairs.positive, pairs.negative]).astype(dtype)
    n, d = pairs.positive.shape
    weights, templates = pairs.weights, pairs.templates
    share = shares(pairs, dtype)
    status = jnp.uint32(0)
    seen = jnp.ones(n, bool)
    if weights is not None:
        seen = weights != 0
        x = jnp.where(seen[:, None], x, 0)
        status |= flag((weights < 0).any(), Status.NEGATIVE_WEIGHT)
        status |= flag(~seen.any(), Status.NO_WEIGHT)
    count = pairs.num_templates or 1
    members = share[:, None]
    if templates is not None:
        outside = (templates < 0) | (templates >= count)
        status |= flag((outside & seen).any(), Status.LABEL_RANGE)
        members = jnp.where(templates[:, None] == jnp.arange(count), members, 0)
    size = jnp.sum(members, axis=0)
    inverse = safe_reciprocal(size, size > 0)[:, None]
    # About a first mean: the second then rounds in deviations, not in units of a far-off mean.
    shift = product("n,hnd->hd", share, x)[:, None]
    gaps = inverse * product("nt,hnd->htd", members, x - shift)
    mean = jnp.where(size[:, None] > 0, shift + gaps, jnp.nan)
    status |= flag(~jnp.isfinite(jnp.sum(gaps)), Status.NONFINITE)
    scale = jnp.ones((2, count, d), dtype)
    if rule != "none":
        of_row = gaps if templates is None else gaps[:, jnp.clip(templates, 0, count - 1)]
        squares = (x - shift - of_row) ** 2
        if rule == "features":
            scale = jnp.sqrt(inverse * product("nt,hnd->htd", members, squares))
            scale = jnp.where(scale > jnp.finfo(dtype).eps * jnp.abs(mean), scale, 0)
        else:
            common = jnp.sqrt(jnp.mean(product("n,hnd->hd", share, squares)))
            scale = common * scale
    found = PairNormalization(mean=mean, scale=scale, status=status, rule=rule)
    return poison(found, status)
