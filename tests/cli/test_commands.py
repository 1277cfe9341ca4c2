import importlib
import os
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

import erasejax as ej
from erasejax.cli import _main as cli
from erasejax.files import _saved as io
from erasejax.files import _streaming as streaming
from erasejax.metrics._certificate import certify
from erasejax.names import known
from tests.command import TASK, D, N, bad, close, files, ok

fit_command = importlib.import_module("erasejax.cli._fit")

KINDS = [".npy", ".npz", ".csv", ".parquet", ".safetensors"]


# fit and apply


def test_fit_and_apply_are_the_library(here, data, capsys):
    out = ok(capsys, "fit", "x.npy", "z.npy", "--out", "e.safetensors")
    assert "removes 2 of 5 dimensions, fitted on 60 rows, 3 classes, cat (20), dog (20)" in out
    expected = ej.MeanDifference().fit(data)
    eraser = ej.load("e.safetensors")
    close(eraser.matrix(), expected.matrix())
    ok(capsys, "apply", "e.safetensors", "x.npy", "--out", "y.npy")
    np.testing.assert_array_equal(np.load("y.npy"), eraser(data.x))


def test_streaming_is_in_memory(here, capsys, monkeypatch):
    ok(capsys, "fit", "x.npy", "z.npy", "--out", "whole.safetensors")
    ok(capsys, "apply", "whole.safetensors", "x.npy", "--out", "whole.npy")
    monkeypatch.setattr(streaming, "BLOCK_VALUES", 7 * D)
    ok(capsys, "fit", "x.npy", "z.npy", "--out", "parts.safetensors")
    close(ej.load("parts.safetensors").matrix(), ej.load("whole.safetensors").matrix())
    ok(capsys, "apply", "whole.safetensors", "x.npy", "--out", "parts.npy")
    close(np.load("parts.npy"), np.load("whole.npy"))


