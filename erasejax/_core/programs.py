"""How the package's programs are traced and called: by its own rules, whatever the user's are.

`jax_numpy_rank_promotion` and `jax_numpy_dtype_promotion` are there to find slips in code that is
being written. What is written here broadcasts and promotes on purpose, so that a program that runs
under the defaults runs under every setting.
"""

import contextlib
import functools
from collections.abc import Callable, Generator
from typing import Any, ParamSpec, TypeVar, overload

import jax
import numpy as np

from erasejax._core.foreign import own

__all__ = ["own_rules", "program"]

P = ParamSpec("P")
R = TypeVar("R")


@contextlib.contextmanager
def own_rules() -> Generator[None, None, None]:
    """Traces and computes under jax's default rules of promotion; a context, or `@own_rules()`.

    For what is no `program` of its own, such as a rule of differentiation, which jax traces when
    it differentiates.
    """
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


@overload
def program(function: Callable[P, R]) -> Callable[P, R]: ...
@overload
def program(**options: Any) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
def program(function: Callable | None = None, **options: Any) -> Callable:
    """Returns `jax.jit(function, **options)`, traced under `own_rules`.

    Numpy arrays among the arguments, as in a pytree that a caller made, are copied first: JAX would
    read them later.

    Args:
      function: what to compile; left out where it is a decorator with options.
      **options: as `jax.jit` takes them.
    """
    if function is None:
        return functools.partial(program, **options)
    jitted = jax.jit(own_rules()(function), **options)

    @functools.wraps(function)
    def call(*args: object, **kwargs: object) -> object:
        given = args, kwargs
        if any(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(given)):
            args, kwargs = jax.tree.map(_owned, given)
        return jitted(*args, **kwargs)

    vars(call)["_cache_size"] = jitted._cache_size  # pyright: ignore
    return call


def _owned(leaf: object) -> object:
    return own(leaf) if isinstance(leaf, np.ndarray) else leaf
