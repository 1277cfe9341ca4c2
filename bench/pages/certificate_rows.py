"""How many rows a certificate needs: how often `guardedness_test` rejects, simulated."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

import erasejax as ej
from bench.pages.trials import keys

__all__ = ["ROWS", "SEEDS", "after_erasing", "power"]

DIMS, SEEDS = 16, 1000
ROWS = (48, 96, 192, 384, 768, 1536)  # both classes together
LEAKS = (0.0, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32)  # R^2 of the population
LEVEL = 0.05


def _rejects(data: ej.Dataset) -> jax.Array:
    return ej.metrics.guardedness_test(data, method="pillai").p_value <= LEVEL


def _share(trial: Callable, *trees) -> np.ndarray:
    """Returns the mean of a trial over the first axis of its arguments."""
    run = jax.jit(lambda given: jax.lax.map(lambda one: trial(*one), given, batch_size=50))
    return np.asarray(run(trees)).mean(axis=0)


def power() -> tuple[pd.DataFrame, pd.Series]:
    """Returns how often a leak is found, leaks by rows, and the leak that is promised to be."""
    leaks = jnp.asarray(LEAKS)
    separations = 2 * jnp.sqrt(leaks / (1 - leaks))
    found, promised = {}, {}
    for n in ROWS:
        dataset = ej.datasets.GaussianClasses(rows=n // 2, dims=DIMS)

        def trial(key, dataset=dataset):
            def one(separation):
                return _rejects(dataset.replace(separation=separation).sample(key))

            return jax.lax.map(one, separations)

        found[n] = _share(trial, keys(SEEDS))
        test = ej.metrics.guardedness_test(dataset.sample(keys(1)[0]), method="pillai")
        promised[n] = float(test.detectable_r2)
    return pd.DataFrame(found, index=list(LEAKS)), pd.Series(promised)


def after_erasing() -> pd.DataFrame:
    """Returns how often LEACE fitted to some rows is found to leak by others, by their numbers."""
    every = keys(SEEDS)
    dataset = ej.datasets.GaussianClasses(dims=DIMS)
    erasers = {}
    for n in ROWS:

        def fit(key, n=n):
            return ej.LEACE().fit(dataset.replace(rows=n // 2).sample(key))

        erasers[n] = jax.jit(lambda ks, fit=fit: jax.lax.map(fit, ks, batch_size=50))(every)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves, axis=1), *erasers.values())
    found = {}
    for m in ROWS:

        def trial(key, own, m=m):
            data = dataset.replace(rows=m // 2).sample(key, part=1)
            return jax.lax.map(lambda eraser: _rejects(data.replace(x=eraser(data.x))), own)

        found[m] = _share(trial, every, stacked)
    return pd.DataFrame(found, index=list(ROWS))
