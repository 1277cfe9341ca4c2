"""Data of the benchmarks."""

import numpy as np

__all__ = ["mixed_functions", "objective", "redundant", "two_classes"]

_FUNCTIONS = (  # (scale of the noise inside, slope, noise outside)
    (0.3, 0.3, 0.0),
    (0.1, -0.7, 0.0),
    (0.3, 0.5, 0.2),
    (0.5, -0.7, 0.1),
    (0.5, -0.8, 0.1),
    (0.25, -0.2, 0.1),
)


def redundant(
    n: int, d: int = 64, *, directions: int = 20, spread: float = 1.3, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Returns x (n, d) float32 and z (n,), a label that many directions tell, each for itself.

    Along each of `directions` the class means lie one apart, in noise from a third to three times
    as wide, so that a probe prefers a few of them. In class 1 the noise is `spread` times wider,
    which no linear map hides. The axes are turned at random; seed 0 to 999 have the same ones.
    """
    rng = np.random.default_rng(seed)
    z = rng.integers(0, 2, n)
    noise = rng.standard_normal((n, d))
    sd = np.concatenate([np.geomspace(1 / 3, 3, directions), np.ones(d - directions)])
    x = noise * sd * np.where(z[:, None] == 1, spread, 1)
    x[:, :directions] += z[:, None]
    turn = np.linalg.qr(np.random.default_rng(seed // 1000).standard_normal((d, d)))[0]
    return (x @ turn).astype(np.float32), z


def mixed_functions(
    n: int = 15_000, d: int = 200, *, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Returns x (n, d) float32 of rank 6 and z (n,): the problem that R-LACE is shown on.

    Six non-linear functions of the label with noise, (y + e s)^2 + a y, mixed at random
    (Ravfogel et al. 2022, arXiv 2201.12091, the code beside it).
    """
    rng = np.random.default_rng(seed)
    z = rng.integers(0, 2, n)
    columns = []
    for scale, slope, outside in _FUNCTIONS:
        inside = z + rng.standard_normal(n) * scale
        columns.append(inside**2 + slope * z + outside * rng.standard_normal(n))
    x = np.stack(columns, axis=1) @ (rng.standard_normal((len(columns), d)) * 1e-2)
    return x.astype(np.float32), z


def two_classes(
    n: int, d: int, *, decay: float = 0.0, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Two classes a little apart along ten directions, in noise with a spectrum of j^-decay."""
    rng = np.random.default_rng(seed)
    z = rng.integers(0, 2, n)
    x = rng.standard_normal((n, d))
    x[:, :10] += 0.3 * z[:, None]
    if decay:
        x = (x * np.arange(1, d + 1) ** (-decay / 2)) @ np.linalg.qr(rng.standard_normal((d, d)))[0]
    return x.astype(np.float32), z


def objective(x: np.ndarray, z: np.ndarray, weight, bias, l2: float) -> float:
    """Returns what logistic regression minimises, in 64 bits: mean nats + l2 / 2 |weight|^2."""
    weight = np.asarray(weight, np.float64).ravel()
    scores = x.astype(np.float64) @ weight + float(np.ravel(bias)[0])
    nats = np.logaddexp(0, np.where(z == 1, -scores, scores)).mean()
    return float(nats + l2 / 2 * weight @ weight)
