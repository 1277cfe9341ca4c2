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

__all__ = ["own_rules", "program", "quick_options", "thoroughly"]

P = ParamSpec("P")
R = TypeVar("R")

_ZERO = np.zeros((), np.float32)
_thorough: contextvars.ContextVar[bool] = contextvars.ContextVar("thorough", default=False)


@contextlib.contextmanager
def own_rules() -> Generator[None, None, None]:
    """Traces and computes under jax's default rules of promotion; a context, or `@own_rules()`.

    For what is no `program` of its own, such as a rule of differentiation, which jax traces when
    it differentiates.
    """
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        with thoroughly():  # a program in another one is compiled with it
            yield


@contextlib.contextmanager
def thoroughly(condition: bool = True) -> Generator[None, None, None]:
    """Compiles what is called as the compiler does by default, and not with `quick_options`.

    Args:
      condition: nothing is changed where it does not hold.
    """
    token = _thorough.set(_thorough.get() or condition)
    try:
        yield
    finally:
        _thorough.reset(token)


@overload
def program(function: Callable[P, R]) -> Callable[P, R]: ...
@overload
def program(**options: Any) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
def program(
    function: Callable | None = None, *, thorough: bool = False, **options: Any
) -> Callable:
    """Returns `jax.jit(function, **options)`, traced under `own_rules`.

    Called by itself, and not within a program of the caller's, it is compiled with `quick_options`:
    a first answer takes half the time, and a later one as long or some tenths of a millisecond
    longer, which a thousand calls do not make up for.

    Numpy arrays among the arguments, as in a pytree that a caller made, are copied first: JAX would
    read them later.

    Args:
      function: what to compile; left out where it is a decorator with options.
      thorough: compiled as the compiler does by default, for what loops long over small numbers.
      **options: as `jax.jit` takes them.
    """
    if function is None:
        return functools.partial(program, thorough=thorough, **options)
    traced = own_rules()(function)
    jitted = jax.jit(traced, **options)

    @functools.cache
    def quick() -> Callable:
        """Returns the same, compiled quickly; it asks for the device when it is first called."""
        return jax.jit(traced, compiler_options=quick_options(), **options)

    @functools.wraps(function)
    def call(*args: object, **kwargs: object) -> object:
        given = args, kwargs
        leaves = jax.tree.leaves(given)
        if any(isinstance(leaf, np.ndarray) for leaf in leaves):
            args, kwargs = jax.tree.map(_owned, given)
        return (jitted if thorough or not _alone(leaves) else quick())(*args, **kwargs)

    def count() -> int:
        return jitted._cache_size() + quick()._cache_size()  # pyright: ignore

    vars(call)["_cache_size"] = count
    return call


def _alone(leaves: list) -> bool:
    """Returns whether a call may be compiled with options, as jax refuses inside of a program."""
    if _thorough.get() or any(isinstance(leaf, Tracer) for leaf in leaves):
        return False
    # Of the caller's program nothing is seen where all arguments are known; what it makes is.
    return bool(quick_options()) and not isinstance(jax.device_put(_ZERO), Tracer)


@functools.cache
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
