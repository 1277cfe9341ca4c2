import functools
import io
import json
import os
import pickle
import struct
import subprocess
import sys
import zipfile

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import erasejax as ej
from erasejax._core.pytrees import tree_classes
from erasejax.files import open_features, parse, read_array, read_labels, read_task
from erasejax.files._trees import _misfit
from erasejax.names import Named, known
from erasejax.rows._pairs import PairNormalization, Pairs
from erasejax.statistics._class_moments import ClassMoments
from tests import common
from tests.command import N, bad, ok

FLOAT8 = {
    "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "F8_E5M2": ml_dtypes.float8_e5m2,
    "F8_E4M3FNUZ": ml_dtypes.float8_e4m3fnuz,
    "F8_E5M2FNUZ": ml_dtypes.float8_e5m2fnuz,
    "F8_E8M0": ml_dtypes.float8_e8m0fnu,
}
NUMBERS = FLOAT8 | {
    "BF16": ml_dtypes.bfloat16,
    "F16": "f2",
    "F32": "f4",
    "F64": "f8",
    "U8": "u1",
    "I8": "i1",
    "U16": "u2",
    "I16": "i2",
    "U32": "u4",
    "I32": "i4",
    "U64": "u8",
    "I64": "i8",
}
X = np.array([[1.0, 2.0], [4.0, 1.0], [2.0, 2.0], [8.0, 1.0], [1.0, 4.0], [2.0, 1.0]])


def tensors(path, **named):
    """Writes a .safetensors file; each tensor is (dtype, shape, bytes)."""
    head, blob = {}, b""
    for name, (kind, shape, data) in named.items():
        place = [len(blob), len(blob) + len(data)]
        head[name] = {"dtype": kind, "shape": list(shape), "data_offsets": place}
        blob += data
    text = json.dumps(head).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + blob)
    return path


def of(kind, array):
    return kind, array.shape, array.astype(NUMBERS[kind]).tobytes()


# Every dtype of safetensors


@pytest.mark.parametrize("kind", NUMBERS)
def test_every_number_is_read(kind, tmp_path):
    path = tensors(tmp_path / "x.safetensors", x=of(kind, X), z=of(kind, X[:, 1]))
    features = open_features(f"{path}:x")
    assert features.dtype == (NUMBERS[kind] if kind in {"BF16", "F16"} else np.float32)
    np.testing.assert_array_equal(np.concatenate(list(features.blocks(4))), X)
    np.testing.assert_array_equal(features.array(), X)
    assert read_labels(f"{path}:z", concept="classes").names == ("1", "2", "4")
    concept = "classes" if kind[0] in "UI" else "real"
    task = read_task(f"{path}:z").values
    np.testing.assert_array_equal(task, X[:, 1] if concept == "real" else [1, 0, 1, 0, 2, 0])


