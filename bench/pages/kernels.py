"""Kernel erasers: what an MLP, QDA and other kernels still read, and what erasing cost.

Erasers are fitted to some rows, probes to others after erasing, and scored on a third part. `phi`
is the erased features themselves, `x` their pre-image. Two classes of an exclusive or, and the
breast cancer and digits data of scikit-learn (whether a digit is even), three splits each.

    python -m bench.pages.kernels
    python -m bench.pages.kernels --only xor
"""

import functools

import jax
import numpy as np

import erasejax as ej
from bench.pages.erased import scores
from bench.speed.harness import Figure, Row, measure

SEEDS = 3
ERASERS = {
    "nothing": ej.Identity(),
    "LEACE": ej.LEACE(),
    "ALF-QLEACE": ej.ALFQLEACE(),
    "fourier, x": ej.KernelLEACE(),
    "fourier, phi": ej.KernelLEACE(output="features"),
    "fourier of half the width, x": ej.KernelLEACE(bandwidth=0.5),
    "landmarks, x": ej.KernelLEACE(kernel="landmarks"),
    "landmarks, phi": ej.KernelLEACE(kernel="landmarks", output="features"),
    "HSIC, 1 direction": ej.HSICDescent(),
    "HSIC, 4 directions": ej.HSICDescent(rank=4),
}
PROBES = {
    "linear": ej.probes.LeastSquares(l2=1e-3),
    "QDA": ej.probes.QDA(l2=1e-3),
    "kernel of width 1": ej.probes.KernelRidge(),
    "kernel of width 1/4": ej.probes.KernelRidge(bandwidth=0.25),
    "MLP": ej.probes.MLP(),
}


def own(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns features and labels of a table that scikit-learn ships."""
    from sklearn import datasets

    x, z = getattr(datasets, f"load_{name}")(return_X_y=True)
    return x.astype(np.float32), (z % 2).astype(np.int32)


def drawn(name: str, seed: int) -> list[ej.Dataset]:
    """Returns the rows of the eraser, of the probe, and those to score."""
    if name == "xor":
        dataset = ej.datasets.XorClasses(rows=1000)
        return [dataset.sample(jax.random.key(seed), part=part) for part in range(3)]
    x, z = own(name)
    order = np.random.default_rng(seed).permutation(len(x))
    return [ej.Dataset(x[part], z[part], 2) for part in np.array_split(order, 3)]


def table(name: str, repeats: int) -> tuple[list[Row], list[Figure]]:
    del repeats  # nothing is timed
    figures = []
    for label, method in ERASERS.items():
        if name == "xor" and "4" in label:
            continue  # of four features
        found = [
            scores(method, PROBES, drawn(name, seed), jax.random.key(seed)) for seed in range(SEEDS)
        ]
        for number in found[0]:
            value = float(np.mean([one[number] for one in found]))
            unit = "of the variance" if number == "damage" else ""
            figures.append(Figure(f"{name}, {label}", number, value, unit))
    return [], figures


def main() -> None:
    parts = {n: functools.partial(table, n) for n in ("xor", "breast_cancer", "digits")}
    measure("Kernels", "fit", parts, about=__doc__, packages=("jax", "numpy", "scikit-learn"))


if __name__ == "__main__":
    main()
