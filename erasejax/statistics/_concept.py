"""A concept seen from the features: its axes, S^+ times them, and canonical correlations.

With R the correlation matrix of x and W a whitening of the concept, the axes are C = Sigma_xz W for
features divided by their standard deviations. What they span is what erasing destroys; R^+ C is
what reads it with the least damage; and the singular values of R^{+1/2} C are the canonical
correlations of x and the concept. None of these has units.
"""

import typing
from collections.abc import Mapping
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, UInt32

from erasejax._core import inputs
from erasejax._core.status import Status, flag
from erasejax._linalg import products, solves
from erasejax._linalg.products import product, safe_reciprocal
from erasejax.rows import Dataset, codes
from erasejax.statistics._moments import Moments

__all__ = [
    "Place",
    "SHRINKAGE_RULES",
    "Solved",
    "class_gaps",
    "concept_axes",
    "correlations",
    "null_model",
    "place",
    "shrink",
    "solve_data",
    "solve_moments",
    "standardized",
    "whitening",
]

_APART = 32  # times as much as rounding leaves of near classes: what it may leave of far ones


class Solved(NamedTuple):
    """The axes of a concept and what reads them.

    Attributes:
      axes: (d, r) C, the covariance with the whitened concept, of x in standard deviations.
      solved: (d, r) R^+ C, with R shrunk if asked for.
      task_axes: (d, t) the same of the task; t is 0 without one.
      task_solved: (d, t).
      moments: of the rows; may lack the covariance.
      status: () uint32.
    """

    axes: jax.Array
    solved: jax.Array
    task_axes: jax.Array
    task_solved: jax.Array
    moments: Moments
    status: jax.Array


def whitening(moments: Moments) -> tuple[Float[Array, "k r"], UInt32[Array, ""]]:
    """Returns W (k + t, r + t) that whitens the concept, and a status word.

    Classes have r = k - 1 columns, by a Householder reflection of the class frequencies; other
    concepts r = k, zero where columns of z depend on each other. The task's columns are divided by
    their standard deviations only.
    """
    columns = moments.zz.shape[0]
    k = columns - moments.task
    mean = moments.concept_mean
    dtype = mean.dtype
    eps = jnp.finfo(dtype).eps
    inverse_n = safe_reciprocal(moments.total, moments.total > 0)
    sd = jnp.sqrt(jnp.maximum(jnp.diagonal(moments.zz) * inverse_n, 0))
    sd = jnp.where(sd > eps * jnp.abs(mean), sd, 0)
    inverse_sd = safe_reciprocal(sd, sd > 0)
    if moments.one_hot:
        share = jnp.maximum(mean[:k], 0)
        root = jnp.sqrt(share)
        v = root.at[0].add(1)
        tail = jnp.eye(k, dtype=dtype)[:, 1:] - 2 * jnp.outer(v, v[1:]) / jnp.sum(v * v)
        whiten = safe_reciprocal(root, root > 0)[:, None] * tail
        constant = jnp.sum(share > 0) < 2
    else:
        if k == 1:
            rotated = jnp.ones((1, 1), dtype)
        else:
            unit = solves.equilibrate(moments.zz[:k, :k] * inverse_n, sd[:k])
            values, vectors = jnp.linalg.eigh(unit)
            kept = values > k * 8 * eps * jnp.max(values)
            rotated = vectors * safe_reciprocal(jnp.sqrt(jnp.maximum(values, 0)), kept)
        whiten = inverse_sd[:k, None] * rotated
        constant = ~(sd[:k] > 0).any()
    r = whiten.shape[1]
    both = jnp.zeros((columns, r + moments.task), dtype).at[:k, :r].set(whiten)
    both = both.at[k:, r:].set(jnp.diag(inverse_sd[k:]))
    return both, moments.outcome | flag(constant, Status.CONSTANT_CONCEPT)


def concept_axes(moments: Moments) -> tuple[Float[Array, "d r"], UInt32[Array, ""]]:
    """Returns the axes of the concept, (d, r), and of the task beyond them; and a status word.

    They have singular values of at most sqrt(d), which no scaling of x or z changes.
    """
    whiten, status = whitening(moments)
    return product("dk,kr->dr", moments.standard_xz, whiten), status


def solve_moments(moments: Moments, *, rule: str, shrinkage: ArrayLike) -> Solved:
    """Returns the axes and R^+ times them from moments, by a (d, d) Cholesky factorisation.

    Args:
      moments: with the covariance.
      rule: "none", "fixed", "schaefer-strimmer" or "oas", see `shrink`.
      shrinkage: () for "fixed".
    """
    axes, status = concept_axes(moments)
    unit = moments.correlation
    weight = shrink(rule, shrinkage, jnp.sum(unit * unit), moments)
    solved = solves.solve_correlation(unit, axes, shrinkage=weight)
    return _split(axes, solved, moments, status)