@pytest.mark.parametrize("kind", [*FLOAT8, "BF16"])
def test_small_floats_on_the_command_line(kind, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    z = np.arange(len(X)) % 2
    tensors(tmp_path / "x.safetensors", x=of(kind, X), z=of("I64", z), v=of(kind, X[0]))
    argv = ["fit", "x.safetensors:x", "x.safetensors:z", "--out", "e.safetensors"]
    ok(capsys, *argv)
    kernel = ej.MeanDifference().fit(X.astype("f4"), z).kernel
    np.testing.assert_allclose(ej.load("e.safetensors").kernel, kernel, rtol=1e-6)
    ok(capsys, *argv, "--force", "--method", "ablation", "--directions", "x.safetensors:v")
    out = ok(capsys, "info", "x.safetensors")
    assert f"6 x 2, {kind}" in out
    assert "NaN or infinite  0" in ok(capsys, "info", "x.safetensors:x")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (("C64", (6, 2), bytes(96)), "expected numbers, got complex64"),
        (("F4", (6, 2), bytes(6)), "several numbers to a byte"),
        (("F6_E2M3", (6, 2), bytes(9)), "several numbers to a byte"),
        (("F6_E3M2", (6, 2), bytes(9)), "several numbers to a byte"),
        (("F99", (6, 2), bytes(9)), "a dtype unknown here"),
    ],
)
def test_what_is_no_number_is_said_in_one_line(entry, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    tensors(tmp_path / "x.safetensors", x=entry, good=of("F32", X))
    for reader in (open_features, read_labels, lambda spec: read_array(parse(spec))):
        if entry[0] != "C64" or reader in {open_features}:
            with pytest.raises(ValueError, match=message):
                reader("x.safetensors:x")
    assert message in bad(capsys, "fit", "x.safetensors:x", "no.npy", "--out", "e.safetensors")
    # One that cannot be read hides no other.
    np.testing.assert_array_equal(open_features("x.safetensors:good").array(), X)
    out = ok(capsys, "info", "x.safetensors")
    assert f"6 x 2, {entry[0]}" in out
    assert "6 x 2, F32" in out


def test_booleans_are_true_where_any_bit_is_set(tmp_path):
    path = tensors(tmp_path / "x.safetensors", z=("BOOL", (4,), bytes([0, 1, 2, 255])))
    np.testing.assert_array_equal(read_labels(path).values, [0, 1, 1, 1])
    np.testing.assert_array_equal(read_array(parse(path)), [False, True, True, True])


def test_small_floats_are_saved_and_loaded(tmp_path):
    for kind in (*FLOAT8.values(), ml_dtypes.bfloat16):
        ej.save({"a": jnp.asarray(X, kind)}, tmp_path / "a.safetensors")
        back = ej.load(tmp_path / "a.safetensors")["a"]
        assert back.dtype == kind
        np.testing.assert_array_equal(np.asarray(back, np.float32), X)
    for kind in ("int4", "float4_e2m1fn", "float8_e3m4"):
        with pytest.raises(TypeError, match="the format does not have; cast it first"):
            ej.save({"a": np.zeros(2, getattr(ml_dtypes, kind))}, tmp_path / "b.safetensors")
    assert not (tmp_path / "b.safetensors").exists()


# Python objects, and dtypes whose names are lost


def refuse(*args, **kwargs):
    raise AssertionError("unpickled")


@pytest.mark.parametrize("kind", [".npy", ".npz"])
def test_objects_are_never_loaded(kind, here, capsys, monkeypatch):
    z = np.array(["a", "b"], object)[np.arange(N) % 2]
    np.save("z.npy", z, allow_pickle=True) if kind == ".npy" else np.savez(
        "z.npz", x=np.load("x.npy"), n=np.arange(N), z=z
    )
    spec = "z.npy" if kind == ".npy" else "z.npz:z"
    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    err = bad(capsys, "fit", "x.npy", spec, "--out", "e.safetensors")
    assert f"{spec}: it holds Python objects" in err
    assert "save text as array.astype(str)" in err
    assert ".astype(np.float32)" in bad(capsys, "fit", spec, spec, "--out", "e.safetensors")
    assert "60, Python objects" in ok(capsys, "info", spec)
    if kind == ".npz":
        out = ok(capsys, "info", "z.npz")
        assert "3 arrays" in out
        assert "x     60 x 5, float32" in out
        assert "n     60, int64" in out
        assert "z     60, Python objects; it holds" in out
        ok(capsys, "fit", "z.npz:x", "two.npy", "--out", "e.safetensors")


@pytest.mark.parametrize(
    ("dtype", "message"),
    [
        ("bfloat16", "probably bfloat16"),
        ("float8_e4m3fn", "probably float8"),
        ("float8_e5m2", "probably float8"),
        ("int4", "probably float8 or int4"),
    ],
)
@pytest.mark.parametrize("kind", [".npy", ".npz"])
def test_dtypes_that_numpy_forgets(dtype, message, kind, here, capsys):
    x = np.load("x.npy").astype(getattr(ml_dtypes, dtype))
    np.save("b.npy", x) if kind == ".npy" else np.savez("b.npz", x=x, good=np.load("x.npy"))
    spec = "b.npy" if kind == ".npy" else "b.npz:x"
    for argv in ((spec, "z.npy"), ("x.npy", spec)):
        err = bad(capsys, "fit", *argv, "--out", "e.safetensors")
        assert message in err
        assert "as .safetensors" in err
        assert "astype(np.float32)" in err
    if kind == ".npz":
        out = ok(capsys, "info", "b.npz")
        assert message in out
        assert "good  60 x 5, float32" in out


def test_the_advice_helps(here, capsys):
    x = np.load("x.npy").astype(ml_dtypes.bfloat16)
    np.save("b.npy", x)
    np.save("c.npy", np.load("b.npy").view(ml_dtypes.bfloat16).astype(np.float32))
    np.testing.assert_array_equal(open_features("c.npy").array(), x.astype(np.float32))


# Archives are read block by block


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("order", ["C", "F"])
def test_archives_are_streamed(save, order, tmp_path):
    x = np.arange(42, dtype="f4").reshape(21, 2)
    save(tmp_path / "x.npz", x=np.asarray(x, order=order), one=np.float32(3), none=np.zeros((0, 2)))
    features = open_features(f"{tmp_path}/x.npz:x")
    for rows in (1, 5, 21, 100):
        np.testing.assert_array_equal(np.concatenate(list(features.blocks(rows))), x)
    assert read_array(parse(f"{tmp_path}/x.npz:one")) == 3
    assert read_array(parse(f"{tmp_path}/x.npz:none")).shape == (0, 2)


BLOCKS = """
import resource, sys
import numpy as np
from erasejax.files import open_features

features = open_features(sys.argv[1])
for _ in range(2):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert sum(len(block) for block in features.blocks(1 << 16)) == features.shape[0]
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)
"""


@pytest.mark.slow
def test_a_large_archive_takes_little_memory(tmp_path):
    rows, columns = 1 << 20, 32  # 128 MB in 130 KB
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        head = io.BytesIO()
        described = {"descr": "<f4", "fortran_order": False, "shape": (rows, columns)}
        np.lib.format.write_array_header_1_0(head, described)
        with archive.open("x.npy", "w") as file:
            file.write(head.getvalue())
            for _ in range(columns):
                file.write(bytes(4 * rows))
    root = os.path.dirname(os.path.dirname(ej.__file__))
    run = subprocess.run(
        [sys.executable, "-c", BLOCKS, str(tmp_path / "x.npz")],
        env=os.environ | {"PYTHONPATH": root, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(run.stdout) < 64


@pytest.mark.parametrize(
    ("place", "lie", "message"),
    [
        (24, 2**31, "cannot hold"),  # bytes when decompressed
        (24, 200, "should take|Bad CRC"),
        (20, 2**31, "should take"),  # bytes when compressed
        (10, 12, "compressed in a way that numpy does not write"),
        (8, 1, "encrypted"),
        (16, 0, "Bad CRC"),
    ],
)
def test_archives_that_lie(place, lie, message, tmp_path):
    np.savez_compressed(tmp_path / "x.npz", x=np.zeros((100, 2), "f4"))
    content = bytearray((tmp_path / "x.npz").read_bytes())
    at = content.index(b"PK\1\2") + place
    size = 2 if place in {8, 10} else 4
    content[at : at + size] = lie.to_bytes(size, "little")
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        open_features(tmp_path / "x.npz").array()


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ("(100, 2000000000)", "it should hold 800000000000 bytes"),
        ("(4611686018427387904, 2)", "is too large"),
        ("(-4, 2)", "is none"),
        ("(True, 2)", "is none"),
        ("(" * 3000, "nested too deeply|cannot be read"),
    ],
)
def test_shapes_are_held_against_the_file(shape, message, tmp_path):
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".encode()
    head = b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text
    (tmp_path / "x.npy").write_bytes(head + bytes(32))
    with pytest.raises(ValueError, match=message):
        open_features(tmp_path / "x.npy")


def test_lists_of_text_are_no_features(tmp_path):
    pq.write_table(pa.table({"a": [["x", "y"], ["z", "w"]]}), tmp_path / "x.parquet")
    for reader in (open_features, read_task):
        with pytest.raises(ValueError, match="'a' holds lists of text"):
            reader(f"{tmp_path}/x.parquet:a")


# Saved objects


def change(path, **changes):
    """Rewrites metadata, or the entry of a tensor, of a saved object."""
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    head = json.loads(content[8 : 8 + size])
    for name, value in changes.items():
        (head["__metadata__"] if isinstance(value, str) else head)[name] = value
    text = json.dumps(head).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + size :])


