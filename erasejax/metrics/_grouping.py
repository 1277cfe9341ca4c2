"""Rows in groups as one row a group, so that what tests independent rows can test them.

What a group g adds to Cov(x, z) is C_g^T X_g, of its rows X_g and its concept C_g, both times the
square roots of the rows' shares. With C_g = E_g A_g, E_g orthonormal, that is A_g^T (E_g^T X_g).
The rows E_g^T X_g of all groups, with the concept A_g, have the same covariance as the rows they
come from, and are independent of one another where the groups are. If a group has one label, its
row is the mean; if it holds both, in equal parts, the difference of its halves, without what the
group has in common. Rows that are each a group stay as they are.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from erasejax._linalg.products import product, safe_reciprocal

__all__ = ["Grouping", "group_rows"]


class Grouping(NamedTuple):
    """How rows become one row a group and direction of its concept, m = r num_groups in all.

    Row a num_groups + g is of group g; not all groups have as many directions.

    Attributes:
      reader: (n, r) E, the coefficients of the rows.
      concept: (m, r) A; orthonormal columns, as those of the rows.
      root: (m,) what the mean of x is multiplied by in each row; of length 1, or all 0 where the
        mean is in no row.
      count: () effective number of rows.
      groups: (n,) int32.
      num_groups: static.
    """

    reader: jax.Array
    concept: jax.Array
    root: jax.Array
    count: jax.Array
    groups: jax.Array | np.ndarray
    num_groups: int

    def rows(self, x: jax.Array) -> jax.Array:
        """Returns rows (m, d) of rows x (n, d) about their mean, times their roots."""
        return jnp.moveaxis(self.sums(self.reader, x), 1, 0).reshape(-1, x.shape[1])

    def sums(self, columns: jax.Array, x: jax.Array) -> jax.Array:
        """Returns the sums over groups of columns (n, k) times x (n, d): (num_groups, k, d)."""
        sums = jax.lax.map(lambda column: self.total(column[:, None] * x), columns.T)
        return jnp.moveaxis(sums, 0, 1)

    def total(self, rows: jax.Array) -> jax.Array:
        """Returns the sums of rows (n, ...) over groups, (num_groups, ...)."""
        return jax.ops.segment_sum(rows, self.groups, self.num_groups)

    def centred(self, rows: jax.Array) -> jax.Array:
        """Returns rows (m, d) about a mean of their own."""
        return rows - self.root[:, None] * product("m,md->d", self.root, rows)

    def design_effect(self, x: jax.Array, concept: jax.Array) -> jax.Array:
        """Returns the variance of Cov(x, z) over what it is of independent rows, ().

        Both are sums, over all entries of the covariance, of the squares of what groups, or rows,
        add to it, less what x owes to the concept.

        Args:
          x: (n, d) orthonormal columns of rows times their roots.
          concept: (n, r) the same of the concept.
        """
        rest = x - product("nr,mr->nm", concept, product("nm,nr->mr", x, concept))
        groups = jnp.sum(jnp.sum(self.concept**2, axis=1) * jnp.sum(self.rows(rest) ** 2, axis=1))
        rows = jnp.sum(jnp.sum(concept**2, axis=1) * jnp.sum(rest**2, axis=1))
        return jnp.where(rows > 0, groups * safe_reciprocal(rows, rows > 0), 1)


def group_rows(
    concept: jax.Array, root: jax.Array, groups: jax.Array | np.ndarray, num_groups: int
) -> Grouping:
    """Returns how rows become rows of groups.

    Args:
      concept: (n, r) orthonormal columns, the whitened concept times `root`.
      root: (n,) square roots of the shares of the rows in the total weight.
      groups: (n,) int32 in [0, num_groups).
      num_groups: static.
    """
    eps = jnp.finfo(root.dtype).eps

    def total(rows):
        return jax.ops.segment_sum(rows, groups, num_groups)

    r = concept.shape[1]
    moments = total(concept[:, :, None] * concept[:, None, :])
    share, size = total(root**2), total(jnp.where(root > 0, 1, 0))
    if r == 1:
        values, vectors = moments[:, 0], jnp.ones_like(moments)
    else:
        # What failed would keep LAPACK busy with NaN.
        values, vectors = jnp.linalg.eigh(jnp.where(jnp.isfinite(moments), moments, 0))
    # Sums of as many equal numbers as a group has rows round by so much.
    noise = (size[:, None] + 8) * eps
    kept = values > r * noise * jnp.max(values, axis=1, keepdims=True)
    length = jnp.sqrt(jnp.where(kept, values, 0))
    inverse = vectors * safe_reciprocal(length, kept)[:, None, :]
    reader = product("nr,nra->na", concept, inverse[groups])
    of_mean = total(reader * root[:, None])
    of_mean = jnp.where(jnp.abs(of_mean) > noise * jnp.sqrt(share)[:, None], of_mean, 0)
    square = jnp.sum(of_mean**2)
    weight = share[:, None] * kept
    return Grouping(
        reader=reader,
        concept=jnp.moveaxis(length[:, None, :] * vectors, 2, 0).reshape(-1, r),
        root=(of_mean * jnp.sqrt(safe_reciprocal(square, square > 0))).T.reshape(-1),
        count=jnp.sum(weight) ** 2 / jnp.sum(weight**2),
        groups=groups,
        num_groups=num_groups,
    )
