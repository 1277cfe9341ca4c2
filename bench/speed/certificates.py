"""The test of Cov(x, z) = 0: ten thousand sets of signs against a numpy loop, and sizes.

The loop turns the rows, centres them, takes their covariances and solves for Pillai's trace, one
set of signs after the other. Sizes are shares of 1,000 datasets without a leak that are rejected at
5%, of this test and of one that permutes the labels.

    python -m bench.speed.certificates
    python -m bench.speed.certificates --only speed --repeats 3
"""

import jax
import jax.numpy as jnp
import numpy as np

import erasejax as ej
from bench.speed.harness import Case, Figure, Row, compare, measure
from bench.speed.peers import one_or_all_threads

FLIPS, DATASETS = 10_000, 1000


def loop(x: np.ndarray, z: np.ndarray, seed: int) -> float:
    """Returns the p-value of Pillai's trace with random signs, in numpy."""
    rng = np.random.default_rng(seed)
    codes = z - z.mean()
    centred = x - x.mean(axis=0)

    def trace(rows):
        rows = rows - rows.mean(axis=0)
        read = codes @ rows
        return read @ np.linalg.solve(rows.T @ rows, read) / (codes @ codes)

    observed = trace(centred)
    both = np.array([-1, 1], x.dtype)
    drawn = (trace(rng.choice(both, (len(x), 1)) * centred) for _ in range(FLIPS))
    return (1 + sum(one >= observed for one in drawn)) / (1 + FLIPS)


def speed(repeats: int) -> tuple[list[Row], list[Figure]]:
    rows = []
    for n, d in [(500, 16), (2000, 16), (1000, 64)]:
        data = ej.datasets.GaussianClasses(rows=n // 2, dims=d, separation=0.0).sample(
            jax.random.key(0)
        )
        x, z = np.asarray(data.x), np.asarray(data.z, np.float32)
        rows += compare(
            f"{n} x {d}, {FLIPS} sets of signs",
            [
                *one_or_all_threads("numpy, loop", lambda x=x, z=z: loop(x, z, 0)),
                Case(
                    "erasejax",
                    lambda data=data: ej.metrics.guardedness_test(
                        data, key=jax.random.key(1), permutations=FLIPS
                    ),
                ),
            ],
            repeats=repeats,
        )
    return rows, []


def permuted(key: jax.Array, x: jax.Array, z: jax.Array) -> jax.Array:
    """Returns the p-value of a plain permutation test of Pillai's trace, or of the squared norm."""
    n, d = x.shape
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    x = jnp.linalg.qr(x)[0] if n >= 2 * d else x
    z = z - jnp.mean(z)
    mixed = jax.vmap(lambda k: jax.random.permutation(k, z))(jax.random.split(key, 299))
    drawn = jnp.sum((mixed @ x) ** 2, axis=1)
    return (1 + jnp.sum(drawn >= jnp.sum((z @ x) ** 2))) / 300


def flipped(key: jax.Array, x: jax.Array, z: jax.Array) -> jax.Array:
    """Returns the p-value of the library's test."""
    found = ej.metrics.guardedness_test(x, z, key=key, permutations=299, num_classes=2)
    return found.p_value


def sizes(repeats: int) -> tuple[list[Row], list[Figure]]:
    del repeats  # nothing is timed
    figures = []
    for n, d in [(400, 16), (320, 64), (100, 200)]:

        def rejects(key, spread, n=n, d=d):
            rows, own = jax.random.split(key)
            z = (jnp.arange(n) < n // 10).astype(jnp.int32)
            x = jax.random.normal(rows, (n, d)) * jnp.where(z == 1, spread, 1.0)[:, None]
            return jnp.stack([test(own, x, z) <= 0.05 for test in (flipped, permuted)])

        run = jax.jit(
            lambda keys, spread, rejects=rejects: jax.lax.map(
                jax.vmap(lambda key: rejects(key, spread)), keys
            )
        )
        keys = jax.random.split(jax.random.key(0), (DATASETS // 50, 50))
        for spread in (1.0, 3.0, 1 / 3):
            ours, plain = np.asarray(run(keys, spread)).reshape(-1, 2).mean(axis=0)
            group = f"{n} x {d}, 10% positives, spread {spread:.2g}"
            figures.append(Figure(group, "size, signs of rows", float(ours), "of 0.05"))
            figures.append(Figure(group, "size, labels permuted", float(plain), "of 0.05"))
    return [], figures


def main() -> None:
    parts = {"speed": speed, "sizes": sizes}
    measure("Certificates", "test", parts, about=__doc__, repeats=7, packages=("jax", "numpy"))


if __name__ == "__main__":
    main()
