"""Programs for a TPU, compiled ahead of time by its own compiler: seconds and bytes.

No TPU is needed: `jax[tpu]` brings the compiler, for four chips of a v5e. What fails to compile is
told in words, and the status is then 1.

    pip install "jax[tpu]"
    python -m bench.speed.tpu
    python -m bench.speed.tpu --only leace-4096 --only test
"""

import argparse
import ast
import dataclasses
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# What runs here, to trace, runs on the CPU; and the compiler need not tell that it finds no TPU.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from rich.console import Console
from rich.table import Table

import erasejax as ej

__all__ = ["CASES", "Program", "compiled"]

TOPOLOGY = "v5e:2x2"
TRIALS = 1000
NOTEBOOK = Path(__file__).parents[2] / "docs/notebooks/thousands-of-datasets.ipynb"


@dataclasses.dataclass(frozen=True)
class Program:
    """What the compiler made of a case.

    Attributes:
      seconds: of wall time, tracing and lowering included.
      code: bytes of the program.
      temporary: bytes of memory that it takes beside arguments and results.
      failure: why there is none; None if there is.
    """

    seconds: float
    code: int = 0
    temporary: int = 0
    failure: str | None = None


def _fit(method: Any, n: int, d: int) -> Callable:
    def case(mesh: Mesh) -> tuple[Callable, tuple]:
        one = NamedSharding(mesh, PartitionSpec())
        x = jax.ShapeDtypeStruct((n, d), jnp.float32, sharding=one)
        z = jax.ShapeDtypeStruct((n,), jnp.int32, sharding=one)
        return lambda x, z: method.fit(x, z, num_classes=2), (x, z)

    return case


def _certificate(n: int, d: int) -> Callable:
    def case(mesh: Mesh) -> tuple[Callable, tuple]:
        _, (x, z) = _fit(None, n, d)(mesh)

        def test(x, z):
            return ej.metrics.guardedness_test(x, z, key=jax.random.key(0), num_classes=2)

        return test, (x, z)

    return case


def _trials(axis: str | None) -> Callable:
    def case(mesh: Mesh) -> tuple[Callable, tuple]:
        dataset = ej.datasets.DiscreteFeatures()
        probe = ej.probes.Logistic(l2=1 / (2 * dataset.rows))

        def trial(seed):
            data = dataset.sample(jax.random.key(seed))
            erased = data.replace(x=ej.MeanDifference().fit(data)(data.x))
            return [ej.metrics.accuracy(probe.fit(rows), rows) for rows in (data, erased)]

        sharding = NamedSharding(mesh, PartitionSpec(axis))
        return jax.vmap(trial), (jax.ShapeDtypeStruct((TRIALS,), jnp.uint32, sharding=sharding),)

    return case


def _of_notebook(name: str, count: int) -> Callable:
    """Makes a case of a function that the notebook defines."""

    def case(mesh: Mesh) -> tuple[Callable, tuple]:
        sharding = NamedSharding(mesh, PartitionSpec("lanes"))
        seeds = jax.ShapeDtypeStruct((count,), jnp.uint32, sharding=sharding)
        return jax.vmap(_definitions()[name]), (seeds,)

    return case


def _definitions() -> dict[str, Any]:
    """Returns the functions of the notebook, without running it."""
    found: dict[str, Any] = {"ej": ej, "jax": jax, "jnp": jnp, "np": np}
    needed = {"dataset", "logistic", "methods", "threshold"}
    for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"][2:]:
        tree = ast.parse("".join(cell["source"]) if cell["cell_type"] == "code" else "")
        tree.body = [
            each
            for each in tree.body
            if isinstance(each, ast.FunctionDef)
            or (isinstance(each, ast.Assign) and ast.unparse(each.targets[0]) in needed)
        ]
        exec(compile(tree, NOTEBOOK.name, "exec"), found)
    return found


# Cases on one chip, and those on all; each makes a function and its arguments from a mesh.
CASES: dict[str, tuple[int, Callable]] = {
    "leace-4096": (1, _fit(ej.LEACE(), 50_000, 4096)),
    "mean-difference-4096": (1, _fit(ej.MeanDifference(), 50_000, 4096)),
    "lda-4096": (1, _fit(ej.probes.LDA(), 50_000, 4096)),
    "logistic-4096": (1, _fit(ej.probes.Logistic(), 50_000, 4096)),
    "qleace-64": (1, _fit(ej.QLEACE(), 10_000, 64)),
    "test": (1, _certificate(2000, 64)),
    "trials": (1, _trials(None)),
    "trials-sharded": (4, _trials("lanes")),
    "notebook-convex": (4, _of_notebook("convex", 4096)),
    "notebook-search": (4, _of_notebook("search", 512)),
}


def compiled(name: str) -> Program:
    """Compiles a case of `CASES`."""
    chips, case = CASES[name]
    devices = topologies.get_topology_desc(platform="tpu", topology_name=TOPOLOGY).devices
    run, arguments = case(Mesh(np.array(devices[:chips]), ("lanes",)))
    start = time.perf_counter()
    try:
        memory = jax.jit(run).lower(*arguments).compile().memory_analysis()
    except Exception as error:  # whatever the compiler says
        reason = str(error).strip().partition("\n")[0]
        return Program(time.perf_counter() - start, failure=f"{type(error).__name__}: {reason}")
    return Program(
        time.perf_counter() - start,
        memory.generated_code_size_in_bytes,
        memory.temp_size_in_bytes,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", action="append", choices=tuple(CASES))
    chosen = parser.parse_args().only or list(CASES)
    table = Table("program", title=f"Ahead of time for {TOPOLOGY}, jax {jax.__version__}")
    for column in ("compile", "program", "temporary"):
        table.add_column(column, justify="right")
    made = {name: compiled(name) for name in chosen}
    for name, one in made.items():
        size, room = f"{one.code / 1e6:.1f} MB", f"{one.temporary / 1e6:.0f} MB"
        table.add_row(
            name, f"{one.seconds:.1f} s", *(("failed", "") if one.failure else (size, room))
        )
    console = Console(width=110)
    console.print(table)
    failed = {name: one.failure for name, one in made.items() if one.failure}
    for name, reason in failed.items():
        console.print(f"{name}: {reason}", soft_wrap=True, markup=False)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
