"""Errors of `fit`, `apply` and `info`: one line, status 2, and no file touched."""

import os

import jax
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest

import erasejax as ej
from erasejax.cli import _main as cli
from erasejax.files import _saved as io
from erasejax.files import _streaming as streaming
from erasejax.names import known
from tests.command import KINDS, TASK, D, N, bad, files, ok, save

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
