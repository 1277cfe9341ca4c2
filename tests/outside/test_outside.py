"""A package outside this repository adds an eraser, a probe, a metric, a dataset and a format."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import erasejax as ej
from tests.common import draw

TOY = Path(__file__).parent / "toy"
POINTS = {
    "partly": "toy.eraser:Partly",
    "one-feature": "toy.probe:OneFeature",
    "error-rate": "toy.metric:ErrorRate",
    "coins": "toy.dataset:Coins",
    "rows": "toy.format:Rows",
}
SPEC = """
seeds = 4096
eraser = ["identity", { name = "partly", share = [0.5, 1.0] }]
probe = "one-feature"
metrics = ["accuracy", "error_rate", "damage"]

[dataset]
name = "coins"
bias = [0.2, 0.8]
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with the package as pip leaves it: its files, and its entry points."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(TOY, folder / "toy", ignore=shutil.ignore_patterns("__pycache__"))
    info = folder / "toy-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n")
    points = "".join(f"{name} = {place}\n" for name, place in POINTS.items())
    (info / "entry_points.txt").write_text(f"[erasejax]\n{points}")
    return folder


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x, z = draw(0, 60, 4, 2, gap=2.0)
    np.save("x.npy", x)
    np.save("z.npy", z)
    return tmp_path


def environment(installed):
    root = os.path.dirname(os.path.dirname(ej.__file__))
    return os.environ | {"PYTHONPATH": f"{installed}{os.pathsep}{root}", "JAX_PLATFORMS": "cpu"}


def run(installed, *argv):
    done = subprocess.run(
        [sys.executable, "-m", "erasejax", *argv],
        env=environment(installed),
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def python(installed, code, *argv):
    done = subprocess.run(
        [sys.executable, "-c", code, *argv],
        env=environment(installed),
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_the_command_line_knows_them(installed, here):
    text = run(installed, "fit", "--help")
    assert "partly" in text
    assert "--share" in text
    assert "how far to go" in text
    made = run(
        installed, *"fit x.npy z.npy --method partly --share 0.25 --out e.safetensors".split()
    )
    assert "partly, removes 1 of 4" in made
    run(installed, *"apply e.safetensors x.npy --out y.rows".split())
    assert "60 x 4" in run(installed, "info", "y.rows")
    x, z = (np.load(f"{name}.npy") for name in "xz")
    y = np.fromfile("y.rows", "<f4")[4:].reshape(60, 4)
    gaps = [a[z == 1].mean(axis=0) - a[z == 0].mean(axis=0) for a in (x, y)]
    np.testing.assert_allclose(gaps[1], 0.75 * gaps[0], atol=1e-4)
    told = run(installed, "info", "e.safetensors")
    assert "toy.eraser.PartlyErased" in told
    assert "--share 0.25" in told
    table = run(installed, *"probe x.npy z.npy --method partly --probes one-feature".split())
    run(installed, *"fit y.rows z.npy --out again.safetensors".split())
    assert "one-feature" in table
    assert "errors" in table


_LOADED = """
import json, sys
import erasejax as ej
eraser = ej.load(sys.argv[1])
print(json.dumps([type(eraser).__module__, float(eraser.share), int(eraser.rank)]))
"""


@pytest.mark.slow
def test_what_they_fit_is_loaded_where_the_package_is_and_nowhere_else(installed, here):
    run(installed, *"fit x.npy z.npy --method partly --out e.safetensors".split())
    assert python(installed, _LOADED, "e.safetensors") == ["toy.eraser", 0.5, 1]
    with pytest.raises(ValueError, match=r"holds a toy\.eraser\.PartlyErased.*import the package"):
        ej.load("e.safetensors")


def stored(here):
    """Finished blocks of the sweep, and when they were written."""
    return {p.name: p.stat().st_mtime_ns for p in here.glob("killed/blocks/[!.]*.parquet")}


_SWEPT = """
import json, sys
import erasejax as ej
ej.sweep.run(sys.argv[1], out=sys.argv[2], chunk=64)
frame = ej.sweep.open(sys.argv[2]).to_pandas()
wrong = abs(1 - frame.accuracy_fresh - frame.error_rate_fresh).max()
damage = frame.groupby("eraser", observed=True).damage_fitting.mean()
print(json.dumps([len(frame), float(wrong), damage.to_dict()]))
"""


_COMPARED = """
import json, sys
import erasejax as ej
from tests.sweeps import assert_same
one, other = map(ej.sweep.open, sys.argv[1:])
assert_same(one, other)
print(json.dumps(len(one.to_pandas())))
"""


@pytest.mark.slow
def test_a_sweep_by_name_is_killed_and_goes_on(installed, here):
    (here / "spec.toml").write_text(SPEC)
    argv = [sys.executable, "-c", _SWEPT, "spec.toml", "killed"]
    process = subprocess.Popen(argv, env=environment(installed), stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 200
    while not stored(here) and time.monotonic() < deadline:
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=60)
    there = {
        path.name: path.stat().st_mtime_ns for path in here.glob("killed/blocks/[!.]*.parquet")
    }
    assert there
    rows, wrong, damage = python(installed, _SWEPT, "spec.toml", "killed")
    assert rows == 4096 * 6
    assert wrong < 1e-6
    assert damage["identity"] == 0 < damage["partly"]
    after = {
        path.name: path.stat().st_mtime_ns for path in here.glob("killed/blocks/[!.]*.parquet")
    }
    assert len(after) == 24
    assert there.items() <= after.items()
    python(installed, _SWEPT, "spec.toml", "whole")
    assert python(installed, _COMPARED, "killed", "whole") == 4096 * 6
