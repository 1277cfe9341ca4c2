"""The convex losses that linear classifiers minimise, and what a solver needs to know of them.

A loss has m columns of scores, and a row has targets y (m,). `log_loss` has a column for each
contrast of the classes, so that nothing in it is undetermined; `squared_hinge` one for two classes,
else one for each class against the rest.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from erasejax._linalg.products import product

__all__ = ["LogLoss", "Loss", "Null", "SquaredHinge", "log_loss", "squared_hinge"]


class Null(NamedTuple):
    """The best constant scores, and the loss around them.

    Attributes:
      offset: (m,) the scores.
      curvature: (m,) eigenvalues of the loss's second derivative, the mean over the rows.
      turn: (m, m) its eigenvectors, in columns.
      safe: (m,) share in (0, 1] of a Newton step from there that cannot overshoot.
    """

    offset: jax.Array
    curvature: jax.Array
    turn: jax.Array
    safe: jax.Array


class LogLoss(NamedTuple):
    """Nats: minus the log-probability of the label.

    Attributes:
      contrasts: (k, m) what turns columns into class scores, scores @ contrasts^T.
    """

    contrasts: jax.Array

    @property
    def columns(self) -> int:
        """How many columns of scores there are, m."""
        return self.contrasts.shape[1]

    def targets(self, z: jax.Array) -> jax.Array:
        """Returns the labels (n, k), one-hot, in columns (n, m)."""
        return product("nk,km->nm", z, self.contrasts)

    def pull(self, xz: jax.Array) -> jax.Array:
        """Returns minus the gradient at the null model from Cov(x, z) (d, k): (d, m)."""
        return product("dk,km->dm", xz, self.contrasts)

    def null(self, share: jax.Array) -> Null:
        """Returns the null model of classes with frequencies (k,)."""
        eps = jnp.finfo(share.dtype).eps
        log_share = jnp.log(jnp.maximum(share, eps))
        labels = jnp.diag(share) - jnp.outer(share, share)
        inner = product("ka,kl,lb->ab", self.contrasts, labels, self.contrasts)
        # A class without rows has no curvature; nothing depends on its column either.
        if self.columns == 1:
            curvature = jnp.maximum(inner[0], 64 * eps)
            offset = log_share[1:] - log_share[:1]
            return Null(offset, curvature, jnp.ones_like(inner), curvature * 4)
        curvature, turn = jnp.linalg.eigh(inner)
        curvature = jnp.maximum(curvature, 64 * eps)
        offset = product("km,k->m", self.contrasts, log_share)
        return Null(offset, curvature, turn, jnp.minimum(curvature * 2, 1))

    def rows(self, scores: jax.Array, y: jax.Array) -> jax.Array:
        """Returns the loss of each row, (n,), accurate relative to the differences of scores.

        The log of the sum less the label's score would be rounded to eps of the largest score,
        which on separable classes is more than the loss.
        """
        if self.columns == 1:
            return jax.nn.softplus(jnp.where(y > 0.5, -scores, scores)[:, 0])
        every = product("nm,km->nk", scores, self.contrasts)
        own = product("nm,km->nk", y, self.contrasts) + 1 / len(self.contrasts) > 0.5
        behind = every - jnp.sum(scores * y, axis=1, keepdims=True)
        return jax.nn.softplus(jax.nn.logsumexp(jnp.where(own, -jnp.inf, behind), axis=1))

    def residual(self, scores: jax.Array, y: jax.Array) -> jax.Array:
        """Returns the derivative of each row's loss in its scores, (n, m)."""
        return self._probability(scores)[0] - y

    def curvature(self, scores: jax.Array, y: jax.Array) -> jax.Array:
        """Returns the diagonal of each row's second derivative, (n, m)."""
        mean, shares = self._probability(scores)
        if self.columns == 1:
            return mean * (1 - mean)
        return jnp.maximum(product("nk,km->nm", shares, self.contrasts**2) - mean**2, 0)

    def hessian(self, scores: jax.Array, y: jax.Array) -> jax.Array:
        """Returns each row's second derivative, (n, m, m)."""
        mean, shares = self._probability(scores)
        if self.columns == 1:
            return (mean * (1 - mean))[:, :, None]
        second = product("nk,ka,kb->nab", shares, self.contrasts, self.contrasts)
        return second - mean[:, :, None] * mean[:, None, :]

    def bend(self, change: jax.Array) -> jax.Array:
        """Returns by what share curvatures change, at most, where no score changes more: ()."""
        return jnp.minimum(change, 1)

    def reach(self, gap: jax.Array) -> jax.Array:
        """Returns the multiple of the first Newton step from the null model to try, ().

        That step is least squares. The log-odds of Gaussian classes lie further along it, by
        1 / (1 - R^2), where R^2 is twice what the step should gain; those of rows with lighter
        tails less far. The root of it lies between, and saves one step or two of six.
        """
        if self.columns == 1:
            return jax.lax.rsqrt(jnp.maximum(1 - 2 * gap, 1 / 64))
        return jnp.ones_like(gap)

    def _probability(self, scores: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns the class probabilities in columns, (n, m), and themselves, (n, k)."""
        if self.columns == 1:
            mean = jax.nn.sigmoid(scores)
            return mean, mean
        shares = jax.nn.softmax(product("nm,km->nk", scores, self.contrasts), axis=1)
        return product("nk,km->nm", shares, self.contrasts), shares


class SquaredHinge(NamedTuple):
    """The squared shortfall from a margin of one, max(0, 1 - y score)^2, summed over the columns.

    Attributes:
      signs: (k, m) the target of a row of class j in each column, -1 or 1.
    """

    signs: jax.Array

    @property
    def columns(self) -> int:
        """How many columns of scores there are, m."""
        return self.signs.shape[1]

    def targets(self, z: jax.Array) -> jax.Array:
        """Returns the labels (n, k), one-hot, in columns (n, m)."""
        return product("nk,km->nm", z, self.signs)

    def pull(self, xz: jax.Array) -> jax.Array:
        """Returns minus the gradient at the null model from Cov(x, z) (d, k): (d, m)."""
        return 2 * product("dk,km->dm", xz, self.signs)

    def null(self, share: jax.Array) -> Null:
        """Returns the null model of classes with frequencies (k,)."""
        one = jnp.ones(self.columns, share.dtype)
        offset = product("k,km->m", share, self.signs)
        return Null(offset, 2 * one, jnp.diag(one), one)

    def rows(self, scores: jax.Array, y: jax.Array) -> jax.Array:
        """Returns the loss of each row, (n,)."""
        return jnp.sum(jnp.maximum(1 - y * scores, 0) ** 2, axis=1)

    def residual(self, scores: jax.Array, y: jax.Array) -> jax.Array:
        """Returns the derivative of each row's loss in its scores, (n, m)."""
        return -2 * y * jnp.maximum(1 - y * scores, 0)

    def curvature(self, scores: jax.Array, y: jax.Array) -> jax.Array:
        """Returns the diagonal of each row's second derivative, (n, m)."""
        return jnp.where(y * scores < 1, 2, 0).astype(scores.dtype)

    def hessian(self, scores: jax.Array, y: jax.Array) -> jax.Array:
        """Returns each row's second derivative, (n, m, m)."""
        return self.curvature(scores, y)[:, :, None] * jnp.eye(scores.shape[1], dtype=scores.dtype)

    def bend(self, change: jax.Array) -> jax.Array:
        """Returns by what share curvatures change, at most, where no score changes more: ().

        A row that comes within its margin, or leaves it, brings or takes all its curvature.
        """
        return jnp.ones_like(change)

    def reach(self, gap: jax.Array) -> jax.Array:
        """Returns the multiple of the first Newton step from the null model to try, ()."""
        return jnp.ones_like(gap)


Loss = LogLoss | SquaredHinge


def log_loss(classes: int, dtype: jnp.dtype) -> LogLoss:
    """Returns the log-loss of so many classes.

    Two have scores (0, s). More have orthonormal contrasts, so that the penalty on the columns'
    weights is the penalty on the k weight vectors.
    """
    if classes == 2:
        return LogLoss(jnp.array([[0], [1]], dtype))
    contrasts = np.linalg.svd(np.eye(classes) - 1 / classes)[0][:, : classes - 1]
    return LogLoss(jnp.asarray(contrasts, dtype))


def squared_hinge(classes: int, dtype: jnp.dtype) -> SquaredHinge:
    """Returns the squared hinge of so many classes."""
    if classes == 2:
        return SquaredHinge(jnp.array([[-1], [1]], dtype))
    return SquaredHinge(2 * jnp.eye(classes, dtype=dtype) - 1)
