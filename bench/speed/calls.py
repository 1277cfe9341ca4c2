"""Public calls by name, and the programs that they become: equations, kernels, seconds to compile.

A kernel is an instruction of the compiled program that runs by itself, not inside a fusion; it is
what a compiler takes time for.
"""

import contextlib
import dataclasses
import re
import time
from collections.abc import Callable, Generator
from typing import Any

import jax
import numpy as np

import erasejax as ej
from bench.speed.problems import two_classes
from erasejax.names import known

__all__ = ["Given", "Program", "calls", "compilations", "given", "program"]


@dataclasses.dataclass(frozen=True)
class Given:
    """What calls take.

    Attributes:
      x: (n, d) float32.
      z: (n,) int32, 0 and 1.
      key: typed.
      pairs: contrast pairs, about n of them.
      probe: a fitted logistic regression.
      eraser: a fitted `LEACE`.
    """

    x: Any
    z: Any
    key: Any
    pairs: Any
    probe: Any
    eraser: Any


jax.tree_util.register_dataclass(Given)


def given(n: int, d: int) -> Given:
    """Draws what calls take; the rows are numpy's, as users bring them."""
    x, z = two_classes(n, d)
    z = z.astype(np.int32)
    pairs = ej.datasets.ContrastPairs(rows=n // 2, dims=d, directions=8).sample(jax.random.key(0))
    return Given(
        x=x,
        z=z,
        key=jax.random.key(1),
        pairs=jax.tree.map(np.asarray, pairs),
        probe=ej.probes.Logistic().fit(x, z),
        eraser=ej.LEACE().fit(x, z),
    )


def calls() -> dict[str, Callable[[Given], Any]]:
    """Returns every fit, metric and test by its name, each a function of `Given`."""
    found: dict[str, Callable[[Given], Any]] = {"apply": lambda g: g.eraser(g.x)}
    for name, cls in known("eraser").items():
        found[f"eraser {name}"] = _eraser(cls)
    for name, cls in known("probe").items():
        found[f"probe {name}"] = _probe(cls)
    for metric in (
        ej.metrics.accuracy,
        ej.metrics.balanced_accuracy,
        ej.metrics.auroc,
        ej.metrics.log_loss,
        ej.metrics.expected_calibration_error,
    ):
        found[f"metric {metric.__name__}"] = lambda g, metric=metric: metric(g.probe, g.x, g.z)
    return found | {
        "metric damage": lambda g: ej.metrics.damage(g.x, g.x + 1),
        "metric linear_r2": lambda g: ej.metrics.linear_r2(g.x, g.z, num_classes=2),
        "metric majority_rate": lambda g: ej.metrics.majority_rate(g.z, num_classes=2),
        "canonical_correlations": lambda g: ej.metrics.canonical_correlations(
            g.x, g.z, num_classes=2
        ),
        "guardedness_test": lambda g: ej.metrics.guardedness_test(
            g.x, g.z, num_classes=2, key=g.key
        ),
        "bootstrap": lambda g: ej.metrics.bootstrap(
            ej.metrics.accuracy, g.probe, g.x, g.z, key=g.key
        ),
    }


def _eraser(cls: type[ej.erasers.Eraser]) -> Callable[[Given], Any]:
    def fit(g: Given) -> Any:
        more = {"task": g.x[:, 0]} if cls.needs_task else {}
        config = cls()
        if isinstance(config, ej.Ablation):
            config = ej.Ablation(directions=np.eye(g.x.shape[1], 1, dtype=np.float32))
        return config.fit(g.x, g.z, num_classes=2, key=g.key, **more)

    return fit


def _probe(cls: type) -> Callable[[Given], Any]:
    if issubclass(cls, ej.probes.Probe):
        return lambda g: cls().fit(g.x, g.z, num_classes=2, key=g.key)
    return lambda g: cls().fit(g.pairs, key=g.key)


@dataclasses.dataclass(frozen=True)
class Program:
    """What a jitted call becomes; seconds are of the processor, for all that precedes the run."""

    equations: int
    kernels: int
    seconds: float


def program(
    function: Callable[..., Any],
    *args: Any,
    repeats: int = 2,
    options: dict[str, Any] | None = None,
) -> Program:
    """Compiles a function, under jit in one program, and returns the best of the repeats."""
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), args)
    seconds = []
    for _ in range(repeats):
        jax.clear_caches()
        start = time.process_time()
        compiled = jax.jit(lambda *given: function(*given)).lower(*shapes).compile(options)
        seconds.append(time.process_time() - start)
    jaxpr = jax.make_jaxpr(lambda *given: function(*given))(*shapes)
    return Program(_equations(jaxpr.jaxpr), _kernels(compiled.as_text() or ""), min(seconds))


def _equations(jaxpr: Any) -> int:
    return sum(1 + sum(map(_equations, _inside(equation.params))) for equation in jaxpr.eqns)


def _inside(params: dict[str, Any]) -> Generator[Any, None, None]:
    for leaf in jax.tree.leaves(params, is_leaf=lambda value: hasattr(value, "eqns")):
        if hasattr(leaf, "eqns"):
            yield getattr(leaf, "jaxpr", leaf)


_KERNEL = re.compile(
    r" (fusion|call|custom-call|dot|convolution|sort|scatter|gather|reduce|reduce-window|while|"
    r"conditional|copy|transpose|broadcast|concatenate|pad|dynamic-slice|dynamic-update-slice)\("
)


def _kernels(text: str) -> int:
    """Returns how many instructions of an HLO module run by themselves."""
    count, fused = 0, False
    for line in text.splitlines():
        if line.endswith("{") and not line.startswith(" "):
            fused = "fused_computation" in line.partition("(")[0]
        elif not fused and _KERNEL.search(line):
            count += 1
    return count


@contextlib.contextmanager
def compilations() -> Generator[list[float], None, None]:
    """Gives a list to which every program that is compiled adds its seconds."""
    found: list[float] = []
    counting = True

    def listen(event: str, seconds: float, **_: Any) -> None:
        if counting and event == "/jax/core/compile/backend_compile_duration":
            found.append(seconds)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield found
    finally:
        counting = False
