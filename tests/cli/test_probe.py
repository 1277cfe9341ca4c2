import re

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv, parquet

import erasejax as ej
from erasejax import names
from erasejax.cli._question import question
from erasejax.files import Labels
from erasejax.files import _streaming as streaming
from erasejax.metrics import Metric, accuracy
from erasejax.readout._words import few_rows, shares
from erasejax.rows import split_groups
from tests.command import D, bad, ok


def test_probe_prints_both_protocols(here, capsys):
    argv = ["probe", "x.npy", "z.npy", "--probes", "logistic,least-squares", "--weights"]
    out = ok(capsys, *argv)
    assert ok(capsys, *argv) == out
    assert ok(capsys, *argv, "--seed", 1) != out
    assert "60 rows, 3 classes, cat (20), dog (20), emu (20)" in out
    assert "One set of rows: eraser, probe and score on the same 60 rows" in out
    assert "Fresh rows: eraser on 20 rows A, probe on 20 rows B, score on 20 rows C" in out
    for word in ("accuracy", "balanced accuracy", "AUROC", "log-loss", "majority rate", "damage"):
        assert word in out
    same, _ = out.split("Fresh rows")
    after = next(line for line in same.splitlines() if "after" in line)
    cells = [cell.strip() for cell in after.split("│")[3:-1]]
    low, high = map(float, cells.pop(1).split("-"))
    assert low < 1 / 3 < high
    assert cells == ["0.3333", "0.3333", "0.5000", "1.0986", "0.0000"]
    assert "R^2 0.0000" in same
    assert "linear read-out of 40 erased rows that the eraser has not seen" in out
    assert "evidence of a linear leak" in out


@pytest.mark.slow
def test_probe_with_a_saved_eraser(here, capsys):
    ok(capsys, "fit", "x.npy", "two.npy", "--out", "e.safetensors")
    argv = ["probe", "x.npy", "two.npy", "--eraser", "e.safetensors", "--probes", "zero-one,lda"]
    out = ok(capsys, *argv)
    assert "One set" not in out
    assert "no test: R^2 is 0 but for rounding" in out  # all these rows were fitted
    assert "has not seen" not in out
    assert (
        "eraser fitted elsewhere (e.safetensors), probe on 30 rows B, score on 30 others C" in out
    )
    assert "leave out --method" in bad(capsys, *argv, "--method", "identity")


@pytest.mark.slow
def test_probe_with_an_eraser_that_reads_labels(here, data, capsys, monkeypatch):
    monkeypatch.setattr(streaming, "BLOCK_VALUES", 7 * D)
    ok(capsys, "fit", "x.npy", "z.npy", "--method", "oracle-leace", "--out", "e.safetensors")
    probe = ["probe", "x.npy", "z.npy", "--probes", "lda"]
    assert "One set" in ok(capsys, *probe, "--method", "oracle-leace")
    assert "fitted elsewhere" in ok(capsys, *probe, "--eraser", "e.safetensors")
    np.save("r.npy", np.asarray(data.x).sum(axis=1))
    ok(capsys, "fit", "x.npy", "r.npy", "--method", "oracle-leace", "--out", "r.safetensors")
    assert "reads a real concept" in bad(capsys, *probe, "--eraser", "r.safetensors")


def test_whole_floats_are_classes_where_that_is_said(here, data, capsys):
    np.save("f.npy", np.asarray(data.z, float))
    for command in (
        ["fit", "x.npy", "f.npy", "--out", "e.safetensors"],
        ["probe", "x.npy", "f.npy"],
        ["probe", "x.npy", "z.npy", "--task", "f.npy"],
    ):
        wrong = bad(capsys, *command)
        assert "f.npy: the labels are floats and all whole" in wrong
        assert "--concept classes" in wrong
    _, asked, _ = question("x.npy", "f.npy", task="f.npy", concept="classes")
    assert asked.classes == asked.tasks == ("0", "1", "2")
    real = ["probe", "x.npy", "f.npy", "--concept", "real"]
    assert "--concept: expected one of auto, classes, got 'real'" in bad(capsys, *real)


