"""The commands `sweep` and `report`."""

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from erasejax.cli._common import share_among_cores
from erasejax.cli._executor import executor_of
from erasejax.pages import report as write_report
from erasejax.sweep import estimate, run
from erasejax.sweep import open as open_sweep

__all__ = ["report", "sweep"]


def sweep(
    spec: Positional[Annotated[Path, arg(metavar="SPEC")]],
    /,
    *,
    out: str,
    dry_run: bool = False,
    shard: Annotated[str | None, arg(metavar="I/N")] = None,
    chunk: int | None = None,
    memory: int | None = None,
    executor: Annotated[str | None, arg(metavar="KIND:WHICH")] = None,
) -> str:
    """Run thousands of synthetic trials: datasets x erasers x probes x seeds.

    Datasets may be your own rows, too. The spec is a TOML file (or Python that sets `spec`), and
    files in it are relative to the working directory. Results go to a folder of immutable
    files, so the run may be killed at any moment and the same command goes on from there; where
    the spec has grown, only what is new is run. Several processes may share the folder or bucket.

    Args:
      spec: what to run.
      out: folder of the results, or the URL of one in a bucket (s3://..., gs://...).
      dry_run: say how many cells, programs, trials and bytes it would be, compile and time one
        chunk of each program, and write nothing.
      shard: do the part I of N, I from 0; by itself in a SLURM job array or a jax.distributed
        job, where 0/1 does all of it.
      chunk: datasets at once.
      memory: megabytes for the rows of a chunk on each device.
      executor: who computes: processes:4 for so many processes of this machine, or
        dask:tcp://host:8786 for the workers of a Dask scheduler; this process if it is left out.

    Returns:
      What there is, or what it would take.

    Raises:
      FileNotFoundError: there is no such spec.
      ValueError: it is not valid.
    """
    budget = None if memory is None else memory * 2**20
    if executor is None or dry_run:
        share_among_cores()  # else the workers compute
    if dry_run:
        found = estimate(spec, out=out, shard=shard, chunk=chunk, memory=budget)
        return str(found)
    with executor_of(executor) as workers:
        found = run(
            spec,
            out=out,
            progress=True,
            shard=shard,
            chunk=chunk,
            memory=budget,
            executor=workers,
        )
    return str(found)


def report(
    folder: Positional[Annotated[str, arg(metavar="FOLDER")]],
    /,
    *,
    out: Path | None = None,
    force: bool = False,
) -> str:
    """Write the page of a sweep: one HTML file with a table and pictures.

    Args:
      folder: of the sweep, or its URL in a bucket.
      out: the page; if it is left out, report.html in the folder, or here if that is in a bucket.
      force: replace what is there.

    Returns:
      What was written.

    Raises:
      FileExistsError: the page exists and force is False.
      ValueError: the folder holds no sweep.
    """
    sweep = open_sweep(folder)
    beside = sweep.path if isinstance(sweep.path, Path) else Path()
    return str(write_report(sweep, out or beside / "report.html", overwrite=force))
