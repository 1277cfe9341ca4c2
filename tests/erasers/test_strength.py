"""Erasing in part, and towards a point: what is left of the class means, exactly."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

import erasejax as ej
from erasejax.sweep._blocks import numerics
from erasejax.sweep._plan import plan
from tests import common
from tests.common import EPS, draw, seeds, shapes

STRENGTHS = [-1.0, 0.0, 1e-3, 0.1, 0.5, 0.9, 1.0, 1.5, 2.0]
METHODS = {"LEACE": ej.LEACE(), "SAL": ej.SAL(), "origin": ej.LEACE(keep_mean=False)}


def excess(x, y, z, left):
    """How far class-mean gaps of y lie from `left` times those of x, in units of the limit."""
    means, before = common.class_means(y, z), common.class_means(x, z)
    found = (means - means[0]) - left * (before - before[0])
    sd = np.asarray(x, np.float64).std(axis=0)
    ulp = np.spacing(np.abs(np.stack([x, y])).max(axis=(0, 1)).astype(np.float32))
    return float((np.abs(found) / np.maximum(1e-5 * sd, ulp)).max())


@pytest.mark.slow
@given(seeds, shapes, st.sampled_from(STRENGTHS), st.sampled_from(sorted(METHODS)))
def test_strength_leaves_its_share_of_every_gap(seed, shape, a, name):
    n, d, k = shape
    x, z = draw(seed, n, d, k)
    y = np.asarray(METHODS[name].fit(x, z).with_strength(a)(x))
    assert y.dtype == x.dtype
    assert excess(x, y, z, 1 - a) < 1 + abs(a)


@pytest.mark.parametrize("scale", [1e-15, 1.0, 1e15])
@pytest.mark.parametrize("offset", [0.0, 1e4])
@pytest.mark.parametrize("a", [0.25, 0.999])
def test_strength_has_no_scale(scale, offset, a):
    x, z = draw(0, 300, 6, 3)
    x = ((x + offset) * scale).astype(np.float32)
    x[:, 4] = x[:, 0]
    x[:, 5] = 3 * scale
    y = np.asarray(ej.LEACE().fit(x, z).with_strength(a)(x))
    assert excess(x, y, z, 1 - a) < 1
    # Features that nothing would be left of go as far as the others.
    eraser = ej.LEACE().fit(x[:, :2], z)
    assert eraser.flat.all()
    assert excess(x[:, :2], np.asarray(eraser.with_strength(a)(x[:, :2])), z, 1 - a) < 1


@pytest.mark.slow
def test_nothing_and_all_are_exact():
    x, z = draw(1, 200, 7, 3)
    x += 100
    for method in METHODS.values():
        eraser = method.fit(x, z)
        np.testing.assert_array_equal(eraser.with_strength(0)(x), x)
        np.testing.assert_array_equal(eraser.with_strength(1)(x), eraser(x))
        again = eraser.with_strength(0.3).with_strength(1)
        np.testing.assert_array_equal(again(x), eraser(x))
    one = x[:, :2]  # no more features than differences of means: all are set to the centre
    eraser = ej.SAL().fit(one, z)
    assert eraser.flat is not None
    assert eraser.flat.all()
    np.testing.assert_array_equal(eraser.with_strength(1)(one), eraser(one))
    np.testing.assert_array_equal(eraser.with_strength(0)(one), one)


@pytest.mark.slow
def test_matrix_and_moments_follow_the_strength():
    x, z = draw(2, 400, 6, 3)
    x[:, 5] = 2 * x[:, 4]
    for rows in (x, x[:, :2], np.concatenate([x, np.full((400, 1), 3, np.float32)], axis=1)):
        for a in STRENGTHS:
            eraser = ej.LEACE(keep_mean=False).fit(rows, z).with_strength(a)
            y = np.asarray(eraser(rows))
            matrix, bias = eraser.affine()
            np.testing.assert_allclose(rows @ np.asarray(matrix).T + bias, y, atol=2e-5)
            moments = ej.Moments.of(ej.Dataset(jnp.asarray(rows), jnp.asarray(z), num_classes=3))
            found = eraser.erased_moments(moments)
            np.testing.assert_allclose(found.mean, y.mean(0, dtype=float), atol=2e-5)
            expected = ej.Moments.of(ej.Dataset(jnp.asarray(y), jnp.asarray(z), num_classes=3))
            for part, units in (("xx", np.outer(found.unit, found.unit)), ("xz", found.unit)):
                one, other = (np.asarray(getattr(m, part)) for m in (found, expected))
                ours = expected.unit if part == "xz" else np.outer(expected.unit, expected.unit)
                units, ours = (u[:, None] if part == "xz" else u for u in (units, ours))
                scale = np.abs(np.asarray(getattr(moments, part))).max()
                np.testing.assert_allclose(one * units, other * ours, atol=2e-5 * scale)
            np.testing.assert_allclose(
                eraser.damage(moments), ej.metrics.damage(rows, y), rtol=1e-3, atol=1e-6
            )


def test_a_sweep_of_strengths_is_one_vmap():
    x, z = draw(3, 100, 5, 2)
    eraser = ej.LEACE().fit(x, z)
    strengths = jnp.asarray(STRENGTHS)
    whole = jax.jit(jax.vmap(lambda a: eraser.with_strength(a)(x)))(strengths)
    for a, rows in zip(STRENGTHS, whole, strict=True):
        np.testing.assert_allclose(rows, eraser.with_strength(a)(x), atol=8 * EPS * 8)
    slope = jax.grad(lambda a: eraser.with_strength(a)(x).sum())(0.5)
    moved = np.asarray(eraser(x), np.float64) - x
    np.testing.assert_allclose(slope, moved.sum(), atol=1e-3)


@pytest.mark.slow
@given(seeds, shapes, st.sampled_from([0.0, 0.5, 1.0]))
def test_towards_a_point(seed, shape, a):
    n, d, k = shape
    x, z = draw(seed, n, d, k)
    eraser = ej.LEACE().fit(x, z)
    point = x[z == 0].mean(axis=0) * np.float32(3)
    kernel, test, center = (
        np.asarray(v, np.float64) for v in (eraser.kernel, eraser.test, eraser.center)
    )
    part = kernel @ (test.T @ (point - center))
    bound = 64 * EPS * (np.linalg.norm(kernel) * np.linalg.norm(test) + 1) * np.abs(x).max() * 3
    edited = eraser.towards(point)
    y = np.asarray(edited(x))
    assert y.dtype == x.dtype
    assert common.gap_in_sd(np.concatenate([x, y]), y, np.tile(z, 1)) < 1
    if eraser.flat is None or not eraser.flat.any():
        np.testing.assert_allclose(y, np.asarray(eraser(x), np.float64) + part, atol=bound)
    for half in (edited.with_strength(a), eraser.with_strength(a).towards(point)):
        mixed = (1 - a) * x.astype(np.float64) + a * y
        np.testing.assert_allclose(half(x), mixed, atol=bound)
        assert excess(x, np.asarray(half(x)), z, 1 - a) < 1


@pytest.mark.slow
def test_towards_the_mean_of_a_class_reads_as_that_class():
    x, z = draw(5, 600, 8, 2, gap=3)
    probe = ej.probes.LDA().fit(x, z)
    eraser = ej.LEACE().fit(x, z)
    for label in (0, 1):
        y = eraser.towards(x[z == label].mean(axis=0))(x)
        assert (np.asarray(probe.predict(y)) == label).all()


def test_only_the_erased_part_of_a_point_counts():
    x, z = draw(6, 300, 6, 2)
    x[:, 0] = (np.arange(300) % 7 - 3) * 0.1  # uncorrelated with nothing in particular
    eraser = ej.MeanDifference().fit(x, z)
    kernel = np.asarray(eraser.kernel, np.float64)[:, 0]
    far = np.random.default_rng(0).standard_normal(6)
    far = 1e5 * (far - kernel * (kernel @ far))
    y = eraser.towards((np.asarray(eraser.center) + far).astype(np.float32))(x)
    assert common.gap_in_sd(x, y, z) < 1


@pytest.mark.slow
def test_norms_are_kept_where_asked_for():
    x, z = draw(7, 500, 6, 2, gap=2)
    x += 1
    eraser = ej.LEACE().fit(x, z)
    y = np.asarray(eraser(x, keep_norm=True))
    np.testing.assert_allclose(np.linalg.norm(y, axis=1), np.linalg.norm(x, axis=1), rtol=1e-6)
    plain = np.asarray(eraser(x), np.float64)
    cosine = (y * plain).sum(1) / np.linalg.norm(y, axis=1) / np.linalg.norm(plain, axis=1)
    np.testing.assert_allclose(cosine, 1, atol=1e-6)
    assert common.gap_in_sd(x, plain, z) < 1 < 100 < common.gap_in_sd(x, y, z)
    huge = (x * np.float32(1e30)).astype(np.float32)
    found = np.asarray(ej.LEACE().fit(huge, z)(huge, keep_norm=True), np.float64)
    np.testing.assert_allclose(found / 1e30, y, rtol=1e-4, atol=1e-4)
    none = ej.MeanDifference(keep_mean=False).fit(x[:, :1], z)
    np.testing.assert_array_equal(none(x[:, :1], keep_norm=True), 0)
    wide = x.astype(np.float64) + 1e6  # centred in float64 before it is cast
    found = ej.LEACE().fit(wide, z)(wide, keep_norm=True)
    np.testing.assert_allclose(
        np.linalg.norm(np.float64(found), axis=1), np.linalg.norm(wide, axis=1), rtol=1e-6
    )


def test_saved_and_loaded(tmp_path):
    x, z = draw(8, 100, 5, 2)
    for make in (ej.LEACE(), ej.INLP(rounds=2)):
        plain = make.fit(x, z)
        for eraser in (plain.with_strength(0.5), plain.towards(x[0]), plain):
            ej.save(eraser, tmp_path / "e.safetensors")
            found = ej.load(tmp_path / "e.safetensors")
            assert type(found) is type(eraser)
            np.testing.assert_array_equal(found(x), eraser(x))


def test_files_without_a_strength_are_read(tmp_path):
    x, z = draw(8, 100, 5, 2)
    eraser, path = ej.LEACE().fit(x, z), tmp_path / "e.safetensors"
    ej.save(eraser, path)
    with safetensors.safe_open(path, "np") as file:
        header = file.metadata()
    tree = json.loads(header["tree"])
    del tree["fields"]["strength"]
    content = safetensors.numpy.load_file(path)
    safetensors.numpy.save_file(content, path, metadata={**header, "tree": json.dumps(tree)})
    np.testing.assert_array_equal(ej.load(path)(x), eraser(x))


def test_what_is_wrong_is_said():
    x, z = draw(9, 60, 4, 2)
    eraser = ej.LEACE().fit(x, z)
    with pytest.raises(ValueError, match="expected one number, got shape"):
        eraser.with_strength(np.ones(2, np.float32))
    with pytest.raises(ValueError, match=r"expected \(4,\) features"):
        eraser.towards(x[0, :3])
    with pytest.raises(TypeError, match="floating-point"):
        eraser.towards([1, 2, 3, 4])
    with pytest.raises(ValueError, match="full strength"):
        eraser.with_strength(0.5).then(eraser)
    with pytest.raises(ValueError, match="full strength"):
        eraser.then(eraser.with_strength(1))
    assert eraser.with_strength(0.5).restrict(0).strength == 0.5
    with pytest.raises(TypeError, match="fits a Projection, got QLEACE"):
        ej.erasers.Partial(of=ej.QLEACE()).fit(x, z)


SPEC = {
    "dataset": {"name": "gaussian-classes", "dims": 3, "rows": 12},
    "eraser": ["leace", {"name": "partial", "of": ["leace", "sal"], "strength": [0, 0.5, 1]}],
    "probe": "lda",
    "seeds": 5,
    "metrics": ["linear_r2", "damage"],
}


@pytest.mark.slow
def test_strength_is_an_axis_of_a_sweep(tmp_path):
    grid = ej.sweep.grid(SPEC)
    assert [config.fields for config in grid.parts[0].erasers][1] == {
        "of": {
            "name": "leace",
            "shrinkage": 0.0,
            "shrinkage_rule": "fixed",
            "keep_mean": True,
            "given": "none",
        },
        "strength": 0.0,
    }
    assert len(plan(grid, None, numerics()).programs) == 1
    frame = ej.sweep.run(SPEC, out=tmp_path / "s").to_pandas()
    whole = frame[frame.eraser == "leace"].damage_fitting.to_numpy()
    own = frame[(frame.eraser == "partial") & frame["eraser.of"].astype(str).str.contains("leace")]
    parts = {a: own[own["eraser.strength"] == a] for a in (0.0, 0.5, 1.0)}
    assert (parts[0.0].damage_fitting == 0).all()
    for a in (0.5, 1.0):
        np.testing.assert_allclose(parts[a].damage_fitting, a**2 * whole, rtol=1e-4)
    assert (parts[1.0].linear_r2_fitting == 0).all()
    assert (parts[0.5].linear_r2_fitting > 0.01).all()


def test_the_names_of_stored_blocks_did_not_change():
    config = ej.sweep.grid({**SPEC, "eraser": {"name": "inlp", "probe": "lda"}}).parts[0].erasers[0]
    assert set(config.fields) == {"rounds", "probe", "stop_at", "keep_mean"}
    assert config.words.tolist() == WORDS


WORDS = [2354883743, 2479085734, 2322247048, 3666960216]
