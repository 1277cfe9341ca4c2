"""The first answer: whole cold processes, first fits, and what a new number of rows compiles.

tables    12 and 40 tables of 384 columns, each with its own number of rows: LEACE, and logistic
          regression before and after, scored on other rows; against concept-erasure and
          scikit-learn by default, with one thread, and in as many processes as cores
layers    7 layers x 3 concepts of one size, the same
commands  the command line on the breast-cancer table, and the demonstration
fits      equations, kernels and processor seconds of compiling every public fit, metric and test,
          beside those of a naive version
sizes     how many programs a call compiles, and how many at another number of rows

Processes keep no compiled programs, but where a line says that they were on disk.

    python -m bench.speed.first
    python -m bench.speed.first --only tables --repeats 3
"""

import argparse
import contextlib
import io
import itertools
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_breast_cancer

from bench.speed.calls import calls, compilations, given, program
from bench.speed.cold import L2, Cost, run, split
from bench.speed.harness import save
from bench.speed.naive import NAIVE
from bench.speed.peers import ONE_THREAD
from bench.speed.problems import objective, two_classes
from erasejax._core.programs import quick_options
from erasejax.cli._main import main as command_line

DIMS = 384
TABLES = (12, 40)
LAYERS, CONCEPTS, LAYER_ROWS = 7, 3, 2_000
SHAPES = ((1_000, 64), (3_000, 384))
FEWER = 7  # rows less that a second table has

Record = dict[str, Any]
NOTHING_KEPT = {"JAX_ENABLE_COMPILATION_CACHE": "0"}
OURS, PEER = "erasejax", "concept-erasure + scikit-learn"


def cold(*words: object) -> list[str]:
    return [sys.executable, "-m", "bench.speed.cold", *map(str, words)]


def tables(repeats: int) -> list[Record]:
    found = []
    for count in TABLES:
        with tempfile.TemporaryDirectory(prefix="erasejax-bench-") as name:
            sizes = np.linspace(800, 3_000, count).astype(int)
            pairs = []
            for i, n in enumerate(np.random.default_rng(0).permutation(sizes)):
                pairs.append(written(Path(name), f"{i}", *two_classes(n, DIMS, seed=i)))
            found += raced(f"{count} tables", Path(name), pairs, repeats)
    return found


def layers(repeats: int) -> list[Record]:
    with tempfile.TemporaryDirectory(prefix="erasejax-bench-") as name:
        pairs = []
        for layer, concept in itertools.product(range(LAYERS), range(CONCEPTS)):
            x, z = two_classes(LAYER_ROWS, DIMS, seed=100 * layer + concept)
            pairs.append(written(Path(name), f"{layer}-{concept}", x, z))
        return raced(f"{LAYERS} layers x {CONCEPTS} concepts", Path(name), pairs, repeats)


def written(folder: Path, name: str, x: np.ndarray, z: np.ndarray) -> tuple[str, str]:
    np.save(folder / f"{name}-x.npy", x)
    np.save(folder / f"{name}-z.npy", z)
    return f"{name}-x.npy", f"{name}-z.npy"


def raced(work: str, folder: Path, pairs: list[tuple[str, str]], repeats: int) -> list[Record]:
    """Times both sides on the tables of a folder, in turn, and compares what they found."""
    (folder / "tables.json").write_text(json.dumps(pairs))
    cores = os.cpu_count() or 1
    kept = cold("ours", folder, "--keep", folder / "programs")
    runs = {
        OURS: lambda: run(cold("ours", folder), NOTHING_KEPT),
        f"{OURS}, programs on disk": lambda: run(kept, {}),
        PEER: lambda: run(cold("theirs", folder), {}),
        f"{PEER}, one thread": lambda: run(cold("theirs", folder), ONE_THREAD),
        f"{PEER}, {cores} processes": lambda: run(
            cold("theirs", folder, "--processes", cores), ONE_THREAD
        ),
    }
    run(kept, {})  # fills the disk
    records = in_turn(work, runs, repeats)
    wall = {record["who"]: record["wall, s"] for record in records}
    best = min(seconds for who, seconds in wall.items() if who.startswith(PEER))
    ends = compared(folder, pairs)
    for record in records:
        ours = record["who"].startswith(OURS)
        record["of the peer"] = record["wall, s"] / wall[PEER] if ours else None
        record["of its best"] = record["wall, s"] / best if ours else None
        record |= ends[OURS if ours else PEER]
    return records


def in_turn(work: str, runs: Mapping[str, Callable[[], Cost]], repeats: int) -> list[Record]:
    costs: dict[str, list[Cost]] = {who: [] for who in runs}
    for _ in range(repeats):
        for who, once in runs.items():
            costs[who].append(once())
    return [
        {
            "work": work,
            "who": who,
            "wall, s": statistics.median(cost.wall for cost in several),
            "CPU, s": statistics.median(cost.cpu for cost in several),
        }
        for who, several in costs.items()
    ]


