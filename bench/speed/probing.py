"""Online codelength against plain loops over its prefixes: scikit-learn's, and ours.

All fit logistic regression to the same prefixes, in the same order, and add up the same bits; the
figures say how far apart they are. What is compiled, is so in the first call: `calls` are warm, and
`first` counts a first call in a process that has compiled nothing, as who has one table sees it.

    python -m bench.speed.probing
    python -m bench.speed.probing --only first
"""

import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.linear_model import LogisticRegression

import erasejax as ej
from bench.speed.harness import Case, Figure, Row, compare, measure
from bench.speed.peers import one_or_all_threads

SHAPES = [(500, 8), (2_000, 16), (10_000, 64)]  # rows, features
DATASETS, ROWS, DIMS = 256, 500, 8
L2 = 1e-2
KEY = jax.random.key(1)
OPTIONS = {"permutations": 0, "num_classes": 2}


def drawn(n: int, d: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns rows in random order, already shuffled."""
    data = ej.datasets.GaussianClasses(rows=n // 2, dims=d, separation=2.0).sample(
        jax.random.key(0)
    )
    order = np.random.default_rng(0).permutation(len(data.x))
    return np.asarray(data.x)[order], np.asarray(data.z)[order]


def loop(bits: Callable, x: np.ndarray, z: np.ndarray, sizes: list[int]) -> float:
    """Returns the bits of the code, of `bits(x, z, more x, more z)` for each block."""
    total = float(sizes[0])
    for start, stop in zip(sizes[:-1], sizes[1:], strict=True):
        if len(set(z[:start].tolist())) < 2:
            total += stop - start
        else:
            total += float(bits(x[:start], z[:start], x[start:stop], z[start:stop]))
    return total


def of_sklearn(x: np.ndarray, z: np.ndarray, more: np.ndarray, labels: np.ndarray) -> float:
    fitted = LogisticRegression(C=1 / (L2 * len(x)), max_iter=1000).fit(x, z)
    lost = fitted.predict_log_proba(more)[np.arange(len(labels)), labels]
    return -lost.sum() / np.log(2)


def of_ours(x: np.ndarray, z: np.ndarray, more: np.ndarray, labels: np.ndarray) -> float:
    """A prefix at a time, as who has no such function would write it."""
    fitted = ej.probes.Logistic(l2=L2).fit(x, z, num_classes=2)
    return ej.metrics.log_loss(fitted, more, labels) * len(labels) / np.log(2)


def as_sent(x: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Returns the rows in the order in which `codelength` sends them, and where blocks end."""
    from erasejax.rows import random_order

    data = ej.Dataset(x=jnp.asarray(x), z=jnp.asarray(z), num_classes=2)
    order = np.asarray(random_order(data, None, jax.random.split(KEY, 2)[1]))
    code = ej.metrics.codelength(ej.probes.Logistic(l2=L2), x, z, key=KEY, **OPTIONS)
    return x[order], z[order], code.sizes.tolist()


def calls(repeats: int) -> tuple[list[Row], list[Figure]]:
    rows, figures = [], []
    probe = ej.probes.Logistic(l2=L2)
    for n, d in SHAPES:
        x, z = drawn(n, d)
        sent = as_sent(x, z)
        group = f"one code, {n} x {d}"
        rows += compare(
            group,
            [
                *one_or_all_threads("scikit-learn, loop", lambda s=sent: loop(of_sklearn, *s)),
                Case("erasejax, loop", lambda s=sent: loop(of_ours, *s), peer=True),
                Case(
                    "erasejax",
                    lambda x=x, z=z: ej.metrics.codelength(probe, x, z, key=KEY, **OPTIONS),
                ),
            ],
            repeats=repeats,
        )
        own = float(ej.metrics.codelength(probe, x, z, key=KEY, **OPTIONS).bits)
        for name, bits in (("scikit-learn", of_sklearn), ("a prefix at a time", of_ours)):
            apart = abs(own / loop(bits, *sent) - 1)
            figures.append(Figure(group, f"relative difference to {name}", apart, ""))
    return rows, figures


def several(repeats: int) -> tuple[list[Row], list[Figure]]:
    """Many datasets, as a sweep has them."""
    dataset = ej.datasets.GaussianClasses(rows=ROWS // 2, dims=DIMS, separation=2.0)
    data = jax.vmap(dataset.sample)(jax.random.split(jax.random.key(0), DATASETS))
    probe = ej.probes.Logistic(l2=L2)
    run = jax.jit(
        jax.vmap(lambda data: ej.metrics.codelength(probe, data, key=KEY, permutations=0).bits)
    )
    x, z, sizes = as_sent(np.asarray(data.x[0]), np.asarray(data.z[0]))
    return compare(
        f"{DATASETS} codes, {ROWS} x {DIMS}",
        [
            *one_or_all_threads("scikit-learn, loop", lambda: loop(of_sklearn, x, z, sizes)),
            Case("erasejax, loop", lambda: loop(of_ours, x, z, sizes), peer=True),
            Case("erasejax", lambda: run(data), units=DATASETS),
        ],
        repeats=repeats,
    ), []


def first(repeats: int) -> tuple[list[Row], list[Figure]]:
    """First calls, with everything that they compile."""
    figures = []
    for n, d in SHAPES:
        x, z = drawn(n, d)
        sent = as_sent(x, z)
        runs = {
            "codelength": lambda x=x, z=z: (
                ej.metrics.codelength(ej.probes.Logistic(l2=L2), x, z, key=KEY, **OPTIONS).bits
            ),
            "a prefix at a time": lambda s=sent: loop(of_ours, *s),
        }
        for name, run in runs.items():
            seconds = []
            for _ in range(repeats):
                jax.clear_caches()
                start = time.perf_counter()
                jax.block_until_ready(run())
                seconds.append(time.perf_counter() - start)
            figures.append(Figure(f"first call, {n} x {d}", name, min(seconds), "s"))
    return [], figures


def main() -> None:
    parts = {"calls": calls, "several": several, "first": first}
    packages = ("jax", "scikit-learn")
    measure("Probing", "code", parts, about=__doc__, repeats=3, packages=packages)


if __name__ == "__main__":
    main()