def solve_data(data: Dataset, *, rule: str, shrinkage: ArrayLike, task: bool = False) -> Solved:
    """Returns the same as `solve_moments` from rows, by the smaller of the two factorisations.

    With fewer rows than features the Gram matrix of the rows, (n, n), takes the place of the
    correlation matrix: R^+ Sigma_xz = X^T (X X^T + c 1 1^T)^+ Z. Rows of weight 0 are masked.
    """
    n, d = data.x.shape
    if not (n < d if data.room is None else data.room.few):
        return solve_moments(Moments.of(data, task=task), rule=rule, shrinkage=shrinkage)
    moments = Moments.of(data, covariance=False, task=task)
    whiten, status = whitening(moments)
    axes = concept_axes(moments)[0]
    dtype = axes.dtype
    z, _ = codes(data, dtype)
    if moments.task and data.task is not None:
        z = jnp.concatenate([z, data.task], axis=1)
    inverse_n = safe_reciprocal(moments.total, moments.total > 0)
    root = jnp.sqrt(data.row_weights * inverse_n)[:, None]
    seen = root > 0
    x = root * standardized(data, moments)
    z = jnp.where(seen, root * ((z - moments.mean_z[0]) - moments.mean_z[1]), 0)
    gram = products.gram(x.T)
    weight = shrink(rule, shrinkage, jnp.sum(gram * gram), moments)
    rows = solves.solve_gram(gram, root[:, 0], product("nk,kr->nr", z, whiten), shrinkage=weight)
    solved = product("nr,nd->rd", rows, x).T
    return _split(axes, solved, moments, status)


def _split(axes, solved, moments: Moments, status) -> Solved:
    r = axes.shape[1] - moments.task
    return Solved(axes[:, :r], solved[:, :r], axes[:, r:], solved[:, r:], moments, status)


def correlations(solved: Solved) -> Float[Array, " r"]:
    """Returns the canonical correlations of x and the concept, (r,), descending, in [0, 1]."""
    squares = product("dr,ds->rs", solved.axes, solved.solved)
    if squares.shape == (1, 1):
        values = squares[0]
    else:
        values = jnp.linalg.eigvalsh((squares + squares.T) / 2)[::-1]
    return jnp.sqrt(jnp.clip(values, 0, 1))


ShrinkageRule = Literal["fixed", "none", "schaefer-strimmer", "oas"]
SHRINKAGE_RULES: tuple[str, ...] = typing.get_args(ShrinkageRule)


def check_shrinkage(given: Mapping[str, object]) -> None:
    """Checks that a weight and a rule that were both given do not contradict each other.

    Raises:
      ValueError: the rule needs a weight and has none, or takes none and has one.
    """
    rule, weight = given.get("shrinkage_rule"), given.get("shrinkage")
    if rule == "fixed" and weight is None:
        raise ValueError("--shrinkage-rule fixed needs --shrinkage, a number from 0 to 1")
    if rule not in {None, "fixed"} and weight is not None:
        raise ValueError(f"--shrinkage is for --shrinkage-rule fixed, got {rule}")


def shrink(rule: str, shrinkage: ArrayLike, squares: jax.Array, moments: Moments) -> jax.Array:
    """Returns the weight () of the identity in a shrunk correlation matrix (1 - s) R + s I.

    "none" is 0; "fixed" the number given. The two estimates minimise the expected squared error of
    what is shrunk, for Gaussian rows. "schaefer-strimmer" is the one for correlations: the sum of
    their variances (1 - r^2)^2 / n over that of their squares. With q the mean r^2 of all pairs of
    features, each variance is taken to be (1 - q)^2 / n, at most a few percent less where it
    matters; so only the sum of the squares is needed, which the Gram matrix of the rows has, too.
    "oas" is the oracle-approximating estimate for a covariance, here of features divided by their
    standard deviations: it counts errors of variances, which are none here, and those of strong
    correlations as larger than those of weak ones, and so shrinks more.

    Weights count as rows: n is their total.

    Args:
      rule: one of the four.
      shrinkage: () in [0, 1].
      squares: () the sum of the squared entries of R.
      moments: of the rows.

    Raises:
      ValueError: the rule is unknown.

    References:
      Schaefer and Strimmer 2005, doi 10.2202/1544-6115.1175; Chen, Wiesel, Eldar and Hero 2010,
      arXiv 0907.4698, equation 23.
    """
    inputs.choice("shrinkage_rule", rule, SHRINKAGE_RULES)
    if rule == "none":
        return jnp.zeros((), squares.dtype)
    if rule == "fixed":
        return jnp.clip(jnp.asarray(shrinkage, squares.dtype), 0, 1)
    p = jnp.sum(moments.sd > 0)  # the trace of R
    if rule == "oas":
        top = (1 - 2 / p) * squares + p**2
        bottom = (moments.total + 1 - 2 / p) * (squares - p)
    else:
        pairs = jnp.maximum(p * (p - 1), 1)
        q = (squares - p) / pairs
        top, bottom = (1 - q) ** 2, moments.total * q
    return jnp.where(bottom > 0, jnp.minimum(top / jnp.where(bottom > 0, bottom, 1), 1), 1)


