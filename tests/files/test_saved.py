import json
import os
import stat

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import safetensors.numpy

import erasejax as ej
from erasejax.files import _saved as io
from erasejax.files import open_features, open_writer, read_labels
from erasejax.files._streaming import read_blocks
from erasejax.files._totals import stream_moments
from tests.common import enable_x64


@pytest.fixture(scope="module")
def data():
    return ej.datasets.GaussianClasses(rows=20, num_classes=3, dims=5).sample(jax.random.key(0))


def same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert getattr(x, "dtype", type(x)) == getattr(y, "dtype", type(y))
        np.testing.assert_array_equal(x, y)


def left(folder):
    return sorted(p.name for p in folder.iterdir())


# Saving and loading


@pytest.mark.quick(3)
@pytest.mark.parametrize(
    "make",
    [
        lambda d: ej.MeanDifference().fit(d),
        lambda d: ej.Identity().fit(d),
        lambda d: ej.Moments.of(d),
        lambda d: ej.probes.Logistic().fit(d),
        lambda d: ej.probes.LeastSquares().fit(d),
        lambda d: ej.probes.LeastSquares().fit(d.x, d.x[:, 0]),
        lambda d: d.x.astype(jnp.bfloat16),
        lambda d: jnp.float32(3),
        lambda d: {"a.b": d.x[:, ::2], "n": None, "t": (d.z, [d.z > 1, 1.5, "s"])},
        lambda d: {"probe": ej.probes.LDA().fit(d), "eraser": ej.MeanDifference().fit(d)},
        lambda d: jax.vmap(lambda x: ej.MeanDifference().fit(x, d.z, num_classes=3))(
            jnp.stack([d.x, d.x + 1])
        ),
    ],
)
def test_what_is_saved_comes_back(make, data, tmp_path):
    obj = make(data)
    assert ej.save(obj, tmp_path / "o.safetensors") is None
    back = ej.load(tmp_path / "o.safetensors")
    assert type(back) is type(obj) or isinstance(obj, jax.Array)
    same(back, obj)
    first = (tmp_path / "o.safetensors").read_bytes()
    ej.save(obj, tmp_path / "o.safetensors")
    assert (tmp_path / "o.safetensors").read_bytes() == first
    assert left(tmp_path) == ["o.safetensors"]


def test_numpy_arrays_of_any_layout(tmp_path):
    x = np.arange(6.0).reshape(2, 3)
    for a in (x.astype(">f4"), np.asfortranarray(x.astype("f4")), x.astype("f2")[:, ::-1]):
        ej.save({"a": a}, tmp_path / "a.safetensors")
        back = ej.load(tmp_path / "a.safetensors")["a"]
        assert back.dtype == a.dtype.newbyteorder("=")
        np.testing.assert_array_equal(back, a)


def test_64_bits_come_back_or_are_spoken_of(tmp_path):
    ej.save({"a": np.full(2, 1e-3)}, tmp_path / "a.safetensors")
    with pytest.warns(UserWarning, match="a hold 64-bit numbers.*jax_enable_x64"):
        assert ej.load(tmp_path / "a.safetensors")["a"].dtype == jnp.float32
    with enable_x64():
        back = ej.load(tmp_path / "a.safetensors")["a"]
        assert back.dtype == jnp.float64
        assert float(back[0]) == 1e-3


