r"""Moments: what a closed-form eraser needs to know about the rows, streamed, weighted and merged.

Counts, means and *centred* second moments, combined by the pairwise formula of Chan, Golub and
LeVeque (1983, doi 10.1080/00031305.1983.10483115). One associative `merge` serves streams, trees,
folds, devices and hosts.

Plain float32 is not enough in three places. A running mean of rows far from zero leaves gaps
between the class means of up to 4e-3 standard deviations when the rows come sorted by label, and a
count stops at 2^24. Both are therefore kept as an unevaluated sum of a high and a low part. And
squares of what is smaller than 1e-19 vanish, of what is larger than 1e19 overflow: such features
are squared in units of their own.
"""

import functools
from typing import Any, TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, UInt32

from erasejax._core import inputs
from erasejax._core.foreign import as_jax_or_numpy
from erasejax._core.programs import own_rules, program
from erasejax._core.pytrees import Tree, static
from erasejax._core.status import Status, flag
from erasejax._core.types import DTypeLike, Given
from erasejax._linalg import products
from erasejax._linalg.products import product, safe_reciprocal, two_sum
from erasejax.rows import Dataset, as_dataset_about, codes, moved
from erasejax.statistics._known import known_moments
from erasejax.statistics._provisional import combine_columns, provisional_fit, units

__all__ = ["Moments", "merge"]

M = TypeVar("M", bound=Any)


