"""The experiment on thousands of datasets, in chunks of constant shape."""

import functools
import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from erasejax.demo import trials
from erasejax.demo.trials import DATA, ERASERS, PROBES

__all__ = ["ZERO_ONE_DATASETS", "Results", "run"]

ZERO_ONE_DATASETS = 256
_CHUNK = 64


class Results(NamedTuple):
    """What was measured, as numpy arrays, one entry a dataset on the first axis.

    Attributes:
      convex: name to (datasets, data, eraser, protocol, probe), in the order of `PROBES`.
      zero_one: name to (datasets, data, eraser, 3): fitting rows, fresh rows, and fitting rows with
        permuted labels. The first datasets only.
    """

    convex: dict[str, np.ndarray]
    zero_one: dict[str, np.ndarray]


def run(
    *,
    datasets: int = 4096,
    seed: int = 0,
    zero_one_datasets: int = ZERO_ONE_DATASETS,
    chunk: int = _CHUNK,
    progress: bool = False,
) -> Results:
    """Runs the trials, in chunks of constant shape.

    Args:
      datasets: how many datasets; dataset i is the same whatever else is run.
      seed: of all draws.
      zero_one_datasets: the first so many also meet `ZeroOne`.
      chunk: datasets a chunk; no result depends on it.
      progress: whether to show bars, or the stages where stderr is no terminal.

    Returns:
      `Results`.
    """
    key = jax.random.key(seed)
    chunk = min(chunk, datasets)
    few = min(zero_one_datasets, datasets)
    per_dataset = len(DATA) * len(ERASERS)
    convex = _Stage("convex probes", datasets, per_dataset * len(PROBES) * 2, progress)
    zero_one = _Stage("ZeroOne, null", few, per_dataset * 3, progress, position=1)
    with ThreadPoolExecutor(2) as beside, convex, zero_one:
        # Sampling is a program of its own: to compile it twice would take longer than to run it.
        sampler = beside.submit(_compiled_draw, chunk)
        costly = beside.submit(_run_chunks, trials.zero_one, sampler, key, chunk, zero_one)
        return Results(_run_chunks(trials.convex, sampler, key, chunk, convex), costly.result())


def _draw_lanes(key: jax.Array, numbers: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns key, features and labels of datasets by number."""

    def lane(number):
        own = jax.random.fold_in(key, number)
        return own, *trials.draw(own)

    return jax.vmap(lane)(numbers)


@functools.lru_cache(maxsize=8)
def _compiled_draw(chunk: int) -> Callable:
    return jax.jit(_draw_lanes).lower(jax.random.key(0), jnp.zeros(chunk, jnp.uint32)).compile()


@functools.lru_cache(maxsize=8)
def _compiled(measure: Callable, chunk: int) -> Callable:
    """Returns `measure` of many datasets, compiled for `chunk` of them."""
    lanes = jax.eval_shape(_draw_lanes, jax.random.key(0), jnp.zeros(chunk, jnp.uint32))
    return jax.jit(jax.vmap(measure)).lower(*lanes).compile()


def _run_chunks(
    measure: Callable, sampler: Future, key: jax.Array, chunk: int, stage: "_Stage"
) -> dict[str, np.ndarray]:
    """Returns what `measure` says of the stage's datasets, (datasets, ...)."""
    compiled = _compiled(measure, chunk)
    sample = sampler.result()
    stage.start()
    found = []
    pending = None
    for start in [*range(0, stage.datasets, chunk), None]:
        following = None  # one chunk is under way while another is fetched; the last is padded
        if start is not None:
            numbers = np.minimum(np.arange(start, start + chunk), stage.datasets - 1)
            following = compiled(*sample(key, numbers.astype(np.uint32)))
        if pending is not None:
            found.append({name: np.asarray(value) for name, value in pending.items()})
            stage.advance(chunk)
        pending = following
    return {
        name: np.concatenate([part[name] for part in found])[: stage.datasets] for name in found[0]
    }


class _Stage:
    """A progress bar in trials, or a line a stage where stderr is no terminal."""

    def __init__(self, name: str, datasets: int, trials: int, show: bool, position: int = 0):
        self.name, self.datasets, self.trials, self.show = name, datasets, trials, show
        self.done, self.bar = 0, None
        if show and sys.stderr.isatty():
            from tqdm import tqdm

            self.bar = tqdm(
                total=datasets * trials,
                position=position,
                unit=" trials",
                unit_scale=True,
                dynamic_ncols=True,
                bar_format="{desc}",
            )
        self._say("compiling")

    def __enter__(self) -> "_Stage":
        return self

    def __exit__(self, *error: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def start(self) -> None:
        """Ends the compiling state; the clock starts."""
        if self.bar is not None:
            self.bar.bar_format = None
            self.bar.reset()
        self._say(f"running {self.datasets * self.trials:,} trials")

    def advance(self, datasets: int) -> None:
        size = min(datasets, self.datasets - self.done)
        self.done += size
        if self.bar is not None:
            self.bar.update(size * self.trials)

    def _say(self, what: str) -> None:
        if self.bar is not None:
            self.bar.set_description_str(f"{self.name}: {what.split()[0]}")
        elif self.show:
            print(f"{self.name}: {what}", file=sys.stderr, flush=True)
