"""How the package's programs are traced and called: by its own rules, whatever the user's are.

`jax_numpy_rank_promotion` and `jax_numpy_dtype_promotion` are there to find slips in code that is
being written. What is written here broadcasts and promotes on purpose, so that a program that runs
under the defaults runs under every setting.
"""

import contextlib
import contextvars
import functools
from collections.abc import Callable, Generator
from typing import Any, ParamSpec, TypeVar, overload

import jax
import jaxlib.version
import numpy as np
from jax.core import Tracer

from erasejax._core.foreign import own

__all__ = ["in_a_hurry", "own_rules", "program", "quick_options"]

P = ParamSpec("P")
R = TypeVar("R")


_hurry: contextvars.ContextVar[bool] = contextvars.ContextVar("hurry", default=False)


@contextlib.contextmanager
def own_rules() -> Generator[None, None, None]:
    """Traces and computes under jax's default rules of promotion; a context, or `@own_rules()`.

    For what is no `program` of its own, such as a rule of differentiation, which jax traces when
    it differentiates.
    """
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        with _hurrying(False):  # a program in another one is compiled with it
            yield


def in_a_hurry() -> contextlib.AbstractContextManager[None]:
    """Returns a context in which programs are compiled with `quick_options`.

    For a process that calls each of them once or twice, such as a command.
    """
    return _hurrying(True)


@contextlib.contextmanager
def _hurrying(value: bool) -> Generator[None, None, None]:
    token = _hurry.set(value)
    try:
        yield
    finally:
        _hurry.reset(token)


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
    traced = own_rules()(function)
    jitted = jax.jit(traced, **options)

    @functools.cache
    def hurried() -> Callable:
        """Returns the same, compiled quickly; it asks for the device when it is first called."""
        return jax.jit(traced, compiler_options=quick_options(), **options)

    @functools.wraps(function)
    def call(*args: object, **kwargs: object) -> object:
        given = args, kwargs
        leaves = jax.tree.leaves(given)
        if any(isinstance(leaf, np.ndarray) for leaf in leaves):
            args, kwargs = jax.tree.map(_owned, given)
        # Options are for what is a program by itself.
        hurry = _hurry.get() and not any(isinstance(leaf, Tracer) for leaf in leaves)
        return (hurried() if hurry else jitted)(*args, **kwargs)

    def count() -> int:
        return jitted._cache_size() + hurried()._cache_size()  # pyright: ignore

    vars(call)["_cache_size"] = count
    return call


def quick_options() -> dict[str, Any]:
    """Returns options with which a CPU's program compiles in half the time.

    It runs as fast where the time goes into products, factorisations and sorts, which are compiled
    already, and loops over small numbers at a half to a third of the speed (`CCS`). Later compilers
    have no such choice.
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
