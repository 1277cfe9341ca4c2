"""`fit` with every method: what it does to the rows, and the certificate it writes."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

import erasejax as ej
from erasejax.files import _saved as io
from erasejax.files import _streaming as streaming
from erasejax.metrics._certificate import certify
from tests.command import TASK, D, N, bad, close, ok, save

fit_command = importlib.import_module("erasejax.cli._fit")


CLOSED = {
    "leace": ej.LEACE(),
    "leace --no-keep-mean": ej.LEACE(keep_mean=False),
    "leace --shrinkage 0.3": ej.LEACE(shrinkage=0.3),
    "leace --shrinkage-rule oas": ej.LEACE(shrinkage_rule="oas"),
    "leace --shrinkage-rule schaefer-strimmer": ej.LEACE(shrinkage_rule="schaefer-strimmer"),
    "sal": ej.SAL(),
    "splince --task task.npy": ej.SPLINCE(),
    "oracle-leace": ej.OracleLEACE(),
}


def certificate(name):
    return io.read_header(name).notes["certificate"]


@pytest.mark.quick(1)
@pytest.mark.parametrize("method", CLOSED)
def test_closed_forms_stream(method, here, data, capsys, monkeypatch):
    monkeypatch.setattr(streaming, "BLOCK_VALUES", 7 * D)
    out = ok(capsys, "fit", "x.npy", "z.npy", "--out", "e.safetensors", "--method", *method.split())
    task = TASK if "task" in method else None
    expected = CLOSED[method].fit(data.x, data.z, task=task)
    eraser = ej.load("e.safetensors")
    jax.tree.map(close, eraser, expected)
    erased = eraser(data.x, data.z) if eraser.needs_z else eraser(data.x)
    damage = float(ej.metrics.damage(data.x, erased))
    before = float(ej.metrics.linear_r2(data))
    got = certificate("e.safetensors")
    assert got["after"] == 0
    close([got["damage"], got["before"]], [damage, before])
    line = f"rank 2, damage {got['damage']:.4g} of the variance, linear_r2 {got['before']:.4g}"
    assert f"on these rows: {line} before, 0 after\n" in out
    info = ok(capsys, "info", "e.safetensors")
    assert f"{got['damage']:.4g} of the variance" in info
    assert "5, dtype float32" in info


def test_methods_that_do_not_erase_are_certified_too(here, data, capsys):
    ok(capsys, "fit", "x.npy", "z.npy", "--out", "e.safetensors", "--method", "random-directions")
    erased = ej.load("e.safetensors")(data.x)
    got = certificate("e.safetensors")
    assert got["after"] == float(ej.metrics.linear_r2(erased, data.z)) > 0
    close([got["damage"]], [ej.metrics.damage(data.x, erased)])


@pytest.mark.slow
def test_fewer_rows_than_features(here, capsys):
    x = np.random.default_rng(0).standard_normal((N, 90)).astype("f4")
    np.save("wide.npy", x)
    argv = ["fit", "wide.npy", "two.npy", "--method", "splince", "--task", "task.npy"]
    out = ok(capsys, *argv, "--out", "e.safetensors")
    assert "with no more rows than features" in out
    expected = ej.SPLINCE().fit(x, np.load("two.npy"), task=TASK)
    np.testing.assert_array_equal(ej.load("e.safetensors").test, expected.test)
    got = certificate("e.safetensors")
    assert got["after"] == 0
    assert got["before"] == pytest.approx(1, abs=1e-3)


@pytest.mark.slow
def test_the_certificate_can_be_left_out(here, capsys, monkeypatch):
    argv = ["fit", "x.npy", "z.npy", "--out", "e.safetensors", "--force"]
    assert ok(capsys, *argv, "--no-certificate").count("\n") == 1
    monkeypatch.setattr(fit_command, "_CERTIFIED_DIMS", D - 1)
    assert "damage and linear_r2 not computed" in ok(capsys, *argv)
    out = ok(capsys, *argv, "--method", "oracle-leace")
    assert "of the variance, linear_r2 not computed" in out
    assert certificate("e.safetensors")["damage"] > 0
    assert "linear_r2 0." in ok(capsys, *argv, "--method", "leace")


@pytest.mark.slow
@pytest.mark.parametrize("mean", [0, 100])
def test_erased_moments_are_the_moments_of_the_erased(mean, data):
    x = data.x @ jnp.eye(D).at[0, 1].set(2.0) + mean
    rows = data.replace(x=x)
    moments = ej.Moments.of(rows)
    for config in (
        ej.RandomDirections(rank=2),
        ej.RandomDirections(rank=2, keep_mean=False),
        ej.LEACE(keep_mean=False),
        ej.OracleLEACE(),
    ):
        eraser = config.fit(rows, key=jax.random.key(3))
        erased = eraser(x, data.z) if eraser.needs_z else eraser(x)
        got = eraser.erased_moments(moments)
        expected = ej.Moments.of(rows.replace(x=erased))
        np.testing.assert_allclose(got.mean, expected.mean, rtol=1e-5, atol=1e-5 * (1 + mean))
        np.testing.assert_allclose(got.xz, expected.xz, atol=N * 1e-6 * (1 + mean))
        np.testing.assert_allclose(got.xx, expected.xx, atol=N * 1e-5)
        certified = certify(eraser, moments)
        assert certified.damage == pytest.approx(float(ej.metrics.damage(x, erased)), rel=1e-4)
        r2 = float(ej.metrics.linear_r2(erased, data.z))
        assert certified.after == pytest.approx(r2, abs=1e-4)
        assert (certified.after == 0) == (r2 == 0)


@pytest.mark.slow
def test_a_feature_that_is_erased_whole_is_certified(data):
    x = data.x.at[:, 2].set(5 + 3 * (data.z > 0))
    for rows in (ej.Dataset(x, data.z, 3), ej.Dataset(x[:, 2:3], (data.z > 0) * 1, 2)):
        moments = ej.Moments.of(rows)
        for config in (ej.LEACE(), ej.MeanDifference(), ej.OracleLEACE()):
            assert certify(config.solve(moments), moments).after == 0


TASKS = {
    "classes": lambda x: ("task.npy", TASK),
    "floats": lambda x: (save("t.npy", x[:, 1] ** 2), x[:, 1] ** 2),
    "whole floats": lambda x: (save("t.npy", np.round(x[:, 1])), np.round(x[:, 1])),
    "columns": lambda x: (save("t.npy", x[:, :2] ** 2), x[:, :2] ** 2),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", TASKS)
def test_tasks(kind, here, data, capsys, monkeypatch):
    monkeypatch.setattr(streaming, "BLOCK_VALUES", 7 * D)
    spec, task = TASKS[kind](np.asarray(data.x))
    argv = ["fit", "x.npy", "two.npy", "--method", "splince", "--out", "e.safetensors"]
    ok(capsys, *argv, "--task", spec)
    eraser = ej.load("e.safetensors")
    expected = ej.SPLINCE().fit(data.x, np.asarray(data.z) > 0, task=task)
    close(eraser.matrix(), expected.matrix())
    assert f"task {spec}" in ok(capsys, "info", "e.safetensors")


@pytest.mark.slow
def test_a_task_in_the_table_is_no_feature(here, data, capsys):
    x = np.asarray(data.x)
    columns = {f"f{i}": x[:, i] for i in range(D)}
    columns |= {"y1": x[:, 0] ** 2, "z": np.load("z.npy"), "y2": x[:, 1] ** 3}
    pq.write_table(pa.table(columns), "t.parquet")
    argv = ["fit", "t.parquet", "t.parquet:z", "--method", "splince", "--out", "e.safetensors"]
    ok(capsys, *argv, "--task", "t.parquet:y1,y2")
    expected = ej.SPLINCE().fit(data, task=np.stack([columns["y1"], columns["y2"]], 1))
    close(ej.load("e.safetensors").matrix(), expected.matrix())
    argv = ["fit", "t.parquet:f0,y1", *argv[2:-1], "f.safetensors", "--task", "t.parquet:y1"]
    assert "'y1' holds the task" in bad(capsys, *argv)


@pytest.mark.slow
def test_an_eraser_that_reads_labels(here, data, capsys, monkeypatch):
    monkeypatch.setattr(streaming, "BLOCK_VALUES", 7 * D)
    ok(capsys, "fit", "x.npy", "z.npy", "--method", "oracle-leace", "--out", "e.safetensors")
    eraser = ej.load("e.safetensors")
    argv = ["apply", "e.safetensors", "x.npy", "--force", "--out"]
    ok(capsys, *argv, "y.npy", "--labels", "z.npy")
    close(np.load("y.npy"), eraser(data.x, data.z))
    emus = np.asarray(data.z) == 2  # the classes have the numbers of the fit, all there or not
    np.save("emus.npy", data.x[emus])
    np.save("emu.npy", np.load("z.npy")[emus])
    ok(capsys, "apply", "e.safetensors", "emus.npy", "--labels", "emu.npy", "--out", "w.npy")
    close(np.load("w.npy"), np.load("y.npy")[emus])
    assert "give --labels FILE" in bad(capsys, *argv, "v.npy")
    np.save("odd.npy", np.where(emus, "yak", "cat"))
    err = bad(capsys, *argv, "v.npy", "--labels", "odd.npy")
    assert "yak is no class that the eraser was fitted to; those are cat, dog, emu" in err
    assert "20 labels, but x.npy has 60" in bad(capsys, *argv, "v.npy", "--labels", "emu.npy")

    np.save("r.npy", np.asarray(data.x[:, 0]) * 2)
    ok(capsys, "fit", "x.npy", "r.npy", "--method", "oracle-leace", "--out", "r.safetensors")
    ok(capsys, "apply", "r.safetensors", "x.npy", "--labels", "r.npy", "--out", "r_.npy")
    close(np.load("r_.npy"), ej.load("r.safetensors")(data.x, data.x[:, 0] * 2))
    argv = ["apply", "r.safetensors", "x.npy", "--out", "v.npy", "--labels"]
    assert "expected numbers" in bad(capsys, *argv, "z.npy")
    ok(capsys, "fit", "x.npy", "z.npy", "--out", "m.safetensors")
    err = bad(capsys, "apply", "m.safetensors", "x.npy", "--out", "v.npy", "--labels", "z.npy")
    assert "reads no labels" in err


@pytest.mark.slow
def test_an_eraser_in_part(here, data, capsys):
    argv = ("fit", "x.npy", "z.npy", "--out", "e.safetensors", "--method")
    ok(capsys, *argv, "partial", "--of", "sal", "--strength", "0.5")
    eraser = ej.load(here / "e.safetensors")
    assert eraser.strength == 0.5
    ok(capsys, *argv, "sal", "--force")
    close(eraser.kernel, ej.load(here / "e.safetensors").kernel)
    told = bad(capsys, *argv, "partial", "--of", "salt", "--force")
    assert "unknown eraser 'salt'; did you mean sal?" in told