def test_header_and_notes(data, tmp_path):
    path = tmp_path / "m.safetensors"
    ej.save(ej.Moments.of(data), path)
    io.save(ej.Moments.of(data), path, notes={"class_names": ["a", "b"]})
    header = io.read_header(path)
    assert header.name == "Moments"
    assert header.notes == {"class_names": ["a", "b"]}
    assert header.tree["fields"]["one_hot"] == {"kind": "value", "value": True}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"class": "X", "tree": '{"kind":"object","class":"X","fields":{}}'}, "holds a X, which"),
        ({"format_version": "99"}, "newer erasejax"),
        ({"format": "other"}, "not written by erasejax"),
        ({"tree": "{"}, "damaged"),
        ({"tree": '{"kind":"array","tensor":"gone"}'}, "'gone' is missing"),
        ({"tree": '{"kind":"object","class":"Projection","fields":{}}'}, "differs in the fields"),
        ({"tree": '{"kind":"call"}'}, "damaged"),
        ({"tree": "[]"}, "damaged"),
        ({"notes": None}, "damaged"),
        ({"format_version": "x"}, "damaged"),
    ],
)
def test_bad_metadata(change, message, data, tmp_path):
    path = tmp_path / "e.safetensors"
    ej.save(ej.MeanDifference().fit(data), path)
    with safetensors.safe_open(path, framework="numpy") as file:
        meta = file.metadata() | change
        arrays = file.get_tensors()
    meta = {k: v for k, v in meta.items() if v is not None}
    safetensors.numpy.save_file(arrays, path, metadata=meta)
    with pytest.raises(ValueError, match=message):
        ej.load(path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not this", b"\xff" * 64])
def test_foreign_files(content, tmp_path):
    (tmp_path / "e.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match="not a safetensors file"):
        ej.load(tmp_path / "e.safetensors")


def test_truncated_and_missing_files(data, tmp_path):
    path = tmp_path / "e.safetensors"
    ej.save(ej.MeanDifference().fit(data), path)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ValueError, match="damaged"):
        ej.load(path)
    with pytest.raises(FileNotFoundError, match="no such file"):
        ej.load(tmp_path / "no.safetensors")


@pytest.mark.parametrize(
    "obj",
    [object(), {1: np.zeros(2)}, {"f": print}, np.array([None]), np.array(["a"]), {"s": {1, 2}}],
)
def test_what_cannot_be_saved_leaves_nothing(obj, tmp_path):
    with pytest.raises(TypeError):
        ej.save(obj, tmp_path / "o.safetensors")
    assert left(tmp_path) == []


def test_random_keys_tracers_and_name_clashes(tmp_path):
    path = tmp_path / "o.safetensors"
    with pytest.raises(TypeError, match="random key"):
        ej.save(jax.random.key(0), path)
    with pytest.raises(TypeError, match="outside of jit"):
        jax.jit(lambda x: ej.save(x, path))(jnp.zeros(2))
    with pytest.raises(ValueError, match=r"'a\.b'"):
        ej.save({"a.b": np.zeros(1), "a": {"b": np.zeros(1)}}, path)
    assert left(tmp_path) == []


# Writing atomically


def test_overwrite_false_refuses(tmp_path):
    path = tmp_path / "o.safetensors"
    ej.save(np.zeros(2), path, overwrite=False)
    before = path.read_bytes()
    with pytest.raises(FileExistsError):
        ej.save(np.ones(2), path, overwrite=False)
    with pytest.raises(FileExistsError), io.replacing(tmp_path / "new", overwrite=False):
        (tmp_path / "new").write_text("first")  # somebody else is faster
    assert (tmp_path / "new").read_text() == "first"
    assert path.read_bytes() == before
    assert left(tmp_path) == ["new", "o.safetensors"]


def test_failure_keeps_the_old_file(tmp_path):
    (tmp_path / "o").write_text("old")

    def half():
        with io.replacing(tmp_path / "o") as temporary:
            temporary.write_text("half")
            raise KeyError

    with pytest.raises(KeyError):
        half()
    assert (tmp_path / "o").read_text() == "old"
    assert left(tmp_path) == ["o"]


def test_links_folders_devices(tmp_path):
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    with io.replacing(tmp_path / "link") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "real").read_text() == "new"
    assert (tmp_path / "link").is_symlink()
    for path in (tmp_path, "/dev/null", tmp_path / "no" / "o", tmp_path / "real" / "o"):
        with pytest.raises(OSError), io.replacing(path):  # noqa: PT012
            raise AssertionError
    assert left(tmp_path) == ["link", "real"]


