"""A test on held-out rows of whether anything linear of the concept is left."""

from typing import NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.core import Tracer
from jaxtyping import Array, Float, Int, UInt32

from erasejax._core import inputs
from erasejax._core.programs import program
from erasejax._core.pytrees import Tree, static
from erasejax._core.status import Status, failed, flag, poison
from erasejax._core.types import Given, Key
from erasejax._core.views import Shown, known, number
from erasejax._linalg import f_distribution, products
from erasejax._linalg.products import product, safe_reciprocal
from erasejax.metrics import _sign_flips as sign_flips
from erasejax.metrics._grouping import Grouping, group_rows
from erasejax.metrics._linear_r2 import vanishes
from erasejax.rows import Dataset, as_dataset_about, codes, count_groups, number_groups, roomy
from erasejax.statistics import (
    Moments,
    standardized,
    whitening,
)

__all__ = ["GuardednessTest", "guardedness_test"]

_LEVEL, _POWER = 0.05, 0.95


@struct.dataclass(kw_only=True)
class GuardednessTest(Shown, Tree):
    """What a test of Cov(x, z) = 0 found.

    Attributes:
      statistic: () Pillai's trace, the sum of the squared canonical correlations, with groups of
        their rows (see `guardedness_test`); from the norm of the covariance its unbiased square in
        units of its standard deviation.
      p_value: () in (0, 1]; 1 where the covariances vanish but for rounding.
      r2: () `linear_r2` of these rows: biased upwards, by about rank / n where nothing is left.
      detectable_r2: () the smallest R^2 of the population that this test finds at a level of 5%
        with a power of 95%, by the noncentral F distribution: for classes of one covariance, and
        spread evenly over the concept's dimensions. NaN where the norm is tested, whose power
        depends on the direction, or where the rows are too few. With groups of a leak in a
        direction in which they have the average design effect.
      design_effect: () the variance of Cov(x, z), a mean over directions, over what it is where
        rows are independent: m where m rows a group are alike and share their label; 1 without
        groups.
      df: () degrees of freedom of the hypothesis.
      df_residual: () degrees of freedom of the error, which count groups; not positive where there
        are too few.
      rank: () int32, rank of the covariance of x, which erasing lowers.
      rank_concept: () int32, rank of the covariance of the concept.
      status: () uint32 bits, see `erasejax.Status`.
      method: static; "sign_flip" or "pillai".
      norm: static; whether the norm of the covariance was tested instead of Pillai's trace.

    Example:
      >>> data = ej.datasets.GaussianClasses(rows=3, dims=2).sample(jax.random.key(0))
      >>> found = ej.metrics.guardedness_test(data, permutations=20, key=jax.random.key(1))
      >>> float(found.df), float(found.df_residual), int(found.rank), int(found.rank_concept)
      (2.0, 3.0, 2, 1)
    """

    statistic: Float[Array, ""]
    p_value: Float[Array, ""]
    r2: Float[Array, ""]
    detectable_r2: Float[Array, ""]
    design_effect: Float[Array, ""]
    df: Float[Array, ""]
    df_residual: Float[Array, ""]
    rank: Int[Array, ""]
    rank_concept: Int[Array, ""]
    status: UInt32[Array, ""]
    method: str = static()
    norm: bool = static()

    def _facts(self, lane: Self) -> dict[str, object]:
        of = self.status
        return {
            "verdict": _verdict(self),
            "p-value": number(self.p_value, of),
            "R^2": number(self.r2, of),
            "R^2 found with 95% power": number(self.detectable_r2, of),
            "rank of the rows": number(self.rank, of),
            "method": self.method,
        }


