"""Shrinkage rules of LEACE: the error of the correlations, and the damage to fresh rows.

Two classes, one noise standard deviation apart, in features that are isotropic, have a power-law
spectrum, look like hidden states, or are mixed by a Gaussian matrix, which leaves a few directions
almost without variance. The eraser is fitted to n rows; damage is that to 4,096 others. The error
is the squared distance of the shrunk correlations to those of the fresh rows, as a share of the
same without shrinkage.

    python -m bench.shrinkage
    python -m bench.shrinkage --only mixed
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

import erasejax as ej
from bench.harness import Figure, Row, measure
from erasejax import canonical
from erasejax.data import Dataset

RULES = ("none", "schaefer-strimmer", "oas")
SIZES, RATIOS = (4, 16, 64, 256), (0.5, 1, 2, 4, 16, 64)
FRESH, LARGEST = 4096, 4096  # rows to score, the most rows to fit
VALUES = 1 << 22  # of all rows that are drawn at a size, up to 1,000 times


def classes(key: jax.Array, part: int, *, d: int, n: int, decay: float) -> Dataset:
    kind = ej.datasets.GaussianClasses(rows=n // 2, dims=d, decay=decay, separation=1.0)
    return kind.sample(key, part=part)


def activations(key: jax.Array, part: int, *, d: int, n: int) -> Dataset:
    kind = ej.datasets.Activations(rows=n // 2, dims=d, separation=1.0)
    return kind.sample(key, part=part)


def mixed(key: jax.Array, part: int, *, d: int, n: int) -> Dataset:
    data = classes(key, part, d=d, n=n, decay=0.0)
    mixing = jax.random.normal(jax.random.fold_in(key, 1), (d, d))
    return data.replace(x=data.x @ mixing)  # pyright: ignore[reportAttributeAccessIssue]


KINDS = {
    "isotropic": functools.partial(classes, decay=0.0),
    "power law": functools.partial(classes, decay=1.0),
    "activations": activations,
    "mixed": mixed,
}


def correlations(x: jax.Array) -> jax.Array:
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    return x.T @ x / len(x)


def trial(key: jax.Array, draw, d: int, n: int) -> jax.Array:
    """Returns (rules, 3): weight, squared error of the correlations, damage to fresh rows."""
    data, fresh = draw(key, 0, d=d, n=n), draw(key, 1, d=d, n=FRESH)
    moments = ej.Moments.of(data)
    own, target = correlations(data.x), correlations(fresh.x)
    found = []
    for rule in RULES:
        weight = canonical.shrink(rule, 0.0, jnp.sum(own**2), moments)
        error = jnp.sum(((1 - weight) * own + weight * jnp.eye(d) - target) ** 2)
        erased = ej.LEACE(shrinkage_rule=rule).fit(data)(fresh.x)
        found.append(jnp.stack([weight, error, ej.metrics.damage(fresh.x, erased)]))
    return jnp.stack(found)


def table(kind: str, repeats: int) -> tuple[list[Row], list[Figure]]:
    del repeats  # nothing is timed
    figures = []
    for d in SIZES:
        for n in (int(d * ratio) for ratio in RATIOS):
            if not 4 <= n <= LARGEST:
                continue
            draws = int(np.clip(VALUES // (FRESH * d), 8, 1000))
            run = jax.jit(
                lambda keys, d=d, n=n: jax.lax.map(lambda key: trial(key, KINDS[kind], d, n), keys)
            )
            found = np.asarray(run(jax.random.split(jax.random.key(0), draws))).mean(axis=0)
            group = f"{kind}, {n} x {d}"
            for rule, (weight, error, damage) in zip(RULES, found, strict=True):
                figures.append(Figure(group, f"damage, {rule}", float(damage), "of the variance"))
                if rule != "none":
                    share = float(error / found[0, 1])
                    figures.append(Figure(group, f"error, {rule}", share, "of without"))
                    figures.append(Figure(group, f"weight, {rule}", float(weight), ""))
    return [], figures


def main() -> None:
    parts = {kind.replace(" ", "-"): functools.partial(table, kind) for kind in KINDS}
    measure("Shrinkage", "fit", parts, about=__doc__, packages=("jax", "numpy"))


if __name__ == "__main__":
    main()