def compared(folder: Path, pairs: list[tuple[str, str]]) -> dict[str, Record]:
    """Returns the mean accuracies of each side, and how far its losses are above the lower ones."""
    answers = {
        who: json.loads((folder / f"{name}.json").read_text())
        for who, name in ((OURS, "ours"), (PEER, "theirs"))
    }
    losses: dict[str, list[float]] = {who: [] for who in answers}
    for i, (x, z) in enumerate(pairs):
        rows, labels, *_ = split(np.load(folder / x), np.load(folder / z))
        for who, several in answers.items():
            *weight, bias = several[i][0][1]
            losses[who].append(objective(rows, labels, weight, bias, L2))
    low = np.min([*losses.values()], axis=0)
    return {
        who: {
            "accuracy before": float(np.mean([before[0] for before, _ in several])),
            "after": float(np.mean([after[0] for _, after in several])),
            "loss above the lower": float(np.max(np.array(losses[who]) / low - 1)),
        }
        for who, several in answers.items()
    }


LINES = {
    "fit": ("fit", "cells.csv", "cells.csv:target", "--out", "cells.safetensors", "--force"),
    "apply": ("apply", "cells.safetensors", "cells.csv", "--out", "erased.csv", "--force"),
    "probe": ("probe", "cells.csv", "cells.csv:target", "--probes", "logistic,lda"),
    "demo": ("demo", "--force"),
}


def commands(repeats: int) -> list[Record]:
    found = []
    with tempfile.TemporaryDirectory(prefix="erasejax-bench-") as name:
        with contextlib.chdir(name):
            cells(569)
            path = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
            keeping = {**path, "JAX_COMPILATION_CACHE_DIR": name}
            for what, words in LINES.items():
                line = [sys.executable, "-m", "erasejax", *words]
                runs = {
                    OURS: lambda line=line: run(line, path | NOTHING_KEPT),
                    f"{OURS}, programs on disk": lambda line=line: run(line, keeping),
                }
                run(line, keeping)
                found += in_turn(f"erasejax {what}", runs, 1 if what == "demo" else repeats)
    return found


def cells(rows: int) -> None:
    """Writes rows of the breast-cancer table where the process is."""
    load_breast_cancer(as_frame=True).frame[:rows].to_csv("cells.csv", index=False)


def fits(repeats: int) -> list[Record]:
    del repeats  # the best of two
    found = []
    for n, d in SHAPES:
        g = given(n, d)
        for name, call in calls().items():
            ours = program(call, g)
            record = {
                "call": name,
                "rows x columns": f"{n} x {d}",
                "equations": ours.equations,
                "kernels": ours.kernels,
                "compiling, CPU s": ours.seconds,
                "called eagerly, CPU s": program(call, g, options=quick_options()).seconds,
            }
            if name in NAIVE:
                naive = program(NAIVE[name], g.x, g.z.astype(np.float32), g.key)
                record |= {
                    "naive: equations": naive.equations,
                    "naive: kernels": naive.kernels,
                    "naive: CPU s": naive.seconds,
                    "times the naive": ours.seconds / naive.seconds,
                }
            found.append(record)
    return found


def sizes(repeats: int) -> list[Record]:
    del repeats  # nothing is timed
    found = []
    for n, d in SHAPES:
        first, second = given(n, d), given(n - FEWER, d)
        for name, call in calls().items():
            jax.clear_caches()
            counts = [compiled(lambda g=g, call=call: call(g)) for g in (first, second)]
            found.append(counted(name, f"{n}, {n - FEWER} x {d}", counts))
    with tempfile.TemporaryDirectory(prefix="erasejax-bench-") as name:
        with contextlib.chdir(name), contextlib.redirect_stdout(io.StringIO()):
            for what in ("fit", "apply", "probe"):
                jax.clear_caches()
                counts = []
                for rows in (569, 569 - FEWER):
                    cells(rows)
                    counts.append(compiled(lambda what=what: command_line(LINES[what])))
                found.append(counted(f"command {what}", f"569, {569 - FEWER} x 30", counts))
    return found


def compiled(call: Callable[[], Any]) -> int:
    with compilations() as programs:
        jax.block_until_ready(call())
    return len(programs)


def counted(name: str, shape: str, counts: list[int]) -> Record:
    return {
        "call": name,
        "rows x columns": shape,
        "programs": counts[0],
        "at other rows": counts[1],
    }


def show(title: str, records: list[Record]) -> None:
    """Prints records as a table of their keys."""
    keys = list(dict.fromkeys(key for record in records for key in record))
    table = Table(title=title)
    for key in keys:
        words = any(isinstance(record.get(key), str) for record in records)
        table.add_column(key, justify="left" if words else "right")
    for record in records:
        table.add_row(*(_text(record.get(key)) for key in keys))
    Console(width=150).print(table)


def _text(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


SECTIONS = {
    "tables": tables,
    "layers": layers,
    "commands": commands,
    "fits": fits,
    "sizes": sizes,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("bench/results"))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", choices=tuple(SECTIONS), action="append")
    args = parser.parse_args()
    out = args.out.absolute()
    jax.config.update("jax_enable_compilation_cache", False)
    found = {}
    for name in args.only or SECTIONS:
        found[name] = SECTIONS[name](args.repeats)
        show(f"First: {name}", found[name])
    packages = ("jax", "torch", "concept-erasure", "scikit-learn")
    save("First", found, out, packages=packages)


if __name__ == "__main__":
    main()
