"""Dtypes of erased rows: what is certified is what is written."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pandas as pd
import pytest

import erasejax as ej
from erasejax.cli import _main as cli
from erasejax.cli._fit import fit
from erasejax.files import open_features
from tests.command import bad, ok

DTYPES = {"float64": "f8", "float32": "f4", "float16": "f2", "bfloat16": ml_dtypes.bfloat16}
SHAPES = {"tall": (600, 24), "wide": (64, 128)}
KINDS = {"float64": ".npy", "float32": ".csv", "float16": ".npz", "bfloat16": ".safetensors"}


@pytest.fixture(params=SHAPES)
def files(request, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    n, d = SHAPES[request.param]
    z = np.arange(n) % 2
    x = np.random.default_rng(0).standard_normal((n, d)) + 2 + 0.3 * z[:, None]
    np.save("z.npy", z)
    for name, dtype in DTYPES.items():
        ej.save({"x": jnp.asarray(x.astype(dtype))}, f"{name}.safetensors")
    np.save("float64.npy", x + 1e3)
    return request.param, x, z


def warning(capsys, *argv) -> str:
    """Runs a command that must succeed; returns the one line in which it warns."""
    assert cli.main([*argv]) == 0
    err = capsys.readouterr().err
    assert err.startswith("erasejax: warning: ")
    assert err.count("\n") == 1
    return err


def certified(text: str) -> float:
    return float(re.search(r"before, (\S+) after", text)[1])


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("method", ["leace", "oracle-leace"])
def test_the_file_has_the_certificate_that_was_printed(files, capsys, dtype, method):
    shape, _, z = files
    source = "float64.npy" if dtype == "float64" else f"{dtype}.safetensors"
    options = ["--dtype", dtype] if dtype == "float64" else []
    printed = ok(
        capsys, "fit", source, "z.npy", "--method", method, *options, "--out", "e.safetensors"
    )
    out = f"y{KINDS[dtype]}"
    labels = ["--labels", "z.npy"] if method == "oracle-leace" else []
    ok(capsys, "apply", "e.safetensors", source, *labels, *options, "--out", out)
    features = open_features(out)
    written = features.array(exact=dtype == "float64")
    assert written.dtype == DTYPES[dtype]
    found = float(
        ej.metrics.linear_r2(np.asarray(written, np.promote_types(written.dtype, "f4")), z)
    )
    # What is read lies along the direction that was erased, whose variance is below the ridge of 64
    # eps with which it is solved for: an eps more or less in the moments is a 64th of that.
    assert certified(printed) == pytest.approx(found, rel=4 / 64, abs=1e-12)
    rounded = dtype in {"float16", "bfloat16"}
    assert (found > 0) == rounded
    assert (f"rounding to {dtype} leaves R^2" in printed) == rounded
    if shape == "wide" and dtype == "bfloat16":
        assert found > 0.5
    assert f"rows written as {dtype}" in ok(capsys, "info", "e.safetensors")


@pytest.mark.slow
def test_a_wider_dtype_keeps_it_erased(files, capsys):
    *_, z = files
    source = "bfloat16.safetensors"
    ok(capsys, "fit", source, "z.npy", "--method", "leace", "--out", "e.safetensors")
    printed = ok(capsys, "apply", "e.safetensors", source, "--dtype", "float32", "--out", "y.npy")
    assert "rounded" not in printed
    assert float(ej.metrics.linear_r2(np.load("y.npy"), z)) == 0
    # A format without bfloat16 gets float32, and not what bfloat16 left of it.
    ok(capsys, "apply", "e.safetensors", source, "--out", "z32.npy")
    np.testing.assert_array_equal(np.load("z32.npy"), np.load("y.npy"))
    assert ".safetensors" in bad(
        capsys, "apply", "e.safetensors", source, "--dtype", "bfloat16", "--out", "n.npy"
    )
    assert "float8" in bad(
        capsys, "apply", "e.safetensors", source, "--dtype", "float8", "--out", "n.npy"
    )
    warned = warning(
        capsys, "apply", "e.safetensors", source, "--dtype", "float16", "--out", "h.npy"
    )
    assert "rounded to float16; what fit certified are bfloat16 rows" in warned
    assert np.load("h.npy").dtype == np.float16


@pytest.mark.quick(1)
def test_infinity_is_not_written(files, capsys, tmp_path):
    x = 3e4 * files[1]
    np.save("large.npy", x.astype("f4"))
    ok(capsys, "fit", "large.npy", "z.npy", "--out", "e.safetensors")
    message = bad(
        capsys, "apply", "e.safetensors", "large.npy", "--dtype", "float16", "--out", "y.npy"
    )
    assert "65504" in message
    assert "--dtype float32" in message
    assert "65504" in bad(
        capsys,
        "fit",
        "large.npy",
        "z.npy",
        "--method",
        "leace",
        "--dtype",
        "float16",
        "--out",
        "f.safetensors",
    )
    assert not (tmp_path / "y.npy").exists()
    assert not (tmp_path / "f.safetensors").exists()


@pytest.mark.quick(1)
def test_float64_keeps_its_digits(files, capsys):
    *_, x, z = files
    far = x + 1.7e9
    np.save("far.npy", far)
    for options, dtype, digits in ((["--dtype", "float64"], "f8", 1e-5), ([], "f4", 128)):
        names = ["e.safetensors", "far.npy", *options, "--force"]
        fitted = ["--method", "leace", *options, "--force", "--out", names[0]]
        ok(capsys, "fit", "far.npy", "z.npy", *fitted)
        if options:
            ok(capsys, "apply", *names, "--out", "y.npy")
        else:
            warned = warning(capsys, "apply", *names, "--out", "y.npy")
            assert f"at the values of {x.shape[1]} features numbers of float32" in warned
        y = np.load("y.npy")
        assert y.dtype == dtype
        y = y.astype("f8")
        gap = np.abs(y[z == 1].mean(axis=0) - y[z == 0].mean(axis=0))
        assert gap.max() <= digits
    # The integers of a table are exact beyond 2^24 as well.
    whole = np.round(1e3 * x).astype("i8") + 10**9
    np.save("whole.npy", whole)
    (array,) = open_features("whole.npy").blocks(len(whole), exact=True)
    np.testing.assert_array_equal(array, whole)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_dtype_in_python(dtype):
    x = np.random.default_rng(0).standard_normal((40, 4)).astype("f4")
    z = np.arange(40) % 2
    for method in (ej.LEACE(), ej.OracleLEACE(), ej.QLEACE()):
        eraser = method.fit(x, z)
        given = (z,) if eraser.needs_z else ()
        wide = eraser(x, *given)
        y = eraser(x, *given, dtype=dtype)
        assert y.dtype == jnp.dtype(dtype)
        np.testing.assert_array_equal(y, wide.astype(dtype))
        assert eraser(jnp.asarray(x, jnp.bfloat16), *given, dtype="float32").dtype == jnp.float32
        jitted = jax.jit(lambda e, x, given=given: e(x, *given, dtype=dtype))
        assert jitted(eraser, x).dtype == jnp.dtype(dtype)


@pytest.mark.parametrize("dtype", ["int32", "float8_e4m3fn", "float64"])
def test_dtypes_that_are_refused(dtype):
    x, z = np.eye(4, dtype="f4")[np.arange(40) % 4], np.arange(40) % 2
    with pytest.raises(ValueError, match="dtype: "):
        ej.LEACE().fit(x + np.arange(40)[:, None], z)(x, dtype=jnp.dtype(dtype))


@pytest.mark.slow
def test_claim_of_half_precision():
    # 256 x 512, as activations are kept: erased, then rounded to bfloat16.
    rng = np.random.default_rng(0)
    z = np.arange(256) % 2
    x = (rng.standard_normal((256, 512)) + 0.3 * z[:, None]).astype(ml_dtypes.bfloat16)
    y = ej.LEACE().fit(x, z)(x)
    assert float(ej.metrics.linear_r2(y.astype(jnp.float32), z)) > 0.9
    read = ej.probes.LeastSquares().fit(y.astype(jnp.float32), z)
    assert float(ej.metrics.accuracy(read, y.astype(jnp.float32), z)) == 1
    wide = ej.LEACE().fit(x, z)(x, dtype=jnp.float32)
    assert float(ej.metrics.linear_r2(wide, z)) == 0


@pytest.mark.quick(1)
def test_commands_take_the_dtype_by_name(files):
    out = Path("e.safetensors")
    given = ("float16.safetensors", "z.npy")
    text = fit(given, out=out, method="leace", dtype="float32", options={})
    assert certified(text) == 0


def test_certify_rows_says_what_it_takes():
    x = np.random.default_rng(0).standard_normal((40, 3)).astype("f4")
    z = np.arange(40) % 2
    eraser = ej.LEACE().fit(pd.DataFrame(x, columns=["a", "b", "c"]), z)
    certify = ej.metrics.certify_rows
    for given in ((x, z), x):
        message = (
            rf"data: expected a Dataset, got {type(given).__name__}; pass ej.Dataset\(x=x, z=z"
        )
        with pytest.raises(TypeError, match=message):
            certify(eraser, given, dtype=np.dtype("float32"))
    data = ej.Dataset(x=x, z=z, num_classes=2)
    assert float(certify(eraser, data, dtype=np.dtype("float32")).after) == 0.0
    turned = data.replace(x=pd.DataFrame(x, columns=["a", "c", "b"]))
    with pytest.raises(ValueError, match=r"data\.x: .* column 1 is c in place of b"):
        certify(eraser, turned, dtype=np.dtype("float32"))
