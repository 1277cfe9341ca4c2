r"""Optimal transport between Gaussians: maps between covariances, barycentres, distances.

For Gaussians the map that moves A onto B with the least mean squared distance is linear,

    T = A^{-1/2} (A^{1/2} B A^{1/2})^{1/2} A^{-1/2},

symmetric, positive semi-definite, with T A T = B. Square roots are taken by `eigh`, their
derivatives by the Sylvester equation R dR + dR R = dA in the eigenbasis: finite where eigenvalues
repeat, where the derivative of `eigh` itself divides by zero.
"""

from typing import TypeAlias

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from erasejax._core import inputs
from erasejax._core.programs import own_rules, program
from erasejax._core.types import Given
from erasejax._linalg.products import product, safe_reciprocal

__all__ = ["barycenter", "distance", "ot_map"]

Roots: TypeAlias = tuple[jax.Array, jax.Array, jax.Array]  # what `_roots` returns


def ot_map(a: Given, b: Given) -> Float[Array, "d d"]:
    """Returns the optimal transport map between centred Gaussians of covariances A and B.

    Where A is singular its inverse root is the pseudo-inverse: eigenvalues of at most 8 eps sqrt(d)
    of the largest count as zero, the map is zero on their span, and T A T is what B is within the
    range of A.

    Args:
      a: (d, d) A, symmetric positive semi-definite, in squared units of x.
      b: (d, d) B.

    Returns:
      (d, d) T, symmetric positive semi-definite, without units, with T A T = B.

    Raises:
      TypeError: a or b is not floating point.
      ValueError: shapes are not (d, d), or differ.

    Under jit: pure, differentiable once in both modes, one problem at a time; `jax.vmap` for more.

    Example:
      >>> t = ej.transport.ot_map(jnp.eye(2), jnp.diag(jnp.array([4.0, 9.0])))
      >>> np.round(np.diag(t), 3).tolist()
      [2.0, 3.0]

    References:
      Dowson and Landau 1982, doi 10.1016/0047-259X(82)90077-X; Peyre and Cuturi 2019, arXiv
      1803.00567, remark 2.31.
    """
    a, b = _pair(a, b)
    return _map(a, b)


def barycenter(
    covariances: Given, weights: Given, *, steps: int = 64, tolerance: float | None = None
) -> Float[Array, "d d"]:
    """Returns the Wasserstein barycentre of covariances: the B nearest to all in mean square.

    The fixed point of B <- B^{-1/2} (sum_j p_j (B^{1/2} S_j B^{1/2})^{1/2})^2 B^{-1/2}, from the
    mean of the S_j on. It is a scan of a static number of rounds, of which those after the relative
    change has fallen to `tolerance` are skipped: `while gap > tol`, in a form that has a derivative
    in reverse mode too, which a `lax.while_loop` has not. The derivative is that of the rounds
    taken, and converges at the same geometric rate as B does; implicit differentiation would solve
    a system of d^2 unknowns to save their memory, 3 k d^2 numbers a round. Under vmap no round is
    skipped.

    Args:
      covariances: (k, d, d) S_j, symmetric positive semi-definite.
      weights: (k,) p_j >= 0, in any unit.
      steps: static bound on the rounds. Where the S_j are alike the error is about 5e-6 after 10
        rounds and 5e-11 after 40; where their variances differ by factors of 100, 1e-3 and 1e-5.
      tolerance: relative change in Frobenius norm that ends the rounds; None for 8 eps.

    Returns:
      (d, d) B, in squared units of x. NaN where an input is. An array has no status that could say
      that the rounds ran out: compare B with that of more `steps`.

    Raises:
      TypeError: covariances are not floating point.
      ValueError: shapes do not match, or steps is not positive.

    Under jit: pure, differentiable once in both modes.

    Example:
      >>> both = jnp.stack([jnp.eye(2), 9 * jnp.eye(2)])
      >>> b = ej.transport.barycenter(both, jnp.array([0.5, 0.5]))
      >>> np.round(np.diag(b), 3).tolist()  # of deviations 1 and 3: 2
      [4.0, 4.0]

    References:
      Alvarez-Esteban, del Barrio, Cuesta-Albertos and Matran 2016, arXiv 1511.05355.
    """
    covariances = inputs.features("covariances", covariances, ndim=3)
    k, d = covariances.shape[:2]
    dtype = inputs.compute_dtype(covariances)
    weights = inputs.as_array("weights", weights, dtype)
    if covariances.shape != (k, d, d) or weights.shape != (k,):
        raise ValueError(
            f"covariances, weights: expected (k, d, d) and (k,), got {covariances.shape} and "
            f"{weights.shape}"
        )
    if steps < 1:
        raise ValueError(f"steps: expected a positive number of rounds, got {steps}")
    least = 8 * float(jnp.finfo(dtype).eps) if tolerance is None else tolerance
    least = inputs.as_array("tolerance", least, dtype)
    return _barycenter(covariances.astype(dtype), weights, least, steps)


