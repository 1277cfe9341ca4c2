"""The commands sweep and report."""

from pathlib import Path
from typing import Any

from erasejax.sweep import Estimate, Sweep, estimate, run

__all__ = ["describe", "sweep"]


def sweep(
    spec: Path,
    *,
    out: Path,
    shard: str | None = None,
    chunk: int | None = None,
    memory: int | None = None,
) -> Sweep:
    """Runs a sweep with a progress bar.

    Args:
      spec: a file, .toml or .py.
      out: the folder.
      shard: "i/n", or None.
      chunk: datasets at once, or None.
      memory: megabytes for the rows of a chunk on each device, or None.

    Returns:
      The results.

    Raises:
      FileNotFoundError: there is no such spec.
      ValueError: it is not valid.
    """
    return run(spec, out=out, progress=True, shard=shard, chunk=chunk, memory=_bytes(memory))


def describe(
    spec: Path,
    *,
    out: Path,
    shard: str | None = None,
    chunk: int | None = None,
    memory: int | None = None,
) -> list[tuple[str, str]]:
    """Says what a sweep would take; see `sweep` for the arguments.

    Returns:
      Pairs (name, text).

    Raises:
      FileNotFoundError: there is no such spec.
      ValueError: it is not valid.
    """
    found = estimate(spec, out=out, shard=shard, chunk=chunk, memory=_bytes(memory))
    return _lines(found)


def _lines(found: Estimate) -> list[tuple[str, str]]:
    lines = [
        ("cells", f"{found.cells:,}"),
        ("blocks", f"{found.blocks:,}, of which {found.stored:,} are stored"),
        ("programs", f"{found.programs:,} to compile"),
        ("trials", f"{found.trials:,} to run"),
        ("disk", f"about {_size(found.bytes)}"),
    ]
    if found.share:
        lines.insert(1, ("share", found.share))
    if found.compile_s is not None and found.run_s is not None:
        lines.append((
            "time",
            f"about {_seconds(found.compile_s)} to compile and {_seconds(found.run_s)} to run "
            "here, from one chunk of each program",
        ))
    return lines


def _bytes(megabytes: int | None) -> int | None:
    return None if megabytes is None else megabytes * 2**20


def _size(count: float) -> str:
    for unit in ("bytes", "KB", "MB", "GB"):
        if count < 1024:
            return f"{count:.3g} {unit}"
        count /= 1024
    return f"{count:.3g} TB"


def _seconds(value: Any) -> str:
    if value < 120:
        return f"{value:.2g} s"
    return f"{value / 60:.0f} min" if value < 7200 else f"{value / 3600:.1f} h"
