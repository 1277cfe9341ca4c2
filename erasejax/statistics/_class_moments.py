"""Moments class by class: what erasers and probes need that see the covariance of each class."""

from typing import Annotated

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, UInt32

from erasejax._core import inputs
from erasejax._core.programs import own_rules, program
from erasejax._core.pytrees import Inner, Tree
from erasejax._core.status import Status, flag
from erasejax._core.types import DTypeLike, Given
from erasejax._linalg import products, solves
from erasejax._linalg.products import product, safe_reciprocal
from erasejax.rows import (
    Dataset,
    as_dataset_about,
    class_labels,
    codes,
    describe_concept,
    moved,
    reweighted,
)
from erasejax.statistics._concept import class_gaps, null_model
from erasejax.statistics._moments import Moments, _batch, _grain, _merge
from erasejax.statistics._provisional import combine_columns

__all__ = ["ClassMoments"]


@struct.dataclass
class ClassMoments(Tree):
    """Count, mean and centred second moments of x, for each class.

    They are the `Moments` of the rows of each class, stacked; the numerics are those of `Moments`,
    each class a lane of its own. A class far from the others so loses no digits to them.

    Attributes:
      classes: `Moments` with a leading axis of length k, with one-hot labels as the concept.

    Example:
      >>> data = ej.datasets.GaussianClasses(rows=3, dims=2).sample(jax.random.key(0))
      >>> moments = ej.ClassMoments.of(data)
      >>> moments.covariances.shape, float(moments.overall.total)
      ((2, 2, 2), 6.0)
    """

    classes: Annotated[Moments, Inner("k")]

    @classmethod
    def init(cls, d: int, k: int, *, dtype: DTypeLike = jnp.float32) -> "ClassMoments":
        """Returns the moments of no rows.

        Args:
          d: number of features.
          k: number of classes.
          dtype: dtype of the statistics, float32 or float64.

        Raises:
          ValueError: d is not positive, or k is less than two.
        """
        if k < 2:
            raise ValueError(f"k: expected at least 2 classes, got {k}")
        one = Moments.init(d, k, dtype=dtype, one_hot=True)
        return cls(jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (k, *leaf.shape)), one))

    @classmethod
    @own_rules()
    def of(cls, data: Dataset) -> "ClassMoments":
        """Returns the moments of the classes of a dataset; the rows are read once a class.

        Args:
          data: rows with class labels.

        Raises:
          TypeError: the concept is not class labels.
        """
        data, origin = as_dataset_about(data)
        if data.num_classes is None:
            got = describe_concept(data.z)
            raise TypeError(f"z: expected class labels, integers (n,), got {got}")
        weights = data.row_weights
        _, status = codes(data, inputs.compute_dtype(data.x))

        def one(label: jax.Array) -> Moments:
            own = jnp.where(data.z == label, weights, 0)
            return _batch(reweighted(data, own), covariance=True, one_hot=True, task=0)

        # One class at a time: side by side they would hold k copies of each block of rows.
        classes = jax.lax.map(one, jnp.arange(data.num_classes))
        # A row of no class is in no lane, and spoils them all.
        return moved(cls(classes.replace(status=classes.status | status)), origin)

    def _moved(self, origin: jax.Array) -> "ClassMoments":
        """Returns the moments of rows moved by an origin (2, d)."""
        present = (self.classes.count[:, 0] > 0)[:, None, None]
        there = jax.vmap(lambda one: one._moved(origin))(self.classes)
        # A class without rows has no mean to move.
        mean_x = jnp.where(present, there.mean_x, self.classes.mean_x)
        return ClassMoments(there.replace(mean_x=mean_x))

    def update(self, x: Given, z: Given, weights: Given | None = None) -> "ClassMoments":
        """Returns these moments with more rows added.

        Args:
          x: (m, d) floats.
          z: (m,) integer class labels in [0, k).
          weights: (m,) row weights, or None for ones.

        Returns:
          New `ClassMoments`; the old ones are unchanged.

        Raises:
          TypeError: x is not floating point, or z is not class labels.
          ValueError: shapes do not match d.

        Under jit: pure; carry it through `lax.scan`. Rows of weight 0 are never read.
        """
        k, d = self.classes.xz.shape[0], self.classes.xz.shape[1]
        data, origin = as_dataset_about(x, class_labels(z), weights=weights, num_classes=k)
        if data.x.shape[1] != d:
            raise ValueError(f"update: these moments hold d={d} features, got x {data.x.shape}")
        return _update(self, data, origin)

    def merge(self, other: "ClassMoments") -> "ClassMoments":
        """Returns the moments of the rows of both together, as `erasejax.merge` does.

        Args:
          other: of the same features, classes and dtype.

        Raises:
          ValueError: the two do not describe the same features and classes.
        """
        shapes = [(m.classes.xz.shape, m.classes.xz.dtype) for m in (self, other)]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"merge: the moments differ in (k, d, k) and dtype: {shapes[0]} and {shapes[1]}"
            )
        return _merge_classes(self, other)

    @property
    def status(self) -> UInt32[Array, ""]:
        """() uint32 bits of all classes, see `erasejax.Status`."""
        bits = self.classes.status
        return jax.lax.reduce(bits, jnp.uint32(0), jax.lax.bitwise_or, (bits.ndim - 1,))

    @property
    def overall(self) -> Moments:
        """`Moments` of all rows together, with one-hot labels as the concept.

        One merge after the other, each time that it is asked for.
        """

        def whole(one: Moments) -> Moments:
            grain = _grain(one.mean) if one.grain is None else one.grain
            return one.replace(scale=one.unit, grain=grain)

        classes = jax.vmap(whole)(self.classes)
        first = jax.tree.map(lambda leaf: leaf[0], classes)
        others = jax.tree.map(lambda leaf: leaf[1:], classes)
        return jax.lax.scan(lambda total, one: (_merge(total, one), None), first, others)[0]

    @property
    def share(self) -> Float[Array, " k"]:
        """(k,) class frequencies by weight."""
        size = self.classes.count[:, 0] + self.classes.count[:, 1]
        total = jnp.sum(size)
        return size * safe_reciprocal(total, total != 0)

    @property
    def means(self) -> Float[Array, "k d"]:
        """(k, d) class means; 0 for classes without rows."""
        return self.classes.mean_x[:, 0] + self.classes.mean_x[:, 1]

    @property
    def rest(self) -> Float[Array, "k d"]:
        """(k, d) what rounding took from the class means."""
        return (self.classes.mean_x[:, 0] - self.means) + self.classes.mean_x[:, 1]

    @property
    def covariances(self) -> Float[Array, "k d d"]:
        """(k, d, d) covariances, dividing by the weight of the class; 0 for classes without rows.

        Maximum likelihood, as in scikit-learn from 1.8 on; before, it divides by one less.
        """
        return jax.vmap(lambda one: one.covariance)(self.classes)

    def _unit_covariances(self, scale: jax.Array) -> jax.Array:
        """Returns the covariances (k, d, d) of features divided by a scale.

        Args:
          scale: (d,) >= 0; features of scale 0 become 0.
        """
        inverse = safe_reciprocal(scale, scale > 0)

        def one(moments: Moments) -> jax.Array:
            ratio = moments.unit * inverse
            covariance = moments.xx * safe_reciprocal(moments.total, moments.total > 0)
            return ratio[:, None] * covariance * ratio[None, :]

        return jax.vmap(one)(self.classes)

    @property
    @own_rules()
    def sd(self) -> Float[Array, " d"]:
        """(d,) standard deviations within the classes, pooled; 0 where x is constant in each class.

        A feature that varies by less than `least` is constant.
        """
        spread = jax.vmap(lambda one: one.spread)(self.classes)
        peak = jnp.max(spread, axis=0)
        unit = spread * safe_reciprocal(peak, peak > 0)
        sd = peak * jnp.sqrt(jnp.sum(self.share[:, None] * unit**2, axis=0))
        return jnp.where(sd > self.least, sd, 0)

    @property
    def least(self) -> Float[Array, " d"]:
        """(d,) the least variation within classes that could be seen: `spacing`, or 1e-31."""
        info = jnp.finfo(self.means.dtype)
        return jnp.maximum(self.spacing, info.tiny / info.eps)

    @property
    def spacing(self) -> Float[Array, " d"]:
        """(d,) how far numbers lie apart at the rows of the class that is farthest out."""
        return jnp.max(jax.vmap(lambda one: one.spacing)(self.classes), axis=0)