@struct.dataclass
class Moments(Tree):
    """Sufficient statistics of rows x (n, d) with a concept coded as z (n, k).

    Attributes:
      count: (2,) total weight (the number of rows when unweighted), high and low part.
      mean_x: (2, d) mean of x, high and low part.
      mean_z: (2, k) mean of z, high and low part.
      xx: (d, d) sum of w (x - mean)(x - mean)^T, or (d,) its diagonal where the full matrix is not
        kept. x in units of `scale`, as in xz.
      xz: (d, k) sum of w (x - mean)(z - mean)^T.
      zz: (k, k) sum of w (z - mean)(z - mean)^T.
      status: () uint32 bits, see `erasejax.Status`.
      one_hot: static; True promises that z is always one-hot class labels, which saves a column in
        the erasers made from it.
      task: static; how many of the last columns of z are a task, a second concept that should
        survive.
      scale: (d,) powers of two, the units of the features in xx and xz: 1 but for features whose
        spread is below 1e-12 or above 1e12 (float32). None for ones.
      grain: (d,) how far numbers of this dtype lie apart at the rows as they were given: at their
        distance from zero, or from the mean that float64 rows have been centred at. None for that
        of the mean.

    Example:
      >>> data = ej.datasets.GaussianClasses(rows=3, dims=2).sample(jax.random.key(0))
      >>> moments = ej.Moments.init(2, 2)  # features, classes
      >>> moments = moments.update(data.x, data.z)  # and so on, one batch after another
      >>> float(moments.total), int(ej.LEACE().solve(moments).rank)
      (6.0, 1)
    """

    count: Float[Array, "2"]
    mean_x: Float[Array, "2 d"]
    mean_z: Float[Array, "2 k"]
    xx: Float[Array, "d d"] | Float[Array, " d"]
    xz: Float[Array, "d k"]
    zz: Float[Array, "k k"]
    status: UInt32[Array, ""]
    one_hot: bool = static(False)
    task: int = static(0)
    scale: Float[Array, " d"] | None = None
    grain: Float[Array, " d"] | None = None

    @classmethod
    def init(
        cls,
        d: int,
        k: int,
        *,
        dtype: DTypeLike = jnp.float32,
        covariance: bool = True,
        one_hot: bool = False,
        task: int = 0,
    ) -> "Moments":
        """Returns the moments of no rows.

        Args:
          d: number of features.
          k: number of classes, or of columns of a real or many-label concept.
          dtype: dtype of the statistics, float32 or float64.
          covariance: False keeps the variances of x only, O(d) memory instead of O(d^2). Enough for
            `MeanDifference`.
          one_hot: see the attribute.
          task: number of columns of the task; 0 for none.

        Raises:
          ValueError: d or k is not positive.
        """
        if d < 1 or k < 1:
            raise ValueError(f"d, k: expected positive sizes, got d={d}, k={k}")
        columns, dtype = k + task, jax.dtypes.canonicalize_dtype(dtype)

        def zeros(*shape: int) -> jax.Array:
            return jax.device_put(np.zeros(shape, dtype))  # which compiles nothing

        return cls(
            count=zeros(2),
            mean_x=zeros(2, d),
            mean_z=zeros(2, columns),
            xx=zeros(d, d) if covariance else zeros(d),
            xz=zeros(d, columns),
            zz=zeros(columns, columns),
            status=jax.device_put(np.uint32(0)),
            one_hot=one_hot,
            task=task,
            scale=jax.device_put(np.ones(d, dtype)),
            grain=zeros(d),
        )

    @classmethod
    @own_rules()
    def of(cls, data: Dataset, *, covariance: bool = True, task: bool = False) -> "Moments":
        """Returns the moments of a dataset in one pass.

        Args:
          data: rows.
          covariance: as in `init`.
          task: whether to include the dataset's task.
        """
        known = known_moments(data)
        if known is not None and not task and covariance == (known.xx.ndim == 2):
            return known
        data, origin = as_dataset_about(data)
        columns = data.task.shape[1] if task and data.task is not None else 0
        own = _batch(data, covariance=covariance, one_hot=data.is_classes, task=columns)
        return moved(own, origin)

    def update(
        self, x: Given, z: Given, weights: Given | None = None, *, task: Given | None = None
    ) -> "Moments":
        """Returns these moments with more rows added.

        Args:
          x: (m, d) floats.
          z: (m,) integer class labels in [0, k), (m,) or (m, k) floats, or (m, k) binary labels.
          weights: (m,) row weights, or None for ones.
          task: (m, t) or (m,) floats where these moments hold a task; classes as one-hot columns.

        Returns:
          New `Moments`; the old ones are unchanged.

        Raises:
          TypeError: x is not floating point.
          ValueError: shapes do not match d and k.

        Under jit: pure; carry it through `lax.scan`. Rows of weight 0 are never read.
        """
        d, k = self.xz.shape[0], self.xz.shape[1] - self.task
        z = as_jax_or_numpy("z", z)
        labels = z.ndim == 1 and not jnp.issubdtype(z.dtype, jnp.floating) and k > 1
        if z.ndim == 1 and not labels and not jnp.issubdtype(z.dtype, jnp.floating):
            z = z[:, None]  # binary labels kept as one column
        classes = k if labels else None
        data, origin = as_dataset_about(
            x, z, weights=weights, num_classes=classes, task=task, decided=True
        )
        columns = k if labels or z.ndim == 1 else z.shape[1]
        if data.x.shape[1] != d or columns != k or (z.ndim == 1 and not labels and k != 1):
            raise ValueError(
                f"update: these moments hold d={d} features and k={k} concept columns, "
                f"got x {data.x.shape} and z {z.shape}"
            )
        if self.one_hot and not labels:
            raise ValueError("update: these moments were made for class labels (one_hot=True)")
        if (0 if data.task is None else data.task.shape[1]) != self.task:
            raise ValueError(
                f"task: these moments hold {self.task} task columns, got "
                f"{None if data.task is None else data.task.shape}"
            )
        return _update(self, data, origin)

    def _moved(self, origin: jax.Array) -> "Moments":
        """Returns the moments of rows moved by an origin (2, d)."""
        return self.replace(mean_x=_add(self.mean_x, origin.astype(self.mean_x.dtype)))

    def _off(self, basis: jax.Array) -> "Moments":
        """Returns moments with the xz of rows projected off orthonormal columns (d, r).

        The rest stays that of the rows: rounding is of what they were.
        """
        unit = self.unit[:, None]
        xz = self.xz - product("dr,er,ek->dk", basis / unit, basis * unit, self.xz)
        return self.replace(xz=xz)

    @property
    def total(self) -> Float[Array, ""]:
        """() total weight, rounded to one number."""
        return self.count[0] + self.count[1]

    @property
    def outcome(self) -> UInt32[Array, ""]:
        """() status of these rows as a whole, NO_WEIGHT where there are none."""
        return self.status | flag(self.total == 0, Status.NO_WEIGHT)

    @property
    def mean(self) -> Float[Array, " d"]:
        """(d,) mean of x, rounded to one number a feature."""
        return self.mean_x[0] + self.mean_x[1]

    @property
    def concept_mean(self) -> Float[Array, " k"]:
        """(k,) mean of the coded concept and task, rounded; of labels, the class frequencies."""
        mean = self.mean_z[0] + self.mean_z[1]
        labels = mean.shape[-1] - self.task if self.one_hot else 0
        # Merging may round a class without rows below zero.
        return jnp.where(jnp.arange(mean.shape[-1]) < labels, jnp.maximum(mean, 0), mean)

    @property
    def unit(self) -> Float[Array, " d"]:
        """(d,) `scale`, ones where that is None."""
        return jnp.ones_like(self.mean) if self.scale is None else self.scale

    @property
    def spread(self) -> Float[Array, " d"]:
        """(d,) standard deviations of x (dividing by the total weight), however small.

        At least the smallest normal float, but for constants: below it numbers may count as 0.
        """
        own = self.unit_spread
        return jnp.where(own > 0, jnp.maximum(own * self.unit, jnp.finfo(own.dtype).tiny), 0)

    @property
    def unit_spread(self) -> Float[Array, " d"]:
        """(d,) the same in units of `scale`, where the smallest floats do not vanish."""
        squares = jnp.diagonal(self.xx) if self.xx.ndim == 2 else self.xx
        total = self.total
        return jnp.sqrt(jnp.maximum(squares, 0) * safe_reciprocal(total, total > 0))

    @property
    def spacing(self) -> Float[Array, " d"]:
        """(d,) `grain`, and at least the smallest normal float."""
        grain = _grain(self.mean) if self.grain is None else self.grain
        return jnp.maximum(grain, jnp.finfo(grain.dtype).tiny)

    @property
    def sd(self) -> Float[Array, " d"]:
        """(d,) standard deviations of x (dividing by the total weight); 0 where x is constant.

        A feature that varies by less than the spacing of floats at its values is constant. So is
        one whose deviation is below the smallest float over eps, 1e-31 in float32: its values have
        fewer digits than the others.
        """
        spread, info = self.spread, jnp.finfo(self.xz.dtype)
        return jnp.where(spread > jnp.maximum(self.spacing, info.tiny / info.eps), spread, 0)

    @property
    def flat(self) -> Bool[Array, " d"]:
        """(d,) bool: whether a feature counts as constant in `sd` and yet is not.

        A single row that is one spacing off gives a deviation of spacing / sqrt(total); a constant
        has a deviation of rounding only, far below that.
        """
        root = jnp.sqrt(jnp.maximum(self.total, 1))
        least = self.spacing / self.unit / (4 * root)
        return (self.sd == 0) & (self.unit_spread > least)

    @property
    def covariance(self) -> Float[Array, "d d"]:
        """(d, d) covariance of x, dividing by the total weight.

        Raises:
          ValueError: these moments keep variances only.
        """
        total, unit = self.total, self.unit
        full = self._full() * safe_reciprocal(total, total > 0)
        return full * unit[:, None] * unit[None, :]

    @property
    def correlation(self) -> Float[Array, "d d"]:
        """(d, d) correlation matrix of x; rows of constant features are zero.

        Raises:
          ValueError: these moments keep variances only.
        """
        inverse, total = self._inverse_sd, self.total
        full = self._full() * safe_reciprocal(total, total > 0)
        return inverse[:, None] * full * inverse[None, :]

    @property
    def standard_xz(self) -> Float[Array, "d k"]:
        """(d, k) covariance with z of x in standard deviations; 0 for constant features."""
        total = self.total
        return self._inverse_sd[:, None] * (self.xz * safe_reciprocal(total, total > 0))

    @property
    def _inverse_sd(self) -> jax.Array:
        """(d,) 1 / sd in units of `scale`; 0 for constant features."""
        sd = self.sd
        return safe_reciprocal(sd, sd > 0) * self.unit

    def _full(self) -> jax.Array:
        """Returns xx, (d, d).

        Raises:
          ValueError: these moments keep variances only.
        """
        if self.xx.ndim == 1:
            raise ValueError(
                "these moments keep variances only; make them with covariance=True for this method"
            )
        return self.xx


