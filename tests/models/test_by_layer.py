"""What is read at every layer: the same as by hand, for each layer alone."""

import jax
import numpy as np
import pytest

import erasejax as ej


@pytest.fixture
def layers():
    rows = {}
    for i, separation in enumerate((0.5, 1.5)):
        dataset = ej.datasets.GaussianClasses(separation=separation, rows=60, dims=4)
        data = dataset.sample(jax.random.key(0))
        rows[f"layer.{i}"] = data.x
    return rows, data.z


@pytest.mark.slow
def test_the_same_rows_are_guarded_and_fresh_ones_are_read(layers):
    rows, z = layers
    found = ej.models.read_layers(rows, z)
    for i, x in enumerate(rows.values()):
        probe = ej.probes.Logistic().fit(x, z)
        assert found.same_before[i] == pytest.approx(float(ej.metrics.accuracy(probe, x, z)))
        erased = ej.LEACE().fit(x, z)(x)
        assert found.damage[i] == pytest.approx(float(ej.metrics.damage(x, erased)), rel=1e-5)
    np.testing.assert_array_equal(found.same_after, 0.5)
    assert found.fresh_before[1] > found.fresh_before[0]
    assert ((found.p_value > 0) & (found.p_value <= 1)).all()
    assert found.majority == 0.5


@pytest.mark.slow
def test_groups_stay_together(layers):
    """Rows that come four times tell a probe everything about their own copies."""
    random = np.random.default_rng(0)
    x = np.repeat(random.standard_normal((60, 40)), 4, axis=0).astype(np.float32)
    z = np.repeat(random.permutation(60) % 2, 4)
    names = [f"name {i}" for i in np.repeat(np.arange(60), 4)]
    loose, together = (
        ej.models.read_layers({"all": x}, z, groups=groups) for groups in (None, names)
    )
    assert loose.fresh_before[0] > 0.75  # .85 on average: seven in ten have a copy in the fit
    assert together.fresh_before[0] < 0.7


@pytest.mark.slow
def test_it_is_a_table_and_a_curve(layers):
    rows, z = layers
    found = ej.models.read_layers(rows, z, method=ej.SAL(), probe=ej.probes.LDA())
    lines = str(found).splitlines()
    assert [line.split()[0] for line in lines[2:4]] == list(rows)
    assert f"{found.fresh_after[1]:.3f}" in lines[3]
    pytest.importorskip("matplotlib")
    axes = found.plot()
    drawn = [line.get_ydata() for line in axes.get_lines()]
    for curve in (found.fresh_before, found.same_after):
        assert any(np.array_equal(own, curve) for own in drawn)


def test_bad_layers_say_what_was_expected(layers):
    rows, z = layers
    with pytest.raises(ValueError, match="at least one"):
        ej.models.read_layers({}, z)
    with pytest.raises(TypeError, match="class labels"):
        ej.models.read_layers(rows, np.asarray(z) + 0.5)
    with pytest.raises(ValueError, match="z: expected"):
        ej.models.read_layers(rows, z[:-1])


def test_a_layer_that_cannot_be_fitted_is_named(layers):
    rows, z = layers
    broken = np.array(rows["layer.1"])
    broken[3, 1] = np.nan
    with pytest.raises(ValueError, match=r"layer\.1: a fit failed"):
        ej.models.read_layers(rows | {"layer.1": broken}, z)