def guardedness_test(
    x: Given | Dataset,
    z: Given | None = None,
    *,
    key: Key | None = None,
    permutations: int = 1000,
    method: str = "sign_flip",
    weights: Given | None = None,
    num_classes: int | None = None,
    groups: Given | None = None,
    num_groups: int | None = None,
) -> GuardednessTest:
    """Tests on held-out rows whether anything linear of the concept is left: Cov(x, z) = 0.

    The rows must not be those that the eraser was fitted on, where the covariance is zero by
    construction. The hypothesis is not independence: covariances, and all else, may differ between
    the classes, and no linear probe could use that.

    "sign_flip" compares Pillai's trace with what it is when rows are turned round about their mean
    at random. It is exact, but for the estimated mean, where rows lie symmetrically about the mean
    given z, and holds in large samples without; the covariances of the classes may differ. Rows
    that are permuted against their labels would not do: with 10% positives of three times the
    spread such a test rejects a true hypothesis nearly always. With n < 2 d rows, where the trace
    is near its largest value whatever the data, an unbiased estimate of the squared norm of the
    covariance of z with the features, each divided by its standard deviation, takes its place.

    Rows of one name, sentence or template are not independent of each other, and a test that takes
    them for it finds leaks that are none: labels drawn for each name, four rows a name, and nothing
    to find, it rejects 40 times in 40 at a level of 5%. With `groups` it is the groups that are
    independent. Each becomes one row (with more classes one for each direction of the concept that
    it holds, all with one sign) that has the same covariance with z; signs, variances, degrees of
    freedom and the choice between the statistics are those of these rows.

    "pillai" takes the p-value of the trace from the F distribution, exact for one column of z or
    two classes where the covariances of the classes agree and rows are Gaussian, and approximate
    for more; where they do not agree it is wrong. With groups they must be of one size too, and
    each of one label, or all of one mixture. It draws nothing and is the faster.

    Args:
      x: (n, d) floats, what an eraser made of rows that it was not fitted on; or a `Dataset`.
      z: the concept, as for `fit` of an eraser.
      key: a typed `jax.random.key` for "sign_flip".
      permutations: static; how many sets of signs. The smallest p-value is 1 / (permutations + 1).
      method: static; "sign_flip" or "pillai".
      weights: (n,) row weights >= 0, or None. A row of weight 2 is one row that counts twice, not
        two; of weight 0 it is never read.
      num_classes: number of classes; required under jit.
      groups: (n,) integers of any values, which rows belong together (text where not traced); None
        where rows are independent.
      num_groups: static; how many groups there are at most. Counted where it is None and the groups
        are not traced.

    Returns:
      A `GuardednessTest`; NaN (-1 where integer) with a status bit where the rows cannot be used.

    Raises:
      TypeError: x is not floating point, z is missing, groups are not integers or text, or
        "sign_flip" has no key.
      ValueError: shapes do not match, num_classes or num_groups is missing, or an option is
        unknown.

    Under jit: pure; `permutations`, `method` and `num_groups` are static, and rows of weight 0, and
    groups without rows, count for n < 2 d. vmap over datasets, groups and keys. More groups than
    num_groups set LABEL_RANGE.

    Example:
      >>> dataset = ej.datasets.GaussianClasses(rows=3, dims=2)
      >>> fitted, fresh = (dataset.sample(jax.random.key(0), part=part) for part in range(2))
      >>> erased = ej.LEACE().fit(fitted)(fresh.x)
      >>> key = jax.random.key(1)
      >>> found = ej.metrics.guardedness_test(erased, fresh.z, permutations=20, key=key)
      >>> 0 < float(found.p_value) <= 1, found.method
      (True, 'sign_flip')

    References:
      Pillai 1955, doi 10.1214/aoms/1177728599; Muller and Peterson 1984, doi
      10.1016/0167-9473(84)90002-1 (power); Chen and Qin 2010, arXiv 1002.4547 (n < 2 d); Chung and
      Romano 2013, arXiv 1304.5939 (why permutations fail).
    """
    inputs.choice("method", method, ("sign_flip", "pillai"))
    if int(permutations) != permutations or permutations < 1:
        raise ValueError(f"permutations: expected a positive whole number, got {permutations}")
    key = inputs.drawing_key(method, key, draws=method == "sign_flip")
    data, _ = as_dataset_about(x, z, weights=weights, num_classes=num_classes)
    data = data.replace(task=None)
    count = None
    if groups is not None:
        groups = number_groups(groups, data.x.shape[0])
        count = count_groups(groups, num_groups)
    norm = key is not None and _count(data, groups, count) < 2 * data.x.shape[1]
    if groups is None:
        data = roomy(data, passes=64)
    return _test(data, groups, key, int(permutations), count, norm)


