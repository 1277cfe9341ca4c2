import gc

import hypothesis
import jax
import numpy as np
import pytest

import erasejax as ej
from tests.command import TASK, D, N

hypothesis.settings.register_profile(
    "erasejax",
    deadline=None,  # the first draw of a shape compiles
    max_examples=20,
    derandomize=True,  # a red run is a change; --hypothesis-profile wide draws more, and afresh
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.register_profile(
    "wide", hypothesis.settings.get_profile("erasejax"), max_examples=200, derandomize=False
)
hypothesis.settings.load_profile("erasejax")


@pytest.fixture(autouse=True, scope="module")
def _forget_programs():
    """Drops what a module compiled.

    Every program holds hundreds of memory maps, of which Linux grants a process 65,530; the
    compiler crashes where there are no more.
    """
    yield
    jax.clear_caches()
    gc.collect()


@pytest.fixture(scope="module")
def data():
    """Three classes, for the command line."""
    return ej.datasets.GaussianClasses(rows=N // 3, num_classes=3, dims=D).sample(jax.random.key(0))


@pytest.fixture
def here(tmp_path, data, monkeypatch):
    """A folder with the rows of `data` in files."""
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", data.x)
    np.save("z.npy", np.array(["cat", "dog", "emu"])[data.z])
    np.save("two.npy", np.asarray(data.z) > 0)
    np.save("task.npy", np.array(["a", "b"])[TASK])
    return tmp_path
