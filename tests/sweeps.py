"""What the tests of sweeps need: small specs, comparisons, and sweeps in processes of their own."""

import json
import os
import subprocess
import sys

import numpy as np

SPEC = {
    "dataset": {"name": "gaussian-classes", "dims": 3, "rows": 6, "separation": [0.5, 1, 2]},
    "eraser": ["identity", "mean-difference", "leace"],
    "probe": ["least-squares", "logistic"],
    "seeds": 40,
    "metrics": ["accuracy", "auroc", "log_loss", "damage", "linear_r2", "rank"],
}
TINY = {
    "dataset": {"name": "discrete-features", "rows": 5},
    "eraser": ["identity", "mean-difference"],
    "probe": "least-squares",
    "seeds": 8,
    "metrics": ["accuracy", "rank"],
}


def sorted_frame(sweep):
    frame = sweep.to_pandas()
    keys = [name for name in frame.columns if name not in sweep.columns]
    for name in keys:
        if frame[name].dtype == "category":
            frame[name] = frame[name].astype(str)
    return frame.sort_values(keys, ignore_index=True)[sorted(frame.columns)]


def assert_same(a, b, atol=1e-6):
    """Ranks and errors the same; accuracies but for a tie; all else to rounding.

    Warnings are the same but in one lane in a thousand: what is within rounding is said by a bound,
    and a lane may lie on either side of it as the sums of its program are ordered.
    """
    one, other = sorted_frame(a), sorted_frame(b)
    assert list(one.columns) == list(other.columns)
    assert len(one) == len(other)
    for name in one.columns:
        left, right = one[name].to_numpy(), other[name].to_numpy()
        if name.startswith(("accuracy", "auroc")):
            neither = np.isnan(left) & np.isnan(right)
            assert np.mean((left != right) & ~neither) < 0.01, name
        elif name == "status":
            assert ((left & 0xFFFF) == (right & 0xFFFF)).all(), name
            assert np.mean(left != right) < 1e-3, name
        elif left.dtype.kind == "f":
            np.testing.assert_allclose(left, right, rtol=2e-5, atol=atol, err_msg=name)
        else:
            assert (left == right).all(), name


_IN_A_PROCESS = """
import sys, json
import erasejax as ej
spec, out, options = map(json.loads, sys.argv[1:])
ej.sweep.run(spec, out=out, **options)
"""


def run_in_a_process(spec, out, devices=1, environment=None, **options):
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": str(devices), **(environment or {})}
    arguments = [json.dumps(value) for value in (spec, str(out), options)]
    return subprocess.Popen(
        [sys.executable, "-c", _IN_A_PROCESS, *arguments], env=environment, stderr=subprocess.PIPE
    )


def finish(process):
    _, error = process.communicate(timeout=240)
    assert process.returncode == 0, error.decode()
