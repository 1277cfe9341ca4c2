"""Fitting and applying LEACE: time and memory against concept-erasure, and against X^T X alone.

Rows are normal, classes half a standard deviation apart at most, float32, and where each library
wants them before the clock starts. The peer runs by default, with one thread, and on many small
problems in as many processes as cores; the ratio is to the best of these. The rows are such that
it is at its best: where erasing would raise the trace of the covariance, it decomposes one more
(d, d) matrix.

    python -m bench.speed.erasers
    python -m bench.speed.erasers --only 0 6 --repeats 3 --no-memory
"""

import argparse
import contextlib
import functools
import gc
import json
import os
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from concept_erasure import LeaceFitter

import erasejax as ej
from bench.speed.harness import Case, Figure, Row, compare, report
from bench.speed.peers import in_processes, one_or_all_threads

SHAPES = (
    (10_000, 768, 2),
    (50_000, 768, 2),
    (2_000, 2_048, 2),
    (10_000, 2_048, 2),
    (1_000, 4_096, 2),
    (20_000, 256, 10),
    (100_000, 64, 2),
)
SMALL = (200, 16, 2)
PROBLEMS = 1024
LANES = 128  # at once: what keeps a chunk in cache

OURS, PEER, PLAIN, FLOOR = (
    "erasejax",
    "concept-erasure",
    "concept-erasure, shrinkage off",
    "X^T X",
)


