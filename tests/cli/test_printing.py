import io
import os
import subprocess
import sys

import jax
import numpy as np
import pytest

import erasejax as ej
from erasejax._core.text import plain, show
from erasejax.cli import _main as cli
from tests.command import N, bad, ok

ROOT = os.path.dirname(os.path.dirname(ej.__file__))


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("plain", "plain"),
        ("да", "да"),
        ("a\nb", r"'a\nb'"),
        ("\x1b[2J", r"'\x1b[2J'"),
        ("\u202eabc", r"'\u202eabc'"),
        ("", "''"),
        (" a", "' a'"),
        ("\udcff", r"'\udcff'"),
    ],
)
def test_names_are_shown_safely(name, shown):
    assert show(name) == shown
    assert plain(f"<{name}>").isprintable()
    assert len(show(name * 1000)) < 2000


@pytest.fixture
def classes(here):
    """Labels whose names many terminals cannot show."""
    np.save("z.npy", np.array(["да", "нет"])[np.arange(N) % 2])
    return here


@pytest.fixture
def narrow(monkeypatch):
    """Streams of an encoding without Cyrillic letters; returns what is printed."""

    def streams(encoding):
        found = []
        for name in ("stdout", "stderr"):
            found.append(io.BytesIO())
            monkeypatch.setattr(sys, name, io.TextIOWrapper(found[-1], encoding, "strict"))

        def printed():
            sys.stdout.flush()
            sys.stderr.flush()
            return [stream.getvalue().decode(encoding) for stream in found]

        return printed

    return streams


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "latin-1"])
def test_what_a_terminal_lacks_is_printed_by_its_code(encoding, classes, narrow):
    shown = r"\u0434\u0430"
    for argv in (
        ["fit", "x.npy", "z.npy", "--out", "e.safetensors"],
        ["info", "e.safetensors"],
        ["info", "z.npy"],
        ["probe", "x.npy", "z.npy", "--eraser", "e.safetensors", "--probes", "lda"],
    ):
        printed = narrow(encoding)
        assert cli.main(argv) == 0
        out, err = printed()
        assert shown in out
        assert err == ""
    np.save("да.npy", np.load("x.npy"))
    printed = narrow(encoding)
    assert cli.main(["apply", "e.safetensors", "да.npy", "--out", "нет.npy"]) == 0
    assert printed()[0].startswith(r"\u043d\u0435\u0442.npy: 60 rows")
    printed = narrow(encoding)
    assert cli.main(["info", "данные.npy"]) == 2
    assert printed()[1].startswith(r"erasejax: error: \u0434")
    ej.save({"да": np.zeros(3)}, "w.safetensors")  # a warning: 64 bits
    printed = narrow(encoding)
    assert cli.main(["info", "w.safetensors"]) == 0
    assert printed()[1].startswith(r"erasejax: warning: w.safetensors: \u0434\u0430 hold 64-bit")


def start(command, folder, **env):
    """Runs a shell command; {} is the command line."""
    text = command.format(f"'{sys.executable}' -m erasejax")
    env = os.environ | {"PYTHONPATH": ROOT, "JAX_PLATFORMS": "cpu"} | env
    return subprocess.run(text, shell=True, cwd=folder, env=env, capture_output=True, check=False)


FIT = "{} fit x.npy z.npy --method identity --no-certificate --out e.safetensors"


@pytest.mark.quick(1)
@pytest.mark.skipif(os.name != "posix", reason="a shell")
@pytest.mark.parametrize(
    ("command", "code", "env"),
    [
        (FIT, 0, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}),
        (f"{FIT} >&- 2>&-", 0, {}),
        (f"{FIT} >/dev/full", 2, {}),
    ],
)
def test_streams_of_a_process(command, code, env, classes):
    run = start(command, classes, **env)
    assert run.returncode == code
    assert b"Traceback" not in run.stderr
    assert b"Exception ignored" not in run.stderr
    assert ej.load(classes / "e.safetensors").kernel.shape == (5, 0)  # no stray text in the file
    if "LC_ALL" in env:
        assert rb"\u0434\u0430 (30)" in run.stdout


# Names that mean harm

HARM = "\x1b[2Ja\nb\x07\u202e"


def safe(capsys, *argv):
    """Runs a command; nothing that it prints may reach a terminal raw."""
    code = cli.main([str(a) for a in argv])
    out, err = capsys.readouterr()
    assert all(line.isprintable() for line in (out + err).split("\n"))
    assert r"\x1b[2J" in out + err
    return code, out, err


@pytest.mark.slow
def test_names_reach_no_terminal_raw(here, data, capsys):
    x = np.asarray(data.x)
    np.save("z.npy", np.array([HARM, "b"])[np.arange(N) % 2])
    np.savez("a.npz", **{HARM: x, "b": x})
    ej.save({HARM: data.x, "b": data.z}, "a.safetensors")
    ej.save(data.x, "n.safetensors", notes={"method": HARM, "options": {HARM: HARM}})
    np.save(f"{HARM}.npy", x)
    fit = ["fit", f"{HARM}.npy", "z.npy", "--out", f"{HARM}.safetensors"]
    code, out, err = safe(capsys, *fit)
    assert (code, err, out.count("\n")) == (0, "", 2)
    for name in ("z.npy", "a.npz", "a.safetensors", "n.safetensors", f"{HARM}.safetensors"):
        code, out, err = safe(capsys, "info", name)
        assert (code, err) == (0, "")
    assert safe(capsys, "apply", f"{HARM}.safetensors", "x.npy", "--out", f"{HARM}y.npy")[0] == 0
    assert safe(capsys, *fit)[0] == 2
    for spec in ("a.npz", "a.npz:c", f"a.npz:{HARM}c", f"no{HARM}"):
        code, out, err = safe(capsys, "fit", spec, "z.npy", "--out", "f.safetensors")
        assert (code, out, err.count("\n")) == (2, "", 1)
    argv = ["probe", "x.npy", "z.npy", "--eraser", f"{HARM}.safetensors", "--probes", "lda"]
    assert safe(capsys, *argv)[0] == 0


def test_arguments_too_many_reach_no_terminal_raw(here, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["info", "x.npy", HARM])
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert r"\x1b[2J" in err
    assert all(line.isprintable() for line in err.split("\n"))


@pytest.mark.slow
def test_a_device_without_memory_is_said_in_one_line(here, capsys, monkeypatch):
    def full(*args, **kwargs):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes.")

    monkeypatch.setattr(ej.MeanDifference, "solve", full)
    assert "not enough memory" in bad(capsys, "fit", "x.npy", "z.npy", "--out", "e.safetensors")
    ok(capsys, "fit", "x.npy", "z.npy", "--method", "identity", "--out", "e.safetensors")
