"""How results show themselves: what a person wants to know first, as a line and as HTML.

Only what is at hand is shown: shapes, and a few single numbers. Nothing is computed for it, and
nothing fails: not on lanes under `vmap`, nor while tracing, nor on pytrees that hold no arrays.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from erasejax._core.html import Html, element
from erasejax._core.status import describe

__all__ = ["Shown", "View", "known", "number", "table_of_scores"]

_ERRORS = 0xFFFF
_TRACED = "not known while tracing"
_READ = 2**20  # numbers that are read from a device for a line of text

# Text and lines take the colours of the notebook, light or dark.
_FRAME = "border-left:4px solid {0};padding:.3em .8em;margin:.3em 0;overflow-x:auto"
_KEY = "text-align:left;font-weight:normal;opacity:.75;padding:.1em 1em .1em 0;vertical-align:top"
_CELL = "text-align:left;padding:.1em 0;white-space:normal"
_SCORE = "text-align:right;padding:.15em .6em;border-top:1px solid rgba(128,128,128,.35)"
_NAME = "text-align:left;padding:.15em .6em;border-top:1px solid rgba(128,128,128,.35)"
_WIDE = "overflow-x:auto"
_PLAIN, _WARNING = "#56B4E9", "#D55E00"


@dataclasses.dataclass(frozen=True)
class View:
    """What is shown of a result.

    Attributes:
      title: what it is.
      facts: by name, in the order of their weight.
      status: what failed or is warned of, in words, or "".
    """

    title: str
    facts: Mapping[str, object]
    status: str = ""

    def text(self) -> str:
        """Returns one line."""
        told = [f"{name} {value}" for name, value in self.facts.items()]
        told += [self.status] if self.status else []
        return f"{self.title}({'; '.join(told)})"

    def html(self) -> Html:
        """Returns a small block without style sheet, script or address."""
        rows = [
            element(
                "tr",
                element("th", name, scope="row", style=_KEY),
                element("td", value, style=_CELL),
            )
            for name, value in self.facts.items()
        ]
        said = [element("div", self.status, style="font-weight:bold")] if self.status else []
        table = element("table", element("tbody", *rows), style="margin:.2em 0;border:0")
        frame = _FRAME.format(_WARNING if self.status else _PLAIN)
        return element("div", element("b", self.title), *said, table, style=frame)


class Shown:
    """A pytree with a `status` that shows itself by `_facts`, in place of all its arrays."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "__repr__" not in vars(cls):  # else the dataclass writes one of all arrays
            cls.__repr__ = Shown.__repr__

    def __repr__(self) -> str:
        return self._view().text()

    def _repr_html_(self) -> str:
        return self._view().html()

    def _facts(self, lane: Self) -> dict[str, object]:
        """Returns facts by name.

        Args:
          lane: the shapes of one lane.
        """
        raise NotImplementedError

    def _view(self) -> View:
        name = type(self).__name__
        leaves = jax.tree.leaves(self)
        status = getattr(self, "status", None)
        if not all(hasattr(leaf, "shape") for leaf in [status, *leaves]):
            return View(name, {"holds": "no arrays"})
        axes = len(status.shape)  # pyright: ignore
        if any(len(leaf.shape) < axes for leaf in leaves):
            return View(name, {"lanes": "of several numbers of axes"})
        lane = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[axes:], leaf.dtype), self)
        return View(name, self._facts(lane) | _lanes(status), _said(status))


def known(value: object) -> np.ndarray | None:
    """Returns numbers as they are on the host; None where they are not at hand or are many."""
    if isinstance(value, Tracer) or not isinstance(value, jax.Array | np.ndarray | np.generic):
        return None
    if value.size > _READ or jnp.issubdtype(value.dtype, jax.dtypes.extended):
        return None
    if isinstance(value, jax.Array) and (value.is_deleted() or not value.is_fully_addressable):
        return None
    return np.asarray(value)


def number(value: object, status: object = None) -> str:
    """Returns a number as text; of several lanes from the least to the largest that did not fail.

    Args:
      value: (*lanes,) numbers.
      status: (*lanes,) status bits, or None.
    """
    found, bits = known(value), known(status)
    if found is None:
        return _TRACED if isinstance(value, Tracer) else "not at hand"
    found = found.astype(np.float64)
    if bits is not None and bits.shape == found.shape:
        found = found[(bits & _ERRORS) == 0]
    found = found[~np.isnan(found)]
    if not found.size:
        return "none"
    low, high = f"{found.min():.4g}", f"{found.max():.4g}"
    return low if low == high else f"{low} to {high}"


def table_of_scores(
    head: Sequence[str], rows: Sequence[tuple[Sequence[str], Sequence[str]]], below: str = ""
) -> Html:
    """Returns a table of scores.

    Args:
      head: of each column.
      rows: of each its names and its cells.
      below: what stands under the table.
    """
    names = len(rows[0][0]) if rows else 0
    lines = [
        element(
            "tr",
            *(element("th", name, scope="row", style=_NAME) for name in own),
            *(element("td", cell, style=_SCORE) for cell in cells),
        )
        for own, cells in rows
    ]
    top = [element("th", h, style=_NAME if i < names else _SCORE) for i, h in enumerate(head)]
    table = element("table", element("thead", element("tr", *top)), element("tbody", *lines))
    return element("div", table, *([element("div", below)] if below else []), style=_WIDE)


def _lanes(status: object) -> dict[str, object]:
    shape = status.shape  # pyright: ignore
    if not shape:
        return {}
    of = f" ({' x '.join(f'{n:,}' for n in shape)})" if len(shape) > 1 else ""
    return {"lanes": f"{int(np.prod(shape)):,}{of}"}


def _said(status: object) -> str:
    """Returns in words what status bits say; "" where all is well."""
    bits = known(status)
    if bits is None:
        return "" if isinstance(status, Tracer) else "status not at hand"
    if not bits.ndim:
        words = describe(int(bits))
        failed = bool(int(bits) & _ERRORS)
        return ("failed: " if failed else "") + "; ".join(words)
    parts = []
    failed = int(np.count_nonzero(bits & _ERRORS))
    if failed:
        parts.append(f"{failed:,} of {bits.size:,} lanes failed")
    for bit in map(int, np.unique(bits[bits != 0])):
        count = int(np.count_nonzero(bits == bit))
        parts += [f"in {count:,}: {text}" for text in describe(bit)]
    return "; ".join(parts[:6])