@pytest.fixture
def saved(here, data, capsys):
    ok(capsys, "fit", "x.npy", "z.npy", "--out", "e.safetensors")
    return here / "e.safetensors"


ARRAYS = {
    "a wide test": {"test": np.zeros((5, 3), "f4")},
    "one axis": {"kernel": np.zeros(5, "f4")},
    "another d": {"center": np.zeros(4, "f4")},
    "a batch of its own": {"rank": np.zeros(2, "i4")},
    "integers": {"kernel": np.zeros((5, 2), "i4")},
    "no rank": {"rank": np.float32(2)},
    "no status": {"status": np.int32(0)},
    "text": {"status": "ok"},
    "a list": {"center": [np.zeros(5, "f4")]},
    "nothing": {"center": None},
}


@pytest.mark.parametrize("case", ARRAYS)
def test_arrays_that_do_not_fit_each_other(case, here, data, capsys):
    eraser = ej.MeanDifference().fit(data).replace(**ARRAYS[case])
    ej.save(eraser, "e.safetensors")
    with pytest.raises(ValueError, match=r"e\.safetensors: damaged, its Projection has"):
        ej.load("e.safetensors")
    for argv in (["info", "e.safetensors"], ["apply", "e.safetensors", "x.npy", "--out", "y.npy"]):
        assert "damaged, its Projection has" in bad(capsys, *argv)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("columns", 3),
        ("columns", ["a", 1]),
        ("class_names", "cat"),
        ("class_names", ["cat"]),
        ("class_counts", [1.5, 2, 3]),
        ("method", ["leace"]),
        ("options", []),
        ("rows", "60"),
        ("certificate", {"damage": ["none"]}),
    ],
)
def test_notes_of_another_kind(name, value, saved, capsys):
    size = int.from_bytes(saved.read_bytes()[:8], "little")
    notes = json.loads(json.loads(saved.read_bytes()[8 : 8 + size])["__metadata__"]["notes"])
    change(saved, notes=json.dumps(notes | {name: value}))
    for argv in (["info", "e.safetensors"], ["apply", "e.safetensors", "x.npy", "--out", "y.npy"]):
        assert "e.safetensors: damaged, its" in bad(capsys, *argv)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tree": '{"kind":"list","items":[' * 50_000 + "]}" * 50_000}, "nested too deeply"),
        ({"tree": "[" * 100_000}, "nested too deeply"),
        ({"notes": "[]"}, "the notes are no JSON object"),
        ({"notes": '{"a":NaN}'}, "NaN is no JSON"),
        ({"notes": '{"a":1,"a":2}'}, "a name stands twice"),
        ({"tree": '{"kind":"value","value":[1]}'}, "no kind of value"),
        ({"class": "\x1b[2J", "tree": '{"kind":"object","class":"\x1b[2J"}'}, "damaged"),
        ({"rank": {"dtype": "I32", "shape": [2], "data_offsets": [0, 8]}}, "begins at byte"),
    ],
)
def test_metadata_that_mean_harm(changes, message, saved, capsys):
    change(saved, **changes)
    assert message in bad(capsys, "info", "e.safetensors")


