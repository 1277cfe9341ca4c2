import collections
import gc
import os
import pathlib
import shutil
import tempfile

import hypothesis
import jax
import numpy as np
import pytest

import erasejax as ej
from tests import typed
from tests.command import TASK, D, N

hypothesis.settings.register_profile(
    "erasejax",
    deadline=None,  # the first draw of a shape compiles
    max_examples=12,
    derandomize=True,  # a red run is a change; --hypothesis-profile wide draws more, and afresh
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.register_profile(
    "wide", hypothesis.settings.get_profile("erasejax"), max_examples=200, derandomize=False
)
hypothesis.settings.load_profile("erasejax")


typed.check_package()

_CACHE = {
    "jax_persistent_cache_min_compile_time_secs": 0.02,
    "jax_persistent_cache_min_entry_size_bytes": -1,
}

_MAPS = pathlib.Path("/proc/self/maps")


def pytest_configure(config):
    """Compiles a program once a run, for all workers, modules and processes that tests start."""
    folder = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    if folder is None:
        folder = config.erasejax_programs = tempfile.mkdtemp(prefix="erasejax-tests-")
    # Workers and processes: some versions say of every program loaded that the machine differs.
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # importing jax has set it to 1
    os.environ.pop("COLUMNS", None)  # of the terminal of the run, which workers are told
    # Programs in one piece each: with two workers on two cores, pieces side by side take longer.
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_parallel_codegen_split_count=1")
    for name, value in {"jax_compilation_cache_dir": folder, **_CACHE}.items():
        os.environ[name.upper()] = str(value)
        jax.config.update(name, value)


def pytest_unconfigure(config):
    """Removes the programs that the run has compiled."""
    if hasattr(config, "erasejax_programs"):
        shutil.rmtree(config.erasejax_programs, ignore_errors=True)


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items):
    """Marks cases slow that come after those which `pytest.mark.quick` counts."""
    cases = collections.Counter()
    for item in items:
        quick = item.get_closest_marker("quick")
        if quick and not item.get_closest_marker("slow"):
            test = item.nodeid.partition("[")[0]
            cases[test] += 1
            if cases[test] > quick.args[0]:
                item.add_marker("slow")


@pytest.fixture(autouse=True, scope="module")
def _forget_programs():
    """Drops what a module compiled."""
    yield
    _forget()


@pytest.fixture(autouse=True)
def _room_for_programs():
    """Drops what was compiled before there are too many programs, in the midst of a module.

    Every program holds hundreds of memory maps, of which Linux grants a process 65,530; the
    compiler crashes where there are no more.
    """
    yield
    if _MAPS.exists() and _MAPS.read_bytes().count(b"\n") > 30_000:
        _forget()


def _forget():
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