@program
def _update(moments: Moments, data: Dataset, origin: jax.Array | None) -> Moments:
    data = data.replace(x=data.x.astype(moments.xz.dtype))
    full = moments.xx.ndim == 2
    own = _batch(data, covariance=full, one_hot=moments.one_hot, task=moments.task)
    return _merge(moments, moved(own, origin))


def _batch(data: Dataset, *, covariance: bool, one_hot: bool, task: int) -> Moments:
    """Returns the moments of one batch.

    Rows are written as x = shift + B^T z + e with a provisional mean and provisional slopes B (for
    classes, the class means) from a few thousand rows. What is summed over all rows are moments of
    e, which drift nowhere: running sums of rows sorted by label would round to several eps, enough
    for a probe to find. Each block of rows is read once; the rest is arithmetic on small matrices.
    """
    dtype = inputs.compute_dtype(data.x)
    x, weights, seen = data.x, data.own_weights, data.seen
    z, status = codes(data, dtype)
    concept = z.shape[1]
    if task and data.task is not None:
        z = jnp.concatenate([z, data.task.astype(dtype)], axis=1)
    if seen is not None:
        z = jnp.where(seen[:, None], z, 0)
    if weights is not None:
        weights = weights.astype(dtype)
        status = status | flag((weights < 0).any(), Status.NEGATIVE_WEIGHT)

    about = provisional_fit(x, z, weights, concept, one_hot, data.filled)
    slopes, per_scale = about.slopes, 1 / about.scale  # exact, of powers of two
    z_one = jnp.concatenate([z - about.shift_z, jnp.ones((z.shape[0], 1), dtype)], axis=1)
    if seen is not None:
        z_one = jnp.where(seen[:, None], z_one, 0)
    heavy = z_one if weights is None else z_one * weights[:, None]
    if one_hot and not task:
        sums = products.row_sum(heavy)  # of labels that are 0 or 1 and exclude each other
        total, sum_z, squares = sums[-1], sums[:-1], jnp.diag(sums[:-1])
    else:
        sums = products.row_sums(heavy, z_one)
        total, sum_z, squares = sums[-1, -1], sums[-1, :-1], sums[:-1, :-1]
    inverse_n = safe_reciprocal(total, total != 0)
    mean_z = sum_z * inverse_n
    zz = squares - total * jnp.outer(mean_z, mean_z)

    def part(x: jax.Array, z_one: jax.Array, weights: jax.Array | None, fresh: jax.Array | None):
        e = ((x.astype(dtype) - about.shift) - about.rest) * per_scale
        e = e - combine_columns(z_one[:, :concept], slopes[:concept])
        seen = fresh
        if weights is not None:
            seen = weights != 0 if fresh is None else (weights != 0) & fresh
        if seen is not None:
            e = jnp.where(seen[:, None], e, 0)
        if covariance and one_hot:
            return products.joint_grams(e, z_one, weights)
        heavy = e if weights is None else e * weights[:, None]
        # Real concepts need not explain rows that repeat, as classes do: their sums would drift.
        sums = (products.narrow_product if one_hot else products.row_sums)(z_one, heavy)
        # The last column of z_one is ones.
        ee = products.gram(e, heavy) if covariance else products.weighted_sum(heavy * e, z_one)
        return sums, ee

    sums, ee = products.sum_over_rows(part, (x, z_one, weights), filled=data.filled)
    mean_e = sums[-1] * inverse_n
    ez = sums[:-1].T - total * jnp.outer(mean_e, mean_z)
    xz = ez + product("kd,kj->dj", slopes, zz)
    if covariance:
        cross = product("dk,ke->de", ez, slopes)
        xx = ee - total * jnp.outer(mean_e, mean_e)
        xx = xx + cross + cross.T + product("kd,kj,je->de", slopes, zz, slopes)
    else:
        xx = ee - total * mean_e**2
        xx = xx + jnp.sum((2 * ez + product("kd,kj->dj", slopes, zz)) * slopes.T, axis=1)
    diagonal = jnp.diagonal(xx) if covariance else xx
    finite = jnp.isfinite(diagonal).all() & jnp.isfinite(zz).all() & jnp.isfinite(total)
    finite &= jnp.isfinite(xz).all()
    # Rows that were not among the some may differ by so little that all squares vanish.
    squares = jnp.diagonal(ee) if covariance else ee
    vanished = (squares <= 0) & (sums != 0)
    status = status | flag(vanished.any(), Status.UNRESOLVED)
    own = about.rest + about.scale * (product("k,kd->d", mean_z, slopes) + mean_e)
    mean_x = jnp.stack(two_sum(about.shift, own))
    return Moments(
        count=jnp.stack([total, jnp.zeros_like(total)]),
        mean_x=mean_x,
        mean_z=jnp.stack(two_sum(about.shift_z, mean_z)),
        xx=xx,
        xz=xz,
        zz=zz,
        status=status | flag(~finite, Status.NONFINITE),
        one_hot=one_hot,
        task=task,
        scale=about.scale,
        grain=_grain(mean_x[0]),
    )