@program(static_argnums=3)
def _barycenter(
    covariances: jax.Array, weights: jax.Array, tolerance: jax.Array, steps: int
) -> jax.Array:
    weights = weights / jnp.sum(weights)
    # A weight of zero drops a covariance, whatever it holds.
    used = jnp.where((weights != 0)[:, None, None], covariances, 0)
    scale = _scale(used)
    used = _symmetric(used) * safe_reciprocal(scale, scale > 0)
    roots = jax.vmap(_roots)(used)[0]

    def advance(mean: jax.Array) -> tuple[jax.Array, jax.Array]:
        root, inverse, _ = _roots(mean)
        # The length of B^{1/2} S^{1/2} is the root of B^{1/2} S B^{1/2}, with nothing squared.
        lengths = jax.vmap(_length)(product("ij,kjl->kil", root, roots))
        total = product("k,kij->ij", weights, lengths)
        half = product("ij,jk->ik", total, inverse)
        following = product("ji,jk->ik", half, half)
        change = jnp.linalg.norm(lax.stop_gradient(following - mean))
        return following, change / jnp.linalg.norm(lax.stop_gradient(mean))

    def body(
        carry: tuple[jax.Array, jax.Array], _: None
    ) -> tuple[tuple[jax.Array, jax.Array], None]:
        mean, gap = carry
        return lax.cond(gap > tolerance, lambda: advance(mean), lambda: (mean, gap)), None

    start = product("k,kij->ij", weights, used)
    (mean, _), _ = lax.scan(body, (start, jnp.full((), jnp.inf, start.dtype)), None, length=steps)
    return mean * scale


def distance(
    a: Given, b: Given, *, mean_a: Given | None = None, mean_b: Given | None = None
) -> Float[Array, ""]:
    """Returns the 2-Wasserstein distance between Gaussians; of covariances alone, Bures'.

    Its square is |mean_a - mean_b|^2 + E|T x - x|^2, computed so and not as the difference of
    traces tr A + tr B - 2 tr (A^{1/2} B A^{1/2})^{1/2}, which loses half of the digits where A and
    B are near each other.

    Args:
      a: (d, d) covariance, symmetric positive semi-definite.
      b: (d, d).
      mean_a: (d,), or None for zero.
      mean_b: (d,), or None for zero.

    Returns:
      () >= 0, in units of x. Its gradient is 0 where the distance is.

    Raises:
      TypeError: an argument is not floating point.
      ValueError: shapes do not match.

    Under jit: pure, differentiable once in both modes.

    Example:
      >>> a, b = jnp.diag(jnp.array([1.0, 0.0])), jnp.diag(jnp.array([9.0, 0.0]))
      >>> round(float(ej.transport.distance(a, b)), 3)
      2.0

    References:
      Takatsu 2011, Wasserstein geometry of Gaussian measures, arXiv 0801.2250; Bhatia, Jain and Lim
      2019, arXiv 1712.01504.
    """
    a, b = _pair(a, b)
    gap = jnp.zeros(a.shape[0], a.dtype)
    for name, mean, sign in (("mean_a", mean_a, 1), ("mean_b", mean_b, -1)):
        if mean is not None:
            mean = inputs.features(name, mean, ndim=1)
            if mean.shape != gap.shape:
                raise ValueError(f"{name}: expected shape {gap.shape}, got {mean.shape}")
            gap = gap + sign * mean.astype(a.dtype)
    return _distance(a, b, gap)


@program
def _map(a: jax.Array, b: jax.Array) -> jax.Array:
    return _transport(a, b)[0]


@program
def _distance(a: jax.Array, b: jax.Array, gap: jax.Array) -> jax.Array:
    # In units in which nothing overflows when it is squared.
    scale = jnp.maximum(_scale(jnp.stack([a, b])), lax.stop_gradient(jnp.max(gap**2)))
    inverse = safe_reciprocal(scale, scale > 0)
    a, b, gap = a * inverse, b * inverse, gap * jnp.sqrt(inverse)
    transport, root, null = _transport(a, b)
    moved = product("ij,jk->ik", transport, root) - root
    square = jnp.sum(gap * gap) + jnp.sum(moved * moved) + jnp.sum(null * b)
    positive = square > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, square, 1)), 0) * jnp.sqrt(scale)