def standardized(data: Dataset, moments: Moments) -> Float[Array, "n d"]:
    """Returns rows about their mean in standard deviations, (n, d).

    Constant features are 0, and so are rows of weight 0, whatever was there.

    Args:
      data: rows.
      moments: of these rows.
    """
    sd = moments.sd
    x = (data.x.astype(sd.dtype) - moments.mean_x[0]) - moments.mean_x[1]
    x = x * safe_reciprocal(sd, sd > 0)
    return x if data.seen is None else jnp.where(data.seen[:, None], x, 0)


def class_gaps(moments: Moments) -> tuple[Float[Array, "d k"], Float[Array, " k"]]:
    """Returns class means less the overall mean, in standard deviations, and class frequencies.

    Args:
      moments: of class labels.

    Returns:
      (d, k), 0 for empty classes and constant features; and (k,).
    """
    share = moments.concept_mean
    return moments.standard_xz * safe_reciprocal(share, share > 0), share


class Place(NamedTuple):
    """What a projection is about.

    Attributes:
      center: (d,) the mean of the rows, or the origin.
      flat: (d,) bool, features that are set to the centre.
      status: () uint32.
    """

    center: jax.Array
    flat: jax.Array
    status: jax.Array


def place(moments: Moments, *, keep_mean: bool) -> Place:
    """Returns what a projection that keeps the mean, or else the origin, is about.

    Features that vary by less than numbers of this dtype can say are set to the mean. About the
    origin they cannot be, so they stay as they are, and UNRESOLVED says so.
    """
    flat, none = moments.flat, jnp.uint32(0)
    if keep_mean:
        return Place(moments.mean, flat, none)
    status = flag(flat.any(), Status.UNRESOLVED)
    return Place(jnp.zeros_like(moments.mean), jnp.zeros_like(flat), status)


def null_model(moments: Moments) -> tuple[Bool[Array, ""], UInt32[Array, ""]]:
    """Returns whether the constant is the best linear predictor, but for rounding; and a status.

    A feature of class means mu_j and deviation sd is rounded twice on its way here.

    *Arithmetic.* Subtracting what a projection reads moves a value by about eps of what is
    subtracted, so class means by up to 16 k eps sd: the k - 1 directions removed had gaps of a few
    sd. Whether rows lie far from zero does not matter: their distance to the centre is exact.

    *Storage.* The result is centre plus remainder, rounded to the nearest number, and moves by at
    most half of the spacing of numbers there, s = eps |mean|; float64 rows were centred before they
    were cast, and have the spacing of what is left. All rows of a class may move alike where a
    feature takes few values; so class means that coincide may be stored up to s apart.
    Values that differ more, like remainders, move independently: n_j of them shift a class mean by
    s / sqrt(12 n_j).

    So gaps of at most 16 k eps sd + s count as zero. Where one exceeds what independent rounding
    explains, six of its standard deviations, or s / 2, which is all that one class can move, it may
    be real: rows given as they are, and not made by an eraser, are exact. Then UNRESOLVED is set:
    no probe of the rows can tell which it was. Weights count as rows; if they are so small that n_j
    is less than one, s / 2 alone decides.

    Where classes lay many of their deviations apart before they were erased, what is left of the
    gaps is some eps of those, and so more than 16 k eps of the deviations left. It is not counted
    as zero, since a probe could not tell it from a gap; but up to 32 times as much, which is 1e-4
    deviations and would take 1e8 rows to be seen, sets UNRESOLVED.
    For real concepts the same holds of the covariance in units of its deviation.

    Args:
      moments: of the rows, with or without a covariance.

    Returns:
      () bool and () uint32.
    """
    dtype = moments.xz.dtype
    eps = jnp.finfo(dtype).eps
    columns = moments.xz.shape[1]
    total = moments.total
    flat = moments.flat
    inverse = safe_reciprocal(moments.unit_spread, (moments.sd > 0) | flat)
    xz = inverse[:, None] * (moments.xz * safe_reciprocal(total, total > 0))
    if moments.one_hot:
        share = moments.concept_mean
        means = xz * safe_reciprocal(share, share > 0)
        gaps = jnp.max(jnp.where(share > 0, means, -jnp.inf), axis=1)
        gaps = gaps - jnp.min(jnp.where(share > 0, means, jnp.inf), axis=1)
        fewest = jnp.min(jnp.where(share > 0, share, 1)) * total
        draws = fewest / 2  # two means
    else:
        inverse_n = safe_reciprocal(total, total > 0)
        sd_z = jnp.sqrt(jnp.maximum(jnp.diagonal(moments.zz) * inverse_n, 0))
        gaps = jnp.max(jnp.abs(xz) * safe_reciprocal(sd_z, sd_z > 0), axis=1)
        draws = total
    arithmetic = 16 * max(columns, 2) * eps
    storage = moments.spacing / moments.unit * inverse
    independent = 6 * storage * jax.lax.rsqrt(12 * jnp.maximum(draws, 1 / 12))
    explained = jnp.minimum(independent, storage / 2)
    # A feature that counts as constant is read by nothing.
    null = ((gaps <= arithmetic + storage) | flat).all()
    nearly = ((gaps <= _APART * arithmetic + storage) | flat).all()
    unresolved = ((gaps > arithmetic + explained) & (flat | nearly)).any()
    return null, flag(unresolved, Status.UNRESOLVED)
