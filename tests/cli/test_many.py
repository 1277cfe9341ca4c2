"""`fit` over many files, `--moments` and `merge`."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile

import jax
import ml_dtypes
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import erasejax as ej
from erasejax.cli import _main as cli
from erasejax.files import _saved as io
from erasejax.files import _streaming as streaming
from erasejax.files import _totals as counting
from erasejax.files import load_counted
from tests.command import TASK, D, N, bad, close, files, ok

PARTS = 4
ROWS = N // PARTS
LEACE = ("--method", "leace")
COUNT = ("fit", "acts-*.npy", "y-*.npy", *LEACE, "--moments", "m.safetensors")


def run(capsys, *argv):
    """Runs a command that must succeed; returns what it prints, and what it says meanwhile."""
    code = cli.main([str(a) for a in argv])
    out, err = capsys.readouterr()
    assert code == 0, err
    assert all(line.startswith("erasejax: ") for line in err.splitlines())
    return out, err


def fails(capsys, *argv):
    """Runs a command that must fail, after what it says; returns its last line."""
    before = files()
    code = cli.main([str(a) for a in argv])
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    *said, last = err.splitlines()
    assert last.startswith("erasejax: error: ")
    assert all(line.startswith(("erasejax: in this", "erasejax: skipped")) for line in said)
    assert files() == before
    return last


@pytest.fixture
def parts(here, data):
    """The rows of `data` in four files of every kind; those of a class lie together."""
    order = np.argsort(data.z, kind="stable")
    x, z, task = np.asarray(data.x)[order], np.load("z.npy")[order], np.load("task.npy")[order]
    np.save("all.npy", x)
    np.save("labels.npy", z)
    np.save("tasks.npy", task)
    for i in range(PARTS):
        own = slice(i * ROWS, (i + 1) * ROWS)
        np.save(f"acts-{i}.npy", x[own])
        np.save(f"y-{i}.npy", z[own])
        np.save(f"t-{i}.npy", task[own])
        np.savez(f"acts-{i}.npz", x=x[own], z=z[own])
        columns = {f"f{j}": x[own, j] for j in range(D)} | {"label": z[own]}
        pq.write_table(pa.table(columns), f"acts-{i}.parquet")
    return here


def names(kind, ids=range(PARTS), ext=".npy"):
    return [f"{kind}-{i}{ext}" for i in ids]


# Many files


@pytest.mark.parametrize(
    "argv",
    [
        ["acts-*.npy", "y-*.npy"],
        ["acts-*.npy", "labels.npy"],
        [*names("acts", [2, 0, 3, 1]), "labels.npy"],
        [*names("acts"), "--labels", *names("y")],
        ["acts-?.npz:x", "acts-?.npz:z"],
        ["acts-*.parquet", "acts-*.parquet:label"],
    ],
    ids=lambda argv: " ".join(argv)[:20],
)
def test_many_files_are_one_fit(argv, parts, data, capsys):
    _, err = run(capsys, "fit", *argv, *LEACE, "--out", "many.safetensors")
    ok(capsys, "fit", "all.npy", "labels.npy", *LEACE, "--out", "one.safetensors")
    many, one = ej.load("many.safetensors"), ej.load("one.safetensors")
    jax.tree.map(close, many, one)
    kind = "acts-{}.npy" if "acts-*.npy" in argv or names("acts")[0] in argv else "acts-{}."
    assert [err.index(kind.format(i)) for i in range(4)] == sorted(
        err.index(kind.format(i)) for i in range(4)
    )
    got, expected = (io.read_header(f"{n}.safetensors").notes for n in ("many", "one"))
    for key in ("rows", "dims", "class_names", "class_counts"):
        assert got[key] == expected[key]
    assert got["certificate"]["after"] == 0


def test_blocks_and_rounding_are_those_of_one_file(parts, capsys, monkeypatch):
    for name in ("all", *(f"acts-{i}" for i in range(PARTS))):
        np.save(f"{name}.npy", np.load(f"{name}.npy").astype("f2"))
    monkeypatch.setattr(streaming, "BLOCK_VALUES", 7 * D)
    out, _ = run(capsys, "fit", "acts-*.npy", "y-*.npy", *LEACE, "--out", "many.safetensors")
    assert "rounding to float16 leaves R^2" in out
    ok(capsys, "fit", "all.npy", "labels.npy", *LEACE, "--out", "one.safetensors")
    got, expected = (
        io.read_header(f"{n}.safetensors").notes["certificate"] for n in ("many", "one")
    )
    assert got["dtype"] == expected["dtype"] == "float16"
    # The erasers differ in their last digits, and so do the numbers next to which float16 rounds.
    assert got["after"] == pytest.approx(expected["after"], rel=0.1)


@pytest.mark.slow
def test_methods_that_need_rows_have_them_in_memory(parts, capsys):
    argv = ["--method", "inlp", "--rounds", 2, "--probe", "lda"]
    run(capsys, "fit", "acts-*.npy", "y-*.npy", *argv, "--out", "many.safetensors")
    run(capsys, "fit", "all.npy", "labels.npy", *argv, "--out", "one.safetensors")
    close(ej.load("many.safetensors").matrix(), ej.load("one.safetensors").matrix())


@pytest.mark.slow
def test_tasks_in_many_files(parts, capsys):
    argv = ["--method", "splince", "--out"]
    ok(capsys, "fit", "all.npy", "labels.npy", "--task", "tasks.npy", *argv, "one.safetensors")
    for task in ("t-*.npy", "tasks.npy"):
        name = f"{task[:2]}.safetensors"
        run(capsys, "fit", "acts-*.npy", "y-*.npy", "--task", task, *argv, name)
        close(ej.load(name).matrix(), ej.load("one.safetensors").matrix())


def test_real_concepts_in_many_files(parts, capsys):
    labels = np.load("all.npy")[:, 0].astype("f8")
    labels[:ROWS] = np.arange(ROWS)  # whole, as a real concept may be
    np.save("labels.npy", labels)
    for i in range(PARTS):
        np.save(f"y-{i}.npy", labels[i * ROWS : (i + 1) * ROWS])
    argv = [*LEACE, "--out"]
    err = fails(capsys, "fit", "acts-*.npy", "y-*.npy", *argv, "many.safetensors")
    assert "y-0.npy: the labels are floats and all whole" in err
    argv = ["--concept", "real", *argv]
    out, _ = run(capsys, "fit", "acts-*.npy", "y-*.npy", *argv, "many.safetensors")
    assert f"a real concept from {labels.min():g} to {labels.max():g}" in out
    ok(capsys, "fit", "all.npy", "labels.npy", *argv, "one.safetensors")
    close(ej.load("many.safetensors").matrix(), ej.load("one.safetensors").matrix())


def swapped(i):
    def change():
        np.save(f"acts-{i}.npy", np.load(f"acts-{i}.npy")[:, ::-1][:, :4])

    return change


def shorter(name, rows):
    return lambda: np.save(name, np.load(name)[:rows])


def damaged():
    x = np.load("acts-2.npy")
    x[3, 1] = np.nan
    np.save("acts-2.npy", x)


def renamed():
    for kind in ("acts", "y"):
        os.rename(f"{kind}-3.npy", f"{kind}-10.npy")


def renamed_one():
    renamed()
    os.rename("y-10.npy", "y-4.npy")


FAULTS = {
    "columns": (swapped(2), ["acts-*.npy", "y-*.npy"], "acts-2.npy: has 4 features"),
    "rows": (shorter("y-1.npy", 9), ["acts-*.npy", "y-*.npy"], "y-1.npy: holds 9 labels"),
    "missing": (lambda: os.remove("y-3.npy"), ["acts-*.npy", "y-*.npy"], "y-0.npy: 3 files of"),
    "short": (shorter("labels.npy", 40), ["acts-*.npy", "labels.npy"], "up to acts-2.npy have 45"),
    "long": (
        lambda: os.remove("acts-3.npy"),
        ["acts-*.npy", "labels.npy"],
        "have 45 rows together",
    ),
    "nan": (damaged, ["acts-*.npy", "y-*.npy"], "acts-2.npy: 1 of 75 values"),
    "numbers": (renamed, ["acts-*.npy", "labels.npy"], "acts-0.npy: sorted by letters"),
    "pairs": (renamed_one, ["acts-*.npy", "y-*.npy"], "acts-0.npy: sorted by letters"),
    "none": (lambda: None, ["acts_*.npy", "y-*.npy"], "acts_*.npy: no file matches"),
    "twice": (lambda: None, ["acts-*.npy", "acts-1.npy", "y-0.npy"], "acts-1.npy: is named twice"),
    "part": (lambda: None, ["acts-*.npy:x", "y-*.npy"], "leave out ':x'"),
    "kinds": (
        lambda: np.save("y-2.npy", np.arange(ROWS) % 2),
        ["acts-*.npy", "y-*.npy"],
        "y-2.npy: the labels are integers, those before text",
    ),
    "class": (
        lambda: [np.save(name, np.array(["a"] * ROWS)) for name in names("y")],
        ["acts-*.npy", "y-*.npy"],
        "one class only, 1 classes, a (60)",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_say_which_file(fault, parts, capsys):
    change, argv, message = FAULTS[fault]
    change()
    assert message in fails(capsys, "fit", *argv, *LEACE, "--out", "e.safetensors")


def test_files_of_the_same_numbers_need_no_zeros(parts, capsys):
    renamed()
    run(capsys, "fit", "acts-*.npy", "y-*.npy", *LEACE, "--out", "many.safetensors")
    ok(capsys, "fit", "all.npy", "labels.npy", *LEACE, "--out", "one.safetensors")
    close(ej.load("many.safetensors").matrix(), ej.load("one.safetensors").matrix())


def test_what_is_missing_is_said(parts, capsys):
    assert "expected features and their labels" in bad(capsys, "fit", "--out", "e.safetensors")
    assert "X LABELS" in bad(capsys, "fit", "all.npy", "--out", "e.safetensors")
    assert "X LABELS" in bad(capsys, "fit", "--labels", "z.npy", "--out", "e.safetensors")
    assert "expected --out" in bad(capsys, "fit", "all.npy", "labels.npy")


# Moments


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


def count(capsys, name, ids, *argv):
    argv = argv or LEACE
    rows = [*names("acts", ids), "--labels", *names("y", ids)]
    run(capsys, "fit", *rows, "--moments", f"{name}.safetensors", *argv)


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


# URLs


@pytest.fixture
def stored(parts, monkeypatch):
    """The same files in a store, and none here."""
    fsspec = pytest.importorskip("fsspec")
    store = fsspec.filesystem("memory")
    for name in os.listdir("."):
        if "-" in name:
            store.put_file(name, f"/bucket/{name}")
            os.remove(name)
    monkeypatch.setattr(tempfile, "tempdir", str(parts / "here"))
    os.mkdir("here")
    yield store
    store.rm("/bucket", recursive=True)


@pytest.mark.parametrize(
    "argv",
    [
        ["memory://bucket/acts-*.npy", "memory://bucket/y-*.npy"],
        ["memory://bucket/acts-*.npy", "labels.npy"],
        ["memory://bucket/acts-*.parquet", "memory://bucket/acts-*.parquet:label"],
    ],
)
def test_urls(argv, stored, capsys):
    _, err = run(capsys, "fit", *argv, *LEACE, "--out", "many.safetensors")
    assert "acts-0" in err
    ok(capsys, "fit", "all.npy", "labels.npy", *LEACE, "--out", "one.safetensors")
    close(ej.load("many.safetensors").matrix(), ej.load("one.safetensors").matrix())
    assert os.listdir("here") == []


def test_urls_are_skipped_without_being_brought(stored, capsys, monkeypatch):
    argv = ["fit", "memory://bucket/acts-*.npy", "memory://bucket/y-*.npy"]
    argv += [*LEACE, "--moments", "m.safetensors"]
    run(capsys, *argv)
    brought = []
    get = type(stored).get_file
    monkeypatch.setattr(
        type(stored), "get_file", lambda self, *a, **k: brought.append(a[0]) or get(self, *a, **k)
    )
    run(capsys, *argv)
    assert brought == []
    with stored.open("/bucket/acts-9.npy", "wb") as file:
        np.save(file, np.load("all.npy")[:7] + 1)
    with stored.open("/bucket/y-9.npy", "wb") as file:
        np.save(file, np.load("labels.npy")[:7])
    out, _ = run(capsys, *argv)
    assert "67 rows in 5 files" in out
    assert sorted(name.rpartition("/")[2] for name in brought) == ["acts-9.npy", "y-9.npy"]


@pytest.mark.slow
def test_one_file_in_a_store(stored, capsys):
    url = "memory://bucket/acts-1.npz"
    out, _ = run(capsys, "fit", f"{url}:x", f"{url}:z", "--out", "e.safetensors")
    assert "fitted on 15 rows" in out


def test_faults_name_the_url(stored, capsys):
    with stored.open("/bucket/acts-1.npy", "wb") as file:
        file.write(b"not an array")
    argv = ["memory://bucket/y-*.npy", *LEACE, "--out", "e.safetensors"]
    last = fails(capsys, "fit", "memory://bucket/acts-*.npy", *argv)
    assert "/bucket/acts-1.npy: cannot be read as .npy" in last
    assert "here" not in last
    assert os.listdir("here") == []
    assert "no file matches" in bad(capsys, "fit", "memory://bucket/no-*.npy", *argv)
    assert "no such file" in bad(capsys, "fit", "memory://bucket/no.npy", *argv)
    err = bad(capsys, "fit", "nothing://bucket/no.npy", *argv)
    assert "nothing://bucket/no.npy: " in err


@pytest.mark.parametrize(
    ("module", "url", "message"),
    [
        ("fsspec.core", "memory://b/x.npy", "pip install 'erasejax[sweep]'"),
        ("s3fs", "s3://b/x.npy", "pip install 'erasejax[s3]'"),
        ("gcsfs", "gs://b/x.npy", "pip install 'erasejax[gcs]'"),
    ],
)
def test_packages_that_are_missing_are_named(module, url, message, parts, capsys, monkeypatch):
    pytest.importorskip("fsspec")
    monkeypatch.setitem(sys.modules, module, None)
    assert message in bad(capsys, "fit", url, "labels.npy", "--out", "e.safetensors")


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
    assert TASK.size == N


# Within the classes of a task


WITHIN = ("fit", "acts-*.npy", "y-*.npy", *LEACE, "--task", "t-*.npy", "--given")


def within(given):
    """The eraser of all rows in memory."""
    z, y = (np.unique(np.load(f), return_inverse=True)[1] for f in ("labels.npy", "tasks.npy"))
    return ej.LEACE(given=given).fit(np.load("all.npy"), z, task=y)


@pytest.mark.slow
@pytest.mark.parametrize("given", ["pooled", "each"])
def test_erasing_within_a_task_streams(parts, capsys, monkeypatch, given):
    expected = within(given)
    one = ("fit", "all.npy", "labels.npy", *LEACE, "--task", "tasks.npy", "--given", given)
    plain = ok(capsys, *one, "--out", "one.safetensors").splitlines()
    close(ej.load("one.safetensors").matrix(), expected.matrix())
    monkeypatch.setattr(streaming, "BLOCK_VALUES", 7 * D)
    assert ok(capsys, *one, "--out", "e.safetensors", "--force").splitlines()[1] == plain[1]
    close(ej.load("e.safetensors").matrix(), expected.matrix())
    # Of the files, sorted by their labels, none has all classes.
    out, _ = run(capsys, *WITHIN, given, "--out", "many.safetensors")
    assert out.splitlines()[1] == plain[1]
    close(ej.load("many.safetensors").matrix(), expected.matrix())
    streamed = ej.stream_moments("acts-*.npy", "y-*.npy", task="t-*.npy", within_task=True)
    close(ej.LEACE(given=given).solve(streamed, tasks=2).matrix(), expected.matrix())


@pytest.mark.slow
def test_what_rounding_leaves_within_a_task_is_certified(parts, capsys):
    for name in names("acts"):
        np.save(name, np.load(name).astype(np.float16))
    np.save("all.npy", np.load("all.npy").astype(np.float16))
    one = ("fit", "all.npy", "labels.npy", *LEACE, "--task", "tasks.npy", "--given", "each")
    said = {
        "one.safetensors": ok(capsys, *one, "--out", "one.safetensors"),
        "many.safetensors": run(capsys, *WITHIN, "each", "--out", "many.safetensors")[0],
    }
    z, y = (np.unique(np.load(f), return_inverse=True)[1] for f in ("labels.npy", "tasks.npy"))
    method = ej.LEACE(given="each")
    task = np.asarray(y[:, None] == np.arange(2), np.float32)
    rows = method.concept(ej.Dataset(np.load("all.npy"), z.astype(np.int32), 3, task))
    for name, text in said.items():
        found = ej.metrics.certify_rows(ej.load(name), rows, dtype=np.dtype("float16"))
        (left,) = re.findall(r"rounding to float16 leaves R\^2 ([\d.e-]+),", text)
        # Rounding is about 1e-6 of the variance, and float32's eps is a tenth of that.
        assert float(left) == pytest.approx(float(found.after), rel=0.25)
        assert float(left) > 20 * float(found.unrounded)
        (before,) = re.findall(r"linear_r2 ([\d.]+) before", text)
        assert float(before) == pytest.approx(float(found.before), rel=1e-3)


@pytest.mark.slow
def test_moments_within_a_task_are_kept_added_to_and_merged(parts, capsys):
    # The labels of a file are some of all; new ones come with later files and commands.
    for last in ("1", "[0-2]", "*"):
        own = (f"acts-{last}.npy", f"y-{last}.npy", "--task", f"t-{last}.npy", "--given", "each")
        run(capsys, "fit", *own, *LEACE, "--moments", "m.safetensors")
    counted = load_counted("m.safetensors")
    assert (counted.rows, counted.within_task, counted.tasks) == (N, True, 2)
    assert counted.moments.xz.shape == (D, 2 * 3)
    assert "within      the classes of a task, 2: a, b" in ok(capsys, "info", "m.safetensors")
    solve = ("fit", "--moments", "m.safetensors", *LEACE, "--out", "e.safetensors", "--force")
    for given in ("pooled", "each"):
        run(capsys, *solve, "--given", given)
        close(ej.load("e.safetensors").matrix(), within(given).matrix())
    np.save("more.npy", np.load("acts-2.npy") + 1)
    more = ("fit", "more.npy", "y-2.npy", "--task", "t-2.npy", "--given", "each", *LEACE)
    run(capsys, *more, "--moments", "more.safetensors")
    assert len(load_counted("more.safetensors").class_names) < 3
    ok(capsys, "merge", "more.safetensors", "m.safetensors", "--out", "both.safetensors")
    for name, extra in (("all", "more"), ("labels", "y-2"), ("tasks", "t-2")):
        np.save(f"{name}.npy", np.concatenate([np.load(f"{name}.npy"), np.load(f"{extra}.npy")]))
    run(capsys, "fit", "--moments", "both.safetensors", *solve[3:], "--given", "each")
    close(ej.load("e.safetensors").matrix(), within("each").matrix())


def test_what_cannot_be_erased_within_a_task_is_refused(parts, capsys):
    np.save("reals.npy", np.load("all.npy")[:, 0])
    run(capsys, *WITHIN, "each", "--moments", "within.safetensors")
    run(capsys, "fit", "acts-*.npy", "y-*.npy", *LEACE, "--moments", "plain.safetensors")
    task = ("--task", "t-*.npy")
    for argv, message in [
        (
            ("acts-*.npy", "labels.npy", "--task", "reals.npy", "--given", "each"),
            "takes class labels of both",
        ),
        (("acts-*.npy", "reals.npy", *task, "--given", "each"), "takes class labels of both"),
        (("--moments", "plain.safetensors", "--given", "each"), "counts classes within no task"),
        (("--moments", "within.safetensors"), "counts classes within a task"),
        (
            ("acts-*.npy", "y-*.npy", "--moments", "plain.safetensors", *task, "--given", "each"),
            "counts classes within no task",
        ),
    ]:
        assert message in fails(capsys, "fit", *argv, *LEACE, "--out", "e.safetensors")
    with pytest.raises(ValueError, match="task: missing"):
        ej.stream_moments("all.npy", "labels.npy", within_task=True)
    with pytest.raises(ValueError, match="counts classes within a task|another task"):
        ej.stream_moments("acts-*.npy", "y-*.npy", task="t-*.npy", moments="within.safetensors")