def _grain(mean: jax.Array) -> jax.Array:
    """Returns how far numbers lie apart at a mean (d,), at most."""
    return jnp.finfo(mean.dtype).eps * jnp.abs(mean)


def merge(a: M, b: M) -> M:
    """Returns the moments of the rows of `a` and `b` together.

    Associative and commutative up to rounding; the count is exact.

    Args:
      a: moments of some rows, `Moments` or `ClassMoments`.
      b: moments of other rows, of the same shapes, dtype and kind.

    Returns:
      Of the class of `a`.

    Raises:
      TypeError: the two are of different classes.
      ValueError: the two do not describe the same features and concept.

    Example:
      >>> data = ej.datasets.GaussianClasses(rows=3, dims=2).sample(jax.random.key(0))
      >>> moments = ej.Moments.init(2, 2).update(data.x, data.z)
      >>> float(ej.merge(moments, moments).total)
      12.0

    References:
      Chan, Golub and LeVeque 1983, doi 10.1080/00031305.1983.10483115.
    """
    if type(a) is not type(b):
        raise TypeError(f"merge: expected two of a kind, got {type(a)} and {type(b)}")
    if not isinstance(a, Moments):
        return a.merge(b)
    shapes = [(m.xx.shape, m.xz.shape, m.xz.dtype, m.one_hot, m.task) for m in (a, b)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            "merge: the moments differ in (xx, xz, dtype, one_hot, task): "
            f"{shapes[0]} and {shapes[1]}"
        )
    return cast(M, _merge(a, b))