@pytest.mark.slow
def test_tables_are_read_and_written_without_pandas(here):
    np.savetxt("table.csv", np.load("x.npy"), delimiter=",", header="a,b,c,d,e", comments="")
    code = """
import sys
from erasejax.cli import main
assert main(["fit", "table.csv", "table.csv:e", "--out", "e.safetensors", "--concept", "real"]) == 0
assert main(["apply", "e.safetensors", "table.csv", "--out", "y.csv"]) == 0
print("pandas" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, text=True, timeout=240
    )
    assert done.stdout.splitlines()[-1] == "False"
    assert len(np.loadtxt("y.csv", delimiter=",", skiprows=1)) == N


def test_blocks_compile_once(here, monkeypatch):
    from erasejax.statistics._moments import _update

    monkeypatch.setattr(streaming, "BLOCK_VALUES", 7 * D)
    before = _update._cache_size()
    assert cli.main(["fit", "x.npy", "z.npy", "--out", "e.safetensors"]) == 0
    assert _update._cache_size() - before <= 1


@pytest.mark.slow
def test_the_same_command_writes_the_same_bytes(here, capsys):
    for name in ("a", "b"):
        for method in ("mean-difference", "random-directions"):
            ok(
                capsys,
                "fit",
                "x.npy",
                "z.npy",
                "--method",
                method,
                "--out",
                f"{method}{name}.safetensors",
            )
    got = files()
    for method in ("mean-difference", "random-directions"):
        assert got[f"{method}a.safetensors"] == got[f"{method}b.safetensors"]


@pytest.mark.slow
def test_options(here, data, capsys):
    ok(capsys, "fit", "x.npy", "z.npy", "--no-keep-mean", "--out", "e.safetensors")
    assert not np.any(ej.load("e.safetensors").center)
    argv = ["fit", "x.npy", "z.npy", "--force", "--out", "e.safetensors", "--method"]
    ok(capsys, *argv, "random-directions", "--rank", 3, "--seed", 7)
    expected = ej.RandomDirections(rank=3).fit(data, key=jax.random.key(7))
    close(ej.load("e.safetensors").matrix(), expected.matrix())
    np.save("v.npy", np.eye(D)[:, :2])
    ok(capsys, *argv, "ablation", "--directions", "v.npy")
    close(ej.load("e.safetensors").matrix(), np.diag([0, 0, 1, 1, 1]))
    ok(capsys, *argv, "identity")
    assert int(ej.load("e.safetensors").rank) == 0
    assert "x.npy" in ok(capsys, "info", "e.safetensors")


@pytest.mark.slow
def test_real_concepts(here, data, capsys):
    np.save("r.npy", np.asarray(data.x[:, 0]) * 2)
    out = ok(capsys, "fit", "x.npy", "r.npy", "--out", "e.safetensors")
    assert "a real concept from" in out
    expected = ej.MeanDifference().fit(data.x, data.x[:, 0] * 2)
    close(ej.load("e.safetensors").matrix(), expected.matrix())
    np.save("age.npy", np.asarray(data.z))
    ok(capsys, "fit", "x.npy", "age.npy", "--concept", "real", "--out", "e.safetensors", "--force")
    assert int(ej.load("e.safetensors").rank) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_file_in_and_out(kind, here, data, capsys):
    x = np.asarray(data.x)
    columns = {f"f{i}": x[:, i] for i in range(D)} | {"label": np.load("z.npy")}
    name, spec, labels = f"in{kind}", f"in{kind}", "z.npy"
    if kind == ".npz":
        np.savez(name, x=x, z=np.load("z.npy"))
        spec, labels = f"{name}:x", f"{name}:z"
    elif kind == ".safetensors":
        ej.save({"acts": x, "z": data.z}, name)
        spec, labels = f"{name}:acts", f"{name}:z"
    elif kind == ".npy":
        np.save(name, x)
    else:
        table = pa.table(columns)
        pyarrow.csv.write_csv(table, name) if kind == ".csv" else pq.write_table(table, name)
        labels = f"{name}:label"
    ok(capsys, "fit", spec, labels, "--out", "e.safetensors")
    eraser = ej.load("e.safetensors")
    close(eraser.matrix(), ej.MeanDifference().fit(data).matrix())
    # The labels' column is still in the table; the eraser knows which columns it was fitted on.
    ok(capsys, "apply", "e.safetensors", spec, "--out", f"y{kind}")
    if kind in {".csv", ".parquet"}:
        back = pyarrow.csv.read_csv(f"y{kind}") if kind == ".csv" else pq.read_table(f"y{kind}")
        assert back.column_names == [f"f{i}" for i in range(D)]
        np.testing.assert_array_equal(
            np.stack([c.to_numpy() for c in back.columns], 1).astype("f4"), eraser(x)
        )
    ok(capsys, "fit", f"y{kind}", "z.npy", "--out", "again.safetensors", "--method", "identity")


def test_a_table_with_columns_in_another_order(here, data, capsys):
    x = np.asarray(data.x)
    table = pa.table({f"f{i}": x[:, i] for i in range(D)} | {"label": np.load("z.npy")})
    pq.write_table(table, "t.parquet")
    pq.write_table(table.select(table.column_names[::-1]), "u.parquet")
    pq.write_table(table.drop_columns("f3"), "v.parquet")
    ok(capsys, "fit", "t.parquet", "t.parquet:label", "--out", "e.safetensors")
    ok(capsys, "apply", "e.safetensors", "t.parquet", "--out", "t.npy")
    ok(capsys, "apply", "e.safetensors", "u.parquet", "--out", "u.npy")
    np.testing.assert_array_equal(np.load("t.npy"), np.load("u.npy"))
    assert "no column 'f3'" in bad(capsys, "apply", "e.safetensors", "v.parquet", "--out", "v.npy")


def test_dtypes_of_the_output(here, data, capsys):
    ok(capsys, "fit", "x.npy", "z.npy", "--out", "e.safetensors")
    x = np.asarray(data.x)
    for dtype, expected in [("f2", "f2"), ("f8", "f4"), (">f4", "f4"), ("i4", "f4")]:
        np.save("w.npy", x.astype(dtype))
        argv = ["apply", "e.safetensors", "w.npy", "--out", "y.npy", "--force"]
        assert cli.main(argv) == 0
        warned = capsys.readouterr().err
        # What fit has certified are rows of float32.
        assert ("rounded to float16" in warned) == (dtype == "f2")
        assert warned.count("\n") == (dtype == "f2")
        assert np.load("y.npy").dtype == expected


# Methods, and what they do to the rows


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


# info


@pytest.mark.slow
def test_info(here, data, capsys):
    ok(capsys, "fit", "x.npy", "z.npy", "--no-keep-mean", "--out", "e.safetensors")
    out = ok(capsys, "info", "e.safetensors")
    for text in ("Projection", "cat (20)", "60 rows of x.npy", "rank", "--keep-mean False", "ok"):
        assert text in out
    batch = jax.vmap(lambda x: ej.MeanDifference().fit(x, data.z, num_classes=3))
    ej.save(batch(jnp.stack([data.x, data.x.at[0].set(jnp.nan)])), "batch.safetensors")
    out = ok(capsys, "info", "batch.safetensors")
    assert "2 lanes" in out
    assert "NaN or infinity" in out
    ej.save({"a": data.x, "b": data.z}, "d.safetensors")
    assert "60 x 5, float32" in ok(capsys, "info", "d.safetensors")
    x = np.asarray(data.x).copy()
    x[3, 3] = np.nan
    np.save("n.npy", x)
    assert "NaN or infinite  1" in ok(capsys, "info", "n.npy")
    assert "3 different: cat (20), dog (20), emu (20)" in ok(capsys, "info", "z.npy")
    np.savez("two.npz", a=x, b=x[:, 0])
    assert "60, float32" in ok(capsys, "info", "two.npz")
    table = pa.table({"v": x[:, 3], "s": ["p q", None] * 30})
    for name in ("t.csv", "t.parquet"):
        (pyarrow.csv.write_csv if name == "t.csv" else pq.write_table)(table, name)
        out = ok(capsys, "info", name)
        assert "60 rows, 2 columns" in out
        assert "1 missing, NaN or infinite" in out
        assert "30 missing, 1 different: p q (30)" in out


# Errors: one line, status 2, and no file touched


def save(name, x):
    np.save(name, x)
    return name


BAD_FIT = {
    "missing": (lambda x, z: ("no.npy", "z.npy"), "no.npy: no such file"),
    "missing labels": (lambda x, z: ("x.npy", "no.npy:k"), "no such file"),
    "folder": (lambda x, z: (".", "z.npy"), "is a folder"),
    "one axis": (lambda x, z: (save("b.npy", x[0]), "z.npy"), "expected features of shape"),
    "three axes": (lambda x, z: (save("b.npy", x[None]), "z.npy"), "got 3 axes"),
    "NaN": (lambda x, z: (save("b.npy", np.where(x > 1, np.nan, x)), "z.npy"), "the first (nan)"),
    "length": (lambda x, z: ("x.npy", save("b.npy", z[:30])), "30 labels, but x.npy has 60 rows"),
    "one class": (lambda x, z: ("x.npy", save("b.npy", z * 0)), "one class only"),
    "whole floats": (lambda x, z: ("x.npy", save("b.npy", z * 1.0)), "--concept classes"),
    "NaN labels": (lambda x, z: ("x.npy", save("b.npy", z * np.nan)), "60 of 60 labels are NaN"),
    "extension": (lambda x, z: ("x.npy", "b.txt"), "unknown extension '.txt'"),
    "objects": (lambda x, z: (save("b.npy", x.astype(object)), "z.npy"), "Python objects"),
    "overflow": (
        lambda x, z: (save("b.npy", np.float64(x) * 1e39), "z.npy"),
        "infinite or missing as float32",
    ),
    "damaged": (lambda x, z: ("b.parquet", "z.npy"), "cannot be read as .parquet"),
}


@pytest.mark.parametrize("case", BAD_FIT)
@pytest.mark.parametrize("blocks", [1 << 22, 7 * D])
def test_bad_input_to_fit(case, blocks, here, data, capsys, monkeypatch):
    monkeypatch.setattr(streaming, "BLOCK_VALUES", blocks)
    for name in ("b.txt", "b.parquet"):
        (here / name).write_text("nonsense")
    make, message = BAD_FIT[case]
    x, z = make(np.asarray(data.x), np.asarray(data.z))
    assert message in bad(capsys, "fit", x, z, "--out", "e.safetensors")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("--method mean_diference", "did you mean mean-difference? there are ablation"),
        ("--method laece", "did you mean leace?"),
        ("--method identity --no-keep-mean", "--keep-mean is no option of identity"),
        ("--rank 2", "--rank is no option of mean-difference, which has --keep-mean"),
        ("--method random-directions --rank 9", "expected 1 to 5 directions"),
        ("--method ablation", "needs --directions FILE"),
        ("--method ablation --directions z.npy", "expected directions"),
        ("--method ablation --directions x.npy", "expected (5,) or (5, r)"),
        (
            "--method leace --task task.npy",
            "--task is no option of leace; splince keeps a task, and --given",
        ),
        ("--method splince", "splince needs --task FILE"),
        ("--method splince --task no.npy", "no.npy: no such file"),
        ("--method splince --task short.npy", "short.npy: holds 30 task entries, but x.npy has 60"),
        ("--method splince --task gap.npy", "gap.npy: 1 of 60 labels are NaN"),
        ("--method splince --task gaps.npy", "gaps.npy: 1 of 120 values are NaN"),
        ("--method splince --task ids.npy", "all of them different; expected classes"),
        ("--method splince --task same.npy", "same.npy: one class only"),
        ("--method leace --shrinkage 1.1", "--shrinkage: expected a number from 0 to 1, got 1.1"),
        ("--method leace --shrinkage -0.1", "--shrinkage: expected a number from 0 to 1"),
        ("--method leace --shrinkage nan", "--shrinkage: expected a number from 0 to 1, got nan"),
        (
            "--method leace --shrinkage-rule lw",
            "expected one of fixed, none, schaefer-strimmer, oas, got 'lw'",
        ),
        ("--method leace --shrinkage-rule fixed", "fixed needs --shrinkage"),
        ("--method leace --shrinkage-rule oas --shrinkage 0.1", "is for --shrinkage-rule fixed"),
        ("--method sal --shrinkage 0.1", "--shrinkage is no option of sal"),
        ("--method oracle-leace --no-keep-mean", "--keep-mean is no option of oracle-leace"),
        ("--seed -1", "--seed: expected a whole number from 0"),
        ("--concept what", "expected one of auto, classes, real"),
        ("--out old.safetensors", "exists; --force replaces it"),
        ("--out no/e.safetensors", "the folder"),
        ("--out /proc/e.safetensors", "cannot write here"),
        ("--out x.npy/e.safetensors", "does not exist"),
        ("--out e.npy", "expected the extension .safetensors"),
        ("--out e", "unknown extension ''"),
        ("--out sub.safetensors --force", "is a folder"),
    ],
)
def test_bad_options_of_fit(argv, message, here, capsys):
    np.save("short.npy", TASK[:30])
    np.save("gap.npy", np.where(np.arange(N) == 3, np.nan, TASK))
    np.save("gaps.npy", np.where(np.arange(2 * N) == 3, np.nan, 0.5).reshape(N, 2))
    np.save("ids.npy", np.arange(N))
    np.save("same.npy", np.zeros(N, int))
    (here / "old.safetensors").write_text("old")
    (here / "sub.safetensors").mkdir()
    argv = argv.split() if "--out" in argv else [*argv.split(), "--out", "e.safetensors"]
    assert message in bad(capsys, "fit", "x.npy", "z.npy", *argv)


@pytest.mark.slow
def test_a_text_column_is_named(here, data, capsys):
    table = pa.table({"a": np.asarray(data.x[:, 0]), "city": ["x"] * N, "z": np.asarray(data.z)})
    pyarrow.csv.write_csv(table, "t.csv")
    err = bad(capsys, "fit", "t.csv", "t.csv:z", "--out", "e.safetensors")
    assert "column 'city' holds text" in err
    assert "leave it out, --drop city" in err
    ok(capsys, "fit", "t.csv", "t.csv:z", "--drop", "city", "--out", "dropped.safetensors")
    ok(capsys, "fit", "t.csv:a", "t.csv:z", "--out", "e.safetensors")
    (here / "z.csv").write_text("\n".join(map(str, data.z)))  # no header
    err = bad(capsys, "fit", "t.csv:a", "z.csv", "--out", "f.safetensors")
    assert "first line of a csv file is read as column names" in err


@pytest.mark.slow
def test_a_class_of_one_row_is_warned_of(here, data, capsys):
    np.save("rare.npy", np.where(np.arange(N) == 7, "owl", np.load("z.npy")))
    for kept in ([], ["--moments", "m.safetensors"]):
        code = cli.main(["fit", "x.npy", "rare.npy", "--out", f"e{len(kept)}.safetensors", *kept])
        assert code == 0
        assert capsys.readouterr().err.endswith(
            "erasejax: warning: class owl has 1 row, of which what is erased cannot be told from "
            "its noise; add rows, or leave the class out\n"
        )
    np.save("real.npy", np.linspace(0.5, 1, N))
    ok(capsys, "fit", "x.npy", "real.npy", "--out", "real.safetensors")


@pytest.mark.slow
def test_bad_input_to_apply(here, data, capsys):
    ok(capsys, "fit", "x.npy", "z.npy", "--out", "e.safetensors")
    ej.save(ej.probes.LDA().fit(data), "p.safetensors")
    ej.save(data.x, "a.safetensors")
    many = jax.vmap(lambda x: ej.MeanDifference().fit(x, data.z, num_classes=3))(data.x[None])
    ej.save(many, "many.safetensors")
    failed = ej.MeanDifference().fit(data.x, data.z * 0, num_classes=3, throw=False)
    ej.save(failed, "failed.safetensors")
    (here / "bad.safetensors").write_bytes((here / "e.safetensors").read_bytes()[:100])
    np.save("wide.npy", np.zeros((3, 9), "f4"))
    x = np.asarray(data.x).copy()
    x[-1, -1] = np.inf
    np.save("inf.npy", x)
    for eraser, features, out, message in [
        ("no.safetensors", "x.npy", "y.npy", "no such file"),
        (
            "p.safetensors",
            "x.npy",
            "y.npy",
            "expected an eraser, got LinearLikelihood",
        ),
        ("a.safetensors", "x.npy", "y.npy", "expected an eraser, got array"),
        ("bad.safetensors", "x.npy", "y.npy", "damaged"),
        ("x.npy", "x.npy", "y.npy", "not a safetensors file"),
        ("many.safetensors", "x.npy", "y.npy", "batch of shape (1,)"),
        ("failed.safetensors", "x.npy", "y.npy", "the concept is constant"),
        ("e.safetensors", "wide.npy", "y.npy", "fitted on 5 features, got 9"),
        ("e.safetensors", "inf.npy", "y.npy", "1 of 300 values"),
        ("e.safetensors", "x.npy", "y.txt", "unknown extension"),
        ("e.safetensors", "x.npy", "z.npy", "exists; --force"),
    ]:
        assert message in bad(capsys, "apply", eraser, features, "--out", out)
    for out in ("x.npy", "e.safetensors"):
        err = bad(capsys, "apply", "e.safetensors", "x.npy", "--out", out, "--force")
        assert "is an input too" in err


def test_bad_input_to_info(here, capsys):
    (here / "e.safetensors").write_text("")
    assert "cannot be read" in bad(capsys, "info", "e.safetensors")
    assert "no such file" in bad(capsys, "info", "no")


def test_failures_late_in_the_run_leave_nothing(here, data, capsys, monkeypatch):
    monkeypatch.setattr(streaming, "BLOCK_VALUES", 7 * D)
    ok(capsys, "fit", "x.npy", "z.npy", "--out", "e.safetensors")

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device", "y.npy")

    monkeypatch.setattr(os, "fsync", full)
    for kind in KINDS:
        err = bad(capsys, "apply", "e.safetensors", "x.npy", "--out", f"y{kind}")
        assert "y.npy: No space left on device" in err
    assert "No space" in bad(capsys, "fit", "x.npy", "z.npy", "--out", "f.safetensors")


def test_interrupts_leave_nothing(here, capsys, monkeypatch):
    ok(capsys, "fit", "x.npy", "z.npy", "--out", "e.safetensors")
    before = files()

    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(ej.Projection, "__call__", stop)
    assert cli.main(["apply", "e.safetensors", "x.npy", "--out", "y.npy"]) == 130
    assert capsys.readouterr().err.startswith("erasejax: interrupted")
    assert files() == before


def test_warnings_are_one_line(here, data, capsys):
    ej.save(ej.MeanDifference().fit(data), "e.safetensors")
    x = np.tile(np.asarray(data.x[:20]), (3, 1))
    np.save("same.npy", x)
    assert cli.main(["fit", "same.npy", "z.npy", "--out", "f.safetensors"]) == 0
    assert capsys.readouterr().err.startswith("erasejax: warning: nothing was removed")
    tree = {"a": np.zeros(3)}
    io.save(tree, "w.safetensors")
    assert cli.main(["info", "w.safetensors"]) == 0
    err = capsys.readouterr().err
    assert err.startswith("erasejax: warning: w.safetensors: a hold 64-bit")
    assert err.count("\n") == 1


def test_usage_errors(here, capsys):
    for argv in ([], ["fitt"], ["apply", "x.npy"], ["fit", "x.npy", "z.npy", "--seed", "x"]):
        with pytest.raises(SystemExit) as caught:
            cli.main(argv)
        assert caught.value.code == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert "Traceback" not in err
    with pytest.raises(SystemExit) as caught:
        cli.main(["fit", "--help"])
    assert caught.value.code == 0
    out = capsys.readouterr().out
    for name in (*known("eraser"), "--keep-mean", "--force", "--concept"):
        assert name in out
    assert ok(capsys, "--version").startswith("erasejax ")


# A process of its own


def start(*argv, **kwargs):
    root = os.path.dirname(os.path.dirname(ej.__file__))
    env = os.environ | {"PYTHONPATH": root, "JAX_PLATFORMS": "cpu"}
    argv = [sys.executable, "-m", "erasejax", *argv]
    pipe = subprocess.PIPE
    return subprocess.Popen(argv, stdout=pipe, stderr=pipe, text=True, env=env, **kwargs)


@pytest.mark.slow
def test_as_a_process(here):
    process = start("fit", "x.npy", "no.npy", "--out", "e.safetensors")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (2, "")
    assert err == "erasejax: error: no.npy: no such file\n"
    process = start("fit", "x.npy", "z.npy", "--out", "e.safetensors")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert "removes 2 of 5" in out


@pytest.mark.slow
def test_a_terminated_process_leaves_nothing(here):
    x = np.lib.format.open_memmap("big.npy", "w+", "f4", (8_000_000, 64))  # sparse
    x[0] = 1
    io.save(ej.MeanDifference().fit(jnp.eye(64), jnp.arange(64) % 2), "e.safetensors")
    before = set(os.listdir("."))
    process = start("apply", "e.safetensors", "big.npy", "--out", "y.npy")
    deadline = time.monotonic() + 60
    while set(os.listdir(".")) == before and time.monotonic() < deadline:
        time.sleep(0.02)
    assert set(os.listdir(".")) > before
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGTERM
    assert set(os.listdir(".")) == before


MEMORY = """
import sys
from erasejax import cli

