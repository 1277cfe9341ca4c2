"""The types of the public names: as a type checker sees them, and as the tests hold them."""

import importlib.util
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest
from beartype.roar import BeartypeDoorHintViolation
from flax import struct
from jaxtyping import Array, Float

import erasejax as ej
from tests.typed import checked

SCRIPT = """
import numpy as np
import erasejax as ej

x, z = np.ones((6, 2), np.float32), np.arange(6) % 2
data = ej.datasets.GaussianClasses().sample(np.zeros(2, np.uint32))
reveal_type(data)
reveal_type(ej.LEACE().fit(x, z))
reveal_type(ej.LEACE().fit(data).kernel)
reveal_type(ej.INLP().fit(x.tolist(), z.tolist()))
reveal_type(ej.OracleLEACE().fit(x, z))
reveal_type(ej.QLEACE().fit(x, z))
reveal_type(ej.probes.LDA().fit(x, z))
reveal_type(ej.probes.LDA().fit(x, z).weight)
reveal_type(ej.probes.QDA().fit(x, z))
reveal_type(ej.probes.CCS().fit(x, x))
reveal_type(ej.datasets.ContrastPairs().sample(np.zeros(2, np.uint32)))
reveal_type(ej.metrics.accuracy(ej.probes.LDA().fit(x, z), x, z))
fitted: ej.erasers.FittedEraser = ej.QLEACE().fit(x, z)
"""
REVEALED = """
Dataset, Projection, Array, TracedProjection, OracleProjection, ClassTransport, LinearLikelihood,
Array, QuadraticClassifier, CCSClassifier, Pairs, Array
"""
WRONG = """
import erasejax as ej
ej.LEACE().fit(object(), None)
ej.LEACE().fit([[1.0]], [0]).weight
ej.metrics.log_loss(ej.probes.LinearSVM().fit([[1.0]], [0]), [[1.0]], [0])
fitted: ej.erasers.FittedEraser = ej.LEACE()
"""


def pyright(folder, script):
    """Returns the lines in which a type checker says what it finds in a script."""
    if importlib.util.find_spec("pyright") is None:
        pytest.skip("pyright is not installed")
    (folder / "script.py").write_text(script)
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "script.py"]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240)
    assert "script.py" in run.stdout, run.stdout + run.stderr
    return [line for line in run.stdout.splitlines() if "script.py:" in line]


@pytest.mark.slow
def test_results_have_their_types(tmp_path):
    lines = pyright(tmp_path, SCRIPT)
    assert [line for line in lines if " error: " in line] == []
    revealed = [match[1] for line in lines if (match := re.search(r' is "(.*)"', line))]
    assert revealed == REVEALED.replace(",", " ").split()


@pytest.mark.slow
def test_wrong_uses_are_found(tmp_path):
    lines = pyright(tmp_path, WRONG)
    places = {int(line.split(":")[1]) for line in lines if " error: " in line}
    assert places == {3, 4, 5, 6}


@struct.dataclass
class Square(ej.probes.LinearClassifier):
    """A probe whose labels have an axis too many."""

    def _scores(self, x):
        return jnp.ones((len(x), 3, 4))


def test_a_wrong_shape_is_found():
    nothing = jnp.zeros(2)
    probe = Square(weight=nothing, offset=nothing[0], center=nothing, status=jnp.uint32(0))
    with pytest.raises(BeartypeDoorHintViolation):
        probe.predict(jnp.ones((6, 2)))


def test_axes_agree():
    def half(x: Float[Array, "n d"]) -> Float[Array, "n d"]:
        return x[::2]

    with pytest.raises(BeartypeDoorHintViolation):
        checked(half)(jnp.ones((4, 2)))


@pytest.mark.slow
def test_right_shapes_pass():
    data = ej.datasets.GaussianClasses(rows=3, dims=2).sample(jax.random.key(0))
    assert ej.LEACE().fit(data).matrix().shape == (2, 2)
    assert ej.Moments.of(data).covariance.shape == (2, 2)
