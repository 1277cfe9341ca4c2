"""Moments that `fit --moments` keeps and goes on from, that `merge` makes one, and in Python."""

import os
import shutil
import signal
import subprocess
import sys

import jax
import ml_dtypes
import numpy as np
import pytest

import erasejax as ej
from erasejax.cli import _main as cli
from erasejax.files import _saved as io
from erasejax.files import _totals as counting
from erasejax.files import load_counted
from tests.command import D, N, bad, close, files, ok
from tests.many import COUNT, LEACE, PARTS, ROWS, count, fails, names, run, shorter


class Killed(BaseException):
    pass


@pytest.mark.parametrize("kept", [True, False])
def test_a_killed_fit_goes_on_bit_for_bit(kept, parts, capsys, monkeypatch):
    run(capsys, *COUNT, "--out", "e.safetensors")
    expected = files()
    os.remove("m.safetensors")
    os.remove("e.safetensors")
    save = counting.save

    def killed(*args, **kwargs):
        if kept:  # else the last file's rows are lost
            save(*args, **kwargs)
        raise Killed

    skipped = 0
    for attempt in range(PARTS if kept else 1):
        monkeypatch.setattr(counting, "save", killed)
        with pytest.raises(Killed):
            cli.main([*COUNT, "--out", "e.safetensors"])
        err = capsys.readouterr().err
        skipped = err.partition("has counted them: ")[2].count("acts-")
        assert skipped == (attempt if kept else 0)
        assert "e.safetensors" not in os.listdir()
    monkeypatch.setattr(counting, "save", save)
    run(capsys, *COUNT, "--out", "e.safetensors")
    assert files() == expected


KILLED = """
import os, signal
from erasejax import cli
from erasejax.files import _totals as totals

save, left = totals.save, [2]

def killed(*args, **kwargs):
    save(*args, **kwargs)
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)

totals.save = killed
cli.main({argv})
"""


def test_a_process_that_is_killed_outright_goes_on(parts, capsys):
    run(capsys, *COUNT, "--out", "e.safetensors")
    expected = files()
    os.remove("m.safetensors")
    os.remove("e.safetensors")
    root = os.path.dirname(os.path.dirname(ej.__file__))
    code = KILLED.format(argv=[*COUNT, "--out", "e.safetensors"])
    env = os.environ | {"PYTHONPATH": root}
    done = subprocess.run([sys.executable, "-c", code], env=env, timeout=240)
    assert done.returncode == -signal.SIGKILL
    assert len(load_counted("m.safetensors").files) == 2
    _, err = run(capsys, *COUNT, "--out", "e.safetensors")
    assert "counted them: acts-0.npy, acts-1.npy\n" in err
    assert files() == expected


def test_the_same_command_counts_nothing_twice(parts, capsys):
    out, _ = run(capsys, *COUNT)
    assert out == (
        "m.safetensors: moments of 60 rows in 4 files, 3 classes, cat (20), dog (20), emu (20)\n"
    )
    before = files()
    out, err = run(capsys, *COUNT)
    assert "60 rows in 4 files" in out
    assert "skipped, as m.safetensors has counted them: acts-0.npy, acts-1.npy" in err
    assert files() == before
    counted = load_counted("m.safetensors")
    assert float(counted.moments.total) == N
    assert [file.name for file in counted.files] == names("acts")


@pytest.mark.parametrize("labels", ["y-*.npy", "labels.npy"])
def test_new_files_are_added(labels, parts, capsys):
    argv = ["fit", "acts-*.npy", labels, *LEACE, "--moments", "m.safetensors"]
    run(capsys, *argv, "--out", "whole.safetensors")
    os.remove("m.safetensors")
    os.mkdir("later")
    all_labels = np.load("labels.npy")
    for i in (2, 3):  # with them comes a class
        os.rename(f"acts-{i}.npy", f"later/acts-{i}.npy")
        os.rename(f"y-{i}.npy", f"later/y-{i}.npy")
    np.save("labels.npy", all_labels[: 2 * ROWS])
    out, _ = run(capsys, *argv)
    assert "30 rows in 2 files, 2 classes, cat (20), dog (10)" in out
    for name in os.listdir("later"):
        os.rename(f"later/{name}", name)
    np.save("labels.npy", all_labels)
    out, err = run(capsys, *argv, "--out", "e.safetensors")
    assert "fitted on 60 rows, 3 classes, cat (20), dog (20), emu (20)" in out
    assert "counted them: acts-0.npy, acts-1.npy\n" in err
    close(ej.load("e.safetensors").matrix(), ej.load("whole.safetensors").matrix())


