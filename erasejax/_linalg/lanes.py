"""What `jax.vmap` makes of a fit: all lanes at once, or one after another where that is faster."""

import functools
from collections.abc import Callable
from typing import TypeVar

import jax

from erasejax._linalg import platforms

__all__ = ["in_turn"]

F = TypeVar("F", bound=Callable)


def in_turn(function: F) -> F:
    """Returns a function whose lanes under `jax.vmap`, where they are large, take turns on a CPU.

    Many large lanes at once leave the cache there, and a loop that ends with the slowest lane runs
    for all of them. Elsewhere, and where the rows of a lane are few, lanes run side by side.

    Args:
      function: of pytrees of arrays, given by position. Derivatives are taken forwards only, as of
        all that has a `while_loop`.
    """
    one = jax.jit(function)  # traced once, whoever calls it
    lane = jax.custom_batching.custom_vmap(lambda *args: one(*args))

    @lane.def_vmap
    def lanes(count, batched, *args):  # pyright: ignore[reportUnusedFunction]
        leaves, tree = jax.tree.flatten(args)
        spread = jax.tree.leaves(batched)

        def together(*leaves):
            axes = [0 if own else None for own in spread]
            return jax.vmap(lambda *own: one(*jax.tree.unflatten(tree, own)), axes)(*leaves)

        def turns(*leaves):
            def next_one(own):
                rest = iter(own)
                return lane(
                    *jax.tree.unflatten(
                        tree, [next(rest) if s else x for s, x in zip(spread, leaves, strict=True)]
                    )
                )

            return jax.lax.map(next_one, [x for s, x in zip(spread, leaves, strict=True) if s])

        largest = max(x.size * x.dtype.itemsize for x, s in zip(leaves, spread, strict=True) if s)
        if platforms.take_turns(largest // count):
            found = jax.lax.platform_dependent(*leaves, cpu=turns, default=together)
        else:
            found = together(*leaves)
        return found, jax.tree.map(lambda _: True, found)

    return functools.wraps(function)(lane)  # pyright: ignore[reportReturnType]
