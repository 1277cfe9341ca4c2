"""Timing that can be trusted: the same inputs, warm, interleaved, the whole result waited for.

A `Case` is one thing to time. `compare` runs the cases of a group in turn, A B A B ..., so that a
machine whose speed drifts slows them alike, and reports the ratio of medians to the best of the
group's peers. Compile time is the first call less a later one. A `Figure` is a number beside the
times, such as a ratio to something else than a peer. Results go to tables and to a JSON file.
`measure` is the command line of a benchmark in parts.
"""

import argparse
import dataclasses
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
from rich.console import Console
from rich.table import Table

from erasejax.files import replacing

__all__ = ["Case", "Figure", "Row", "compare", "measure", "report", "save"]


@dataclasses.dataclass(frozen=True)
class Case:
    """One thing to time.

    Attributes:
      name: what it is.
      run: called without arguments; what it returns is waited for.
      units: how many units of work one call does; times are reported a unit.
      peer: whether it is one of those that the others' ratios are taken to.
    """

    name: str
    run: Callable[[], Any]
    units: int = 1
    peer: bool = False


@dataclasses.dataclass(frozen=True)
class Row:
    """Seconds a unit of one case, and how many times faster than the best of the peers it is."""

    group: str
    name: str
    compile_s: float
    minimum: float
    median: float
    maximum: float
    repeats: int
    ratio: float | None
    peer: bool = False


@dataclasses.dataclass(frozen=True)
class Figure:
    """A number beside the times of a group."""

    group: str
    name: str
    value: float
    unit: str


# A library's idle threads spin for up to a fifth of a second in the way of the next library's, and
# the latter's first start on one core: so short cases run untimed for longer than that before each
# time.
_WARM, _LONG = 0.4, 5.0


def compare(group: str, cases: list[Case], *, repeats: int = 7) -> list[Row]:
    """Times the cases of one group in turn, and returns a row for each."""
    first, second, times = {}, {}, {case.name: [] for case in cases}
    for case in cases:
        first[case.name], second[case.name] = _seconds(case), _seconds(case)
    for _ in range(repeats):
        for case in cases:
            warm = 0.0
            while second[case.name] < _LONG and warm < _WARM:
                warm += _seconds(case)
            times[case.name].append(_seconds(case) / case.units)
    medians = {case.name: statistics.median(times[case.name]) for case in cases}
    best = min((medians[case.name] for case in cases if case.peer), default=None)
    rows = []
    for case in cases:
        runs, median = times[case.name], medians[case.name]
        ratio = None if best is None else best / median
        compile_s = max(first[case.name] - median * case.units, 0.0)
        rows.append(
            Row(
                group, case.name, compile_s, min(runs), median, max(runs), repeats, ratio, case.peer
            )
        )
    return rows


def _seconds(case: Case) -> float:
    start = time.perf_counter()
    jax.block_until_ready(case.run())
    return time.perf_counter() - start


def measure(
    title: str,
    unit: str,
    parts: Mapping[str, Callable[[int], tuple[list[Row], list[Figure]]]],
    *,
    about: str,
    repeats: int = 5,
    packages: Iterable[str] = ("jax",),
) -> None:
    """Reads the command line, runs all parts or one of them, and reports.

    Args:
      title: as in `report`.
      unit: as in `report`.
      parts: what `--only` chooses from; each takes the number of repeats.
      about: docstring of the module; its first line describes the command.
      repeats: unless the command line says otherwise.
      packages: as in `report`.
    """
    parser = argparse.ArgumentParser(description=about.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("bench/results"))
    parser.add_argument("--repeats", type=int, default=repeats)
    parser.add_argument("--only", choices=tuple(parts))
    args = parser.parse_args()
    rows, figures = [], []
    for name in [args.only] if args.only else parts:
        timed, found = parts[name](args.repeats)
        rows += timed
        figures += found
    report(title, unit, rows, args.out, figures=figures, packages=packages)


def report(
    title: str,
    unit: str,
    rows: list[Row],
    out: Path,
    *,
    figures: Iterable[Figure] = (),
    packages: Iterable[str] = ("jax",),
) -> None:
    """Prints rows and figures as tables and writes them, with machine and versions, as JSON.

    Args:
      title: of the table; in small letters the name of the file.
      unit: of work, that the times are for.
      rows: times.
      out: folder of the file.
      figures: other numbers.
      packages: distributions whose versions matter to the result.
    """
    figures = list(figures)
    table = Table(title=title)
    for column in ("group", "case"):
        table.add_column(column)
    for column in (f"min / {unit}", "median", "max", "compile", "times faster"):
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(
            row.group,
            row.name,
            *(_si(value) for value in (row.minimum, row.median, row.maximum, row.compile_s)),
            _times(row),
        )
    Console(width=110).print(table)
    if figures:
        table = Table("group", "figure", title=f"{title}: figures")
        table.add_column("value", justify="right")
        table.add_column("unit")
        for figure in figures:
            table.add_row(figure.group, figure.name, f"{figure.value:.3g}", figure.unit)
        Console(width=110).print(table)
    content = {
        "rows": [dataclasses.asdict(row) for row in rows],
        "figures": [dataclasses.asdict(figure) for figure in figures],
    }
    save(title, content, out, packages=packages)


def save(
    title: str, content: Mapping[str, Any], out: Path, *, packages: Iterable[str] = ("jax",)
) -> None:
    """Writes results, with machine and versions, as JSON; the arguments are those of `report`."""
    machine = {
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in packages},
        "device": jax.devices()[0].device_kind,
        "cores": os.cpu_count(),
        "processor": platform.machine(),
    }
    text = json.dumps({"title": title, "machine": machine, **content}, indent=2)
    out.mkdir(parents=True, exist_ok=True)
    path = out / (title.lower().replace(" ", "-") + ".json")
    with replacing(path) as temporary:
        temporary.write_text(text + "\n")


def _times(row: Row) -> str:
    if row.ratio is None:
        return ""
    if row.peer:
        return "best peer" if row.ratio == 1 else f"peer, {row.ratio:.2f}"
    return f"{row.ratio:.2f}"


def _si(seconds: float) -> str:
    for scale, name in ((1, "s"), (1e-3, "ms"), (1e-6, "us")):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {name}"
    return f"{seconds / 1e-9:.3g} ns"
