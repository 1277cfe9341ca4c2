"""Pytrees of this package: their fields, their classes, and how a file's content is held to them.

Every dataclass of flax in a module of the package is known by its name, and so are those of modules
whose classes are registered; nothing lists them.
"""

import dataclasses
import math
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

from flax import struct

__all__ = [
    "Inner",
    "Tree",
    "Within",
    "limits_of",
    "register_module",
    "static",
    "tree_classes",
    "tree_name",
]

_PACKAGE = __name__.partition(".")[0]
_registered: dict[str, None] = {}  # names of modules of others


class Tree:
    """What the dataclasses here have in common."""

    if TYPE_CHECKING:  # flax writes it

        def replace(self, **changes: object) -> Self:
            """Returns a copy with some fields changed."""
            ...


def static(default: object = dataclasses.MISSING, *, kw_only: bool = False) -> Any:
    """Returns a field of a `flax.struct.dataclass` that is no leaf but part of its structure.

    Programs are compiled anew for each of its values, and no `vmap` maps over it.

    Args:
      default: of the field; left out where it has none.
      kw_only: whether it is given by name alone.
    """
    return struct.field(pytree_node=False, default=default, kw_only=kw_only)


@dataclasses.dataclass(frozen=True)
class Inner:
    """Says of a field's type, in `Annotated`, how its axes are called in the class that holds it.

    Attributes:
      axes: that all arrays of what it holds have here before their own, such as "k".
      letters: what axes of what it holds are called here, where they are called otherwise.
    """

    axes: str = ""
    letters: Mapping[str, str] = dataclasses.field(default_factory=dict)


def register_module(name: str) -> None:
    """Makes the dataclasses of a module of others known."""
    _registered[name] = None


def tree_name(cls: type) -> str:
    """Returns what files call a class: its name, with its module where that is of others."""
    ours = cls.__module__.partition(".")[0] == _PACKAGE
    return cls.__name__ if ours else f"{cls.__module__}.{cls.__qualname__}"


def tree_classes() -> dict[str, type]:
    """Returns the dataclasses that are known, by the names that files have for them."""
    ours = [name for name in list(sys.modules) if name.partition(".")[0] == _PACKAGE]
    found: dict[str, type] = {}
    for module in (*ours, *_registered):
        for cls in vars(sys.modules[module]).values():
            public = isinstance(cls, type) and not cls.__name__.startswith("_")
            if public and cls.__module__ == module and "_flax_dataclass" in vars(cls):
                found[tree_name(cls)] = cls
    return found


@dataclasses.dataclass(frozen=True)
class Within:
    """Says of a number's type, in `Annotated`, between what it lies.

    Attributes:
      low: the least value.
      high: the largest value.
      ends: whether these two are among the values.
    """

    low: float
    high: float = math.inf
    ends: bool = True

    def __contains__(self, value: float) -> bool:
        if self.ends:
            return self.low <= value <= self.high
        return self.low < value < self.high

    def __str__(self) -> str:
        if self.high == math.inf:
            return f"of at least {self.low:g}" if self.ends else f"above {self.low:g}"
        words = "from {:g} to {:g}" if self.ends else "between {:g} and {:g}"
        return words.format(self.low, self.high)


def limits_of(annotation: object) -> Within | None:
    """Returns between what a number lies whose type is annotated so; None where nothing is said."""
    notes = getattr(annotation, "__metadata__", ())
    return next((note for note in notes if isinstance(note, Within)), None)
