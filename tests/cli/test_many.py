"""`fit` over many files, by name, pattern and URL."""

import os
import sys
import tempfile

import jax
import numpy as np
import pytest

import erasejax as ej
from erasejax.files import _saved as io
from erasejax.files import _streaming as streaming
from tests.command import D, bad, close, ok
from tests.many import LEACE, PARTS, ROWS, fails, names, run, shorter


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
