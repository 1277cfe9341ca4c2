"""A concept seen from the features: its axes, S^+ times them, and canonical correlations.

With S the covariance of x and W a whitening of the concept, the axes are C = Sigma_xz W, in units
of x. What they span is what erasing destroys; S^+ C is what reads it with the least damage; and the
singular values of S^{+1/2} C are the canonical correlations of x and the concept.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from erasejax import checks, linalg, solves
from erasejax.checks import Status
from erasejax.data import Dataset, codes
from erasejax.linalg import product, safe_reciprocal
from erasejax.moments import Moments

__all__ = [
    "SHRINKAGE_RULES",
    "Solved",
    "class_gaps",
    "concept_axes",
    "correlations",
    "is_null",
    "shrink",
    "solve_data",
    "solve_moments",
    "whitening",
]


class Solved(NamedTuple):
    """The axes of a concept and what reads them.

    Attributes:
      axes: (d, r) C, the covariance of x with the whitened concept.
      solved: (d, r) S^+ C, with S shrunk if asked for.
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


def whitening(moments: Moments) -> tuple[jax.Array, jax.Array]:
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
    return both, moments.outcome | checks.flag(constant, Status.CONSTANT_CONCEPT)


def concept_axes(moments: Moments) -> tuple[jax.Array, jax.Array]:
    """Returns the axes of the concept, (d, r), and of the task beyond them; and a status word.

    Divided by the features' standard deviations the concept's axes have singular values without
    units, at most sqrt(d), which no scaling of x or z changes.
    """
    whiten, status = whitening(moments)
    inverse_n = safe_reciprocal(moments.total, moments.total > 0)
    return product("dk,kr->dr", moments.xz * inverse_n, whiten), status


def solve_moments(moments: Moments, *, rule: str, shrinkage: ArrayLike) -> Solved:
    """Returns the axes and S^+ times them from moments, by a (d, d) Cholesky factorisation.

    Args:
      moments: with the covariance.
      rule: "none", "fixed", "schaefer-strimmer" or "oas", see `shrink`.
      shrinkage: () for "fixed".
    """
    axes, status = concept_axes(moments)
    sd = moments.sd
    inverse = safe_reciprocal(sd, sd > 0)[:, None]
    unit = solves.equilibrate(moments.covariance, sd)
    weight = shrink(rule, shrinkage, jnp.sum(unit * unit), moments)
    solved = inverse * solves.solve_correlation(unit, inverse * axes, shrinkage=weight)
    return _split(axes, solved, moments, status)


def solve_data(data: Dataset, *, rule: str, shrinkage: ArrayLike, task: bool = False) -> Solved:
    """Returns the same as `solve_moments` from rows, by the smaller of the two factorisations.

    With fewer rows than features the Gram matrix of the rows, (n, n), takes the place of the
    covariance: S^+ Sigma_xz = X^T (X X^T + c 1 1^T)^+ Z. Rows of weight 0 are masked.
    """
    n, d = data.x.shape
    if n >= d:
        return solve_moments(Moments.of(data, task=task), rule=rule, shrinkage=shrinkage)
    moments = Moments.of(data, covariance=False, task=task)
    whiten, status = whitening(moments)
    axes = concept_axes(moments)[0]
    dtype, sd = axes.dtype, moments.sd
    inverse = safe_reciprocal(sd, sd > 0)
    z, _ = codes(data, dtype)
    if moments.task and data.task is not None:
        z = jnp.concatenate([z, data.task], axis=1)
    inverse_n = safe_reciprocal(moments.total, moments.total > 0)
    root = jnp.sqrt(data.row_weights * inverse_n)[:, None]
    seen = root > 0
    x = jnp.where(seen, root * ((data.x.astype(dtype) - moments.mean) * inverse), 0)
    z = jnp.where(seen, root * ((z - moments.mean_z[0]) - moments.mean_z[1]), 0)
    gram = linalg.gram(x.T)
    weight = shrink(rule, shrinkage, jnp.sum(gram * gram), moments)
    rows = solves.solve_gram(gram, root[:, 0], product("nk,kr->nr", z, whiten), shrinkage=weight)
    solved = inverse[:, None] * product("nr,nd->rd", rows, x).T
    return _split(axes, solved, moments, status)


def _split(axes, solved, moments: Moments, status) -> Solved:
    r = axes.shape[1] - moments.task
    return Solved(axes[:, :r], solved[:, :r], axes[:, r:], solved[:, r:], moments, status)


def correlations(solved: Solved) -> jax.Array:
    """Returns the canonical correlations of x and the concept, (r,), descending, in [0, 1]."""
    squares = product("dr,ds->rs", solved.axes, solved.solved)
    if squares.shape == (1, 1):
        values = squares[0]
    else:
        values = jnp.linalg.eigvalsh((squares + squares.T) / 2)[::-1]
    return jnp.sqrt(jnp.clip(values, 0, 1))


SHRINKAGE_RULES = ("fixed", "none", "schaefer-strimmer", "oas")


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
    checks.choice("shrinkage_rule", rule, SHRINKAGE_RULES)
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


def class_gaps(moments: Moments) -> tuple[jax.Array, jax.Array]:
    """Returns class means less the overall mean, (d, k), 0 for empty classes; and shares, (k,)."""
    share = moments.concept_mean
    rows = share * moments.total
    return moments.xz * safe_reciprocal(rows, rows > 0), share


def is_null(moments: Moments) -> jax.Array:
    """Returns whether the constant is the best linear predictor, but for rounding: ().

    Erasing in floating point leaves of a gap between class means what storing x and the projection
    rounds away: about eps (1 + |mean| / sd) standard deviations, times the k - 1 directions removed
    and the gaps of a few sd that they had. So gaps of at most 16 k eps (1 + |mean| / sd) sd count
    as zero; n rows can tell such a gap from chance only where n is near (16 k eps)^-2, some 10^11
    rows in float32. For real concepts the same holds of the covariance in units of its sd.
    """
    eps = jnp.finfo(moments.xz.dtype).eps
    k = max(moments.xz.shape[1], 2)
    spacing = 16 * k * eps * (moments.sd + jnp.abs(moments.mean))
    if moments.one_hot:
        gaps, share = class_gaps(moments)
        high = jnp.max(jnp.where(share > 0, gaps, -jnp.inf), axis=1)
        low = jnp.min(jnp.where(share > 0, gaps, jnp.inf), axis=1)
        return ((high - low) <= spacing).all()
    inverse = safe_reciprocal(moments.total, moments.total > 0)
    sd_z = jnp.sqrt(jnp.maximum(jnp.diagonal(moments.zz) * inverse, 0))
    return (jnp.abs(moments.xz) * inverse <= spacing[:, None] * sd_z).all()