def _count(data: Dataset, groups: jax.Array | np.ndarray | None, num_groups: int | None) -> int:
    """Returns how many rows, or groups of them, there are; at most, where weights are traced."""
    most = data.x.shape[0] if num_groups is None else num_groups
    weights = None if data.weights is None else inputs.known_values(data.weights)
    if weights is None or isinstance(groups, Tracer):
        return most
    units = np.arange(len(weights)) if groups is None else np.asarray(groups)
    return len(np.unique(units[weights != 0]))


class _Rows(NamedTuple):
    """Rows of weight shares q about their means, in units without a scale.

    Attributes:
      basis: (n, m) orthonormal columns that span sqrt(q) times the features, and zero columns.
      concept: (n, r) sqrt(q) times the whitened concept: orthonormal columns, and zero columns.
      root: (n,) sqrt(q).
      count: () effective number of rows, 1 / (sum of q^2).
    """

    basis: jax.Array
    concept: jax.Array
    root: jax.Array
    count: jax.Array


@program(static_argnums=(3, 4, 5))
def _test(
    data: Dataset,
    groups: jax.Array | np.ndarray | None,
    key: jax.Array | None,
    permutations: int,
    num_groups: int | None,
    norm: bool,
) -> GuardednessTest:
    n, d = data.x.shape
    moments = Moments.of(data, covariance=False)
    rows, features, status = _whitened(data, moments)
    null = vanishes(moments)
    r2 = trace = jnp.where(null, 0, jnp.sum(_cross(rows) ** 2))
    rank = jnp.sum((rows.basis != 0).any(axis=0))
    rank_concept = jnp.sum((rows.concept != 0).any(axis=0))
    units, means, grouping, design_effect = rows, 1, None, jnp.ones_like(trace)
    if groups is not None and num_groups is not None:
        status |= flag((groups >= num_groups).any(), Status.LABEL_RANGE)
        n = num_groups
        grouping = group_rows(rows.concept, rows.root, groups, num_groups)
        design_effect = grouping.design_effect(rows.basis, rows.concept)
        units = _Rows(
            basis=_orthonormal(grouping.centred(grouping.rows(rows.basis))),
            concept=grouping.concept,
            root=grouping.root,
            count=grouping.count,
        )
        means = jnp.sum(units.root**2)  # none where no group has a share in it
        trace = jnp.where(null, 0, jnp.sum(_cross(units) ** 2))
    p = jnp.sum((units.basis != 0).any(axis=0)).astype(trace.dtype)
    q = rank_concept.astype(trace.dtype)
    most = jnp.minimum(p, q)
    df = p * q
    df_residual = most * (units.count - means - jnp.maximum(p, q))
    rounding = 64 * jnp.finfo(trace.dtype).eps * most * units.count
    usable = (df > 0) & (df_residual > rounding)
    a, b = jnp.where(usable, df / 2, jnp.nan), jnp.where(usable, df_residual / 2, jnp.nan)
    statistic, detectable = trace, jnp.full_like(trace, jnp.nan)
    if key is None:
        share = trace / most  # its F has share / (1 - share) for a ratio of sums of squares
        p_value = f_distribution.beta_tail(a, b, share)
    elif norm:
        variance = jnp.sum(features**2, axis=0)
        sums = _sums(rows, features, grouping)
        statistic, p_value = sign_flips.norm_p_value(sums, variance, key, flips=permutations)
    else:
        p_value = sign_flips.trace_p_value(
            units.basis, units.concept, units.root, key, flips=permutations, signs=n
        )
    if not norm:
        terms = 512 + 16 * int((d * rows.concept.shape[1]) ** 0.5)
        noncentrality = f_distribution.detectable_noncentrality(
            a, b, level=_LEVEL, power=_POWER, terms=terms
        )
        share = noncentrality / (noncentrality + rows.count / design_effect * most)
        detectable = share * most * safe_reciprocal(q, q > 0)
    found = GuardednessTest(
        statistic=jnp.where(null, 0, statistic),
        p_value=jnp.where(null, 1, p_value),
        r2=r2 * safe_reciprocal(q, q > 0),
        detectable_r2=detectable,
        design_effect=design_effect,
        df=df,
        df_residual=df_residual,
        rank=rank.astype(jnp.int32),
        rank_concept=rank_concept.astype(jnp.int32),
        status=status,
        method="pillai" if key is None else "sign_flip",
        norm=norm,
    )
    return poison(found, status)


