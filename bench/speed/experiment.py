"""The experiment of the demo, one dataset at a time and thousands at once.

One unit is one dataset of 2 x 100 rows: sample, project out the mean difference, fit a logistic
regression before and after, score both. The peer is a loop of numpy and scikit-learn, by default,
with one thread, and in as many processes as cores.

    python -m bench.speed.experiment
"""

import argparse
import functools
from pathlib import Path

import jax
import numpy as np
from sklearn.linear_model import LogisticRegression

import erasejax as ej
from bench.speed.harness import Case, compare, report
from bench.speed.peers import in_processes, one_or_all_threads

ROWS = 100
DATASETS = {3: 4096, 16: 2048, 64: 512}
LANES = {3: 1024, 16: 256, 64: 64}  # at once: what keeps a chunk in the last-level cache
LOOP = 100


def erasejax_case(d: int) -> Case:
    dataset = ej.datasets.DiscreteFeatures(dims=d, rows=ROWS)
    probe = ej.probes.Logistic(l2=1 / (2 * ROWS))  # scikit-learn's C = 1

    def one(key):
        data = dataset.sample(key)
        before = probe.fit(data)
        erased = ej.MeanDifference().fit(data)(data.x)
        after = probe.fit(erased, data.z, num_classes=2)
        return (
            ej.metrics.accuracy(before, data),
            ej.metrics.accuracy(after, erased, data.z),
        )

    keys = jax.random.split(jax.random.key(0), DATASETS[d])
    run = jax.jit(lambda keys: jax.lax.map(one, keys, batch_size=LANES[d]))
    return Case("erasejax, vmapped", lambda: run(keys), units=DATASETS[d])


def loop(d: int, datasets: int, seed: int = 0) -> None:
    """Does one dataset after the other in numpy and scikit-learn."""
    tables, values = tables_and_values()
    rng = np.random.default_rng(seed)
    z = np.repeat([0, 1], ROWS)
    for _ in range(datasets):
        x = rng.standard_normal((2 * ROWS, d))
        for label in (0, 1):
            for column in (0, 1):
                x[z == label, column] = rng.choice(values, ROWS, p=tables[label, column])
        LogisticRegression().fit(x, z).score(x, z)
        delta = x[z == 1].mean(axis=0) - x[z == 0].mean(axis=0)
        u = delta / np.linalg.norm(delta)
        erased = x - np.outer(x @ u, u)
        LogisticRegression().fit(erased, z).score(erased, z)


@functools.cache
def tables_and_values() -> tuple[np.ndarray, np.ndarray]:
    dataset = ej.datasets.DiscreteFeatures()
    return np.asarray(dataset.tables), np.asarray(dataset.values)


def loop_share(d: int, i: int, of: int) -> None:
    loop(d, LOOP // of, seed=i)


def loop_cases(d: int) -> list[Case]:
    name = "numpy + scikit-learn"
    share = functools.partial(loop_share, d)
    return [*one_or_all_threads(name, lambda: loop(d, LOOP), LOOP), in_processes(name, share, LOOP)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("bench/results"))
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args()
    rows = []
    for d in DATASETS:
        rows += compare(f"d = {d}", [*loop_cases(d), erasejax_case(d)], repeats=args.repeats)
    report("Experiment", "dataset", rows, args.out)


if __name__ == "__main__":
    main()