def test_temporary_has_the_extension_and_the_usual_mode(tmp_path):
    with io.replacing(tmp_path / "a.svg") as temporary:
        assert temporary.suffix == ".svg"
        assert temporary.parent == tmp_path
    plain = tmp_path / "plain"
    plain.touch()
    assert (tmp_path / "a.svg").stat().st_mode == plain.stat().st_mode


# Reading features


X = np.arange(22, dtype=np.float32).reshape(11, 2) / 4


def write(path, x, names=("a", "b")):
    kind = path.suffix
    if kind in {".csv", ".parquet"}:
        table = pa.table({n: np.ascontiguousarray(c) for n, c in zip(names, x.T, strict=True)})
    if kind == ".npy":
        np.save(path, x)
    elif kind == ".npz":
        np.savez(path, x=x)
    elif kind == ".csv":
        pyarrow.csv.write_csv(table, path)
    elif kind == ".parquet":
        pq.write_table(table, path, row_group_size=4)
    else:
        safetensors.numpy.save_file({"x": np.ascontiguousarray(x)}, path)
    return path


KINDS = [".npy", ".npz", ".csv", ".parquet", ".safetensors"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["f4", "f8", "i8", "u1"])
def test_blocks(kind, dtype, tmp_path):
    x = (X * 4).astype(dtype)
    features = open_features(write(tmp_path / f"x{kind}", x))
    assert features.shape == x.shape
    assert features.dtype == np.float32
    assert features.columns == (("a", "b") if kind in {".csv", ".parquet"} else None)
    for rows in (1, 3, 5, 11, 100):
        blocks = list(features.blocks(rows))
        assert [len(b) for b in blocks[:-1]] == [rows] * (len(blocks) - 1)
        assert all(b.dtype == np.float32 for b in blocks)
        np.testing.assert_array_equal(np.concatenate(blocks), x.astype(np.float32))
    np.testing.assert_array_equal(features.array(), x.astype(np.float32))


def test_dtypes(tmp_path):
    path = write(tmp_path / "x.npy", X.astype("f8") / 3)
    with enable_x64():
        assert open_features(path).array().dtype == np.float64
    for x in (X.astype("f2"), X.astype(">f4"), np.asfortranarray(X), X > 1, X.astype("longdouble")):
        features = open_features(write(tmp_path / "x.npy", x))
        assert features.dtype == (np.float16 if x.dtype == np.float16 else np.float32)
        assert features.array().dtype.isnative
        np.testing.assert_array_equal(np.concatenate(list(features.blocks(3))), x)
    half = jnp.asarray(X, jnp.bfloat16)
    ej.save({"x": half}, tmp_path / "h.safetensors")
    features = open_features(tmp_path / "h.safetensors")
    assert features.dtype == jnp.bfloat16
    np.testing.assert_array_equal(features.array(), half)


def test_parts(tmp_path):
    np.savez(tmp_path / "two.npz", a=X, b=X + 1)
    np.testing.assert_array_equal(open_features(f"{tmp_path}/two.npz:b").array(), X + 1)
    for spec in ("two.npz", "two.npz:c"):
        with pytest.raises(ValueError, match=r"a, b"):
            open_features(f"{tmp_path}/{spec}")
    table = pa.table({"a": X[:, 0], "a.b": X[:, 1], "c,d": X[:, 0] + 9, "id": ["x"] * 11})
    for path in (tmp_path / "t.csv", tmp_path / "t.parquet"):
        (pyarrow.csv.write_csv if path.suffix == ".csv" else pq.write_table)(table, path)
        np.testing.assert_array_equal(open_features(f"{path}:a.b,a").array(), X[:, ::-1])
        np.testing.assert_array_equal(open_features(f"{path}:c,d").array()[:, 0], X[:, 0] + 9)
        assert open_features(f"{path}:a").shape == (11, 1)
        for spec, message in [
            ("", "'id' holds text"),
            (":z", "no column 'z'; it has a, a.b"),
            (":a,a", "named twice"),
        ]:
            with pytest.raises(ValueError, match=message):
                open_features(f"{path}{spec}")
        with pytest.raises(ValueError, match="holds the labels"):
            open_features(f"{path}:a,a.b", labels=f"{path}:a")
        features = open_features(path, labels=f"{path}:id")
        assert features.columns == ("a", "a.b", "c,d")
    odd = tmp_path / "x.csv:a.npy"
    np.save(odd, X)
    np.testing.assert_array_equal(open_features(odd).array(), X)
    with pytest.raises(ValueError, match="one array"):
        open_features(f"{write(tmp_path / 'x.npy', X)}:a")


