"""The experiment of the demo, one dataset at a time and thousands at once.

One unit is one dataset of 2 x 100 rows: sample, project out the mean difference, fit a logistic
regression before and after, score both. The peer is a loop of numpy and scikit-learn.

    python -m bench.speed.experiment
"""

import argparse
from pathlib import Path

import jax
import numpy as np
from sklearn.linear_model import LogisticRegression

import erasejax as ej
from bench.speed.harness import Case, compare, report

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


def loop_case(d: int) -> Case:
    tables = np.asarray(ej.datasets.DiscreteFeatures().tables)
    values = np.asarray(ej.datasets.DiscreteFeatures().values)
    rng = np.random.default_rng(0)
    z = np.repeat([0, 1], ROWS)

    def one():
        x = rng.standard_normal((2 * ROWS, d))
        for label in (0, 1):
            for column in (0, 1):
                x[z == label, column] = rng.choice(values, ROWS, p=tables[label, column])
        before = LogisticRegression().fit(x, z).score(x, z)
        delta = x[z == 1].mean(axis=0) - x[z == 0].mean(axis=0)
        u = delta / np.linalg.norm(delta)
        erased = x - np.outer(x @ u, u)
        return before, LogisticRegression().fit(erased, z).score(erased, z)

    return Case("numpy + scikit-learn", lambda: [one() for _ in range(LOOP)], units=LOOP, peer=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("bench/results"))
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args()
    rows = []
    for d in DATASETS:
        rows += compare(f"d = {d}", [loop_case(d), erasejax_case(d)], repeats=args.repeats)
    report("Experiment", "dataset", rows, args.out)


if __name__ == "__main__":
    main()
