"""Whole processes: what one does from its start to its end, and what that costs.

    python -m bench.speed.cold ours FOLDER
    python -m bench.speed.cold theirs FOLDER --processes 2

A process reads tables of features and labels from a folder. Of each it fits LEACE on seven tenths
of the rows, and a logistic regression before and after, and scores both on the other rows. It
leaves accuracies and weights in the folder. Both sides get the same rows and minimise the same
loss, each as far as it does by default.
"""

import argparse
import dataclasses
import functools
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np

__all__ = ["L2", "Cost", "run", "split"]

L2 = 1e-3


@dataclasses.dataclass(frozen=True)
class Cost:
    """Seconds of a whole process and of those that it started."""

    wall: float
    cpu: float


def run(command: Iterable[str], environment: Mapping[str, str]) -> Cost:
    """Runs a command to its end.

    Raises:
      RuntimeError: it failed; with what it said.
    """
    with tempfile.TemporaryFile("w+") as said:
        start = time.perf_counter()
        process = subprocess.Popen(
            [*command], env={**os.environ, **environment}, stdout=said, stderr=subprocess.STDOUT
        )
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            raise RuntimeError(said.read()[-4000:])
    return Cost(wall, usage.ru_utime + usage.ru_stime)


def split(x: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Returns the rows to fit, their labels, the rows to score and theirs."""
    cut = 7 * len(x) // 10
    return x[:cut], z[:cut], x[cut:], z[cut:]


Answer = list[tuple[float, list[float]]]  # accuracy, and weights with the intercept last; twice


def ours(x: np.ndarray, z: np.ndarray) -> Answer:
    import erasejax as ej

    x, z, unseen, labels = split(x, z)
    eraser, probe = ej.LEACE().fit(x, z), ej.probes.Logistic(l2=L2)
    found = []
    for rows, others in ((x, unseen), (eraser(x), eraser(unseen))):
        fitted = probe.fit(rows, z)
        accuracy = float(ej.metrics.accuracy(fitted, others, labels))
        found.append((accuracy, [*map(float, fitted.weight), float(fitted.bias)]))
    return found


def theirs(x: np.ndarray, z: np.ndarray) -> Answer:
    import torch
    from concept_erasure import LeaceFitter
    from sklearn.linear_model import LogisticRegression

    x, z, unseen, labels = split(x, z)
    eraser = LeaceFitter.fit(torch.from_numpy(x), torch.from_numpy(z).float()).eraser
    erased = [eraser(torch.from_numpy(part)).numpy() for part in (x, unseen)]
    found = []
    for rows, others in ((x, unseen), erased):
        fitted = LogisticRegression(C=1 / (L2 * len(rows)), max_iter=1000).fit(rows, z)
        weights = [*map(float, fitted.coef_[0]), float(fitted.intercept_[0])]
        found.append((float(fitted.score(others, labels)), weights))
    return found


def answer(work: Callable[[np.ndarray, np.ndarray], Answer], files: tuple[Path, Path]) -> Answer:
    return work(*map(np.load, files))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("who", choices=("ours", "theirs"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--processes", type=int, default=1, help="each a share of the tables")
    parser.add_argument("--keep", type=Path, help="where compiled programs are kept")
    args = parser.parse_args()
    if args.keep:
        import erasejax as ej

        ej.cache_programs(args.keep)
    tables = [tuple(args.folder / name for name in pair) for pair in listed(args.folder)]
    work = functools.partial(answer, {"ours": ours, "theirs": theirs}[args.who])
    if args.processes == 1:
        found = [*map(work, tables)]
    else:
        import concept_erasure  # noqa: F401, before the fork: once for all
        import sklearn.linear_model  # noqa: F401

        with multiprocessing.get_context("fork").Pool(args.processes) as pool:
            found = pool.map(work, tables, chunksize=1)
    (args.folder / f"{args.who}.json").write_text(json.dumps(found))


def listed(folder: Path) -> list[list[str]]:
    """Returns the names of the files of each table: features, labels."""
    return json.loads((folder / "tables.json").read_text())


if __name__ == "__main__":
    sys.exit(main())