def test_columns_of_lists(tmp_path):
    path = tmp_path / "t.parquet"
    fixed = pa.FixedSizeListArray.from_arrays(pa.array(X.ravel()), 2)
    table = pa.table({"f": fixed, "l": [list(row) for row in X], "y": ["a", "b"] * 5 + ["a"]})
    pq.write_table(table, path, row_group_size=4)
    for name in "fl":
        features = open_features(f"{path}:{name}", labels=f"{path}:y")
        assert features.shape == X.shape
        np.testing.assert_array_equal(np.concatenate(list(features.blocks(3))), X)
    with pytest.raises(ValueError, match="name it alone"):
        open_features(path, labels=f"{path}:y")
    pq.write_table(pa.table({"l": [[1.0, 2.0], [3.0]]}), path)
    with pytest.raises(ValueError, match="2 numbers in row 0 and 1 in row 1"):
        open_features(f"{path}:l").array()


def test_an_index_of_pandas_is_no_feature(tmp_path):
    import pandas as pd

    frame = pd.DataFrame(X, columns=["a", "b"], index=[f"r{i}" for i in range(11)])
    frame.to_parquet(tmp_path / "t.parquet")
    assert open_features(tmp_path / "t.parquet").columns == ("a", "b")
    frame.to_csv(tmp_path / "t.csv")
    assert open_features(tmp_path / "t.csv").columns == ("a", "b")
    frame.set_axis(["r0"] * 11).to_csv(tmp_path / "t.csv")
    with pytest.raises(ValueError, match="index=False"):
        open_features(tmp_path / "t.csv")


@pytest.mark.parametrize("kind", KINDS)
def test_nan_is_counted_and_placed(kind, tmp_path):
    x = X.copy()
    x[4, 1], x[7, 0], x[9] = np.nan, np.inf, -np.inf
    features = open_features(write(tmp_path / f"x{kind}", x))
    blocks = []
    with pytest.raises(ValueError, match=r"4 of 22 values.*first \(nan\) in row 4, column 1"):
        blocks.extend(features.blocks(2))
    np.testing.assert_array_equal(np.concatenate(blocks), X[:4])


def test_overflow_in_float32_is_no_silent_infinity(tmp_path):
    with pytest.raises(ValueError, match=r"infinite or missing as float32, the first \(inf\)"):
        open_features(write(tmp_path / "x.npy", X.astype("f8") + 1e300)).array()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.csv", "", "cannot be read as .csv"),
        ("x.csv", "a,b\n", "no rows"),
        ("x.csv", "a,b,a\n1,2,3\n", "two columns are named 'a'"),
        ("x.csv", "0.5,1.5\n1,2\n", "first line holds numbers"),
        ("x.csv", "a,b\n1,2\n3\n", "Expected 2 columns, got 1"),
        ("x.csv", "a,b\n1,2\n3,\n", r"1 of 4 values.*\(nan\) in row 1, column 1 \(b\)"),
        ("x.csv", "a;b\n1;2\n", "not separated by commas"),
        ("x.csv", "a,b\n1,2024-01-01\n", "'b' holds date32"),
        ("x.parquet", "a,b\n1,2\n", "cannot be read as .parquet"),
        ("x.parquet", "", "cannot be read as .parquet"),
        ("x.npy", "", "cannot be read as .npy"),
        ("x.npy", "1 2 3", "cannot be read as .npy"),
        ("x.npz", "1 2 3", "cannot be read as .npz"),
        ("x.npz", "", "cannot be read as .npz"),
        ("x.safetensors", "", "cannot be read as .safetensors"),
        ("x.txt", "1 2", "unknown extension '.txt'"),
    ],
)
def test_bad_files(name, content, message, tmp_path):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message) as caught:
        open_features(tmp_path / name).array()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros(3, "f4"), r"expected features of shape \(rows, features\), got 1 axes"),
        (np.zeros((3, 2, 2), "f4"), "got 3 axes"),
        (np.float32(1), "got 0 axes"),
        (np.zeros((0, 3), "f4"), "at least one row"),
        (np.zeros((3, 0), "f4"), "at least one row"),
        (np.array([["a", "b"]]), "expected numbers, got <U1"),
        (np.zeros((2, 2), complex), "expected numbers, got complex"),
        (np.zeros((2, 2), "M8[s]"), "expected numbers, got datetime"),
        (np.zeros((2, 2), [("a", "f4")]), "expected numbers"),
        (np.array([[1.0, None]], object), "Python objects"),
    ],
)
@pytest.mark.parametrize("kind", [".npy", ".npz"])
def test_bad_arrays(array, message, kind, tmp_path):
    path = tmp_path / f"x{kind}"
    np.save(path, array) if kind == ".npy" else np.savez(path, array)
    with pytest.raises(ValueError, match=message):
        open_features(path)


