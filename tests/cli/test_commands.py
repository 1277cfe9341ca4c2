"""`fit`, `apply` and `info`: files in, files out, and processes of their own."""

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
from tests.command import KINDS, D, N, bad, close, files, ok


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
