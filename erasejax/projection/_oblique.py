"""The one way to make a projection of what is to be destroyed and of what reads it."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, UInt32

from erasejax._core.status import Status, flag, poison
from erasejax._linalg.products import (
    column_norms,
    product,
    right_basis,
    safe_reciprocal,
    small_pinv,
)
from erasejax.projection._projection import Projection

__all__ = ["erased_whole", "oblique"]


def erased_whole(kernel: Float[Array, "d r"], test: Float[Array, "d r"]) -> Bool[Array, " d"]:
    """Returns the features (d,) of which I - K T^T leaves no more than rounding, bool.

    Those whose row of it has a square of at most 64 eps, which is what the sum for it is rounded
    to. What is left of them, divided by its deviation, would be rounding that follows the concept.

    Args:
      kernel: (d, r) K of features in standard deviations.
      test: (d, r) T of the same.
    """
    both = product("dr,rs,ds->d", kernel, product("dr,ds->rs", test, test), kernel)
    rest = 1 - 2 * jnp.sum(kernel * test, axis=1) + both
    return rest <= 64 * jnp.finfo(kernel.dtype).eps


def oblique(
    kernel: Float[Array, "d m"],
    test: Float[Array, "d m"],
    *,
    scale: Float[Array, " d"],
    center: Float[Array, " d"],
    status: UInt32[Array, ""],
    flat: Bool[Array, " d"] | None = None,
) -> Projection:
    r"""Returns the projection that destroys span(kernel), read through span(test).

    Kernel and test act on features divided by `scale`, so nothing here has units: with D the scales
    and P' = I - C (A^T C)^+ A^T for the kernel C and the test directions A, P = D P' D^-1. With the
    axes of `statistics.concept_axes` and the features' standard deviations the entries of C are
    correlations: a direction of C with a singular value of at most 8 eps sqrt(d) is rounding noise
    and is not removed. The columns of C and A are combined, never the rows, so features of any
    scales are erased alike.

    Where A does not see a direction u of C (the cosine between them is at most sqrt(eps)), u itself
    reads it: erasure comes first, at the price of damage.

    A feature of which nothing would be left but rounding is set to the centre, see `erased_whole`.

    Args:
      kernel: (d, m) C.
      test: (d, m) A, column i paired with column i of C.
      scale: (d,) positive scales of the features; 0 where a feature is constant.
      center: (d,) b.
      status: () status bits so far. An error makes the projection NaN.
      flat: (d,) bool, features to set to the centre in any case, or None.

    Returns:
      `Projection` with r = m columns, rank decided by the data.

    References:
      Belrose et al. 2023, arXiv 2306.03819, theorem 4.3, for test directions S^+ C.
    """
    d, m = kernel.shape
    info = jnp.finfo(kernel.dtype)
    eps = float(info.eps)
    varies = scale > 0

    kernel = jnp.where(varies[:, None], kernel, 0)
    transform, kept = right_basis(kernel, 8 * eps * d**0.5)
    unit = product("dm,mr->dr", kernel, transform)
    peak = jnp.max(jnp.abs(test))
    seen = product("dm,mr->dr", test * safe_reciprocal(peak, peak > 0), transform)
    length = column_norms(seen)
    seen = seen * safe_reciprocal(length, length > 0)
    overlap = product("dm,dr->mr", unit, seen)
    inverse = small_pinv(overlap, eps**0.5)
    reader = product("dr,rm->dm", seen, inverse)
    unseen = jnp.eye(m, dtype=unit.dtype) - product("mr,rn->mn", overlap, inverse)
    reader = reader + product("dr,rm->dm", unit, unseen)
    # The kernel is corrected by T^T U as computed, so that what the reader reads is destroyed.
    identity = jnp.where(
        jnp.outer(kept, kept),
        product("dr,dm->rm", reader, unit),
        jnp.eye(m, dtype=unit.dtype),
    )
    unit = product("dr,rm->dm", unit, jnp.linalg.inv(identity) if m > 1 else 1 / identity)
    unit, reader = jnp.where(kept, unit, 0), jnp.where(kept, reader, 0)
    whole = varies & erased_whole(unit, reader)

    # Unit columns, unless features differ so much that the smallest would vanish from them: then
    # tests have what digits they can spare. What is smaller still is set to the centre.
    largest = jnp.max(scale)
    relative = scale * safe_reciprocal(largest, largest > 0)
    spare = float(info.tiny) / eps
    wide = jnp.min(jnp.where(varies, relative, 1)) < spare / eps
    base = jnp.where(wide, scale * safe_reciprocal(largest * spare, largest > 0), relative)
    columns = unit * base[:, None]
    length = jnp.where(wide, 1, column_norms(columns))
    whole |= varies & (base < spare)
    rank = jnp.sum(kept).astype(jnp.int32)
    status = status | flag(rank == 0, Status.RANK_ZERO)
    return poison(
        Projection(
            kernel=columns * safe_reciprocal(length, kept),
            test=reader * length * safe_reciprocal(base, varies)[:, None],
            center=center,
            rank=rank,
            status=status,
            flat=whole if flat is None else whole | flat,
        ),
        status,
    )