@pytest.mark.parametrize("kind", KINDS)
def test_truncated_files(kind, tmp_path):
    path = write(tmp_path / f"x{kind}", X)
    if kind == ".csv":
        path.write_bytes(path.read_bytes()[:-3] + b'\n"open')
    else:
        path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(ValueError, match="cannot be read as"):
        open_features(path).array()


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "x.npy")
    with pytest.raises(ValueError, match="pipe or device"):
        open_features(tmp_path / "x.npy")


def test_integers_that_become_floats_late_in_the_file(tmp_path):
    rows = ["1"] * 200_000 + ["1.5"]  # the first block of the file looks like integers
    (tmp_path / "x.csv").write_text("a\n" + "\n".join(rows))
    assert open_features(tmp_path / "x.csv").array()[-1, 0] == 1.5


# Reading labels


@pytest.mark.parametrize(
    ("values", "names", "codes"),
    [
        (np.array([1, 0, 1, 0]), ("0", "1"), [1, 0, 1, 0]),
        (np.array([[1], [0], [1]]), ("0", "1"), [1, 0, 1]),
        (np.array([True, False, True]), ("False", "True"), [1, 0, 1]),
        (np.array(["b", " a", "b", "c d"]), (" a", "b", "c d"), [1, 0, 1, 2]),
        (np.array([b"x", b"y", b"x"]), ("x", "y"), [0, 1, 0]),
        (np.array([-5, 2**62, -5, 2**62 + 1]), ("-5", str(2**62), str(2**62 + 1)), [0, 1, 0, 2]),
        (np.array([2**64 - 1, 1, 1], "u8"), ("1", str(2**64 - 1)), [1, 0, 0]),
        (np.array([3, 7, 7], ">i2"), ("3", "7"), [0, 1, 1]),
    ],
)
def test_labels_are_numbered_in_order(values, names, codes, tmp_path):
    np.save(tmp_path / "z.npy", values)
    labels = read_labels(tmp_path / "z.npy")
    assert labels.names == names
    assert labels.values.dtype == np.int32
    np.testing.assert_array_equal(labels.values, codes)
    assert sum(labels.counts) == len(values)