def changed():
    np.save("acts-1.npy", np.load("acts-1.npy") + 1)


def both_shorter():
    shorter("acts-1.npy", 3)()
    shorter("y-1.npy", 3)()


def relabelled(name, rows):
    def change():
        z = np.load(name)
        z[rows] = "dog"
        np.save(name, z)

    return change


@pytest.mark.parametrize(
    ("labels", "change", "message"),
    [
        ("y-*.npy", changed, "acts-1.npy: has changed since it was counted"),
        ("y-*.npy", both_shorter, "acts-1.npy: has changed since it was counted"),
        ("y-*.npy", relabelled("y-0.npy", 3), "acts-0.npy: was counted with other labels"),
        ("labels.npy", relabelled("labels.npy", 3), "the labels of acts-0.npy are not those"),
    ],
)
def test_what_was_counted_must_not_change(labels, change, message, parts, capsys):
    argv = ["fit", "acts-*.npy", labels, *LEACE, "--moments", "m.safetensors"]
    run(capsys, *argv)
    change()
    last = fails(capsys, *argv, "--out", "e.safetensors")
    assert message in last
    assert "remove the file of moments to count all files anew" in last


def test_what_has_the_same_content_is_the_same_file(parts, capsys):
    run(capsys, *COUNT)
    before = load_counted("m.safetensors")
    for name in (*names("acts"), *names("y")):
        os.utime(name, ns=(1, 1))
    _, err = run(capsys, *COUNT)
    assert "has counted it as acts-0.npy: acts-0.npy" in err
    shutil.copy("acts-0.npy", "acts-4.npy")
    shutil.copy("y-0.npy", "y-4.npy")
    _, err = run(capsys, *COUNT)
    assert "has counted it as acts-0.npy: acts-4.npy" in err
    after = load_counted("m.safetensors")
    assert after.files == before.files
    np.testing.assert_array_equal(after.moments.xx, before.moments.xx)


def test_moments_are_of_one_part_and_task(parts, capsys):
    argv = ["fit", "acts-*.npz:x", "acts-*.npz:z", *LEACE, "--moments", "m.safetensors"]
    run(capsys, *argv)
    for i in range(PARTS):
        x = np.load(f"acts-{i}.npz")["x"]
        np.savez(f"acts-{i}.npz", x=x, z=np.load(f"y-{i}.npy"), other=x + 1)
    assert "of another part of the files" in fails(capsys, "fit", "acts-*.npz:other", *argv[2:])
    argv = ["fit", "acts-*.npy", "y-*.npy", "--method", "splince", "--task", "t-*.npy"]
    assert "holds no task to keep" in fails(capsys, *argv, "--moments", "m.safetensors")


@pytest.mark.slow
def test_methods_are_solved_from_moments(parts, capsys):
    run(capsys, *COUNT)
    for method in ("leace", "mean-difference", "oracle-leace"):
        argv = ["--method", method, "--out", f"{method}.safetensors"]
        out = ok(capsys, "fit", "--moments", "m.safetensors", *argv)
        assert "fitted on 60 rows, 3 classes, cat (20)" in out
        ok(capsys, "fit", "all.npy", "labels.npy", *argv[:3], "one.safetensors", "--force")
        jax.tree.map(close, ej.load(f"{method}.safetensors"), ej.load("one.safetensors"))
    argv = ["fit", "--moments", "m.safetensors", "--out", "e.safetensors", "--method"]
    assert "inlp needs the rows, not only their moments" in bad(capsys, *argv, "inlp")
    assert "holds no task to keep" in bad(capsys, *argv, "splince")
    ok(capsys, "apply", "leace.safetensors", "all.npy", "--out", "erased.npy")
    assert ej.metrics.linear_r2(np.load("erased.npy"), np.load("labels.npy") == "cat") < 1e-10
    for name, message in (
        ("no.safetensors", "no such file"),
        ("leace.safetensors", "holds no moments"),
    ):
        argv[2] = name
        assert message in bad(capsys, *argv, "leace")


