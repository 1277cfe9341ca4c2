"""Fields of configurations and of what they fit."""

import dataclasses
from typing import Any

from flax import struct

__all__ = ["static"]


def static(default: Any = dataclasses.MISSING, *, kw_only: bool = False) -> Any:
    """Returns a field of a `flax.struct.dataclass` that is no leaf but part of its structure.

    Programs are compiled anew for each of its values, and no `vmap` maps over it.

    Args:
      default: of the field; left out where it has none.
      kw_only: whether it is given by name alone.
    """
    return struct.field(pytree_node=False, default=default, kw_only=kw_only)