def rows(n: int, d: int, k: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Returns x (n, d) float32 and class labels (n,)."""
    rng = np.random.default_rng(seed)
    z = rng.integers(0, k, n)
    z[:k] = np.arange(k)
    x = rng.standard_normal((n, d), dtype=np.float32)
    x += rng.uniform(-0.25, 0.25, (k, d)).astype(np.float32)[z]
    return x, z


def for_jax(x: np.ndarray, z: np.ndarray) -> tuple[jax.Array, jax.Array]:
    return jnp.asarray(x), jnp.asarray(z, jnp.int32)


def for_torch(x: np.ndarray, z: np.ndarray, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns tensors; two classes as one column, more as one-hot columns."""
    labels = torch.from_numpy(z)
    columns = labels if k == 2 else torch.nn.functional.one_hot(labels, k)
    return torch.from_numpy(x.copy()), columns.float()


@jax.jit
def gram(x: jax.Array) -> jax.Array:
    return jnp.einsum("ni,nj->ij", x, x, precision=jax.lax.Precision.HIGHEST)


def fits(n: int, d: int, k: int) -> dict[str, Callable[[], Any]]:
    """Returns one fit of each, on the same rows."""
    x, z = rows(n, d, k)
    ours, theirs = for_jax(x, z), for_torch(x, z, k)
    return {
        PEER: lambda: LeaceFitter.fit(*theirs).eraser,
        PLAIN: lambda: LeaceFitter.fit(*theirs, shrinkage=False).eraser,
        OURS: lambda: ej.LEACE().fit(*ours, num_classes=k),
        FLOOR: lambda: gram(ours[0]),
    }


def applies(n: int, d: int, k: int) -> dict[str, Callable[[], Any]]:
    x, z = rows(n, d, k)
    ours, theirs = for_jax(x, z), for_torch(x, z, k)
    # The peer's with shrinkage on takes seconds to fit where d is large; SAL's form is the same.
    peer = LeaceFitter.fit(*theirs, method="orth").eraser
    eraser = ej.LEACE().fit(*ours, num_classes=k)
    return {PEER: lambda: peer(theirs[0]), OURS: lambda: eraser(ours[0])}


@functools.cache
def small_problems() -> list[tuple[torch.Tensor, torch.Tensor]]:
    n, d, k = SMALL
    return [for_torch(*rows(n, d, k, seed=seed), k) for seed in range(PROBLEMS)]


def small_share(i: int, of: int) -> None:
    """Fits the small problems whose numbers are i and multiples of `of` after it, in a loop."""
    for x, z in small_problems()[i::of]:
        LeaceFitter.fit(x, z).eraser  # noqa: B018, a property that computes


def small_cases() -> list[Case]:
    """Returns ways to fit many small problems."""
    n, d, k = SMALL
    drawn = [rows(n, d, k, seed=seed) for seed in range(PROBLEMS)]
    ours = for_jax(np.stack([x for x, _ in drawn]), np.stack([z for _, z in drawn]))
    apart = [for_jax(x, z) for x, z in drawn]

    def one(pair):
        return ej.LEACE().fit(*pair, num_classes=k)

    whole = jax.jit(jax.vmap(lambda x, z: one((x, z))))
    blocks = jax.jit(lambda x, z: jax.lax.map(one, (x, z), batch_size=LANES))
    return [
        *one_or_all_threads(f"{PEER}, loop", lambda: small_share(0, 1), PROBLEMS),
        in_processes(PEER, small_share, PROBLEMS),
        Case(f"{OURS}, loop", lambda: [one(pair) for pair in apart], units=PROBLEMS),
        Case(f"{OURS}, vmap", lambda: whole(*ours), units=PROBLEMS),
        Case(f"{OURS}, lax.map of {LANES}", lambda: blocks(*ours), units=PROBLEMS),
    ]


def ratios(timed: list[Row]) -> list[Figure]:
    """Returns how our median compares with what is not the same work."""
    times = {row.name: row.median for row in timed}
    group = timed[0].group
    return [
        Figure(group, f"{PLAIN} / {OURS}", times[PLAIN] / times[OURS], "times"),
        Figure(group, f"{OURS} / {FLOOR}", times[OURS] / times[FLOOR], "times"),
    ]


def peak(name: str, shape: tuple[int, int, int]) -> float:
    """Returns by how many MiB one fit raises this process's peak of resident memory.

    Run in a process of its own. Code is loaded, and threads are started, by a fit of few rows; what
    is compiled for the shape in question is compiled before as well. The kernel's high-water mark
    is set back between, where it allows that.
    """
    fits(*SMALL)[name]()
    if name in (OURS, FLOOR):
        x = jax.ShapeDtypeStruct(shape[:2], jnp.float32)
        z = jax.ShapeDtypeStruct(shape[:1], jnp.int32)
        method = ej.LEACE()
        compiled = (
            jax.jit(lambda x, z: method.fit(x, z, num_classes=shape[2])).lower(x, z).compile()
            if name == OURS
            else gram.lower(x).compile()
        )
        arrays = for_jax(*rows(*shape))
        jax.block_until_ready(arrays)
        run = (lambda: compiled(*arrays)) if name == OURS else (lambda: compiled(arrays[0]))
    else:
        run = fits(*shape)[name]
    gc.collect()
    time.sleep(0.5)  # the copies to the device let go of what they copied a little later
    start = _reset_high_water()
    jax.block_until_ready(run())
    return _high_water() - start


def _reset_high_water() -> float:
    """Sets the peak of resident memory back to what is in use (Linux), and returns it in MiB."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _high_water()


def _high_water() -> float:
    # Not ru_maxrss where there is a choice: a process inherits that from the one that started it.
    status = Path("/proc/self/status")
    if status.exists():
        return int(re.search(r"VmHWM:\s*(\d+)", status.read_text())[1]) / 2**10
    kept = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kept / (2**20 if sys.platform == "darwin" else 2**10)


def memory(shape: tuple[int, int, int]) -> list[Figure]:
    """Returns the peaks of one fit of each, each measured in a new process."""
    found = []
    for name in (PEER, PLAIN, OURS, FLOOR):
        command = [sys.executable, "-m", "bench.speed.erasers", "--peak", json.dumps([name, shape])]
        # Large buffers go back to the system at once, and are asked for anew (glibc).
        env = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(2**16)}
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=env)
        value = float(done.stdout.strip().splitlines()[-1])
        found.append(Figure(_title("fit", shape), f"peak memory, {name}", value, "MiB"))
    return found


def _title(what: str, shape: tuple[int, int, int]) -> str:
    n, d, k = shape
    return f"{what} {n} x {d}, k = {k}"


def _cases(runs: dict[str, Callable[[], Any]]) -> list[Case]:
    ours = [Case(name, run) for name, run in runs.items() if name != PEER]
    return [*one_or_all_threads(PEER, runs[PEER]), *ours]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("bench/results"))
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument(
        "--only",
        type=int,
        nargs="*",
        default=range(len(SHAPES)),
        help="which shapes, from 0; none for the small problems alone: "
        + "; ".join(f"{i} {shape}" for i, shape in enumerate(SHAPES)),
    )
    parser.add_argument("--small", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--apply", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--memory", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--peak", type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peak:
        print(peak(args.peak[0], tuple(args.peak[1])))
        return
    timed, figures = [], []
    for index in args.only:
        shape = SHAPES[index]
        part = compare(_title("fit", shape), _cases(fits(*shape)), repeats=args.repeats)
        timed += part
        figures += ratios(part)
        if args.apply:
            title = _title("apply", shape)
            timed += compare(title, _cases(applies(*shape)), repeats=args.repeats)
        if args.memory:
            figures += memory(shape)
    if args.small:
        title = _title(f"fit {PROBLEMS} of", SMALL)
        timed += compare(title, small_cases(), repeats=args.repeats)
    report(
        "Erasers",
        "fit",
        timed,
        args.out,
        figures=figures,
        packages=("jax", "torch", "concept-erasure"),
    )


if __name__ == "__main__":
    main()