def test_layers_in_one_array_are_told_apart_from_rows(here, data, capsys):
    x = np.asarray(data.x)
    np.save("acts.npy", np.stack([x, x + 1]))
    wrong = bad(capsys, "probe", "acts.npy", "z.npy")
    assert "got 3 axes, (2, 60, 5)" in wrong
    assert "np.savez('acts.npz', layer0=x[0], layer1=x[1])" in wrong
    assert "layer = [0, 1]" in wrong
    assert "reshape" not in wrong
    np.save("flat.npy", x.ravel())
    assert "reshape it first" in bad(capsys, "probe", "flat.npy", "z.npy")


@pytest.mark.slow
def test_too_few_rows_for_a_covariance_are_spoken_of(here, data, capsys):
    np.save("x.npy", np.asarray(data.x)[:12])
    np.save("z.npy", np.arange(12) % 2)
    argv = ["probe", "x.npy", "z.npy", "--probes", "mean-difference"]
    few = "the covariance of 5 features is of 4 rows, too few of them; shrinkage may help: fit"
    assert ok(capsys, *argv, "--method", "leace").count(few) == 1  # of fresh rows
    assert "the covariance of" not in ok(capsys, *argv)


@pytest.mark.parametrize(
    ("method", "rows", "damage", "said"),
    [
        (ej.LEACE(), 12, 0.5, "of 12 features is of 12 rows, too few of them; shrinkage may help"),
        (ej.LEACE(), 13, 1.1, "the eraser moves rows by more than they vary; shrinkage may help"),
        (ej.SPLINCE(), 10_000, 2.2, "the eraser moves rows by more than they vary; shrinkage"),
        (ej.LEACE(), 13, 0.5, ""),
        (ej.erasers.ClosedForm(), 9, 0.5, "more rows help"),
        (ej.MeanDifference(), 9, 65.0, ""),
        (ej.INLP(), 9, 1.1, ""),
        (None, 80, 65.7, "moves rows by more than they vary; shrinkage may help"),
        (None, 80, 0.9, ""),
    ],
)
def test_what_few_rows_do_is_said_of_what_has_a_covariance(method, rows, damage, said):
    found = few_rows(method, rows, 12, damage)
    assert said in found
    assert bool(said) == bool(found)


def test_bad_input_to_probe(here, data, capsys):
    np.save("r.npy", np.asarray(data.x[:, 0]))
    z = np.asarray(data.z).copy()
    z[:1] = 7
    np.save("rare.npy", z)
    for argv, message in [
        ("x.npy r.npy", "expected class labels"),
        ("x.npy z.npy --probes logistc", "did you mean logistic?"),
        ("x.npy z.npy --probes zero-one", "separates 2 classes, got 3"),
        ("x.npy rare.npy", "class '7' has 1 row; fresh rows"),
        ("x.npy z.npy --method ablation", "fit it first"),
        ("x.npy z.npy --method splince", "fit it first"),
        ("x.npy z.npy --eraser x.npy", "not a safetensors file"),
    ]:
        assert message in bad(capsys, "probe", *argv.split())


GROUPS = np.repeat(np.arange(15), 4)  # four rows of one class each in x.npy's order


@pytest.fixture
def named(here, data):
    """Names of four rows, each of one class, in files of every kind."""
    order = np.argsort(np.asarray(data.z), kind="stable")
    np.save("x.npy", np.asarray(data.x)[order])
    np.save("z.npy", np.asarray(data.z)[order])
    np.save("names.npy", np.array([f"name {g:02d}" for g in GROUPS]))
    return here


@pytest.mark.slow
def test_probe_of_groups(named, capsys):
    argv = ["probe", "x.npy", "z.npy", "--probes", "mean-difference", "--groups"]
    out = ok(capsys, *argv, "names.npy")
    assert "60 rows in 15 groups, 3 classes, 0 (20), 1 (20), 2 (20)" in out
    assert "on the same 60 rows in 15 groups" in out
    rows = [int(n) for n in re.findall(r"(\d+) rows [ABC] in \d groups", out)]
    assert sum(rows) == 60
    assert all(n % 4 == 0 for n in rows)
    assert "erased rows in 10 groups that the eraser has not seen" in out
    np.save("ids.npy", GROUPS * 7 - 3.0)
    assert ok(capsys, *argv, "ids.npy") == out
    np.save("alone.npy", np.arange(60))
    assert "60 rows in 60 groups" in ok(capsys, *argv, "alone.npy")


