"""Compiled programs on disk, so that a process compiles nothing that one before it has compiled."""

import hashlib
import os
import platform
import sys
import tempfile
from pathlib import Path
from typing import Any

import jax
from jax.experimental.compilation_cache import compilation_cache

from erasejax._core.warn import warn

__all__ = ["cache_programs", "programs_folder"]


def cache_programs(folder: str | os.PathLike[str] | None = None) -> str | None:
    """Keeps every program that jax compiles from now on, and loads those that are kept already.

    The command line does it by itself. In Python it is by choice, since it sets the configuration
    of jax for the whole process. Programs of one version of jax, and for one kind of processor or
    accelerator, are no use to another: they lie side by side.

    Args:
      folder: where to keep them, in a subfolder for each kind of processor. If it is left out, the
        folder that jax has been given already, as by JAX_COMPILATION_CACHE_DIR, and else
        `erasejax/programs` in the user's folder for caches.

    Returns:
      The folder in which the programs lie; None where none are kept.

    Warns:
      UserWarning: the folder cannot be written. Everything works without it.

    Example:
      >>> ej.cache_programs() == jax.config.jax_compilation_cache_dir
      True
    """
    config: Any = jax.config
    path = config.jax_compilation_cache_dir
    if folder is not None or path is None:
        try:
            path = _writable(Path(folder or _users_folder()) / _processor())
        except (OSError, RuntimeError) as error:
            warn(f"compiled programs are not kept: {error}")
            return None
        config.update("jax_compilation_cache_dir", path)
        # jax looks at the folder once, when it first compiles.
        compilation_cache.reset_cache()
    config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return path


def programs_folder() -> str | None:
    """Returns the folder with which another process keeps programs where this one does.

    That process passes it to `cache_programs`, and has a subfolder of its own if its processor is
    of another kind. None where this process keeps none.
    """
    config: Any = jax.config
    path = config.jax_compilation_cache_dir
    if path is None or not config.jax_enable_compilation_cache:
        return None
    return str(Path(path).parent) if Path(path).name == _processor() else path


def _writable(folder: Path) -> str:
    """Returns the folder, made where it is missing.

    Raises:
      OSError: no file can be written there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        return str(folder)


def _users_folder() -> Path:
    """Returns where the platform has programs keep what they can make again.

    Raises:
      RuntimeError: the user has no home.
    """
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "erasejax" / "programs"


def _processor() -> str:
    """Returns a name for what programs of this processor may use.

    Machines that share a home are not all alike, and jax would run the instructions of another.
    """
    features = platform.processor()
    if sys.platform == "linux":
        with open("/proc/cpuinfo") as file:
            features = next((line for line in file if line.lower().startswith(_FEATURES)), features)
    return f"{platform.machine()}-{hashlib.sha256(features.encode()).hexdigest()[:8]}"


_FEATURES = ("flags", "features")