def test_moments_without_a_covariance_serve_what_needs_none(parts, capsys):
    argv = ["fit", "acts-*.npy", "y-*.npy", "--no-certificate", "--moments", "m.safetensors"]
    run(capsys, *argv)
    ok(capsys, "fit", "--moments", "m.safetensors", "--out", "e.safetensors")
    argv = ["fit", "--moments", "m.safetensors", "--out", "e.safetensors", "--force", *LEACE]
    assert "keeps variances only" in bad(capsys, *argv)


def test_moments_of_rounded_rows_say_that_rounding_is_not_seen(parts, capsys):
    for name in names("acts"):
        np.save(name, np.load(name).astype("f2"))
    out, _ = run(capsys, *COUNT, "--out", "e.safetensors")
    assert "these are figures of rows in float32" in out
    assert io.read_header("e.safetensors").notes["certificate"]["dtype"] == "float32"


def test_moments_are_neither_input_nor_output(parts, capsys):
    argv = ["fit", "acts-*.npy", "y-*.npy", "--moments"]
    assert "expected the extension .safetensors" in bad(capsys, *argv, "m.npy")
    run(capsys, *argv, "m.safetensors")
    argv += ["m.safetensors", "--force", "--out", "m.safetensors"]
    assert "is an input too" in bad(capsys, *argv)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda notes: notes.pop("kind"), "notes cannot be read"),
        (lambda notes: notes.update(kind=3), "do not fit its moments"),
        (lambda notes: notes.update(class_names=["a", "b"]), "do not fit its moments"),
        (lambda notes: notes.update(files=[{"name": "x"}]), "notes cannot be read"),
        (lambda notes: notes["files"][0].update(rows="many"), "do not fit its moments"),
    ],
)
def test_damaged_moments(change, message, parts, capsys):
    run(capsys, *COUNT)
    notes = io.read_header("m.safetensors").notes
    change(notes["counted"])
    io.save(ej.load("m.safetensors"), "m.safetensors", notes=notes)
    argv = ["fit", "--moments", "m.safetensors", "--out", "e.safetensors"]
    assert message in bad(capsys, *argv)


# Several machines


def test_moments_of_machines_are_merged(parts, capsys):
    for name, ids in (("a", [0]), ("b", [1, 3]), ("c", [2])):  # none but b has all classes
        count(capsys, name, ids)
    out = ok(
        capsys, "merge", "a.safetensors", "b.safetensors", "c.safetensors", "--out", "m.safetensors"
    )
    text = "moments of 60 rows in 4 files, 3 classes, cat (20), dog (20), emu (20)\n"
    assert out == f"m.safetensors: {text}"
    ok(capsys, "fit", "--moments", "m.safetensors", *LEACE, "--out", "many.safetensors")
    ok(capsys, "fit", "all.npy", "labels.npy", *LEACE, "--out", "one.safetensors")
    jax.tree.map(close, ej.load("many.safetensors"), ej.load("one.safetensors"))
    _, err = run(capsys, *COUNT)  # all of them are counted
    assert "skipped" in err
    text = ok(capsys, "info", "m.safetensors")
    assert "60 rows, files 4: acts-1.npy (15), acts-3.npy (15), acts-2.npy (15)" in text
    assert "3 classes, cat (20), dog (20), emu (20)" in text


def integers():
    for name in names("y", [1, 3]):
        np.save(name, (np.load(name) == "dog").astype(int))


