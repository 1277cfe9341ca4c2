"""How a rule is held, and the rules that all configurations have."""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any, TypeVar
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Jaxpr

from erasejax._core.pytrees import limits_of

__all__ = [
    "gap",
    "hold",
    "in_lanes",
    "is_precise",
    "is_traced_once",
    "lane_of",
    "products",
    "refuses",
    "same_bits",
    "traced",
]

R = TypeVar("R")  # a result, or a pytree


def hold(config: object, rule: str, fact: object, expected: object, got: object) -> None:
    """Raises where a rule is broken.

    Raises:
      AssertionError: `fact` is false.
    """
    if not fact:
        raise AssertionError(f"{type(config).__name__}: {rule}: expected {expected}, got {got}")


def refuses(
    config: object, rule: str, call: Callable[[], object], kind: type, text: str = ""
) -> None:
    """Checks that a call raises an exception of a kind, with a text in its message."""
    try:
        got = call()
    except Exception as error:
        got = error
    fact = isinstance(got, kind) and text in str(got)
    hold(config, rule, fact, f"{kind.__name__} {text!r}", repr(got))


def traced(config: object, function: Callable[..., R], *args: object) -> R:
    """Returns the shapes of what a function gives, from no more than those of its arguments.

    Raises:
      AssertionError: it needs their values.
    """
    try:
        return jax.eval_shape(function, *args)
    except Exception as error:
        got = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        rule = "nothing depends on values while tracing"
        text = f"{type(config).__name__}: {rule}: expected shapes to be enough, got {got}"
        raise AssertionError(text) from error


def is_precise(config: object, function: Callable, *args: object) -> None:
    """Checks that every product in a function is at HIGHEST precision."""
    highest = jax.lax.Precision.HIGHEST
    for primitive, shapes, precision in products(function, *args):
        fact = precision in (highest, (highest, highest))
        got = f"{primitive} of {shapes} at {precision}"
        hold(config, "every product is precise", fact, "Precision.HIGHEST", got)


def products(function: Callable, *args: object) -> Iterator[tuple[str, list, object]]:
    """Yields each product in a function: its primitive, the shapes multiplied, the precision."""
    for equation in _equations(jax.make_jaxpr(function)(*args).jaxpr):
        if "precision" in equation.params:
            shapes = [operand.aval.shape for operand in equation.invars]
            yield equation.primitive.name, shapes, equation.params["precision"]


def _equations(jaxpr: Jaxpr) -> Iterator[Any]:
    """Yields every equation, those in loops and calls included."""
    for equation in jaxpr.eqns:
        yield equation
        values = list(equation.params.values())
        for value in jax.tree.leaves(values, is_leaf=lambda value: hasattr(value, "eqns")):
            if hasattr(value, "eqns"):
                yield from _equations(getattr(value, "jaxpr", value))


def is_traced_once(config: R, method: str, run: Callable[[R], object]) -> None:
    """Checks that numbers of every type, in the fields of a configuration, are one trace.

    Args:
      config: the configuration.
      method: what is traced, a method of it.
      run: what traces it, of a configuration.
    """
    traces = 0
    original = getattr(type(config), method)

    def counted(self, *args):
        nonlocal traces
        traces += 1
        return original(self, *args)

    fields: Any = dataclasses.fields  # of a dataclass, which R is not known to be
    limits = {field.name: limits_of(field.type) for field in fields(config)}
    kept = {name: getattr(config, name) for name, it in limits.items() if it and 1 not in it}

    def ones(leaf, kind):  # a value that is allowed; which it is changes no trace
        array = np.ones(np.shape(leaf))
        return array.astype(kind) if array.ndim and kind in (float, int) else kind(array)

    with mock.patch.object(type(config), method, counted):
        for kind in (float, int, np.float32, np.float64, np.int32, jnp.float32, jnp.int32):
            typed = jax.tree.map(functools.partial(ones, kind=kind), config)
            typed = typed.replace(**kept)  # pyright: ignore[reportAttributeAccessIssue]
            jax.eval_shape(lambda typed=typed: run(typed))
    hold(config, "numbers of every type are one trace", traces <= 1, "one trace", traces)


def in_lanes(config: R, factors: list[float]) -> R:
    """Returns a configuration in lanes, its numbers multiplied by a factor a lane."""

    def stacked(leaf):
        leaf = jnp.asarray(leaf, float)
        return jnp.stack([leaf * factor for factor in factors])

    return jax.tree.map(stacked, config)


def lane_of(tree: R, lane: int) -> R:
    """Returns one lane of a batch."""
    return jax.tree.map(lambda leaf: leaf[lane], tree)


def same_bits(a: object, b: object) -> bool:
    """Returns whether two trees have the same structure, and arrays of the same bits."""
    if jax.tree.structure(a) != jax.tree.structure(b):
        return False
    pairs = zip(*(map(np.asarray, jax.tree.leaves(tree)) for tree in (a, b)), strict=True)
    return all(x.dtype == y.dtype and x.tobytes() == y.tobytes() for x, y in pairs)


def gap(found: jax.Array, expected: jax.Array, allowed: jax.Array) -> str:
    """Returns how an array differs from another by more than is allowed, or ""."""
    if found.dtype != expected.dtype or found.shape != expected.shape:
        return f"{found.dtype} {found.shape} for {expected.dtype} {expected.shape}"
    apart = jnp.abs(found - expected)
    return "" if (apart <= allowed).all() else f"values up to {float(apart.max()):.3g} away"