@program
def _update(moments: ClassMoments, data: Dataset, origin: jax.Array | None) -> ClassMoments:
    data = data.replace(x=data.x.astype(moments.classes.xz.dtype))
    return _merge_classes(moments, moved(ClassMoments.of(data), origin))


@program
def _merge_classes(a: ClassMoments, b: ClassMoments) -> ClassMoments:
    return ClassMoments(jax.vmap(_merge)(a.classes, b.classes))


def null_model_of_classes(
    moments: ClassMoments, overall: Moments
) -> tuple[Bool[Array, ""], UInt32[Array, ""]]:
    """Returns whether no class differs from another in mean or covariance, but for rounding.

    Means as `null_model` says, and covariances by the same two roundings. The products
    that made the rows move a covariance by up to 16 k sqrt(d) eps of both deviations each way.
    Storing them moves values by up to s / 2, half of the spacing of numbers there, and a covariance
    so by up to (s_i + s_j) / 2 + s_i s_j / 4 for s in deviations, and one less another by twice
    that. Where a difference exceeds what independent rounding of the rows explains, UNRESOLVED
    is set.

    Args:
      moments: of the classes.
      overall: `moments.overall`.

    Returns:
      () bool and () uint32.
    """
    share = moments.share
    sd, d = moments.sd, overall.xx.shape[0]
    k = share.shape[0]
    info = jnp.finfo(overall.xx.dtype)
    inverse = safe_reciprocal(sd, sd > 0)
    # A class far from the mean of all is rounded at its own.
    storage = moments.spacing * inverse
    both = storage[:, None] + storage[None, :] + storage[:, None] * storage[None, :]
    fewest = jnp.min(jnp.where(share > 0, share, 1)) * overall.total
    independent = 6 * jax.lax.rsqrt(6 * jnp.maximum(fewest, 1 / 6))
    arithmetic = 32 * k * d**0.5 * info.eps
    unit = moments._unit_covariances(sd)
    mean = jnp.sum(share[:, None, None] * unit, axis=0)
    gaps = jnp.abs(jnp.where((share > 0)[:, None, None], unit - mean, 0))
    same_means, unresolved = null_model(overall)
    null = same_means & (gaps <= arithmetic + both).all()
    hidden = (gaps > arithmetic + jnp.minimum(independent, 0.5) * both).any()
    return null, unresolved | flag(null & hidden, Status.UNRESOLVED)


