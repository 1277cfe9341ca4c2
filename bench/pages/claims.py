"""The claims of docs/claims.md measured, and its figures drawn.

Prints every number of the page's figures and writes docs/figures/claims-*.png. The sweep of what an
eraser leaves, (d), takes most of the time: some ten minutes on two cores.

    python -m bench.pages.claims
    python -m bench.pages.claims --only left --quick
"""

import argparse
import functools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import erasejax as ej
from bench.pages import claims_figures
from bench.pages.claims_back import back, half_precision, one_axis, rounding
from bench.pages.trials import PROBES, accuracy, keys, over_seeds, through


def readable(quick: bool) -> dict:
    """(a, b) The seed experiment's data and skewed classes: in-sample accuracy by probe."""
    discrete, skewed = ej.datasets.DiscreteFeatures(), ej.datasets.SkewedClasses(dims=3)
    probes = PROBES | {"0-1 threshold": ej.probes.ZeroOne()}

    def trial(key, dataset):
        data = dataset.sample(key)
        erased = through(ej.MeanDifference().fit(data), data)
        # The null of a search: labels permuted before the eraser is fitted.
        shuffled = data.replace(z=jax.random.permutation(jax.random.fold_in(key, 1), data.z))
        null = through(ej.MeanDifference().fit(shuffled), shuffled)
        found = {
            name: (accuracy(probe, data, data, key), accuracy(probe, erased, erased, key))
            for name, probe in probes.items()
        }
        search = probes["0-1 threshold"]
        return found, accuracy(search, null, null, key)

    found = {}
    for name, dataset in {"discrete": discrete, "skewed": skewed}.items():
        scores, null = over_seeds(
            functools.partial(trial, dataset=dataset), 16 if quick else 64, batch=16
        )
        found[name] = {probe: [float(s.mean()) for s in pair] for probe, pair in scores.items()}
        found[name]["0-1, null"] = [None, float(null.mean())]
    return found


def nonlinear(quick: bool) -> dict:
    """(c) Exclusive or, and unequal covariances: accuracy on fresh rows by probe and eraser."""
    datasets = {
        "exclusive or": ej.datasets.XorClasses(gap=2.0, rows=500),
        "unequal covariances": ej.datasets.XorClasses(
            separation=0.0, spread=2.0, gap=2.0, rows=500
        ),
    }
    probes = {"logistic": PROBES["logistic"], "QDA": ej.probes.QDA(), "MLP": ej.probes.MLP()}
    erasers = {"nothing": ej.Identity(), "LEACE": ej.LEACE(), "QLEACE": ej.QLEACE()}

    def trial(key, dataset):
        data, scored = dataset.sample(key), dataset.sample(key, part=1)
        fitted = {name: method.fit(data) for name, method in erasers.items()}
        return {
            name: {
                probe: accuracy(p, through(eraser, data), through(eraser, scored), key)
                for probe, p in probes.items()
            }
            for name, eraser in fitted.items()
        }

    return {
        name: jax.tree.map(
            lambda s: float(s.mean()),
            over_seeds(functools.partial(trial, dataset=dataset), 4 if quick else 12, batch=4),
        )
        for name, dataset in datasets.items()
    }


RATIOS = (2, 3, 5, 10, 20, 50, 100)  # rows to features
NEAR_ONE = (0.25, 0.5, 0.75, 0.875, 1.0, 1.125, 1.25, 1.5)


def expected_left(d: int, n: int, separation: float) -> float:
    """Returns (d - 1) / d |delta|^2 v / (|delta|^2 + v), v = 4 d / n: equal classes, noise of 1."""
    v = 4 * d / n
    return (d - 1) / d * separation**2 * v / (separation**2 + v)


