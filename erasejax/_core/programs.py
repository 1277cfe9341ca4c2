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
import jaxlib.version
import numpy as np
from jax.core import Tracer

from erasejax._core.foreign import own

__all__ = ["own_rules", "program", "quick_options"]

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
    read them later. What is called on known arrays, and so compiled by itself, is compiled with
    `quick_options`.

    Args:
      function: what to compile; left out where it is a decorator with options.
      **options: as `jax.jit` takes them.
    """
    if function is None:
        return functools.partial(program, **options)
    traced = own_rules()(function)
    inner = jax.jit(traced, **options)

    @functools.cache
    def outer() -> Callable:
        """Returns the program by itself; when it is first called, since it asks for the device."""
        quick = quick_options()
        return jax.jit(traced, compiler_options=quick, **options) if quick else inner

    @functools.wraps(function)
    def call(*args: object, **kwargs: object) -> object:
        given = args, kwargs
        leaves = jax.tree.leaves(given)
        if any(isinstance(leaf, np.ndarray) for leaf in leaves):
            args, kwargs = jax.tree.map(_owned, given)
        if any(isinstance(leaf, Tracer) for leaf in leaves):
            return inner(*args, **kwargs)
        try:
            return outer()(*args, **kwargs)
        except ValueError as error:
            if "compiler_options" not in str(error):
                raise
            return inner(*args, **kwargs)  # in a program of the caller's, on arrays that are known

    def count() -> int:
        return sum(each._cache_size() for each in {inner, outer()})  # pyright: ignore

    vars(call)["_cache_size"] = count
    return call


def quick_options() -> dict[str, Any]:
    """Returns options with which a CPU's program compiles in half the time and runs as fast.

    As fast where the time goes into products, factorisations and sorts, which are compiled already.
    Long loops over small numbers run up to a fifth slower. Later compilers have no such choice.
    """
    if _version(jaxlib.version.__version__) >= (0, 10) or jax.default_backend() != "cpu":
        return {}
    return {
        "xla_cpu_use_fusion_emitters": False,
        "xla_backend_optimization_level": 1,
        "xla_cpu_parallel_codegen_split_count": 2,  # 32 pieces of a small program cost more
    }


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:2])


def _owned(leaf: object) -> object:
    return own(leaf) if isinstance(leaf, np.ndarray) else leaf