def peak():  # not ru_maxrss, which begins with what the process had that started this one
    lines = open("/proc/self/status").read().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) >> 10

for name in ("small", "big"):
    argv = ["fit", f"{name}.npy", f"{name}_z.npy", "--method", "leace", "--out"]
    assert cli.main([*argv, f"{name}.safetensors"]) == 0
    print(peak(), file=sys.stderr)
"""


@pytest.mark.slow
def test_a_large_file_takes_little_memory(here):
    d, rows = 128, streaming.BLOCK_VALUES // 128
    random = np.random.default_rng(0)
    for name, blocks in (("small", 2), ("big", 20)):  # 32 and 320 MiB, sparse
        x = np.lib.format.open_memmap(f"{name}.npy", "w+", "f4", (blocks * rows, d))
        x[: rows // 8] = random.standard_normal((rows // 8, d))
        np.save(f"{name}_z.npy", random.integers(0, 2, len(x)))
        del x
    env = os.environ | {"PYTHONPATH": os.path.dirname(os.path.dirname(ej.__file__))}
    run = subprocess.run(
        [sys.executable, "-c", MEMORY],
        env=env | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=True,
    )
    small, big = map(int, run.stderr.split())
    assert big < small + 100, (small, big)  # MiB
    assert big < 2000


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
