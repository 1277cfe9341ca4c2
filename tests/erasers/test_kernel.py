"""Kernel erasers: exact in features, what pre-images leak, and what descent on HSIC leaves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import erasejax as ej
from erasejax.statistics import FourierMap, LandmarkMap, Moments, median_distance
from tests import common

SEEDS = range(3)
CHANCE = 0.5
KERNELS = ("fourier", "landmarks")


def xor(seed, rows=1000):
    """Rows of the eraser, of the probe, and those to score."""
    dataset = ej.datasets.XorClasses(rows=rows)
    return [dataset.sample(jax.random.key(seed), part=part) for part in range(3)]


def read(probe, eraser, seen, scored):
    """The accuracy of a probe fitted to erased rows, on others."""
    fitted = probe.fit(eraser(seen.x), seen.z, key=jax.random.key(1))
    return float(ej.metrics.accuracy(fitted, eraser(scored.x), scored.z))


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_an_exclusive_or_is_read_after_leace_and_not_after_descent(seed):
    fitting, seen, scored = xor(seed)
    mlp = ej.probes.MLP()
    key = jax.random.key(seed)
    leace = ej.LEACE().fit(fitting)
    assert read(mlp, leace, seen, scored) >= 0.9
    # The pre-image of erased features tells the label as before.
    assert read(mlp, ej.KernelLEACE().fit(fitting, key=key), seen, scored) >= 0.9
    eraser = ej.HSICDescent().fit(fitting, key=key)
    assert abs(read(mlp, eraser, seen, scored) - CHANCE) <= 0.03
    for other in (0.25, 1.0):
        kernel = ej.probes.KernelRidge(bandwidth=other)
        assert read(kernel, leace, seen, scored) >= 0.9
        assert abs(read(kernel, eraser, seen, scored) - CHANCE) <= 0.05
    assert abs(read(ej.probes.QDA(), eraser, seen, scored) - CHANCE) <= 0.05
    # One of the two directions, 5 / 12 of the variance, and LEACE's, up to as much.
    assert 0.35 <= float(ej.metrics.damage(scored.x, eraser(scored.x))) <= 0.85
    assert int(eraser.rank) == 2
    assert float(eraser.trace[-1]) < 0.05 * float(eraser.trace[0])


@pytest.mark.slow
@pytest.mark.parametrize("method", [ej.KernelLEACE(features=64), ej.HSICDescent(starts=2)])
@pytest.mark.parametrize("scale", [2.0**-33, 1.0, 2.0**33])  # exact in any float
def test_the_class_means_coincide_at_every_scale(method, scale):
    x, z = common.draw(0, 300, 6, 3)
    x = x * np.float32(scale)
    eraser = method.fit(x, z, key=jax.random.key(0))
    assert int(eraser.status) == 0
    assert common.gap_in_sd(x, eraser(x), z) <= 1
    # The same rows in other units: the same eraser.
    one = method.fit(x / np.float32(scale), z, key=jax.random.key(0))
    expected = np.asarray(one(x / np.float32(scale)))
    np.testing.assert_array_equal(eraser(x) / np.float32(scale), expected)


@pytest.mark.slow
@pytest.mark.parametrize("kernel", KERNELS)
def test_erased_features_are_exact(kernel):
    x, z = common.draw(1, 400, 5, 2)
    eraser = ej.KernelLEACE(kernel=kernel, features=128).fit(x, z, key=jax.random.key(0))
    before = eraser.kernel.of(jnp.asarray(x) - eraser.kernel.center)
    assert float(ej.metrics.linear_r2(before, z)) > 0.1
    assert common.gap_in_sd(before, eraser.features(x), z) <= 1
    asked = ej.KernelLEACE(kernel=kernel, features=128, output="features")
    found = asked.fit(x, z, key=jax.random.key(0))
    np.testing.assert_array_equal(found(x), eraser.features(x))
    assert found(x[0]).shape == (128,)
    assert eraser(x.reshape(2, 200, 5)).shape == (2, 200, 5)


@pytest.mark.slow
def test_features_have_the_products_of_the_kernel():
    x, z = common.draw(2, 200, 4, 2)
    data = ej.Dataset(jnp.asarray(x), jnp.asarray(z), 2)
    moments, key = Moments.of(data), jax.random.key(0)
    unit = (x - x.mean(axis=0)) / x.std(axis=0)
    gaps = np.linalg.norm(unit[:, None] - unit, axis=-1)
    median = np.median(gaps[np.triu_indices(200, 1)])
    assert float(median_distance(key, data, moments)) == pytest.approx(median, rel=0.1)
    expected = np.exp(-(gaps**2) / (2 * 2.0**2))
    width = jnp.float32(2.0)
    cosines = FourierMap.draw(key, moments, width, 8192)
    phi = np.asarray(cosines.of(data.x - cosines.center))
    assert np.abs(phi @ phi.T - expected).max() < 6 / 8192**0.5
    # Between landmarks K - K (K + r)^-1 K is at most the ridge r, the root of eps.
    similar = LandmarkMap.draw(key, data, moments, width, 200)
    phi = np.asarray(similar.of(data.x - similar.center))
    own = np.isin(unit[:, 0], unit[:, 0][_nearest(unit / 2, np.asarray(similar.landmarks))])
    assert 100 < own.sum() < 200
    error = np.abs(phi[own] @ phi[own].T - expected[np.ix_(own, own)])
    assert error.max() < 2 * np.finfo(np.float32).eps ** 0.5


def _nearest(x, points):
    """The number of the row of x next to each point."""
    return np.linalg.norm(x[:, None] - points, axis=-1).argmin(axis=0)


@pytest.mark.slow
def test_rows_of_no_weight_are_never_landmarks():
    x, z = common.draw(3, 60, 3, 2)
    weights = np.ones(60, np.float32)
    weights[30:] = 0
    x[30:] = np.nan
    for kernel in KERNELS:
        method = ej.KernelLEACE(kernel=kernel, features=16)
        eraser = method.fit(x, z, weights=weights, key=jax.random.key(0))
        assert np.isfinite(eraser(x[:30])).all()


@pytest.mark.parametrize(
    ("method", "text"),
    [
        (ej.HSICDescent(rank=0), "rank: expected 1 to 3"),
        (ej.HSICDescent(steps=0), "steps: expected a positive"),
        (ej.KernelLEACE(features=0), "features: expected a positive"),
        (ej.KernelLEACE(kernel="cosine"), "kernel: "),  # pyright: ignore
        (ej.KernelLEACE(output="phi"), "output: "),  # pyright: ignore
    ],
)
def test_options_are_checked(method, text):
    x, z = common.draw(0, 20, 3, 2)
    with pytest.raises(ValueError, match=text):
        method.fit(x, z, key=jax.random.key(0))


@pytest.mark.slow
def test_they_sweep(tmp_path):
    (tmp_path / "spec.toml").write_text("""
