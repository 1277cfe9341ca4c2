import json
import os
import subprocess
import sys

import pytest

import erasejax as ej
from tests import hostile

ROOT = os.path.dirname(os.path.dirname(ej.__file__))


def outcomes(folder, seed, count, families):
    """Gives hostile files to all readers, in a process of its own; returns the counts."""
    env = os.environ | {
        "PYTHONPATH": ROOT,
        "JAX_PLATFORMS": "cpu",
        # Allocators that take from the system what they need, so that its limits hold.
        "ARROW_DEFAULT_MEMORY_POOL": "system",
        "MALLOC_ARENA_MAX": "1",
    }
    env.pop("JAX_COMPILATION_CACHE_DIR", None)  # programs are no files of a reader
    run = subprocess.run(
        [sys.executable, "-m", "tests.hostile", str(folder), str(seed), str(count), *families],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-5000:]
    found = json.loads(run.stdout)
    for family, counts in found["counts"].items():
        print(family, json.dumps(counts))
    assert not found["faults"], "\n\n".join(map("\n".join, found["faults"][:3]))
    return found["counts"]


@pytest.mark.slow
def test_hostile_files_are_read_rightly_or_refused(tmp_path):
    counts = outcomes(tmp_path, 0, 40, list(hostile.FAMILIES))
    for family, found in counts.items():
        read, refused = found.get("inputs read", 0), found["inputs refused"]
        assert read + refused == 40
        assert (read > 0) == (family != "places")


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("family", hostile.FAMILIES)
def test_many_hostile_files(family, tmp_path):
    outcomes(tmp_path, 1, 1430, [family])