def left_behind(d: int, n: int, separations: tuple[float, ...], trials: int) -> dict:
    """Measures what erasers fitted on n rows leave of the population's gap.

    Two classes of n / 2 rows and isotropic noise of sd 1; as many fresh rows to score.

    Args:
      d: features.
      n: rows in all.
      separations: values of |delta|.
      trials: datasets of each.

    Returns:
      separation to method to what was measured, all of them squared gaps, (trials,): `population`,
      of the population's means after erasing; `held out`, of the scoring rows' means less their
      noise d (1 / m_1 + 1 / m_0); `exact noise`, the same with the trace of P P^T in place of d.
    """
    m = n // 2
    axis = jnp.zeros(d).at[0].set(1)

    def trial(key, separation):
        dataset = ej.datasets.GaussianClasses(separation=separation, dims=d, rows=m, rotate=False)
        data, fresh = dataset.sample(key), dataset.sample(key, part=1)
        gap = jnp.mean(fresh.x[m:], axis=0) - jnp.mean(fresh.x[:m], axis=0)
        out = {}
        for name, method in LEAVING.items():
            p = method.fit(data).matrix()
            measured = jnp.sum(jnp.matmul(p, gap, precision="highest") ** 2)
            out[name] = {
                "population": separation**2
                * jnp.sum(jnp.matmul(p, axis, precision="highest") ** 2),
                "held out": measured - d * 2 / m,
                "exact noise": measured - jnp.sum(p**2) * 2 / m,
            }
        return out

    batch = max(1, min(trials, 2_000_000 // (n * d)))
    run = jax.jit(
        lambda ks, separation: jax.lax.map(lambda key: trial(key, separation), ks, batch_size=batch)
    )
    return {s: jax.tree.map(np.asarray, run(keys(trials), jnp.float32(s))) for s in separations}


LEAVING = {"mean difference": ej.MeanDifference(), "LEACE": ej.LEACE()}


def left(quick: bool) -> list[dict]:
    """(d) The gap that is left, over n / d, against the formula."""
    rows = []
    for d in (16, 64):
        separations = (2.0, 0.5, 4.0) if d == 64 else (2.0,)
        for ratio in sorted((*NEAR_ONE[:: 3 if quick else 1], *RATIOS[:: 3 if quick else 1])):
            n = 2 * round(ratio * d / 2)
            # Of one dataset the gap has a relative sd of about 2 sqrt(2 / d).
            trials = (4_000 if quick else 32_000) // d
            for separation, methods in left_behind(d, n, separations, trials).items():
                expected = expected_left(d, n, separation)
                for method, found in methods.items():
                    row = {"method": method, "d": d, "n/d": n / d, "separation": separation}
                    row["expected"] = expected
                    for name, values in found.items():
                        row[name] = float(values.mean())
                        row[f"{name}, error"] = float(values.std() / trials**0.5)
                    rows.append(row)
                    print(
                        f"{method:16} d {d:4} n/d {n / d:6.2f} |delta| {separation:.1f} over the "
                        f"formula: population {row['population'] / expected:.3f} "
                        f"({row['population, error'] / expected:.3f}), held out "
                        f"{row['held out'] / expected:.3f} ({row['held out, error'] / expected:.3f}"
                        f"), exact noise {row['exact noise'] / expected:.3f}",
                        flush=True,
                    )
    return rows


def ranks(quick: bool) -> dict:
    """(e) k classes: in-sample accuracy after the first r of LEACE's directions are removed."""

    def trial(key, dataset):
        data = dataset.sample(key)
        eraser = ej.LEACE().fit(data)
        return [
            accuracy(PROBES["logistic"], through(eraser.restrict(r), data), data, key)
            if r == 0
            else accuracy_of(eraser.restrict(r), data, key)
            for r in range(dataset.num_classes)
        ]

    def accuracy_of(eraser, data, key):
        erased = through(eraser, data)
        return accuracy(PROBES["logistic"], erased, erased, key)

    return {
        k: [
            float(s.mean())
            for s in over_seeds(
                functools.partial(
                    trial,
                    dataset=ej.datasets.GaussianClasses(
                        num_classes=k, directions=k - 1, separation=3.0, rows=100, dims=8
                    ),
                ),
                4 if quick else 32,
                batch=8,
            )
        ]
        for k in (2, 3, 4, 5)
    }


def directions(quick: bool) -> dict:
    """(f) Other directions ablated: in-sample logistic accuracy on the experiment's data."""
    dataset = ej.datasets.DiscreteFeatures()

    def trial(key):
        data = dataset.sample(key)
        weight = PROBES["logistic"].fit(data).weight
        methods = {
            "nothing": ej.Identity(),
            "a random direction": ej.RandomDirections(),
            "the first column": ej.Ablation(directions=jnp.eye(3)[0]),
            "the second column": ej.Ablation(directions=jnp.eye(3)[1]),
            "the logistic weight": ej.Ablation(directions=weight),
            "the mean difference": ej.MeanDifference(),
        }
        out = {}
        for name, method in methods.items():
            erased = through(method.fit(data, key=key), data)
            out[name] = accuracy(PROBES["logistic"], erased, erased, key)
        return out

    return {k: float(v.mean()) for k, v in over_seeds(trial, 16 if quick else 256).items()}


def second_concept(quick: bool) -> dict:
    """(f) What is left of a second concept, by the correlation of the noise along the two."""
    values = np.linspace(-0.9, 0.9, 7 if quick else 19)
    methods = {
        "nothing": ej.Identity(),
        "mean difference": ej.MeanDifference(),
        "LEACE": ej.LEACE(),
        "SPLINCE": ej.SPLINCE(),
    }

    def trial(key, correlation):
        data = ej.datasets.TwoConcepts(
            correlation=0.0,
            strength=0.5,
            task_strength=1.0,
            noise_correlation=correlation,
            rows=2000,
        ).sample(key)
        frozen = ej.probes.LeastSquares().fit(data.x, data.task)
        out = {}
        for name, method in methods.items():
            x = method.fit(data)(data.x)
            out[name] = ej.metrics.linear_r2(x, data.task)
            out[f"{name}, frozen"] = ej.metrics.r2(frozen, x, data.task)
        return out

    run = jax.jit(jax.vmap(jax.vmap(trial, (0, None)), (None, 0)))
    found = run(keys(2 if quick else 8), jnp.asarray(values, jnp.float32))
    return {
        "values": values.tolist(),
        **{name: np.asarray(v).mean(axis=1).tolist() for name, v in found.items()},
    }


def protocols(quick: bool) -> dict:
    """(i) Which rows fit the eraser, the probe, and are scored: logistic accuracy."""
    dataset = ej.datasets.GaussianClasses(dims=256, rows=500, separation=2.0)
    probe = ej.probes.Logistic(l2=1e-2)

    def trial(key):
        a, b, c = (dataset.sample(key, part=part) for part in range(3))
        out = {}
        for name, method in {
            "mean difference": ej.MeanDifference(),
            "LEACE": ej.LEACE(),
        }.items():
            eraser = method.fit(a)
            ra, rb, rc = (through(eraser, rows) for rows in (a, b, c))
            on_a, on_b = (probe.fit(rows) for rows in (ra, rb))
            out[name] = {
                "erase A, probe A, score A": ej.metrics.accuracy(on_a, ra),
                "erase A, probe A, score C": ej.metrics.accuracy(on_a, rc),
                "erase A, probe B, score C": ej.metrics.accuracy(on_b, rc),
                "erase A, probe B, score B": ej.metrics.accuracy(on_b, rb),
            }
        return out

    found = over_seeds(trial, 4 if quick else 16, batch=1)
    return jax.tree.map(lambda v: [float(v.mean()), float(v.min()), float(v.max())], found)


EXPERIMENTS = {
    "readable": readable,
    "nonlinear": nonlinear,
    "left": left,
    "ranks": ranks,
    "directions": directions,
    "second_concept": second_concept,
    "back": back,
    "half_precision": half_precision,
    "rounding": rounding,
    "one_axis": one_axis,
    "protocols": protocols,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/figures"))
    parser.add_argument("--numbers", type=Path, default=Path("bench/results/claims.json"))
    parser.add_argument("--only", choices=tuple(EXPERIMENTS), action="append")
    parser.add_argument("--quick", action="store_true", help="fewer datasets, and no figures")
    args = parser.parse_args()
    for folder in (args.numbers.parent, args.out):
        folder.mkdir(parents=True, exist_ok=True)
    found = json.loads(args.numbers.read_text()) if args.numbers.exists() else {}
    for name in args.only or EXPERIMENTS:
        found[name] = EXPERIMENTS[name](args.quick)
        if name not in ("left", "rounding"):
            print(name, json.dumps(found[name], indent=1), flush=True)
        if not args.quick:
            args.numbers.write_text(json.dumps(found))
    if not args.quick and set(found) == set(EXPERIMENTS):
        claims_figures.draw(found, args.out)


if __name__ == "__main__":
    main()
