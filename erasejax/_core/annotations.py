"""Values held against annotations: for what comes from a file."""

import types
import typing
from typing import Any

import jax
from jaxtyping import AbstractArray

__all__ = ["is_a"]


def is_a(value: Any, kind: Any) -> bool:
    """Returns whether a value is what an annotation says.

    Args:
      value: anything.
      kind: a class; a union; an array of jaxtyping, of any shape and dtype; or list, tuple or dict
        of such, by the kind of their values. An int is a float, and no bool is a number.
    """
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        return is_a(value, parts[0])
    if isinstance(kind, type) and issubclass(kind, AbstractArray):
        return isinstance(value, jax.Array)
    if origin in {types.UnionType, typing.Union}:
        return any(is_a(value, part) for part in parts)
    if origin in {list, tuple}:
        return isinstance(value, origin) and all(is_a(item, parts[0]) for item in value)
    if origin is dict:
        return isinstance(value, dict) and all(is_a(item, parts[1]) for item in value.values())
    if origin is typing.Literal:
        return value in parts
    if kind in {int, float}:
        return type(value) in {int, kind}
    return isinstance(value, kind)
