"""Probes of contrast pairs that see no labels: what they share, and the two in closed form."""

from typing import ClassVar, Generic, NamedTuple, Self, TypeVar

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Int, UInt32

from erasejax._core import inputs
from erasejax._core.programs import program, thoroughly
from erasejax._core.pytrees import Tree, static
from erasejax._core.status import Status, check_single, failed, flag, poison, thrown
from erasejax._core.types import Given, Key
from erasejax._core.unfitted import Unfitted
from erasejax._core.views import Shown
from erasejax._linalg import products
from erasejax._linalg.products import product, safe_reciprocal
from erasejax.names import Named
from erasejax.rows import (
    Columned,
    PairNormalization,
    Pairs,
    as_pairs,
    columns_of,
    normalized_rows,
    remember_columns,
    shares,
)

__all__ = ["CRC", "ContrastClassifier", "ContrastProbe", "Halves", "RandomDirection"]


class Halves(NamedTuple):
    """Normalised pairs that a probe is fitted to.

    Attributes:
      x: (2, n, d) both halves, zeros where the weight is 0.
      share: (n,) of the total weight, sums to 1.
      normalization: how x was made.
      status: () uint32.
    """

    x: jax.Array
    share: jax.Array
    normalization: PairNormalization
    status: jax.Array


Q = TypeVar("Q", bound="ContrastClassifier", covariant=True)


class ContrastProbe(Named, Tree, Unfitted, Generic[Q]):
    """A probe of contrast pairs before it is fitted: its options, and `fit`.

    Subclasses write `_fit(halves, key)`.

    Example:
      >>> pairs = ej.datasets.ContrastPairs(rows=3, dims=2, directions=1).sample(jax.random.key(0))
      >>> for probe in (ej.probes.CRC(), ej.probes.RandomDirection()):
      ...     print(probe.fit(pairs, key=jax.random.key(1)).predict(pairs).shape)
      (6,)
      (6,)
    """

    _fitted_to = "x_pos, x_neg"
    role = "probe"

    needs_key = False
    passes = 1  # of a fit over all pairs, about
    scale: str

    def fit(
        self,
        x_pos: Given | Pairs,
        x_neg: Given | None = None,
        *,
        weights: Given | None = None,
        key: Key | None = None,
        templates: Given | None = None,
        num_templates: int | None = None,
        throw: bool = True,
    ) -> Q:
        """Fits the probe to pairs, without labels.

        Args:
          x_pos: (n, d) floats, statements answered yes; or `Pairs`, whose labels are not read.
          x_neg: (n, d) floats, the same statements answered no; left out with `Pairs`.
          weights: (n,) row weights >= 0; pairs of weight 0 are never read. None for ones.
          key: a typed `jax.random.key`, where the probe draws.
          templates: (n,) integers, the wording of each pair; each is normalised by itself.
          num_templates: how many there are; required with templates under jit and vmap.
          throw: whether a failed fit raises; under jit and vmap it never does.

        Returns:
          A fitted probe with `scores`, `predict`, `accuracy`, `oriented` and `status`. Its sign is
          arbitrary.

        Raises:
          FailedLanesError: the fit failed, and `throw` is set.
          TypeError: a half is missing or not floating point, or no key.
          ValueError: shapes do not match, or num_templates is missing or makes no sense.

        Under jit: pure; failures that only values show (NaN, halves that do not differ) set
        `status` bits.
        """
        pairs = _unlabelled(x_pos, x_neg, weights, templates, num_templates)
        key = inputs.drawing_key(type(self).__name__, key, draws=self.needs_key)
        own = inputs.numbers(self, inputs.compute_dtype(pairs.positive))
        with thoroughly(self.passes > 1):
            fitted = _fit(own, pairs, key)
        halves = {"x_pos": pairs.positive, "x_neg": pairs.negative}
        fitted = thrown(fitted, throw, **halves, weights=pairs.weights)
        return remember_columns(fitted, columns_of(x_pos))

    def _fit(self, halves: Halves, key: jax.Array | None) -> Q:
        raise NotImplementedError


def _unlabelled(
    x_pos: Given | Pairs,
    x_neg: Given | None,
    weights: Given | None,
    templates: Given | None,
    num_templates: int | None,
) -> Pairs:
    """Returns checked pairs without labels and distractor."""
    pairs = as_pairs(
        x_pos, x_neg, weights=weights, templates=templates, num_templates=num_templates
    )
    return pairs.replace(labels=None, distractor=None)


@program
def _fit(probe: ContrastProbe[Q], pairs: Pairs, key: jax.Array | None) -> Q:
    halves = normalized_halves(pairs, probe.scale)
    return poison(probe._fit(halves, key), halves.status)