@program
def _merge(a: Moments, b: Moments) -> Moments:
    count = _add(a.count, b.count)
    total = count[0] + count[1]
    share = b.total * safe_reciprocal(total, total != 0)  # of b in the union
    gap_x = _difference(b.mean_x, a.mean_x)
    gap_z = _difference(b.mean_z, a.mean_z)
    between = a.total * share
    # From the mean of the larger side the union's is the shorter step, rounded the least.
    most_b = share > 0.5
    step = jnp.where(most_b, share - 1, share)

    def moved(mean_a, mean_b, gap):
        start = jnp.where(most_b, mean_b, mean_a)
        return _add(start, jnp.stack([gap * step, jnp.zeros_like(gap)]))

    mean_x = moved(a.mean_x, b.mean_x, gap_x)
    # Units of the union; what varies in neither has none of its own.
    scale = units(jnp.maximum(jnp.maximum(a.spread, b.spread), jnp.abs(gap_x)))
    gap_x = gap_x / scale
    a, b = _in_units(a, scale), _in_units(b, scale)
    outer = between * (jnp.outer(gap_x, gap_x) if a.xx.ndim == 2 else gap_x**2)
    return Moments(
        count=count,
        mean_x=mean_x,
        mean_z=moved(a.mean_z, b.mean_z, gap_z),
        xx=a.xx + b.xx + outer,
        xz=a.xz + b.xz + between * jnp.outer(gap_x, gap_z),
        zz=a.zz + b.zz + between * jnp.outer(gap_z, gap_z),
        status=a.status | b.status,
        one_hot=a.one_hot,
        task=a.task,
        scale=scale,
        grain=jnp.maximum(*(_grain(m.mean) if m.grain is None else m.grain for m in (a, b))),
    )


def _in_units(moments: Moments, scale: jax.Array) -> Moments:
    """Returns the same moments in other units, which are at least those of what varies."""
    ratio = jnp.where(moments.unit_spread > 0, moments.unit / scale, 0)
    full = moments.xx.ndim == 2
    xx = moments.xx * (ratio[:, None] * ratio[None, :] if full else ratio**2)
    return moments.replace(xx=xx, xz=moments.xz * ratio[:, None], scale=scale)


def combine(own: Moments, axis: str, size: int) -> Moments:
    """Returns the moments of the rows of all `size` members of a mapped axis, on each of them.

    What is small is gathered and merged as `merge` does; the second moments of x are moved to the
    common mean and summed.
    """
    squares = jnp.diagonal(own.xx) if own.xx.ndim == 2 else own.xx
    small = own.replace(xx=squares)
    parts = jax.lax.all_gather(small, axis)
    members = (jax.tree.map(lambda leaf, i=i: leaf[i], parts) for i in range(size))
    merged = functools.reduce(_merge, members)
    gap = _difference(own.mean_x, merged.mean_x) / merged.unit
    own = _in_units(own, merged.unit)
    moved = own.total * (jnp.outer(gap, gap) if own.xx.ndim == 2 else gap**2)
    return merged.replace(xx=jax.lax.psum(own.xx + moved, axis))


def _add(a: jax.Array, b: jax.Array) -> jax.Array:
    """Returns the sum of two two-part numbers, (2, ...), normalised."""
    high, low = two_sum(a[0], b[0])
    return jnp.stack(two_sum(high, low + a[1] + b[1]))


def _difference(a: jax.Array, b: jax.Array) -> jax.Array:
    """Returns a - b for two-part numbers (2, ...), as one number."""
    high, low = two_sum(a[0], -b[0])
    return high + (low + (a[1] - b[1]))
