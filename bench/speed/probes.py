"""Logistic regression against scikit-learn: single fits, and thousands of small ones at once.

Both minimise the same objective; scikit-learn stops at its default tolerance, ours near rounding,
and the figures say how far above the better of the two each one ends.

    python -m bench.speed.probes
    python -m bench.speed.probes --only small --repeats 3
"""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

import erasejax as ej
from bench.speed.harness import Case, Figure, Row, compare, measure

SHAPES = [(10_000, 768), (2_000, 2_048), (50_000, 64)]
FITS, ROWS, DIMS = 4_096, 200, 16
L2 = 1e-3


def rows(n: int, d: int, *, decay: float = 0.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two classes a little apart along ten directions, in noise with a spectrum of j^-decay."""
    rng = np.random.default_rng(seed)
    z = rng.integers(0, 2, n)
    x = rng.standard_normal((n, d))
    x[:, :10] += 0.3 * z[:, None]
    if decay:
        x = (x * np.arange(1, d + 1) ** (-decay / 2)) @ np.linalg.qr(rng.standard_normal((d, d)))[0]
    return x.astype(np.float32), z


def objective(x, z, weight, bias) -> float:
    weight = np.asarray(weight, np.float64).ravel()
    scores = x.astype(np.float64) @ weight + float(np.ravel(bias)[0])
    nats = np.logaddexp(0, np.where(z == 1, -scores, scores)).mean()
    return float(nats + L2 / 2 * weight @ weight)


def single(repeats: int) -> tuple[list[Row], list[Figure]]:
    timed, figures = [], []
    probe = ej.probes.Logistic(l2=L2)
    for n, d in SHAPES:
        for decay, kind in ((0.0, "isotropic"), (1.0, "power law")):
            x, z = rows(n, d, decay=decay)
            group = f"{n} x {d}, {kind}"
            peer = LogisticRegression(C=1 / (L2 * n), max_iter=2000)
            on_device, labels = jnp.asarray(x), jnp.asarray(z, jnp.int32)

            def ours(x=on_device, z=labels):
                return probe.fit(x, z, num_classes=2)

            def theirs(x=x, z=z, peer=peer):
                return peer.fit(x, z)

            timed += compare(
                group,
                [Case("scikit-learn", theirs, peer=True), Case("erasejax", ours)],
                repeats=repeats,
            )
            fitted, reference = ours(), theirs()
            ends = {
                "erasejax": objective(x, z, fitted.weight, fitted.bias),
                "scikit-learn": objective(x, z, reference.coef_, reference.intercept_),
            }
            for name, end in ends.items():
                above = end / min(ends.values()) - 1
                figures.append(Figure(group, f"{name}, above the better optimum", above, "share"))
    return timed, figures


def small(repeats: int) -> tuple[list[Row], list[Figure]]:
    drawn = [rows(ROWS, DIMS, seed=seed) for seed in range(FITS)]
    xs, zs = jnp.stack([x for x, _ in drawn]), jnp.stack([z for _, z in drawn]).astype(jnp.int32)
    probe = ej.probes.Logistic(l2=L2)

    def one(pair):
        return probe.fit(*pair, num_classes=2).weight

    many = jax.jit(lambda xs, zs: jax.lax.map(one, (xs, zs), batch_size=256))
    few = drawn[:64]  # the loop's time grows with its length

    def loop():
        for x, z in few:
            LogisticRegression(C=1 / (L2 * ROWS), max_iter=2000).fit(x, z)

    timed = compare(
        f"{FITS} fits of {ROWS} x {DIMS}",
        [
            Case("scikit-learn, loop", loop, units=len(few), peer=True),
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
