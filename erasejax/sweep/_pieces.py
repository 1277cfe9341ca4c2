"""What is stored of what was asked for: cells, and the seeds that are stored together."""

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np

from erasejax._core.extras import require
from erasejax.sweep._blocks import Block, Manifest, Numerics, blocks, name_of
from erasejax.sweep._cells import Cell

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Piece", "merged", "pieces"]

Kind: TypeAlias = tuple[tuple[str, bool | int | str], ...]  # numerics, hashable


class Piece(NamedTuple):
    """A cell and the seeds that are stored together, with what there is of them.

    Attributes:
      cell: what was run.
      stored: the blocks to read, of one numerics.
      numerics: theirs.
      missing: what was asked for and is not stored; None if all is.
      planned: how many seeds were asked for.
    """

    cell: Cell
    stored: tuple[Block, ...]
    numerics: Numerics
    missing: Block | None
    planned: int

    @property
    def seeds(self) -> int:
        """How many seeds are stored."""
        return max((block.last - block.first for block in self.stored), default=0)


def pieces(manifests: Sequence[Manifest], names: set[str]) -> list[Piece]:
    """Returns the pieces of all specs of a sweep, in the order in which they were asked for.

    Args:
      manifests: the oldest first.
      names: of the files of blocks.
    """
    found: dict[Hashable, dict[Kind, dict[Hashable, Block]]] = {}
    for manifest in manifests:
        numerics = tuple(sorted(manifest.numerics.items()))
        for product in manifest.grid.parts:
            for block in blocks(product):
                kinds = found.setdefault((block.cell.key, block.first), {})
                kinds[numerics] = kinds.pop(numerics, {})  # asked for last
                kinds[numerics][block.columns.names, block.last] = block
    result = []
    for kinds in found.values():
        stored, numerics, missing = (), {}, None
        for kind, asked in kinds.items():
            now = dict(kind)
            is_stored = {key: name_of(block, now) in names for key, block in asked.items()}
            ready = _needed([block for key, block in asked.items() if is_stored[key]])
            lacking = [block for block in asked.values() if not _covered(block, ready)]
            missing = max(lacking, key=lambda block: block.last, default=None)
            if ready:
                stored, numerics = ready, now
        cell = next(iter(next(iter(kinds.values())).values())).cell
        planned = max(
            block.last - block.first for asked in kinds.values() for block in asked.values()
        )
        result.append(Piece(cell, stored, numerics, missing, planned))
    return result


def _needed(stored: Sequence[Block]) -> tuple[Block, ...]:
    """Returns the blocks that add a column to those with more seeds."""
    found: list[Block] = []
    for block in sorted(stored, key=lambda block: (-block.last, -len(block.columns.names))):
        if not _covered(block, found):
            found.append(block)
    return tuple(found)


def _covered(block: Block, stored: Sequence[Block]) -> bool:
    """Returns whether blocks hold every number of another one."""
    there = {name for other in stored if other.last >= block.last for name in other.columns.names}
    return there.issuperset(block.columns.names)


def merged(tables: Sequence["pa.Table"]) -> "pa.Table":
    """Returns tables of the same seeds as one; seeds that one does not have are null there."""
    pa = require("pyarrow", "sweep")
    rows = max(table.num_rows for table in tables)
    columns = {}
    status = np.zeros(rows, np.uint32)
    for table in sorted(tables, key=lambda table: table.num_rows):
        status[: table.num_rows] |= table["status"].to_numpy()
        for name in table.column_names:
            values = table[name].combine_chunks()
            columns[name] = pa.concat_arrays([values, pa.nulls(rows - len(values), values.type)])
    return pa.table({**columns, "status": status})
