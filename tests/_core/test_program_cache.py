import os
import subprocess
import sys
import tempfile
from pathlib import Path

import jax
import numpy as np
import pytest

import erasejax as ej

SCRIPT = """
import sys
import jax
import numpy as np
import erasejax as ej

counts = {"/jax/compilation_cache/cache_hits": 0, "/jax/compilation_cache/cache_misses": 0}

def count(event, **_):
    if event in counts:
        counts[event] += 1

jax.monitoring.register_event_listener(count)
jax.block_until_ready(jax.numpy.ones(3) + 1)  # jax has looked for a folder by now
assert ej.cache_programs(sys.argv[1]).startswith(sys.argv[1])
x = np.random.default_rng(0).standard_normal((20, 3), np.float32)
ej.MeanDifference().fit(x, np.arange(20) % 2)
print(*counts.values())
"""


def environment(**more):
    """Returns the environment of a process that keeps no programs by itself."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "TF_CPP"))}
    return {**kept, "JAX_PLATFORMS": "cpu", **more}


def run(*argv, **more):
    done = subprocess.run(
        [sys.executable, *map(str, argv)],
        env=environment(**more),
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return done


def kept(folder):
    return sorted(path for path in Path(folder).rglob("*-cache"))


@pytest.fixture
def no_folder():
    """No folder is configured, and the one that was comes back."""
    name = "jax_compilation_cache_dir"
    before = jax.config.jax_compilation_cache_dir
    jax.config.update(name, None)
    yield
    jax.config.update(name, before)


@pytest.mark.slow
def test_a_second_process_compiles_nothing(tmp_path):
    hits, misses = map(int, run("-c", SCRIPT, tmp_path).stdout.split())
    assert (hits, misses > 0, misses) == (0, True, len(kept(tmp_path)))
    again = run("-c", SCRIPT, tmp_path)
    assert tuple(map(int, again.stdout.split())) == (misses, 0)


@pytest.mark.slow
def test_commands_keep_programs_and_the_compiler_is_quiet(tmp_path):
    x = np.random.default_rng(0).standard_normal((20, 3), np.float32)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "z.npy", np.arange(20) % 2)
    line = ["-m", "erasejax", "fit", tmp_path / "x.npy", tmp_path / "z.npy", "--out"]
    several = {
        "XDG_CACHE_HOME": str(tmp_path),
        "LOCALAPPDATA": str(tmp_path),
        "HOME": str(tmp_path),
    }

    def command(out):
        done = run(*line, tmp_path / out, **several)
        return done.stdout.replace(out, ""), done.stderr

    first = command("a.safetensors")
    assert first[1] == ""
    programs = kept(tmp_path)
    assert programs
    assert command("b.safetensors") == first
    assert kept(tmp_path) == programs
    for path in programs:
        path.write_bytes(b"not a program")
    out, err = command("c.safetensors")
    assert out == first[0]
    assert err
    assert all(said.startswith("erasejax: warning: ") for said in err.splitlines())


def test_a_folder_that_cannot_be_written_is_a_warning(tmp_path, no_folder):
    (tmp_path / "file").write_text("")
    with pytest.warns(UserWarning, match="compiled programs are not kept: .*file"):
        assert ej.cache_programs(tmp_path / "file") is None
    assert jax.config.jax_compilation_cache_dir is None
    assert ej.MeanDifference().fit(np.eye(4, dtype=np.float32), [0, 1, 0, 1]).rank == 1


def test_a_disk_that_takes_no_files_is_a_warning(tmp_path, no_folder, monkeypatch):
    def full(**_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    with pytest.warns(UserWarning, match="not kept: .*No space left"):
        assert ej.cache_programs(tmp_path) is None


def test_the_folder_that_jax_was_given_stays():
    given = jax.config.jax_compilation_cache_dir  # by the settings of these tests
    assert given is not None
    assert ej.cache_programs() == given