@pytest.mark.parametrize("kind", [".csv", ".parquet"])
def test_labels_of_tables(kind, tmp_path):
    path = tmp_path / f"t{kind}"
    columns = {
        "text": ["b", "a", "b"],
        "int": [5, 5, 7],
        "bool": [True, False, False],
        "day": pa.array([0, 1, 1], pa.date32()),
        "real": [0.5, 1.0, 2.0],
        "whole": [1.0, 2.5, 2.0],
        "gap": ["a", None, "b"],
    }
    if kind == ".parquet":
        columns["cat"] = pa.array(["b", "a", "a"]).dictionary_encode()
    (pyarrow.csv.write_csv if kind == ".csv" else pq.write_table)(pa.table(columns), path)
    assert read_labels(f"{path}:text").names == ("a", "b")
    assert read_labels(f"{path}:int").names == ("5", "7")
    assert read_labels(f"{path}:bool").names == ("False", "True") or kind == ".csv"
    assert read_labels(f"{path}:day").names == ("1970-01-01", "1970-01-02")
    assert read_labels(f"{path}:real").names is None
    if kind == ".parquet":
        assert read_labels(f"{path}:cat").names == ("a", "b")
    with pytest.raises(ValueError, match=r"1 of 3 labels are missing.*row 1"):
        read_labels(f"{path}:gap")
    with pytest.raises(ValueError, match=r"7 columns|8 columns"):
        read_labels(path)
    with pytest.raises(ValueError, match="no column 'x'"):
        read_labels(f"{path}:x")


def test_whole_floats_are_never_taken_silently(tmp_path):
    (tmp_path / "z.csv").write_text("z\n0.0\n1.0\n1.0\n")
    with pytest.raises(ValueError, match="--concept classes.*--concept real"):
        read_labels(tmp_path / "z.csv")
    assert read_labels(tmp_path / "z.csv", concept="classes").names == ("0", "1")
    real = read_labels(tmp_path / "z.csv", concept="real")
    assert real.names is None
    (tmp_path / "z.csv").write_text(f"z\n{2**70}\n{2**70 + 1}\n{2**70 + 1}\n")
    with pytest.raises(ValueError, match="not exact"):
        read_labels(tmp_path / "z.csv", concept="classes")


@pytest.mark.parametrize(
    ("values", "concept", "message"),
    [
        ([1, 1, 1], "auto", "one class only, all 3 labels are 1"),
        (["a", "a"], "auto", "one class only"),
        ([0.5, np.nan, np.inf], "auto", "2 of 3 labels are NaN or infinite, the first in row 1"),
        ([0.5, 0.5], "auto", "all 2 labels are 0.5"),
        ([0.5, 1.0], "classes", "expected class labels.*0.5"),
        (["a", "b"], "real", "got text"),
        ([4, 9, 1, 3], "auto", "all of them different"),
        ([[0, 1], [1, 0]], "auto", "one label a row"),
        (3, "auto", "one label a row"),
        ([], "auto", "holds no labels"),
        ([1j, 2, 1], "auto", "got complex"),
        ([0, 1], "maybe", "expected one of auto, classes, real"),
    ],
)
def test_bad_labels(values, concept, message, tmp_path):
    np.save(tmp_path / "z.npy", np.array(values))
    with pytest.raises(ValueError, match=message):
        read_labels(tmp_path / "z.npy", concept=concept)


# Writing features


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_what_is_written_is_read(kind, dtype, tmp_path):
    x = np.asarray(jnp.asarray(X / 3, dtype))
    path = tmp_path / f"y{kind}"
    for _ in range(2):
        with open_writer(path, X.shape, x.dtype, columns=("p", "q")) as put:
            for start in range(0, 11, 4):
                put(x[start : start + 4])
        content = path.read_bytes()
    assert path.read_bytes() == content
    back = open_features(path)
    np.testing.assert_array_equal(back.array().astype(np.float32), x.astype(np.float32))
    if kind in {".csv", ".parquet"}:
        assert back.columns == ("p", "q")
    if kind == ".safetensors":
        assert safetensors.numpy.load_file(path)["x"].dtype == x.dtype
    assert left(tmp_path) == [path.name]


@pytest.mark.parametrize("kind", KINDS)
def test_a_writer_that_fails_leaves_nothing(kind, tmp_path):
    path = tmp_path / f"y{kind}"

    def half(error):
        with open_writer(path, X.shape, X.dtype) as put:
            put(X[:3])
            if error:
                raise KeyError

    with pytest.raises(KeyError):
        half(error=True)
    with pytest.raises(ValueError, match="expected 11 rows to write, got 3"):
        half(error=False)
    assert left(tmp_path) == []