def others():
    for name in names("y", [0, 2]):
        np.save(name, np.array(["cat", "fox", "emu"])[np.arange(ROWS) % 3])


def copied():
    shutil.copy("acts-0.npy", "acts-3.npy")
    shutil.copy("y-0.npy", "y-3.npy")


@pytest.mark.parametrize(
    ("change", "ids", "argv", "message"),
    [
        (str, [1, 2], (), "acts-2.npy: counted in "),
        (copied, [1, 3], (), ".npy: counted in "),
        (integers, [1, 3], (), "in kind: "),
        (others, [1, 3], (), "b.safetensors: has the class dog, which a.safetensors has not"),
        (str, [1, 3], ("--no-certificate",), "merge: the moments differ"),
    ],
)
def test_what_is_not_merged(change, ids, argv, message, parts, capsys):
    change()
    count(capsys, "a", [0, 2])
    count(capsys, "b", ids, *argv)
    argv = ["merge", "a.safetensors", "b.safetensors", "--out", "m.safetensors"]
    assert message in bad(capsys, *argv)


def test_merging_is_whole_or_not_at_all(parts, capsys):
    count(capsys, "a", [0, 1])
    argv = ["merge", "a.safetensors", "--out"]
    assert "is an input too" in bad(capsys, *argv, "a.safetensors", "--force")
    shutil.copy("a.safetensors", "b.safetensors")
    assert "--force replaces it" in bad(capsys, *argv, "b.safetensors")
    assert "no such file" in bad(capsys, "merge", "no.safetensors", "--out", "m.safetensors")
    assert "expected files of moments" in bad(capsys, "merge", "--out", "m.safetensors")


# Python


@pytest.mark.slow
def test_the_same_in_python(parts):
    z = np.load("labels.npy")
    expected = ej.stream_moments("all.npy", "labels.npy")
    for _ in range(2):
        got = ej.stream_moments("acts-*.npy", names("y"), moments="m.safetensors")
        np.testing.assert_allclose(got.xx, expected.xx, rtol=1e-5, atol=1e-4)
        np.testing.assert_allclose(got.xz, expected.xz, rtol=1e-4, atol=1e-4)
        assert float(got.total) == len(z)
    np.testing.assert_array_equal(ej.load("m.safetensors").xx, got.xx)
    with pytest.raises(TypeError, match="x: expected names of files, got ndarray"):
        ej.stream_moments(np.ones((2, 2)), ["y-0.npy"])


@pytest.mark.slow
def test_one_class_a_file_loses_no_digits(parts):
    x = np.load("all.npy") + np.float32(1e4)
    z = np.load("labels.npy")
    for i, name in enumerate(("cat", "dog", "emu")):
        np.save(f"w-{i}.npy", x[z == name])
        np.save(f"v-{i}.npy", z[z == name])
    moments = ej.stream_moments("w-*.npy", "v-*.npy")
    erased = np.asarray(ej.LEACE().solve(moments)(x), np.float64)
    sd = x.std(0, dtype=np.float64)
    means = np.stack([erased[z == name].mean(0) for name in ("cat", "dog", "emu")])
    assert (np.ptp(means, axis=0) <= np.maximum(1e-5 * sd, np.spacing(np.float32(1e4)))).all()


@pytest.mark.slow
def test_bfloat16_is_counted(parts):
    x = np.load("all.npy").astype(ml_dtypes.bfloat16)
    for i in range(PARTS):
        ej.save({"x": x[i * ROWS : (i + 1) * ROWS]}, f"acts-{i}.safetensors")
    got = ej.stream_moments("acts-*.safetensors:x", "labels.npy", moments="m.safetensors")
    expected = ej.Moments.init(D, 3).update(x.astype("f4"), np.repeat([0, 1, 2], N // 3))
    np.testing.assert_allclose(got.covariance, expected.covariance, rtol=1e-4, atol=1e-5)
    assert load_counted("m.safetensors").dtype == "bfloat16"
