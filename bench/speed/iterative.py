"""INLP and R-LACE: one problem and 64 side by side, against loops of scikit-learn and numpy.

INLP: 20 rounds of logistic regression on 10,000 x 256 rows with 20 informative directions, the same
penalty on both sides; the loop keeps one orthonormal basis, and fits by L-BFGS at scikit-learn's
default tolerance, looser than ours. R-LACE: 9,000 x 200 rows of six non-linear functions of the
label; the loop is the published iteration in numpy.

    python -m bench.speed.iterative
    python -m bench.speed.iterative --only inlp --repeats 3
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.linear_model import LogisticRegression

import erasejax as ej
from bench.speed.harness import Case, Figure, Row, compare, measure
from bench.speed.peers import one_or_all_threads
from bench.speed.problems import mixed_functions, redundant

ROWS, DIMS, ROUNDS, L2, SEEDS = 10_000, 256, 20, 1e-3, 64
FIT_ROWS, ITERATIONS = 9_000, 200


def inlp_loop(x: np.ndarray, z: np.ndarray) -> np.ndarray:
    """INLP with scikit-learn: returns the accuracy of each round."""
    basis = np.zeros((x.shape[1], 0), x.dtype)
    mean, left, trace = x.mean(axis=0), x, []
    for _ in range(ROUNDS):
        probe = LogisticRegression(C=1 / (L2 * len(x)), max_iter=1000).fit(left, z)
        trace.append(probe.score(left, z))
        weights = np.concatenate([basis, probe.coef_.T.astype(x.dtype)], axis=1)
        basis = np.linalg.qr(weights)[0]
        left = x - ((x - mean) @ basis) @ basis.T
    return np.array(trace)


def inlp(repeats: int) -> tuple[list[Row], list[Figure]]:
    drawn = [redundant(ROWS, DIMS, seed=seed) for seed in range(SEEDS)]
    xs, zs = jnp.stack([x for x, _ in drawn]), jnp.stack([z for _, z in drawn]).astype(jnp.int32)
    method = ej.INLP(rounds=ROUNDS, probe=ej.probes.Logistic(l2=L2), stop_at=0.0)
    one = jax.jit(lambda x, z: method.fit(x, z, num_classes=2))
    # One after the other: the rows of one problem stay in the last-level cache.
    many = jax.jit(lambda xs, zs: jax.lax.map(lambda row: one(*row), (xs, zs)))
    title = f"INLP, {ROUNDS} rounds of {ROWS} x {DIMS}"
    part = compare(
        title,
        [
            *one_or_all_threads("scikit-learn, loop", lambda: inlp_loop(*drawn[0])),
            Case("erasejax, one", lambda: one(xs[0], zs[0])),
            Case(f"erasejax, {SEEDS} seeds", lambda: many(xs, zs), units=SEEDS),
        ],
        repeats=repeats,
    )
    theirs, ours = inlp_loop(*drawn[0]), np.asarray(one(xs[0], zs[0]).trace)
    gap = float(np.abs(theirs - ours).max())
    # What a round cannot do without: the rows once for the gradient, once for the accuracy.
    read = jax.jit(lambda x, v: x @ v)
    floor = compare(title, [Case("one pass", lambda: read(xs[0], xs[0, 0]))], repeats=repeats)
    passes = part[-2].median / ROUNDS / floor[0].median
    return part + floor, [
        Figure(title, "largest difference of a round's accuracy", gap, "share of rows"),
        Figure(title, "a round of one problem", passes, "passes over the rows"),
    ]


def published_iterations(x: np.ndarray, z: np.ndarray, count: int) -> np.ndarray:
    """The published R-LACE iteration at rank 1 in numpy; returns P."""
    rng = np.random.default_rng(0)
    d = x.shape[1]
    p = rng.standard_normal((d, d)).astype(np.float32) / d**0.5
    weight, bias, rate, decay = rng.standard_normal(d).astype(np.float32) / d**0.5, 0.0, 0.005, 1e-4

    def residual(batch):
        left = x[batch] - x[batch] @ p
        return left, 1 / (1 + np.exp(-(left @ weight + bias))) - z[batch]

    for _ in range(count):
        batch = rng.integers(0, len(x), 128)
        _, wrong = residual(batch)
        up = -np.outer(x[batch].T @ wrong / 128, weight)
        p = p + rate * ((up + up.T) / 2 - decay * p)
        values, vectors = np.linalg.eigh((p + p.T) / 2)
        low, high = values[0] - 1, values[-1]
        for _ in range(31):
            middle = (low + high) / 2
            more = np.clip(values - middle, 0, 1).sum() > 1
            low, high = (middle, high) if more else (low, middle)
        p = (vectors * np.clip(values - low, 0, 1)) @ vectors.T
        left, wrong = residual(rng.integers(0, len(x), 128))
        weight = weight - rate * (left.T @ wrong / 128 + decay * weight)
        bias = bias - rate * wrong.mean()
    return p


def rlace(repeats: int) -> tuple[list[Row], list[Figure]]:
    x, z = mixed_functions()
    x, z = x[:FIT_ROWS], z[:FIT_ROWS]
    centred = x - x.mean(axis=0)
    rows, labels = jnp.asarray(x), jnp.asarray(z, jnp.int32)
    key = jax.random.key(0)

    def run(**options) -> Callable[..., ej.Projection]:
        method = ej.RLACE(**options)
        fit = jax.jit(lambda x, z, key: method.fit(x, z, num_classes=2, key=key))
        return lambda key: fit(rows, labels, key)

    closed = run()
    direct = run(closed_form=False, start="random", restarts=0)
    fantope = run(closed_form=False, game="fantope", steps=ITERATIONS)
    eigh = jax.jit(jnp.linalg.eigh)
    keys = jax.random.split(key, SEEDS)
    starts = ej.RLACE(closed_form=False, start="random", restarts=0)
    fit_many = jax.jit(
        lambda x, z, keys: jax.lax.map(lambda key: starts.fit(x, z, num_classes=2, key=key), keys)
    )
    iteration = f"R-LACE, the published iteration, {FIT_ROWS} x {x.shape[1]}"
    solution = f"R-LACE, solved, {FIT_ROWS} x {x.shape[1]}"
    timed = compare(
        iteration,
        [
            *one_or_all_threads(
                "numpy", lambda: published_iterations(centred, z, ITERATIONS), ITERATIONS
            ),
            Case("erasejax", lambda: fantope(key), units=ITERATIONS),
        ],
        repeats=repeats,
    )
    timed += compare(
        solution,
        [
            Case("erasejax, closed form", lambda: closed(key)),
            Case("erasejax, random start", lambda: direct(key)),
        ],
        repeats=repeats,
    )
    many_starts = Case(
        f"erasejax, {SEEDS} random starts", lambda: fit_many(rows, labels, keys), units=SEEDS
    )
    timed += compare(solution, [many_starts], repeats=1)

    def accuracy(eraser):
        probe = ej.probes.Logistic(l2=1e-6).fit(eraser(rows), labels, num_classes=2)
        return float(ej.metrics.accuracy(probe, eraser(rows), labels))

    found = {"closed form": closed(key), "random start": direct(key)}
    figures = [
        Figure(solution, f"refitted accuracy, {name}", accuracy(eraser), "share of rows")
        for name, eraser in found.items()
    ]
    ends = fit_many(rows, labels, keys)
    worst = max(accuracy(jax.tree.map(lambda leaf, i=i: leaf[i], ends)) for i in range(SEEDS))
    name = f"the same, worst of {SEEDS} random starts"
    figures.append(Figure(solution, name, worst, "share of rows"))
    symmetric = jax.random.normal(key, (x.shape[1],) * 2)
    symmetric = symmetric + symmetric.T
    floor = compare(iteration, [Case("eigh alone", lambda: eigh(symmetric))], repeats=repeats)
    return timed + floor, figures


def main() -> None:
    parts = {"inlp": inlp, "rlace": rlace}
    measure("Iterative", "unit", parts, about=__doc__, packages=("jax", "scikit-learn"))


if __name__ == "__main__":
    main()