def _transport(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns the map from A to B, A^{1/2}, and the projection onto the null space of A."""
    scale_a, scale_b = _scale(a), _scale(b)
    root, inverse, null = _roots(_symmetric(a) * safe_reciprocal(scale_a, scale_a > 0))
    root_b = _roots(_symmetric(b) * safe_reciprocal(scale_b, scale_b > 0))[0]
    # Not through A^{1/2} B A^{1/2}, whose condition is that of A times that of B.
    middle = _length(product("ij,jk->ik", root, root_b))
    unit = _symmetric(product("ij,jk,kl->il", inverse, middle, inverse))
    ratio = jnp.sqrt(scale_b * safe_reciprocal(scale_a, scale_a > 0))
    return unit * ratio, jnp.sqrt(scale_a) * root, null


@jax.custom_jvp
def _roots(matrix: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns A^{1/2}, its pseudo-inverse, and the projection onto the null space of A, (d, d)."""
    return _assembled(*_eigen(matrix))


@_roots.defjvp
@own_rules()
def _roots_jvp(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[Roots, Roots]:
    """Differentiates by divided differences of the three functions of the eigenvalues.

    Of the root they are 1 / (r_i + r_j), the solution of the Sylvester equation. A zero eigenvalue
    is taken to stay zero while its span may turn: A moves among matrices of its rank.
    """
    (matrix,), (change,) = primals, tangents
    root, inverse, vectors = _eigen(matrix)
    rotated = product("ji,jk,kl->il", vectors, _symmetric(change), vectors)
    total = root[:, None] + root[None, :]
    slope = safe_reciprocal(total, total > 0)
    both = inverse[:, None] * inverse[None, :]
    one = jnp.where(both == 0, inverse[:, None] + inverse[None, :], 0)  # one kept, the other zero

    def back(slopes: jax.Array) -> jax.Array:
        return product("ij,jk,lk->il", vectors, slopes * rotated, vectors)

    tangent = back(slope), back(one**3 - both * slope), back(-(one**2))
    return _assembled(root, inverse, vectors), tangent


def _eigen(matrix: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns roots of the eigenvalues, their inverses, both 0 where cut, and eigenvectors."""
    values, vectors = jnp.linalg.eigh(matrix)
    eps = float(jnp.finfo(matrix.dtype).eps)
    kept = values > 8 * eps * matrix.shape[0] ** 0.5 * jnp.max(values)
    root = jnp.sqrt(jnp.maximum(values, 0)) * kept  # NaN stays NaN
    return root, safe_reciprocal(root, kept), vectors


def _assembled(root: jax.Array, inverse: jax.Array, vectors: jax.Array) -> Roots:
    """Returns the three matrices of `_roots`."""
    null = jnp.where(root == 0, 1, 0).astype(root.dtype)
    one, two, three = (product("ij,j,kj->ik", vectors, f, vectors) for f in (root, inverse, null))
    return one, two, three


@jax.custom_jvp
def _length(factor: jax.Array) -> jax.Array:
    """Returns (F F^T)^{1/2}, (d, d), from the singular values of F: nothing is squared."""
    u, singular, _ = jnp.linalg.svd(factor)
    return product("ij,j,kj->ik", u, singular, u)


@_length.defjvp
@own_rules()
def _length_jvp(
    primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    """Differentiates by the same Sylvester equation, with dF F^T + F dF^T on the right."""
    (factor,), (change,) = primals, tangents
    u, singular, vt = jnp.linalg.svd(factor)
    total = singular[:, None] + singular[None, :]
    share = singular[None, :] * safe_reciprocal(total, total > 0)
    half = share * product("ji,jk,lk->il", u, change, vt)
    tangent = product("ij,jk,lk->il", u, half + half.T, u)
    return product("ij,j,kj->ik", u, singular, u), tangent


def _symmetric(matrix: jax.Array) -> jax.Array:
    """Returns the symmetric part."""
    return (matrix + jnp.swapaxes(matrix, -1, -2)) / 2


def _scale(matrix: jax.Array) -> jax.Array:
    """Returns the largest variance, (), as a constant: what it scales is homogeneous."""
    return jnp.max(jnp.diagonal(lax.stop_gradient(matrix), axis1=-2, axis2=-1))


def _pair(a: Given, b: Given) -> tuple[jax.Array, jax.Array]:
    """Returns two covariances in their common dtype.

    Raises:
      TypeError: one is not floating point.
      ValueError: shapes are not (d, d), or differ.
    """
    a, b = inputs.features("a", a), inputs.features("b", b)
    if a.shape != b.shape or a.shape[0] != a.shape[1]:
        raise ValueError(
            f"a, b: expected two covariances of one shape (d, d), got {a.shape} and {b.shape}"
        )
    dtype = inputs.compute_dtype(a, b)
    return a.astype(dtype), b.astype(dtype)
