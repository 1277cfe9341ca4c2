import numpy as np
import pytest

from erasejax import streaming
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
    np.save("r.npy", np.asarray(data.x[:, 0]) * 2)
    ok(capsys, "fit", "x.npy", "r.npy", "--method", "oracle-leace", "--out", "r.safetensors")
    assert "reads a real concept" in bad(capsys, *probe, "--eraser", "r.safetensors")


def test_whole_floats_are_classes_for_a_probe(here, data, capsys):
    np.save("f.npy", np.asarray(data.z, float))
    assert "0 (20), 1 (20)" in ok(capsys, "probe", "x.npy", "f.npy", "--probes", "mean-difference")


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
