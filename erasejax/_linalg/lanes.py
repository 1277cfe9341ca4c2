"""What `jax.vmap` makes of a fit: all lanes at once, or one after another where that is faster."""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import jax

from erasejax._linalg import platforms

__all__ = ["in_turn"]

P = ParamSpec("P")
R = TypeVar("R")


def in_turn(function: Callable[P, R]) -> Callable[P, R]:
    """Returns a function of arrays whose lanes under `jax.vmap` take turns on a CPU, if large.

    Products of many lanes at once leave the cache there, and a loop that ends with the slowest lane
    runs for all of them. Elsewhere, and where the arrays of a lane are few, lanes run side by side.

    Args:
      function: of pytrees of arrays, given by position; no gradient is taken through it backwards.
    """
    one = jax.jit(function)  # traced once, whoever calls it

    @jax.custom_batching.custom_vmap
    def lane(*args):
        return one(*args)

    @lane.def_vmap
    def lanes(count, batched, *args):
        leaves, tree = jax.tree.flatten(args)
        spread = jax.tree.leaves(batched)
        size = max(
            leaf.size * leaf.dtype.itemsize // count
            for leaf, own in zip(leaves, spread, strict=True)
            if own
        )

        def of(leaves: list[jax.Array]) -> R:
            return lane(*jax.tree.unflatten(tree, leaves))

        def together(*leaves):
            axes = [0 if own else None for own in spread]
            return jax.vmap(lambda *leaves: one(*jax.tree.unflatten(tree, leaves)), axes)(*leaves)

        def turns(*leaves):
            def next_one(own):
                rest = iter(own)
                return of([next(rest) if s else leaf for s, leaf in zip(spread, leaves, strict=True)])

            return jax.lax.map(
                next_one, [leaf for s, leaf in zip(spread, leaves, strict=True) if s]
            )

        if platforms.take_turns(size):
            found = jax.lax.platform_dependent(*leaves, cpu=turns, default=together)
        else:
            found = together(*leaves)
        return found, jax.tree.map(lambda _: True, found)

    return functools.wraps(function)(lane)

