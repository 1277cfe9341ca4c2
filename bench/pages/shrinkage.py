"""Shrinkage rules of LEACE: the error of the correlations, and the damage to fresh rows.

Two classes, one noise standard deviation apart, in features that are isotropic, have a power-law
spectrum, look like hidden states, or are mixed by a Gaussian matrix, which leaves a few directions
almost without variance. The eraser is fitted to n rows; damage is that to 4,096 others. The error
is the squared distance of the shrunk correlations to those of the fresh rows, as a share of the
same without shrinkage.

    python -m bench.pages.shrinkage
    python -m bench.pages.shrinkage --only 16-features
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

import erasejax as ej
from bench.speed.harness import Figure, Row, measure
from erasejax.statistics import shrink

RULES = ("none", "schaefer-strimmer", "oas")
SIZES, RATIOS = (4, 16, 64, 256), (0.5, 1, 2, 4, 16, 64)
FRESH, LARGEST = 4096, 4096  # rows to score, the most rows to fit
VALUES = 1 << 22  # of all fresh rows at a size
# What Activations has by default, and with its habits taken away.
KINDS = {
    "isotropic": (0.0, 0.0, 1.0),
    "power law": (1.0, 0.0, 1.0),
    "activations": (1.0, 10.0, 100.0),
    "mixed": (0.0, 0.0, 1.0),
}


@functools.partial(jax.jit, static_argnames=("d", "n"))
def draw(keys: jax.Array, decay, mean, massive_scale, *, d: int, n: int):
    """Returns rows to fit (draws, n, d), their labels, and others, of one population a key."""

    def one(key):
        options = {"dims": d, "separation": 1.0, "decay": decay, "mean": mean}
        own, fresh = (
            ej.datasets.Activations(rows=rows // 2, massive_scale=massive_scale, **options)
            for rows in (n, FRESH)
        )
        data = own.sample(key)
        return data.x, data.z, fresh.sample(key, part=1).x

    return jax.lax.map(one, keys)


def correlations(x: jax.Array) -> jax.Array:
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    return x.T @ x / len(x)


@jax.jit
def trials(x: jax.Array, z: jax.Array, fresh: jax.Array) -> jax.Array:
    """Returns (rules, 3): weight, squared error of the correlations, damage; means over draws."""

    def one(drawn):
        x, z, fresh = drawn
        data = ej.Dataset(x, z, 2)
        moments = ej.Moments.of(data)
        own, target = correlations(x), correlations(fresh)
        found = []
        for rule in RULES:
            weight = shrink(rule, 0.0, jnp.sum(own**2), moments)
            shrunk = (1 - weight) * own + weight * jnp.eye(len(own))
            erased = ej.LEACE(shrinkage_rule=rule).fit(data)(fresh)
            damage = ej.metrics.damage(fresh, erased)
            found.append(jnp.stack([weight, jnp.sum((shrunk - target) ** 2), damage]))
        return jnp.stack(found)

    return jnp.mean(jax.lax.map(one, (x, z, fresh)), axis=0)


def table(d: int, repeats: int) -> tuple[list[Row], list[Figure]]:
    del repeats  # nothing is timed
    keys = jax.random.split(jax.random.key(0), int(np.clip(VALUES // (FRESH * d), 8, 1000)))
    mixing = jax.random.normal(jax.random.key(1), (len(keys), d, d))
    figures = []
    for n in (int(d * ratio) for ratio in RATIOS):
        if not 4 <= n <= LARGEST:
            continue
        for kind, habits in KINDS.items():
            x, z, fresh = draw(keys, *habits, d=d, n=n)
            if kind == "mixed":
                x, fresh = x @ mixing, fresh @ mixing
            found = np.asarray(trials(x, z, fresh))
            group = f"{kind}, {n} x {d}"
            for rule, (weight, error, damage) in zip(RULES, found, strict=True):
                figures.append(Figure(group, f"damage, {rule}", float(damage), "of the variance"))
                if rule != "none":
                    share = float(error / found[0, 1])
                    figures.append(Figure(group, f"error, {rule}", share, "of without"))
                    figures.append(Figure(group, f"weight, {rule}", float(weight), ""))
    return [], figures


def main() -> None:
    parts = {f"{d}-features": functools.partial(table, d) for d in SIZES}
    measure("Shrinkage", "fit", parts, about=__doc__, packages=("jax", "numpy"))


if __name__ == "__main__":
    main()