def within_classes(
    data: Dataset, moments: Moments
) -> tuple[Float[Array, " d"], Float[Array, "d d"]]:
    """Returns deviations within the classes, pooled, (d,), and their correlation matrix, (d, d).

    Of the rows less their class mean, in a pass of its own: the covariance of all rows less that
    of the class means would lose the square of gap / deviation times eps.

    A feature that varies within the classes by no more than eps of its largest class mean, the
    least that could be seen, counts as varying by that; one that is constant over all rows as 0.

    Args:
      data: rows with class labels.
      moments: of these rows, with or without their covariance.
    """
    dtype, unit = moments.mean.dtype, moments.unit
    info = jnp.finfo(dtype)
    gaps, share = class_gaps(moments)
    means = (moments.mean[:, None] + gaps * moments.sd[:, None]).T
    z, _ = codes(data, dtype)
    weights = None if data.own_weights is None else data.own_weights.astype(dtype)
    per_unit = 1 / unit  # exact, of powers of two

    def part(x: jax.Array, z: jax.Array, weights: jax.Array | None, fresh: jax.Array | None):
        # Near its class mean a value less the mean is exact, and nothing else has been rounded.
        e = (x.astype(dtype) - combine_columns(z, means)) * per_unit
        seen = fresh
        if weights is not None:
            seen = weights != 0 if fresh is None else (weights != 0) & fresh
        if seen is not None:
            e = jnp.where(seen[:, None], e, 0)
        return products.joint_grams(e, z, weights)

    sums, squares = products.sum_over_rows(part, (data.x, z, weights), filled=data.filled)
    inverse_n = safe_reciprocal(moments.total, moments.total > 0)
    # What rounding the class means has left of them.
    left = sums * jnp.sqrt(safe_reciprocal(share, share > 0))[:, None] * inverse_n
    covariance = squares * inverse_n - product("kd,ke->de", left, left)
    spread = jnp.sqrt(jnp.maximum(jnp.diagonal(covariance), 0))
    high = jnp.max(jnp.where((share > 0)[:, None], jnp.abs(means), 0), axis=0)
    least = jnp.maximum(info.eps * high, info.tiny / info.eps) / unit
    spread = jnp.where(moments.sd > 0, jnp.maximum(spread, least), 0)
    return spread * unit, solves.equilibrate(covariance, spread)


def concept_status(moments: ClassMoments, overall: Moments) -> UInt32[Array, ""]:
    """Returns the status () of the rows: also that there is one class only, or no weight.

    Args:
      moments: of the classes.
      overall: `moments.overall`.
    """
    present = jnp.sum(moments.share > 0)
    return overall.outcome | flag(present < 2, Status.CONSTANT_CONCEPT)