@pytest.mark.slow
def test_groups_in_a_column_are_no_feature(named, capsys):
    x = np.load("x.npy")
    names = {f"f{j}": x[:, j] for j in range(D)}
    table = pa.table({**names, "name": np.load("names.npy"), "label": np.load("z.npy")})
    parquet.write_table(table, "t.parquet")
    csv.write_csv(table, "t.csv")
    argv = ["--probes", "mean-difference", "--groups"]
    expected = ok(capsys, "probe", "x.npy", "z.npy", *argv, "names.npy")
    for kind in ("parquet", "csv"):
        file = f"t.{kind}"
        out = ok(capsys, "probe", file, f"{file}:label", *argv, f"{file}:name")
        assert out == expected
    wrong = bad(capsys, "probe", "t.csv:f0,name", "t.csv:label", *argv, "t.csv:name")
    assert "'name' holds the groups, it cannot be a feature" in wrong


def test_bad_groups(named, capsys):
    np.save("short.npy", GROUPS[:-1])
    np.save("half.npy", GROUPS / 2)
    np.save("few.npy", np.arange(60) // 10)  # two of each class
    for file, message in [
        ("short.npy", "short.npy: holds 59 group ids, but x.npy has 60 rows"),
        ("half.npy", "expected groups as integers or text, got floats such as 0.5"),
        ("few.npy", "class '0' is in 2 groups; fresh rows are a split in 3 parts of whole groups"),
        ("none.npy", "no such file"),
    ]:
        assert message in bad(capsys, "probe", "x.npy", "z.npy", "--groups", file)


def test_parts_hold_whole_groups_and_even_classes():
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 30, 90)
    of = np.repeat(np.arange(90), sizes).astype(np.int32)
    for z in (rng.integers(0, 3, 90)[of], rng.integers(0, 3, len(of))):
        labels = Labels(z.astype(np.int32), ("a", "b", "c"))
        split = split_groups(labels.values, of, 3, seed=0, names=labels.names)
        assert sorted(np.concatenate(split)) == list(range(len(of)))
        assert sum(len(np.unique(of[part])) for part in split) == 90
        rows = np.array([np.bincount(z[part], minlength=3) for part in split])
        # The last groups that are placed are small, and fill what is missing.
        assert (np.abs(rows / rows.mean(axis=0) - 1) < 0.1).all()
        assert shares(labels, split) == ""
        assert not np.array_equal(
            split_groups(labels.values, of, 3, seed=1, names=labels.names)[0], split[0]
        )
    # One name has half of all rows.
    of = np.r_[np.zeros(60, np.int32), 1 + np.arange(60, dtype=np.int32) // 5]
    labels = Labels(
        np.r_[np.zeros(60, np.int32), np.arange(60, dtype=np.int32) // 5 % 2], ("a", "b")
    )
    split = split_groups(labels.values, of, 2, seed=0, names=labels.names)
    assert shares(labels, split).startswith("whole groups made the parts unequal: ")
    assert "rows, a " in shares(labels, split)


def test_metrics_of_others_have_a_column_where_they_have_a_title(here, capsys, monkeypatch):
    class Wrong(Metric):
        name = "wrong"
        title = "wrong (share)"

        def compute(self, probe, rows):
            return 1 - accuracy(probe, rows)

    argv = ["probe", "x.npy", "two.npy", "--probes", "mean-difference"]
    assert "wrong (share)" not in ok(capsys, *argv)
    monkeypatch.setitem(names._registered, ("metric", "wrong"), Wrong)
    out = ok(capsys, *argv)
    assert "wrong (share)" in out
    line = next(line for line in out.splitlines() if "before" in line)
    cells = [cell.strip() for cell in line.split("│")[3:-1]]
    assert float(cells[0]) + float(cells[-1]) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(
    "argv",
    [
        "probe x.npy two.npy --probes ccs",
        "fit x.npy two.npy --out e.safetensors --method inlp --probe ccs",
    ],
)
def test_probes_of_pairs_are_no_probes_of_rows(argv, here, capsys):
    assert "unknown probe 'ccs'" in bad(capsys, *argv.split())
