"""Methods as one would write them in a few lines of jax, for what a compiler takes for them.

They have none of the care that exactness takes: no scales, no ranks, no weights, no status.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

__all__ = ["NAIVE"]

STEPS, ROUNDS, L2 = 12, 20, 1e-3


def cross(x, z):
    centred = x - x.mean(axis=0)
    return centred, centred.T @ (z - z.mean()) / len(x)


def projected(x, a, b):
    """Takes a b^T out of the rows, about their mean."""
    mean = x.mean(axis=0)
    return x - jnp.outer((x - mean) @ b, a) / (a @ b)


def leace(x, z, key):
    centred, xz = cross(x, z)
    values, vectors = jnp.linalg.eigh(centred.T @ centred / len(x))
    root = jnp.where(values > 1e-6 * values[-1], jnp.sqrt(values), 0)
    inverse = jnp.where(root > 0, 1 / root, 0)
    white = vectors @ (inverse * (vectors.T @ xz))
    white = white / jnp.linalg.norm(white)
    return (
        vectors @ (root * (vectors.T @ white)),
        vectors @ (inverse * (vectors.T @ white)),
        x.mean(axis=0),
    )


def mean_difference(x, z, key):
    delta = cross(x, z)[1]
    return delta / jnp.linalg.norm(delta), x.mean(axis=0)


def random_directions(x, z, key):
    return jnp.linalg.qr(jax.random.normal(key, (x.shape[1], 1)))[0]


def logistic(x, z, key):
    n, d = x.shape
    rows = jnp.concatenate([x, jnp.ones((n, 1))], axis=1)
    penalty = L2 * jnp.ones(d + 1).at[-1].set(0)

    def step(_, w):
        p = jax.nn.sigmoid(rows @ w)
        gradient = rows.T @ (p - z) / n + penalty * w
        curve = (rows * (p * (1 - p))[:, None]).T @ rows / n + jnp.diag(penalty + 1e-6)
        return w - jax.scipy.linalg.solve(curve, gradient, assume_a="pos")

    return lax.fori_loop(0, STEPS, step, jnp.zeros(d + 1))


def inlp(x, z, key):
    def round_(i, state):
        left, found = state
        w = logistic(left, z, key)[:-1]
        w = w / jnp.linalg.norm(w)
        return projected(left, w, w), found.at[i].set(w)

    return lax.fori_loop(0, ROUNDS, round_, (x, jnp.zeros((ROUNDS, x.shape[1]))))[1]


def lda(x, z, key):
    size = jnp.stack([(1 - z).sum(), z.sum()])
    means = jnp.stack([(1 - z) @ x, z @ x]) / size[:, None]
    left = x - means[z.astype(jnp.int32)]
    curve = left.T @ left / len(x)
    w = jax.scipy.linalg.solve(curve, means[1] - means[0], assume_a="pos")
    return w, jnp.log(size[1] / size[0]) - means.mean(axis=0) @ w


def qda(x, z, key):
    found = []
    for of in (1 - z, z):
        mean = of @ x / of.sum()
        left = (x - mean) * of[:, None]
        values, vectors = jnp.linalg.eigh(left.T @ left / of.sum())
        found.append((mean, values, vectors, of.mean()))
    return found


def least_squares(x, z, key):
    centred, xz = cross(x, z)
    return jax.scipy.linalg.solve(centred.T @ centred / len(x), xz, assume_a="pos")


def mean_probe(x, z, key):
    means = jnp.stack([(1 - z) @ x / (1 - z).sum(), z @ x / z.sum()])
    return means[1] - means[0], means


def kernel_ridge(x, z, key):
    squares = jnp.sum(x * x, axis=1)
    distances = squares[:, None] + squares - 2 * x @ x.T
    kernel = jnp.exp(-distances / jnp.median(distances))
    return jax.scipy.linalg.solve(kernel + jnp.eye(len(x)), z - z.mean(), assume_a="pos")


def guardedness(x, z, key):
    centred, xz = cross(x, z)
    codes = z - z.mean()

    def pillai(rows):
        rows = rows - rows.mean(axis=0)
        read = codes @ rows
        return read @ jax.scipy.linalg.solve(rows.T @ rows, read, assume_a="pos") / (codes @ codes)

    def drawn(key):
        return pillai(centred * jax.random.rademacher(key, (len(x), 1), x.dtype))

    others = lax.map(drawn, jax.random.split(key, 999))
    return (1 + jnp.sum(others >= pillai(centred))) / 1000


def accuracy(x, z, key):
    return jnp.mean((x[:, 0] > 0) == (z > 0))


def auroc(x, z, key):
    order = jnp.argsort(x[:, 0])
    ranks = jnp.zeros(len(x)).at[order].set(jnp.arange(1, len(x) + 1))
    ones = z.sum()
    return ((ranks * z).sum() - ones * (ones + 1) / 2) / (ones * (len(x) - ones))


def log_loss(x, z, key):
    return jnp.mean(jnp.logaddexp(0, jnp.where(z > 0, -x[:, 0], x[:, 0])))


def damage(x, z, key):
    change = projected(x, *[cross(x, z)[1]] * 2) - x
    return jnp.sum(change**2) / jnp.sum((x - x.mean(axis=0)) ** 2)


def linear_r2(x, z, key):
    centred, xz = cross(x, z)
    w = jax.scipy.linalg.solve(centred.T @ centred / len(x), xz, assume_a="pos")
    return w @ xz / jnp.var(z)


def bootstrap(x, z, key):
    right = ((x[:, 0] > 0) == (z > 0)).astype(x.dtype)

    def drawn(key):
        return right[jax.random.randint(key, (len(x),), 0, len(x))].mean()

    return jnp.quantile(lax.map(drawn, jax.random.split(key, 1000)), jnp.array([0.025, 0.975]))


# x (n, d) float32, z (n,) float32 of 0 and 1, key; by the names that the benchmark gives calls.
NAIVE: dict[str, Callable] = {
    "eraser leace": leace,
    "eraser mean-difference": mean_difference,
    "eraser sal": mean_difference,
    "eraser random-directions": random_directions,
    "eraser inlp": inlp,
    "apply": lambda x, z, key: projected(x, x[0], x[1]),
    "probe logistic": logistic,
    "probe lda": lda,
    "probe qda": qda,
    "probe least-squares": least_squares,
    "probe mean-difference": mean_probe,
    "probe kernel-ridge": kernel_ridge,
    "guardedness_test": guardedness,
    "bootstrap": bootstrap,
    "metric accuracy": accuracy,
    "metric auroc": auroc,
    "metric log_loss": log_loss,
    "metric damage": damage,
    "metric linear_r2": linear_r2,
}