def test_a_pipe_is_no_saved_object(tmp_path):
    os.mkfifo(tmp_path / "e.safetensors")
    with pytest.raises(ValueError, match="pipe or device"):
        ej.load(tmp_path / "e.safetensors")


def fitted():
    """Every class that can be saved, as its `fit` makes it, alone and in a batch; all zeros."""
    x, z, key = jnp.zeros((12, 4)), jnp.arange(12) % 2, jax.random.key(0)
    data = ej.Dataset(x, z, 2)
    erasers, probes, contrast = common.erasers(4), common.probes(), common.contrast_probes()
    configs = [erasers[n] for n in ("MeanDifference", "INLP", "OracleLEACE", "QLEACE")]
    configs += [probes[n] for n in ("LDA", "LinearSVM", "MLP", "QDA", "KernelRidge")]
    made = [jax.eval_shape(functools.partial(c.fit, key=key), data) for c in configs]
    made += [jax.eval_shape(functools.partial(c.fit, key=key), x, x) for c in contrast.values()]
    made.append(jax.eval_shape(probes["LDA"].fit, ej.Dataset(x, z, 3)))
    made.append(jax.eval_shape(probes["LeastSquares"].fit, x, x[:, :2]))
    made.append(jax.eval_shape(ej.Moments.of, data))
    made.append(jax.eval_shape(functools.partial(ej.Moments.of, covariance=False), data))
    made.append(jax.eval_shape(ClassMoments.of, data))
    pairs = Pairs(x, x, labels=z, weights=x[:, 0])
    made += [pairs, jax.eval_shape(PairNormalization.of, pairs), data]
    made.append(ej.Dataset(x, x, task=x[:, :2], weights=x[:, 0]))
    made.append(jax.eval_shape(functools.partial(ej.metrics.guardedness_test, key=key), data))
    lda, lr = probes["LDA"], probes["Logistic"]
    made.append(jax.eval_shape(functools.partial(ej.probes.recursive, lda, rounds=2), data))
    select = functools.partial(ej.probes.select_l2, lr, l2=jnp.ones(2), key=key)
    made.append(jax.eval_shape(select, data))
    interval = functools.partial(ej.metrics.bootstrap, ej.metrics.accuracy, key=key)
    made.append(jax.eval_shape(interval, jax.eval_shape(lda.fit, data), data))
    kernels = [ej.KernelLEACE(features=4, kernel=kernel) for kernel in ("fourier", "landmarks")]
    kernels = [jax.eval_shape(functools.partial(c.fit, key=key), data) for c in kernels]
    made += [*kernels, *(eraser.kernel for eraser in kernels)]
    attention = functools.partial(ej.probes.AttentionProbe().fit, num_classes=3, key=key)
    made.append(jax.eval_shape(attention, jnp.stack([x, x], axis=1), z))
    for name in ("codelength", "learning_curve", "selectivity", "v_information"):
        read = functools.partial(getattr(ej.metrics, name), lda, key=key)
        made.append(jax.eval_shape(read, data))
    for shapes in made:
        for batch in ((), (2,)):
            yield jax.tree.map(lambda leaf, b=batch: np.zeros(b + leaf.shape, leaf.dtype), shapes)


