"""Faults seen in other erasure libraries, each as a test of the methods that erase z from x."""

import jax.numpy as jnp
import numpy as np
import pytest

import erasejax as ej
from tests import common
from tests.common import draw


class TestAbsoluteTolerances:
    """Fault 1: a weak or small concept comes back as the identity without a warning."""

    @pytest.mark.slow
    def test_classes_of_frequency_one_in_a_thousand(self):
        z = (np.arange(10_000) % 1000 == 0).astype(np.int32)
        x = draw(0, 10_000, 8, 2)[0] + 0.5 * z[:, None].astype(np.float32)
        self.erased(x, z)

    @pytest.mark.slow
    def test_a_weak_concept_on_many_rows(self):
        rng = np.random.default_rng(1)
        z = rng.integers(0, 2, 200_000)
        self.erased((rng.standard_normal((200_000, 4)) + 0.015 * z[:, None]).astype("f4"), z)

    @pytest.mark.slow
    def test_small_units_of_a_real_concept(self):
        rng = np.random.default_rng(2)
        z = 0.02 * rng.standard_normal(500).astype(np.float32)
        x = (rng.standard_normal((500, 6)) + 20 * z[:, None]).astype(np.float32)
        for method in common.BLIND.values():
            eraser = method.fit(x, z)
            y = np.asarray(eraser(x), np.float64)
            correlation = (y - y.mean(0)).T @ (z - z.mean()) / len(z) / z.std() / x.std(0)
            assert int(eraser.rank) == 1
            assert np.abs(correlation).max() < 1e-5

    @pytest.mark.slow
    def test_small_units_of_x(self):
        x, z = draw(3, 500, 6, 2)
        self.erased(x * np.float32(1e-3), z)

    def erased(self, x, z):
        for method in common.BLIND.values():
            eraser = method.fit(x, z)
            assert int(eraser.rank) == 1
            assert common.gap_in_sd(x, eraser(x), z) < 1


class TestLargeMeans:
    """Fault 2: float32 features far from zero keep a share of the class gap."""

    @pytest.mark.slow
    def test_mean_of_ten_thousand_deviations(self):
        x, z = draw(4, 100_000, 64, 2, dtype=np.float64)
        x = (x + 1e4).astype(np.float32)
        for method in common.BLIND.values():
            assert common.gap_in_sd(x, method.fit(x, z)(x), z) < 1

    @pytest.mark.slow
    @pytest.mark.parametrize("mean", [1000, 3000])
    def test_no_seed_is_unlucky(self, mean):
        for seed in range(20):
            x, z = draw(seed, 20_000, 8, 2, dtype=np.float64)
            x = (x + mean).astype(np.float32)
            for method in common.BLIND.values():
                assert common.gap_in_sd(x, method.fit(x, z)(x), z) < 1


class TestAbsoluteShrinkage:
    """Fault 3: shrinkage adds an absolute eps, so the units of x decide what is erased."""

    @pytest.mark.parametrize("scale", [1e-12, 0.01, 1e5, 1e12])
    @pytest.mark.parametrize("method", [ej.LEACE(), ej.LEACE(shrinkage_rule="oas")])
    def test_units_change_nothing(self, scale, method):
        x, z = draw(9, 400, 8, 2)
        x = (x @ np.random.default_rng(9).standard_normal((8, 8))).astype(np.float32)
        one, other = method.fit(x, z), method.fit(x * np.float32(scale), z)
        np.testing.assert_allclose(other.matrix(), one.matrix(), atol=1e-4)

    def test_isotropic_data_shrink(self):
        x, z = draw(10, 400, 8, 2)
        eraser = ej.raise_if_failed(ej.LEACE(shrinkage_rule="oas").fit(x, z))
        assert int(eraser.rank) == 1
        assert common.gap_in_sd(x, eraser(x), z) < 1


@pytest.mark.slow
def test_least_squares_reads_no_rounding_of_a_concept_on_one_axis():
    """A probe of float64, without penalty or cut-off, reads the label of rows projected once."""
    z = np.arange(10_000) % 2
    for seed in range(20):
        x = np.random.default_rng(seed).standard_normal((len(z), 3), dtype=np.float32)
        x[:, 0] += 2 * z
        design = np.ones((len(z), 4))
        design[:, :3] = ej.LEACE().fit(x, z)(x)
        weight = np.linalg.lstsq(design, 2.0 * z - 1)[0]
        # Of a coin of n rows, and the little that is fitted to their rounding.
        assert np.mean((design @ weight > 0) == z) < 0.5 + 5 / np.sqrt(len(z))


@pytest.mark.slow
def test_integer_labels_are_classes_not_quantities():
    """Fault 4: three classes are taken for one number, and most of the concept stays."""
    x, z = draw(5, 600, 10, 3)
    for method in common.BLIND.values():
        eraser = method.fit(x, z)
        assert int(eraser.rank) == 2
        assert common.gap_in_sd(x, eraser(x), z) < 1


@pytest.mark.slow
def test_the_default_does_the_least_damage():
    """Fault 7: shrinkage by default multiplies the damage by 10 to 20 on anisotropic data."""
    rng = np.random.default_rng(11)
    z = rng.integers(0, 2, 4000)
    x = rng.standard_normal((4000, 32)) + 0.5 * z[:, None] * rng.standard_normal(32)
    x = x * np.geomspace(0.1, 10, 32) @ np.linalg.qr(rng.standard_normal((32, 32)))[0]
    eraser = ej.LEACE().fit(x.astype(np.float32), z)
    damage = ((np.asarray(eraser(x.astype(np.float32)), float) - x) ** 2).sum()
    centred = x - x.mean(axis=0)
    delta = x[z == 1].mean(axis=0) - x[z == 0].mean(axis=0)
    solved = np.linalg.solve(centred.T @ centred, delta)
    least = ((centred @ solved / (delta @ solved)) ** 2).sum() * (delta @ delta)
    assert damage == pytest.approx(least, rel=1e-3)


class TestInputsOthersFailOn:
    """Fault 6: narrow floats fail, NaN is a LinAlgError, one class is silently the identity."""

    @pytest.mark.slow
    @pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
    def test_narrow_floats(self, dtype):
        x, z = draw(6, 200, 6, 2)
        for method in common.BLIND.values():
            eraser = ej.raise_if_failed(method.fit(jnp.asarray(x, dtype), z))
            assert int(eraser.rank) == 1

    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_not_finite(self, bad):
        x, z = draw(7, 200, 6, 2)
        x[13, 2] = bad
        for method in common.BLIND.values():
            eraser = method.fit(x, z, throw=False)
            assert int(eraser.status) & ej.Status.NONFINITE
            assert np.isnan(eraser(x)).all()
            with pytest.raises(ValueError, match="NaN or infinity"):
                method.fit(x, z)

    def test_one_class_only(self):
        x, _ = draw(8, 200, 6, 2)
        for method in common.BLIND.values():
            eraser = method.fit(x, np.zeros(200, int), throw=False)
            assert int(eraser.status) & ej.Status.CONSTANT_CONCEPT
            assert np.isnan(eraser(x)).all()
            with pytest.raises(ValueError, match="one class only"):
                method.fit(x, np.zeros(200, int))
