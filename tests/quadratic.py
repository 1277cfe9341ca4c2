"""What the tests of covariances class by class need: classes that differ in them, references."""

import numpy as np

# Few shapes, since each compiles: (rows, features, class frequencies).
SHAPES = [(400, 5, (0.9, 0.1)), (900, 12, (0.6, 0.3, 0.1))]


def classes(seed, n, d, frequencies, *, dtype=np.float32, mean=3.0, rotated=True):
    """Classes of exact sizes whose means, and covariances by factors of up to some 10, differ."""
    rng = np.random.default_rng(seed)
    z = np.repeat(np.arange(len(frequencies)), np.round(np.multiply(frequencies, n)).astype(int))
    rng.shuffle(z)
    x = np.zeros((n, d))
    for j in range(len(frequencies)):
        own = z == j
        mix = np.exp(0.5 * rng.standard_normal(d))
        mix = (np.eye(d) + 0.5 * rotated * rng.standard_normal((d, d)) / np.sqrt(d)) * mix
        x[own] = rng.standard_normal((own.sum(), d)) @ mix + rng.standard_normal(d) + mean
    return x.astype(dtype), z.astype(np.int32)


def moments(x, z):
    """Class frequencies, means and covariances (maximum likelihood) in float64."""
    x = np.asarray(x, np.float64)
    rows = [x[z == j] for j in range(z.max() + 1)]
    return (
        np.array([len(r) for r in rows]) / len(x),
        np.stack([r.mean(axis=0) for r in rows]),
        np.stack([np.cov(r.T, bias=True) for r in rows]),
    )


def root(a):
    values, vectors = np.linalg.eigh(a)
    return vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
