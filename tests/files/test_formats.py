"""Formats of others: registered, they are used wherever those of this package are."""

import contextlib
import json

import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pytest

import erasejax as ej
from erasejax import files, names
from erasejax.files import open_features, open_writer, parse, read_labels
from tests.command import bad, ok

X = np.random.default_rng(0).standard_normal((60, 3)).astype(np.float32)
Z = np.arange(60) % 2
X[:, 0] += 3 * Z


class Rows(files.Format):
    """One array of float32 behind its shape."""

    name = ".rows"
    has_parts = False
    dtypes = ("float32",)

    def open(self, source):
        shape = tuple(np.fromfile(source.path, "<i8", 2).tolist())
        tensor = files.Tensor(source.path, 16, shape, np.dtype("<f4"))
        return {"": lambda: tensor.stored(source)}

    @contextlib.contextmanager
    def write(self, path, shape, dtype, names):
        with open(path, "wb") as file:
            file.write(np.array(shape, "<i8").tobytes())
            yield lambda block: file.write(block.tobytes())


class Lists(files.Format):
    """Arrays with names in JSON, which are only read."""

    name = ".lists"

    def open(self, source):
        def describe(values):
            if values is None:
                raise KeyError("values")
            shape = np.shape(values)

            def read(rows):
                for start in range(0, shape[0], rows):
                    yield np.array(values[start : start + rows], float)

            return files.Stored(source, shape, np.dtype(float), "numbers", "", read)

        arrays = json.loads(source.path.read_text())
        return {name: lambda v=values: describe(v) for name, values in arrays.items()}


class Arrow(files.Format):
    """A table."""

    name = ".arrow"
    is_table = True

    def open(self, source):
        table = pa.ipc.open_file(source.path).read_all()

        def read(columns, rows):
            return iter(table.select(columns).to_batches(rows))

        return files.Table(source, table.schema, table.num_rows, read)


@pytest.fixture(autouse=True)
def known(monkeypatch, tmp_path):
    monkeypatch.setattr(names, "_registered", dict(names._registered))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="unknown extension '.rows', expected one of .csv, .npy"):
        files.output_format("x.rows")
    for kind in (Rows, Lists, Arrow):
        ej.register(kind)
    with open_writer("x.rows", X.shape, X.dtype) as write:
        for start in range(0, 60, 25):
            write(X[start : start + 25])
    np.save("z.npy", Z)


def test_what_is_written_is_read():
    assert np.fromfile("x.rows", "<f4", offset=16).tolist() == X.reshape(-1).tolist()
    features = open_features("x.rows")
    blocks = list(features.blocks(7))
    assert [len(block) for block in blocks] == [7] * 8 + [4]
    np.testing.assert_array_equal(np.concatenate(blocks), X)
    moments = ej.stream_moments("x.rows", "z.npy", rows=16)
    np.testing.assert_allclose(moments.mean, X.mean(0), atol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_what_a_format_does_not_hold_is_written_as_float32(dtype):
    x = np.asarray(X, jnp.dtype(dtype))
    with open_writer("y.rows", x.shape, x.dtype) as write:
        write(x)
    np.testing.assert_array_equal(open_features("y.rows").array(), x.astype(np.float32))


@pytest.mark.slow
def test_the_command_line_takes_it(capsys):
    ok(capsys, "fit", "x.rows", "z.npy", "--out", "e.safetensors")
    ok(capsys, "apply", "e.safetensors", "x.rows", "--out", "y.rows")
    y = open_features("y.rows").array()
    assert np.abs(y[Z == 0].mean(0) - y[Z == 1].mean(0)).max() < 1e-5 < np.abs(y - X).max()
    said = ok(capsys, "info", "y.rows")
    assert "60 x 3, float32" in said
    assert "NaN or infinite  0" in said
    assert "accuracy" in ok(capsys, "probe", "x.rows", "z.npy")


def test_messages_are_those_of_every_format(capsys):
    assert "a .rows file holds one array, leave out ':a'" in bad(capsys, "info", "x.rows:a")
    assert ".rows, .lists, .arrow" in bad(capsys, "info", __file__)
    ok(capsys, "fit", "x.rows", "z.npy", "--out", "e.safetensors")
    apply = "apply", "e.safetensors", "x.rows", "--out"
    said = bad(capsys, *apply, "y.rows", "--dtype", "bfloat16")
    assert "only .safetensors files hold bfloat16" in said
    assert ".lists files are only read" in bad(capsys, *apply, "y.lists")
    with open("x.rows", "r+b") as file:
        file.truncate(100)
    said = bad(capsys, "fit", "x.rows", "z.npy", "--out", "f.safetensors")
    assert "x.rows: cannot be read as .rows: it should hold 720 bytes of numbers and has 84" in said


def test_parts(capsys, tmp_path):
    arrays = {"a": X.tolist(), "odd": None, "z": (Z + 0.5).tolist()}
    (tmp_path / "x.lists").write_text(json.dumps(arrays))
    assert parse("x.lists:a").part == "a"
    np.testing.assert_array_equal(open_features("x.lists:a").array(), X)
    assert read_labels("x.lists:z").names is None
    said = ok(capsys, "info", "x.lists")
    assert "3 arrays" in said
    assert "60 x 3, numbers" in said
    assert "cannot be read as .lists: KeyError" in said
    assert "name one as x.lists:a" in bad(
        capsys, "fit", "x.lists", "z.npy", "--out", "e.safetensors"
    )
    (tmp_path / "x.lists").write_text('{"a": [[1, 2], [3, "four"]]}')
    with pytest.raises(ValueError, match="x.lists: cannot be read as .lists: could not convert"):
        open_features("x.lists").array()


@pytest.mark.slow
def test_tables(capsys):
    table = pa.table({"a": X[:, 0], "b": X[:, 1], "label": ["no", "yes"] * 30})
    with pa.ipc.new_file("t.arrow", table.schema) as file:
        file.write_table(table)
    assert open_features("t.arrow", labels="t.arrow:label").columns == ("a", "b")
    assert "2 classes" in ok(capsys, "fit", "t.arrow", "t.arrow:label", "--out", "e.safetensors")
    assert "60 rows, 3 columns" in ok(capsys, "info", "t.arrow")