def normalized_halves(pairs: Pairs, scale: str) -> Halves:
    """Returns pairs normalised by their own statistics, with what is wrong with them.

    CONSTANT_CONCEPT is set where the halves differ by no more than rounding.

    Args:
      pairs: checked pairs.
      scale: static; the rule of the normalisation.
    """
    normalization = PairNormalization.of(pairs, scale=scale)
    x = normalized_rows(normalization, pairs)
    raw = normalized_rows(
        normalization.replace(
            mean=jnp.zeros_like(normalization.mean), scale=jnp.ones_like(normalization.scale)
        ),
        pairs,
    )
    spacing = 16 * jnp.finfo(x.dtype).eps * jnp.max(jnp.abs(raw), axis=(0, 1))
    scale_of = jnp.nanmax(normalization.scale, axis=(0, 1))
    apart = jnp.max(jnp.abs(x[0] - x[1]), axis=0) * scale_of
    status = normalization.status | flag(
        ~(apart > spacing).any() & ~failed(normalization.status), Status.CONSTANT_CONCEPT
    )
    return Halves(x, shares(pairs, x.dtype), normalization, status)


@struct.dataclass
class ContrastClassifier(Shown, Columned):
    """A fitted probe that says which answer of a pair is true, from x+ - x- along a direction.

    What it predicts is 1 where yes is true, up to an arbitrary sign that only labels can tell:
    `oriented` sets it.

    Attributes:
      weight: (d,) unit vector, in the normalised features.
      sign: () 1 or -1, what scores are multiplied by.
      normalization: what is subtracted from either half.
      status: () uint32 bits, see `erasejax.Status`.

    Example:
      >>> pairs = ej.datasets.ContrastPairs(rows=3, dims=2, directions=1).sample(jax.random.key(0))
      >>> probe = ej.probes.CRC().fit(pairs)
      >>> round(float(jnp.linalg.norm(probe.weight)), 3), 0.5 <= float(probe.accuracy(pairs)) <= 1
      (1.0, True)
    """

    weight: Float[Array, " d"]
    sign: Float[Array, ""]
    normalization: PairNormalization
    status: UInt32[Array, ""]

    num_classes = 2

    @property
    def dims(self) -> int:
        """How many features the probe was fitted on, d."""
        return self.weight.shape[-1]

    def _facts(self, lane: Self) -> dict[str, object]:
        return {"features": lane.dims, "reads": "contrast pairs, up to a sign"}

    def scores(
        self,
        x_pos: Given | Pairs,
        x_neg: Given | None = None,
        *,
        templates: Given | None = None,
        statistics: str = "training",
    ) -> Float[Array, " n"]:
        """Returns the scores of pairs, positive where yes is taken for true.

        Args:
          x_pos: (n, d) floats, or `Pairs`.
          x_neg: (n, d) floats; left out with `Pairs`.
          templates: (n,) integers; required where the probe was fitted with several.
          statistics: static. "training" normalises by what was fitted and kept. "own" normalises
            the given pairs by their own means, the published evaluation: scores then depend on what
            else is scored.

        Returns:
          (n,); NaN where fitting failed, and for templates that had no training pairs.

        Raises:
          TypeError: a half is missing or not floating point.
          ValueError: shapes do not match, or templates are missing.
        """
        check_single(self, "probe.scores(x)")
        return self._read(as_pairs(x_pos, x_neg, templates=templates, of=self), statistics)

    def predict(
        self,
        x_pos: Given | Pairs,
        x_neg: Given | None = None,
        *,
        templates: Given | None = None,
        statistics: str = "training",
    ) -> Int[Array, " n"]:
        """Returns the predicted labels of pairs, (n,) int32: 1 where yes is taken for true.

        Ties are 0; -1 where the score is NaN.

        Args:
          x_pos: as in `scores`.
          x_neg: as in `scores`.
          templates: as in `scores`.
          statistics: static; as in `scores`.
        """
        return _decide(self.scores(x_pos, x_neg, templates=templates, statistics=statistics))

    def accuracy(
        self,
        x_pos: Given | Pairs,
        x_neg: Given | None = None,
        z: Given | None = None,
        *,
        weights: Given | None = None,
        templates: Given | None = None,
        statistics: str = "training",
        sign: str = "free",
    ) -> Float[Array, ""]:
        """Returns the share of pairs whose label the probe predicts.

        Args:
          x_pos: (n, d) floats, or `Pairs`.
          x_neg: (n, d) floats; left out with `Pairs`.
          z: (n,) integer labels, 1 where yes is true; None for the labels of the pairs.
          weights: (n,) row weights, or None.
          templates: as in `scores`.
          statistics: static; as in `scores`.
          sign: static. "free" takes the better sign for these pairs, max(a, 1 - a): the published
            evaluation of a probe without labels, which never falls below one half. "kept" takes
            the sign that the probe has, for one that was `oriented` on other pairs.

        Returns:
          () in [0, 1]; NaN where the probe failed.

        Raises:
          TypeError: there are no labels.
          ValueError: shapes do not match, or an option is unknown.
        """
        inputs.choice("sign", sign, ("free", "kept"))
        pairs = as_pairs(x_pos, x_neg, z, weights=weights, templates=templates, of=self)
        right = _share_right(self._read(pairs, statistics), pairs)
        return jnp.maximum(right, 1 - right) if sign == "free" else right

    def oriented(
        self,
        x_pos: Given | Pairs,
        x_neg: Given | None = None,
        z: Given | None = None,
        *,
        weights: Given | None = None,
        templates: Given | None = None,
        statistics: str = "training",
    ) -> Self:
        """Returns the probe with the sign that predicts most labels of these pairs right.

        Args:
          x_pos: (n, d) floats, or `Pairs`.
          x_neg: (n, d) floats; left out with `Pairs`.
          z: (n,) integer labels; None for the labels of the pairs.
          weights: (n,) row weights, or None.
          templates: as in `scores`.
          statistics: static; as in `scores`.

        Returns:
          The probe, its `sign` set.

        Raises:
          TypeError: there are no labels.
          ValueError: shapes do not match.
        """
        pairs = as_pairs(x_pos, x_neg, z, weights=weights, templates=templates, of=self)
        right = _share_right(self._read(pairs, statistics), pairs)
        oriented = self.replace(sign=jnp.where(right < 0.5, -self.sign, self.sign))
        return remember_columns(oriented, self.columns)

    def _read(self, pairs: Pairs, statistics: str) -> jax.Array:
        pairs = self.normalization._checked(pairs, statistics)
        return _scores(self, pairs.replace(labels=None, distractor=None), statistics)

    def _scores(self, x: jax.Array) -> jax.Array:
        """Returns the scores (n,) of normalised halves (2, n, d)."""
        return self.sign * product("nd,d->n", x[0] - x[1], self.weight)