def _cross(rows: _Rows) -> jax.Array:
    """Returns the covariance of x and the concept in units of both, (m, r)."""
    return product("nm,nr->mr", rows.basis, rows.concept)


def _sums(rows: _Rows, features: jax.Array, grouping: Grouping | None) -> sign_flips.Sums:
    """Returns what each row, or group of rows, adds to the covariance and to the means."""
    root = rows.root[:, None]
    if grouping is None:
        return sign_flips.Sums(
            products=rows.concept[:, :, None] * features[:, None, :],
            concept=rows.concept * root,
            features=features * root,
            share=rows.root**2,
        )
    both = grouping.sums(jnp.concatenate([rows.concept, root], axis=1), features)
    return sign_flips.Sums(
        products=both[:, :-1],
        concept=grouping.total(rows.concept * root),
        features=both[:, -1],
        share=grouping.total(rows.root**2),
    )


def _whitened(data: Dataset, moments: Moments) -> tuple[_Rows, jax.Array, jax.Array]:
    """Returns rows made orthonormal, features of unit variance times sqrt(q), and a status word."""
    n = data.x.shape[0]
    whiten, status = whitening(moments)
    dtype = moments.mean.dtype
    count = jnp.asarray(n if data.filled is None else data.filled, dtype)
    share = jnp.full(n, 1 / count, dtype) if data.seen is None else data.seen / count
    if (weights := data.own_weights) is not None:
        share = weights * safe_reciprocal(moments.total, moments.total > 0)
        count = 1 / jnp.sum(share**2)
    seen = (share > 0)[:, None]
    root = jnp.sqrt(jnp.maximum(share, 0))
    features = standardized(data, moments)
    coded = (codes(data, dtype)[0] - moments.mean_z[0]) - moments.mean_z[1]
    concept = product("nk,kr->nr", jnp.where(seen, coded, 0), whiten)
    # What failed would keep LAPACK busy with NaN.
    features = jnp.where(failed(status), 0, features) * root[:, None]
    rows = _Rows(
        basis=_orthonormal(features),
        concept=concept * root[:, None],
        root=root,
        count=count,
    )
    return rows, features, status


def _orthonormal(rows: jax.Array) -> jax.Array:
    """Returns orthonormal columns that span those of rows (n, d), and zero columns: (n, min(n, d)).

    The columns have unit length or are zero, so cut-offs have no units.
    """
    n, d = rows.shape
    tall = n >= d
    values, vectors = jnp.linalg.eigh(products.gram(rows if tall else rows.T))
    noise = 16 * jnp.finfo(rows.dtype).eps * min(n, d) ** 0.5
    kept = values > noise * jnp.max(values)
    if not tall:
        return jnp.asarray(jnp.where(kept, vectors, 0))
    inverse = safe_reciprocal(jnp.sqrt(jnp.asarray(jnp.where(kept, values, 1))), kept)
    return product("nd,de->ne", rows, vectors * inverse)


def _verdict(test: GuardednessTest) -> str:
    """Returns in words what the p-values say."""
    found = known(test.p_value)
    if found is None:
        return "not known yet"
    tested, leaks = np.sum(found == found), np.sum(found <= _LEVEL)
    if not tested:
        return "none: the test failed"
    said = f"at a level of {_LEVEL:.0%}"
    if found.ndim:
        return f"evidence of a linear leak, {said}, in {leaks:,} of {tested:,} lanes"
    return f"evidence of a linear leak, {said}" if leaks else f"no evidence of a linear leak, {said}"