def test_float64_survives_where_it_is_used(tmp_path):
    x = X.astype("f8") / 3
    for kind in KINDS:
        with open_writer(tmp_path / f"y{kind}", x.shape, x.dtype) as put:
            put(x)
        with enable_x64():
            np.testing.assert_array_equal(open_features(tmp_path / f"y{kind}").array(), x)


def test_header_is_plain_json(data, tmp_path):
    ej.save(data.x, tmp_path / "x.safetensors")
    content = (tmp_path / "x.safetensors").read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert header["__metadata__"]["format"] == "erasejax"
    assert os.path.getsize(tmp_path / "x.safetensors") % 4 == 0


# Rows beyond memory


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_blocks_of_files_make_the_moments(kind, tmp_path):
    rng = np.random.default_rng(0)
    x, z = rng.standard_normal((11, 2)).astype("f4"), np.arange(11) % 3
    path = write(tmp_path / f"x{kind}", x)
    np.save(tmp_path / "z.npy", np.array(["a", "b", "c"])[z])
    np.save(tmp_path / "t.npy", x**2)
    blocks = list(read_blocks(path, tmp_path / "z.npy", task=tmp_path / "t.npy", rows=4))
    assert [b.x.shape for b in blocks] == [(4, 2)] * 3
    assert all(b.num_classes == 3 for b in blocks)
    assert sum(b.weights.sum() for b in blocks) == 11
    np.testing.assert_array_equal(np.concatenate([b.z for b in blocks])[:11], z)
    for rows in (None, 4):
        got = stream_moments(path, tmp_path / "z.npy", task=tmp_path / "t.npy", rows=rows)
        expected = ej.Moments.of(ej.Dataset(x, z, 3, task=x**2), task=True)
        assert jax.tree.structure(got) == jax.tree.structure(expected)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), got, expected)


@pytest.mark.slow
def test_blocks_of_a_real_concept(tmp_path):
    x = np.random.default_rng(0).standard_normal((11, 2)).astype("f4")
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "z.npy", x[:, 0].astype("f8"))
    got = stream_moments(tmp_path / "x.npy", tmp_path / "z.npy", rows=3, covariance=False)
    expected = ej.Moments.of(ej.Dataset(x, x[:, 0]), covariance=False)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), got, expected)
    (block,) = read_blocks(tmp_path / "x.npy", tmp_path / "z.npy")
    assert block.weights is None
    with pytest.raises(ValueError, match="rows: expected a positive number"):
        stream_moments(tmp_path / "x.npy", tmp_path / "z.npy", rows=0)
    np.save(tmp_path / "z.npy", np.arange(10) % 2)
    with pytest.raises(ValueError, match=r"z.npy: holds 10 labels, but .*x.npy has 11 rows"):
        stream_moments(tmp_path / "x.npy", tmp_path / "z.npy")


def test_oracle_projections_come_back(data, tmp_path):
    eraser = ej.OracleLEACE().fit(data)
    ej.save(eraser, tmp_path / "e.safetensors")
    same(ej.load(tmp_path / "e.safetensors"), eraser)


@pytest.mark.parametrize("overwrite", [True, False])
def test_a_file_is_on_the_disk_before_it_has_its_name(overwrite, tmp_path, monkeypatch):
    done = []

    def told(name):
        real = getattr(os, name)

        def call(first, *rest):
            on_disk = {False: "file", True: "folder"}
            folder = name == "fsync" and stat.S_ISDIR(os.fstat(first).st_mode)
            done.append(on_disk[folder] if name == "fsync" else "name")
            return real(first, *rest)

        monkeypatch.setattr(os, name, call)

    for name in ("fsync", "link", "replace"):
        told(name)
    ej.save(jnp.ones(3), tmp_path / "a.safetensors", overwrite=overwrite)
    assert done == ["file", "name", "folder"]
