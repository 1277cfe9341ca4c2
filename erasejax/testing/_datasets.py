"""The contract of synthetic datasets."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from erasejax._core.foreign import wide
from erasejax._core.types import DTypeLike
from erasejax.datasets import Generator
from erasejax.rows import Dataset, Pairs
from erasejax.testing._rules import (
    gap,
    hold,
    in_lanes,
    is_precise,
    is_traced_once,
    lane_of,
    refuses,
    traced,
)

__all__ = ["check_dataset"]


def check_dataset(config: Generator) -> None:
    """Holds a synthetic dataset to the contract.

    - Nothing depends on values while tracing, and every product is at HIGHEST precision.
    - Numbers of every type, in the fields of the configuration, are one trace.
    - What is no key is refused.
    - Rows are float32, and float64 where jax's x64 mode is on. Class labels are int32 and sorted,
      and every class has rows; real concepts have the dtype of the rows.
    - jit and vmap, over keys, parts and the numbers of the configuration, are a loop of eager
      calls: to 8 eps of the largest value of a column.
    - Another key draws other rows, and so does another part.

    Args:
      config: a configuration with `sample`, such as `ej.datasets.GaussianClasses()`.

    Raises:
      AssertionError: a rule is broken.

    Example:
      >>> ej.testing.check_dataset(ej.datasets.SkewedClasses(rows=20))
    """
    key = jax.random.key(3)
    shapes = traced(config, _sample, config, key, 0)
    _has_dtypes(config, shapes, jnp.float32)
    with wide():
        shapes = traced(config, _sample, config, jax.random.key(3), 0)
        _has_dtypes(config, shapes, jnp.float64)
    is_precise(config, _sample, config, key, 0)
    is_traced_once(config, "_sample", lambda config: config.sample(key))
    text = "key: expected a jax.random.key"
    refuses(config, "what is no key is refused", lambda: config.sample(0), TypeError, text)  # pyright: ignore[reportArgumentType]
    _samples_by_key_and_part(config)


def _sample(config: Generator, key: jax.Array, part: int | jax.Array) -> Dataset | Pairs:
    return config.sample(key, part=part)


def _labels(sampled: Dataset | Pairs) -> tuple[Any, int | None]:
    """Returns the labels, and how many classes they are of."""
    return (sampled.labels, 2) if isinstance(sampled, Pairs) else (sampled.z, sampled.num_classes)


def _has_dtypes(config: Generator, sampled: Dataset | Pairs, dtype: DTypeLike) -> None:
    """Checks the dtypes of rows and labels."""
    halves = isinstance(sampled, Pairs)
    for x in (sampled.positive, sampled.negative) if halves else (sampled.x,):
        hold(config, "the dtype of rows", x.dtype == dtype, jnp.dtype(dtype), x.dtype)
    z, classes = _labels(sampled)
    wanted = jnp.dtype(dtype if classes is None else jnp.int32)
    hold(config, "the dtype of labels", z.dtype == wanted, wanted, z.dtype)


def _samples_by_key_and_part(config: Generator) -> None:
    """Holds one program of four lanes to the rules that take numbers."""
    one, two = jax.random.split(jax.random.key(3))
    keys, parts = [one, two, one, one], [0, 0, 1, 0]
    configs = in_lanes(config, [1, 1, 1, 0.75])
    batch = jax.jit(jax.vmap(_sample))(configs, jnp.stack(keys), jnp.array(parts))
    for lane in range(4):
        own = config if lane == 0 else lane_of(configs, lane)
        eager = _sample(own, keys[lane], parts[lane])
        _has_sorted_labels(config, eager)
        leaves = (jax.tree.leaves(tree) for tree in (lane_of(batch, lane), eager))
        for found, expected in zip(*leaves, strict=True):
            allowed = 8 * jnp.finfo(jnp.float32).eps * jnp.abs(expected).max(axis=0)
            apart = gap(found, expected, allowed)
            rule = "jit and vmap are a loop of eager calls"
            hold(config, rule, not apart, "the same rows", f"{apart} in lane {lane}")
    rows = [jax.tree.leaves(lane_of(batch, lane))[0] for lane in range(3)]
    for lane, what in ((1, "key"), (2, "part")):
        fact = not np.array_equal(rows[0], rows[lane])
        hold(config, f"another {what} draws other rows", fact, "other rows", "the same")


def _has_sorted_labels(config: Generator, sampled: Dataset | Pairs) -> None:
    z, classes = _labels(sampled)
    if classes is not None:
        z = np.asarray(z)
        fact = (np.diff(z) >= 0).all() and set(z.tolist()) == set(range(classes))
        hold(config, "class labels", fact, f"all of 0 to {classes - 1}, sorted", z)
