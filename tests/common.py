"""What several tests need: registries of methods, data of every kind, exact references."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st

import erasejax as ej

EPS = float(np.finfo(np.float32).eps)

# (n, d, classes): tall, square, wide, rare shapes; few, since each compiles.
SHAPES = [(64, 3, 2), (120, 16, 3), (40, 60, 4)]


def erasers(d: int) -> dict:
    """One configuration of every eraser, for d features."""
    return {
        "Identity": ej.Identity(),
        "MeanDifference": ej.MeanDifference(),
        "MeanDifference, origin": ej.MeanDifference(keep_mean=False),
        "Ablation": ej.Ablation(directions=jnp.eye(d)[:, :2]),
        "RandomDirections": ej.RandomDirections(rank=2),
        "INLP": ej.INLP(rounds=2),
        "RLACE": ej.RLACE(),
        "LEACE": ej.LEACE(),
        "LEACE, oas": ej.LEACE(shrinkage_rule="oas"),
        "SAL": ej.SAL(),
        "SPLINCE": ej.SPLINCE(),
        "OracleLEACE": ej.OracleLEACE(),
        "QLEACE": ej.QLEACE(),
        "ALFQLEACE": ej.ALFQLEACE(),
        "KernelLEACE": ej.KernelLEACE(features=16),
        "KernelLEACE, landmarks": ej.KernelLEACE(features=16, kernel="landmarks"),
        "HSICDescent": ej.HSICDescent(features=16, starts=2, steps=20),
        "Partial": ej.erasers.Partial(of=ej.SAL(), strength=0.5),
    }


# Methods that erase z from x alone, by their configuration.
BLIND = {
    "MeanDifference": ej.MeanDifference(),
    "LEACE": ej.LEACE(),
    "LEACE, shrunk": ej.LEACE(shrinkage=0.1),
    "LEACE, oas": ej.LEACE(shrinkage_rule="oas"),
}


def probes() -> dict:
    """One configuration of every probe."""
    return {
        "LeastSquares": ej.probes.LeastSquares(l2=1e-3),
        "LDA": ej.probes.LDA(),
        "MeanDifferenceProbe": ej.probes.MeanDifferenceProbe(),
        "Logistic": ej.probes.Logistic(),
        "KernelRidge": ej.probes.KernelRidge(features=8),
        "LinearSVM": ej.probes.LinearSVM(),
        "MLP": ej.probes.MLP(width=8, batch=16, steps=20, patience=2),
        "QDA": ej.probes.QDA(l2=1e-3),
        "ZeroOne": ej.probes.ZeroOne(restarts=4, rounds=2),
    }


CONVEX = ["LeastSquares", "LDA", "MeanDifferenceProbe", "LinearSVM", "Logistic"]


def contrast_probes() -> dict:
    """One configuration of every probe of contrast pairs."""
    return {
        "CCS": ej.probes.CCS(starts=3, epochs=20),
        "CRC": ej.probes.CRC(),
        "RandomDirection": ej.probes.RandomDirection(scale="features"),
    }


def enable_x64():
    """The context in which jax keeps float64, under the name this version of jax has for it."""
    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(True)
    from jax.experimental import enable_x64 as context

    return context()


def draw(seed: int, n: int, d: int, k: int, *, gap: float = 1.0, dtype=np.float32):
    """Gaussian classes whose means lie about `gap` sd from each other; every class has rows."""
    rng = np.random.default_rng(seed)
    z = np.concatenate([np.arange(k), rng.integers(0, k, n - k)])
    rng.shuffle(z)
    x = rng.standard_normal((n, d)) + gap * rng.standard_normal((k, d))[z]
    return x.astype(dtype), z.astype(np.int32)


def aligned(array: np.ndarray) -> np.ndarray:
    """A copy in memory that JAX uses as it is, on a CPU, where it is not copied first."""
    buffer = np.empty(array.nbytes + 64, np.uint8)
    start = -buffer.__array_interface__["data"][0] % 64
    found = buffer[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    found[...] = array
    return found


def class_means(x, z) -> np.ndarray:
    """Class means in float64, (classes, d)."""
    x = np.asarray(x, np.float64)
    return np.stack([x[z == j].mean(axis=0) for j in np.unique(z)])


def gap_in_sd(x, y, z) -> float:
    """The largest class-mean gap of y in sd of x; gaps below an ulp of x count as that much less.

    At most 1e-5 sd, or one unit in the last place of the largest |x_j| where that is more: 1 means
    at the limit.
    """
    x = np.asarray(x)
    means = class_means(y, z)
    gap = means.max(axis=0) - means.min(axis=0)
    sd = x.astype(np.float64).std(axis=0)
    ulp = np.spacing(np.abs(x).max(axis=0)).astype(np.float64)
    return float((gap / np.maximum(1e-5 * sd, ulp)).max())


def project(x, z):
    """The experiment's projection in plain float64 numpy, about the origin."""
    x = np.asarray(x, np.float64)
    delta = x[z == 1].mean(axis=0) - x[z == 0].mean(axis=0)
    u = delta / np.linalg.norm(delta)
    return x - np.outer(x @ u, u)


seeds = st.integers(0, 2**31 - 1)
shapes = st.sampled_from(SHAPES)


def bits_of(probe, x, z):
    """-log2 of the probabilities of labels, in float64."""
    found = np.asarray(probe.log_proba(x), np.float64)
    return -found[np.arange(len(z)), z] / math.log(2)


def complete(z, size, classes):
    """Whether the first rows are of all classes."""
    return len(set(z[:size].tolist())) == classes