@pytest.mark.slow
def test_every_class_comes_back(tmp_path):
    seen = set()
    for obj in fitted():
        ej.save(obj, tmp_path / "o.safetensors")
        back = ej.load(tmp_path / "o.safetensors")
        assert jax.tree.structure(back) == jax.tree.structure(obj)
        assert list(map(jnp.shape, jax.tree.leaves(back))) == list(
            map(jnp.shape, jax.tree.leaves(obj))
        )
        seen.add(type(obj).__name__)
        leaves, structure = jax.tree.flatten(back)
        for i, leaf in enumerate(leaves[:-1]):
            more = jnp.asarray(np.asarray(leaf)[None])
            wrong = jax.tree.unflatten(structure, [*leaves[:i], more, *leaves[i + 1 :]])
            assert "does not fit the others" in _misfit(wrong)
    results = {name for name, cls in tree_classes().items() if not issubclass(cls, Named)}
    assert seen >= results - {"LinearProbe", "AttentionProbe"}  # a base class, and options


def test_configurations_come_back(tmp_path):
    configs = [*common.erasers(4).values(), *common.probes().values(), ej.probes.AttentionProbe()]
    configs += [*common.contrast_probes().values(), ej.datasets.GaussianClasses(rows=(3, 4))]
    without = {"discrete-features", "rows", "file-rows"}  # the last two are of somebody's rows
    configs += [kind() for name, kind in known("dataset").items() if name not in without]
    for config in configs:
        ej.save({"config": config}, tmp_path / "c.safetensors")
        back = ej.load(tmp_path / "c.safetensors")["config"]
        assert type(back) is type(config)
        assert jax.tree.structure(back) == jax.tree.structure(config)
        for one, other in zip(jax.tree.leaves(back), jax.tree.leaves(config), strict=True):
            np.testing.assert_array_equal(one, other)