@program(static_argnames="statistics")
def _scores(probe: ContrastClassifier, pairs: Pairs, statistics: str) -> jax.Array:
    normal = probe.normalization(pairs, statistics=statistics)
    return probe._scores(jnp.stack([normal.positive, normal.negative]))


def _decide(scores: jax.Array) -> jax.Array:
    return jnp.where(jnp.isnan(scores), -1, (scores > 0).astype(jnp.int32))


@program
def _share_right(scores: jax.Array, pairs: Pairs) -> jax.Array:
    """Returns the weighted share of pairs with the right label, (); NaN where no score is a number.

    Raises:
      TypeError: the pairs have no labels.
    """
    if pairs.labels is None:
        raise TypeError("z: missing; give the labels, one a pair, or Pairs that have them")
    share = shares(pairs, scores.dtype)
    right = jnp.sum(jnp.where(_decide(scores) == pairs.labels, share, 0))
    return jnp.where(jnp.isnan(scores).all(), jnp.nan, right)


@struct.dataclass(kw_only=True)
class CRC(ContrastProbe[ContrastClassifier]):
    """The top principal component of x+ - x- (CRC-TPC, contrastive representation clustering).

    Two clusters, true and not, would lie along it; so would those of any feature with more spread.
    Exact, by an eigendecomposition in the smaller of n and d.

    Attributes:
      scale: static; how the halves are scaled, see `PairNormalization.of`.

    Example:
      >>> pairs = ej.datasets.ContrastPairs(rows=3, dims=2, directions=1).sample(jax.random.key(0))
      >>> probe = ej.probes.CRC().fit(pairs)
      >>> probe.oriented(pairs).scores(pairs).shape
      (6,)

    References:
      Burns et al. 2022, arXiv 2212.03827.
    """

    name: ClassVar[str] = "crc"

    scale: str = static("none")

    def _fit(self, halves: Halves, key: jax.Array | None) -> ContrastClassifier:
        x = halves.x[0] - halves.x[1]
        peak = jnp.max(jnp.abs(x))
        x = x * safe_reciprocal(peak, peak > 0) * jnp.sqrt(halves.share)[:, None]
        n, d = x.shape
        _, vectors = jnp.linalg.eigh(products.gram(x if n >= d else x.T))
        top = vectors[:, -1]
        if n < d:
            top = product("nd,n->d", x, top)
        return _along(top, halves)


@struct.dataclass(kw_only=True)
class RandomDirection(ContrastProbe[ContrastClassifier]):
    """A random direction of x+ - x-: the baseline that shows how easy the pairs are.

    `fit` needs a key.

    Attributes:
      scale: static; how the halves are scaled, see `PairNormalization.of`.

    Example:
      >>> pairs = ej.datasets.ContrastPairs(rows=3, dims=2, directions=1).sample(jax.random.key(0))
      >>> probe = ej.probes.RandomDirection().fit(pairs, key=jax.random.key(1))
      >>> round(float(jnp.linalg.norm(probe.weight)), 3)
      1.0
    """

    name: ClassVar[str] = "random-direction"

    scale: str = static("none")

    needs_key = True

    def _fit(self, halves: Halves, key: jax.Array | None) -> ContrastClassifier:
        assert key is not None
        return _along(jax.random.normal(key, halves.x.shape[2:], halves.x.dtype), halves)


def _along(direction: jax.Array, halves: Halves) -> ContrastClassifier:
    """Returns the probe of a direction (d,), made a unit vector."""
    length = products.column_norms(direction[:, None])
    return ContrastClassifier(
        weight=direction * safe_reciprocal(length, length > 0),
        sign=jnp.ones((), direction.dtype),
        normalization=halves.normalization,
        status=halves.status,
    )
