"""Logistic regression against scikit-learn: single fits, and thousands of small ones at once.

Both minimise the same objective and end as low: scikit-learn's `tol` is the loosest whose loss is a
millionth above the optimum, and the figures say how far above it each one ends.

    python -m bench.speed.probes
    python -m bench.speed.probes --only small --repeats 3
"""

import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

import erasejax as ej
from bench.speed.harness import Case, Figure, Row, compare, measure
from bench.speed.peers import in_processes, one_or_all_threads
from bench.speed.problems import objective, two_classes

SHAPES = [  # rows, columns, decay of the spectrum
    (10_000, 768, 0.0),
    (2_000, 2_048, 0.0),
    (50_000, 64, 0.0),
    (2_000, 768, 0.0),
    (10_000, 768, 1.0),
]
FITS, ROWS, DIMS = 4_096, 200, 16
L2 = 1e-3
ABOVE = 1e-6  # the loss of both over that of the optimum, less one
TOLERANCES = 10.0 ** np.arange(-1, -8, -0.25)


def loss(x: np.ndarray, z: np.ndarray, fitted: LogisticRegression) -> float:
    return objective(x, z, fitted.coef_, fitted.intercept_, L2)


def peer(n: int, tol: float) -> LogisticRegression:
    return LogisticRegression(C=1 / (L2 * n), max_iter=5000, tol=tol)


def loosest(x: np.ndarray, z: np.ndarray) -> tuple[float, float]:
    """Returns the loosest tolerance that is near enough to the optimum, and the optimum."""
    exact = peer(len(x), 1e-10).fit(x.astype(np.float64), z)
    optimum = loss(x, z, exact)
    for tol in TOLERANCES:
        if loss(x, z, peer(len(x), tol).fit(x, z)) <= (1 + ABOVE) * optimum:
            return float(tol), optimum
    raise RuntimeError(f"scikit-learn ends more than {ABOVE:g} above the optimum")


def single(repeats: int) -> tuple[list[Row], list[Figure]]:
    timed, figures = [], []
    probe = ej.probes.Logistic(l2=L2)
    for n, d, decay in SHAPES:
        x, z = two_classes(n, d, decay=decay)
        group = f"{n} x {d}, {'power law' if decay else 'isotropic'}"
        tol, optimum = loosest(x, z)
        on_device, labels = jnp.asarray(x), jnp.asarray(z, jnp.int32)

        def ours(x=on_device, z=labels):
            return probe.fit(x, z, num_classes=2)

        def theirs(x=x, z=z, tol=tol):
            return peer(len(x), tol).fit(x, z)

        cases = [*one_or_all_threads("scikit-learn", theirs), Case("erasejax", ours)]
        timed += compare(group, cases, repeats=repeats)
        fitted = ours()
        ends = {
            "erasejax": objective(x, z, fitted.weight, fitted.bias, L2),
            f"scikit-learn, tol {tol:.2g}": loss(x, z, theirs()),
        }
        for name, end in ends.items():
            above = end / optimum - 1
            figures.append(Figure(group, f"{name}, above the optimum", above, "share"))
    return timed, figures


@functools.cache
def drawn(count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    return [two_classes(ROWS, DIMS, seed=seed) for seed in range(count)]


def fit_share(i: int, of: int) -> None:
    """Fits every problem whose number is i and a multiple of `of`, one after the other."""
    for x, z in drawn(SOME)[i::of]:
        LogisticRegression(C=1 / (L2 * ROWS), max_iter=2000).fit(x, z)


SOME = 64  # the loop's time grows with its length


def small(repeats: int) -> tuple[list[Row], list[Figure]]:
    xs = jnp.stack([x for x, _ in drawn(FITS)])
    zs = jnp.stack([z for _, z in drawn(FITS)]).astype(jnp.int32)
    probe = ej.probes.Logistic(l2=L2)

    def one(pair):
        return probe.fit(*pair, num_classes=2).weight

    many = jax.jit(lambda xs, zs: jax.lax.map(one, (xs, zs), batch_size=256))
    timed = compare(
        f"{FITS} fits of {ROWS} x {DIMS}",
        [
            *one_or_all_threads("scikit-learn, loop", lambda: fit_share(0, 1), SOME),
            in_processes("scikit-learn", fit_share, SOME),
            Case("erasejax, one program", lambda: many(xs, zs), units=FITS),
        ],
        repeats=repeats,
    )
    return timed, []


def main() -> None:
    warnings.simplefilter("ignore", ConvergenceWarning)
    parts = {"single": single, "small": small}
    measure("Probes", "fit", parts, about=__doc__, packages=("jax", "scikit-learn"))


if __name__ == "__main__":
    main()