seeds = 2
probe = "lda"
metrics = ["accuracy", "damage", "rank"]
[dataset]
name = "xor-classes"
rows = 20
[[eraser]]
name = "kernel-leace"
features = 8
bandwidth = [0.5, 1.0]
[[eraser]]
name = "hsic-descent"
features = 8
starts = 1
steps = 5
bandwidth = [0.5, 1.0]
""")
    frame = ej.sweep.run(tmp_path / "spec.toml", out=tmp_path / "out", progress=False).to_pandas()
    assert len(frame) == 2 * 4
    assert (frame["status"] == 0).all()
    assert np.isfinite(frame["damage_fresh"]).all()
    assert set(frame["rank"]) == {1, 2}
    assert frame["damage_fresh"].nunique() == len(frame)  # both bandwidths count


@pytest.mark.slow
def test_saved_erasers_come_back(tmp_path):
    x, z = common.draw(0, 60, 3, 2)
    for kernel in KERNELS:
        for output in ("x", "features"):
            method = ej.KernelLEACE(kernel=kernel, output=output, features=8)
            fitted = method.fit(x, z, key=jax.random.key(0))
            ej.save(fitted, tmp_path / "e.safetensors")
            np.testing.assert_array_equal(ej.load(tmp_path / "e.safetensors")(x), fitted(x))
