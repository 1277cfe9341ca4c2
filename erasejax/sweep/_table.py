"""The table of a sweep, put together from its blocks."""

import json
import os
import warnings
from collections.abc import Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np

from erasejax._core.extras import require
from erasejax._core.types import Json
from erasejax.sweep._cells import Cell
from erasejax.sweep._grid import ROLES
from erasejax.sweep._store import Block, Manifest, Numerics, Store, blocks

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    import xarray as xr

__all__ = ["Sweep"]

Kind: TypeAlias = tuple[tuple[str, bool | int | str], ...]  # numerics, hashable
Value: TypeAlias = str | float | None  # of a field, in a table


class _Piece(NamedTuple):
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


class Sweep:
    """The results of a sweep, by the manifests in its folder.

    Of each cell and seed there is one row, with all the numbers that were ever asked of it. Where a
    cell was run in several precisions or by several versions, those asked for last count.

    Args:
      path: the folder.

    Raises:
      FileNotFoundError: there is no sweep.
      ValueError: a manifest is missing or damaged.

    Warns:
      UserWarning: there are files that are not part of it.

    Example:
      >>> spec = {"dataset": "xor-classes", "eraser": "sal", "probe": "mean-difference"}
      >>> spec |= {"metrics": "accuracy", "protocols": "fitting", "seeds": 2}
      >>> sweep = ej.sweep.run(spec, out="sweep")
      >>> sweep.summary()["accuracy_fitting", "count"].tolist()
      [2]
    """

    def __init__(self, path: str | os.PathLike[str]):
        self._store = Store(path)
        self.path = self._store.path
        self.manifests = self._store.manifests()
        if foreign := self._store.foreign():
            warnings.warn(
                f"{self.path}: not part of the sweep, and not read: {', '.join(foreign[:8])}",
                stacklevel=3,
            )
        self._pieces = _pieces(self.manifests, self._store)

    def __repr__(self) -> str:
        stored = sum(len(piece.stored) for piece in self._pieces)
        missing = sum(piece.missing is not None for piece in self._pieces)
        there, planned = self.trials
        trials = f"{there:,} of {planned:,} trials"
        return f"Sweep({str(self.path)!r}, {stored} blocks, {missing} missing, {trials})"

    @property
    def trials(self) -> tuple[int, int]:
        """How many trials there are, and how many were asked for."""
        return sum(p.seeds for p in self._pieces), sum(p.planned for p in self._pieces)

    @property
    def axes(self) -> tuple[str, ...]:
        """The columns that say what a trial was: role names, and fields that differ."""
        return tuple(self._described())

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of numbers."""
        found = dict.fromkeys(
            name
            for m in self.manifests
            for product in m.grid.parts
            for name in product.columns.names
        )
        return (*(name for name in found if name != "status"), "status")

    def missing(self) -> "pd.DataFrame":
        """Returns a `pandas.DataFrame` of what was asked for and is not stored, a row a block."""
        pd = require("pandas", "sweep")
        lacking = [(i, p.missing) for i, p in enumerate(self._pieces) if p.missing is not None]
        rows = {name: [values[i] for i, _ in lacking] for name, values in self._described().items()}
        rows["first_seed"] = [block.first for _, block in lacking]
        rows["last_seed"] = [block.last - 1 for _, block in lacking]
        return pd.DataFrame(rows)

    def to_arrow(self) -> "pa.Table":
        """Returns a `pyarrow.Table`, a row a trial: axes, seed, numbers and status.

        Raises:
          DamagedBlockError: a file is damaged or foreign.
          ValueError: nothing is stored yet.

        Warns:
          UserWarning: some trials that were asked for are not there, or some cells are of another
            precision or version than others.
        """
        pa = require("pyarrow", "sweep")
        chosen = [i for i, piece in enumerate(self._pieces) if piece.stored]
        if not chosen:
            raise ValueError(f"{self.path}: nothing is stored yet; run the sweep")
        self._warn_of_gaps()
        self._warn_of_mixture()
        with ThreadPoolExecutor(4) as pool:
            tables = list(pool.map(self._read, [self._pieces[i] for i in chosen]))
        sizes = [table.num_rows for table in tables]
        joined = pa.concat_tables(tables, promote_options="permissive").combine_chunks()
        columns = {}
        for name, values in self._described().items():
            words = [word for word in dict.fromkeys(values) if word is not None]
            places: dict[Value, int] = {word: i for i, word in enumerate(words)}
            codes = [places.get(values[i], -1) for i in chosen]
            codes = np.repeat(codes, sizes).astype(np.int32)
            codes = pa.array(codes, mask=codes < 0)
            column = pa.DictionaryArray.from_arrays(codes, pa.array(words))
            columns[name] = column if isinstance(words[0], str) else column.dictionary_decode()
        for name in ("seed", *self.columns):
            there = name in joined.column_names
            columns[name] = joined[name] if there else pa.nulls(joined.num_rows, pa.float32())
        return pa.table(columns)

    def _read(self, piece: _Piece) -> "pa.Table":
        tables = [self._store.read(block, piece.numerics) for block in piece.stored]
        return tables[0] if len(tables) == 1 else _merged(tables)

    def _warn_of_gaps(self) -> None:
        cells: dict[Hashable, bool] = {}  # whether all seeds are there
        for piece in self._pieces:
            whole = piece.seeds == piece.planned
            cells[piece.cell.key] = cells.get(piece.cell.key, True) and whole
        there, planned = self.trials
        if there < planned:
            lacking = sum(not whole for whole in cells.values())
            warnings.warn(
                f"{self.path}: {there:,} of {planned:,} trials are there; {lacking:,} of "
                f"{len(cells):,} cells lack seeds, see missing(); running the sweep again goes on",
                stacklevel=4,
            )

    def _warn_of_mixture(self) -> None:
        kinds = {json.dumps(dict(piece.numerics)) for piece in self._pieces if piece.stored}
        if len(kinds) > 1:
            warnings.warn(
                f"{self.path}: cells of several versions or precisions in one table: "
                f"{', '.join(sorted(kinds))}",
                stacklevel=4,
            )

    def _described(self) -> dict[str, list[Value]]:
        return _describe([piece.cell for piece in self._pieces])

    def to_pandas(self) -> "pd.DataFrame":
        """Returns a `pandas.DataFrame`, a row a trial.

        Columns: `dataset`, `eraser` and `probe`, and `labels` where both kinds were run; a column
        `role.field` for every field that differs; `seed`; a column for each number, NaN where there
        is none; and `status`, bits of `erasejax.Status`.

        Raises:
          DamagedBlockError: a file is damaged or foreign.
          ValueError: nothing is stored yet.
        """
        return self.to_arrow().to_pandas()

    def to_xarray(self) -> "xr.Dataset":
        """Returns an `xarray.Dataset` with a dimension for every axis that has several values.

        Combinations that were not run are NaN. Axes with one value are attributes. An axis that
        some configurations do not have is one of words, "" for those.

        Raises:
          DamagedBlockError: a file is damaged or foreign.
          ValueError: nothing is stored yet.
        """
        require("xarray", "sweep")
        frame = self.to_pandas()
        axes = [name for name in frame.columns if name not in (*self.columns, "seed")]
        fixed = {
            name: frame[name].iloc[0]
            for name in axes
            if bool(frame[name].nunique(dropna=False) == 1)
        }
        frame = frame.drop(columns=list(fixed))
        keys = [name for name in axes if name not in fixed]
        for name in keys:
            if bool(frame[name].dtype == "category" or frame[name].isna().any()):
                frame[name] = [_word(value) for value in frame[name]]
        found = frame.set_index([*keys, "seed"]).to_xarray()
        return found.assign_attrs({name: str(value) for name, value in fixed.items()})

    def summary(self, frame: "pd.DataFrame | None" = None) -> "pd.DataFrame":
        """Returns a `pandas.DataFrame` with a row a cell and, for every number, its statistics.

        Columns are pairs (number, statistic): mean, sd (from dataset to dataset), se (of the mean),
        the quantiles q05, q50 and q95, and count, how many trials have the number. Trials whose
        status has an error bit have none; `failed` counts them. The columns (trials, count) and
        (trials, planned) say how many trials of a cell there are, and how many were asked for.

        Args:
          frame: what `to_pandas` returned, if it is at hand.

        Raises:
          DamagedBlockError: a file is damaged or foreign.
          ValueError: nothing is stored yet.
        """
        pd = require("pandas", "sweep")
        frame = self.to_pandas() if frame is None else frame
        names = [name for name in self.columns if name != "status"]
        axes = [name for name in frame.columns if name not in (*self.columns, "seed")]
        failed = (frame["status"].to_numpy() & 0xFFFF) != 0
        frame = frame.assign(**{name: frame[name].mask(failed) for name in names}, status=failed)
        groups = frame.groupby(axes, dropna=False, observed=True, sort=False)
        parts = {}
        for name in names:
            values = groups[name]
            count, sd = values.count(), values.std()
            parts[name, "mean"], parts[name, "sd"] = values.mean(), sd
            parts[name, "se"] = sd / np.sqrt(count)
            for quantile in (5, 50, 95):
                parts[name, f"q{quantile:02d}"] = values.quantile(quantile / 100)
            parts[name, "count"] = count
        parts["trials", "count"] = groups.size()
        parts["trials", "failed"] = groups["status"].sum()
        summary = pd.DataFrame(parts)
        planned = self._planned(axes)
        keys = summary.index.to_frame(index=False)[axes].itertuples(index=False, name=None)
        summary["trials", "planned"] = [planned[_key(key)] for key in keys]
        return summary

    def _planned(self, axes: Sequence[str]) -> dict[tuple, int]:
        """Returns how many trials were asked for with the same values of some axes."""
        described = self._described()
        found: dict[tuple, int] = {}
        for i, piece in enumerate(self._pieces):
            key = _key([described[name][i] for name in axes])
            found[key] = found.get(key, 0) + piece.planned
        return found


def _pieces(manifests: Sequence[Manifest], store: Store) -> list[_Piece]:
    """Returns the pieces of all specs in a folder, in the order in which they were asked for."""
    there = store.names()
    found: dict[Hashable, dict[Kind, dict[Hashable, Block]]] = {}
    for manifest in manifests:
        numerics = tuple(sorted(manifest.numerics.items()))
        for product in manifest.grid.parts:
            for block in blocks(product):
                kinds = found.setdefault((block.cell.key, block.first), {})
                kinds[numerics] = kinds.pop(numerics, {})  # asked for last
                kinds[numerics][block.columns.names, block.last] = block
    pieces = []
    for kinds in found.values():
        stored, numerics, missing = (), {}, None
        for kind, asked in kinds.items():
            now = dict(kind)
            is_stored = {key: store.file(block, now).name in there for key, block in asked.items()}
            ready = _needed([block for key, block in asked.items() if is_stored[key]])
            lacking = [block for block in asked.values() if not _covered(block, ready)]
            missing = max(lacking, key=lambda block: block.last, default=None)
            if ready:
                stored, numerics = ready, now
        cell = next(iter(next(iter(kinds.values())).values())).cell
        planned = max(
            block.last - block.first for asked in kinds.values() for block in asked.values()
        )
        pieces.append(_Piece(cell, stored, numerics, missing, planned))
    return pieces


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


def _merged(tables: Sequence["pa.Table"]) -> "pa.Table":
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


def _describe(cells: Sequence[Cell]) -> dict[str, list[Value]]:
    """Returns the columns that tell cells apart: names of roles, and fields that differ."""
    columns: dict[str, list[Value]] = {}
    for role in ROLES:
        configs = [getattr(cell, role) for cell in cells]
        columns[role] = [config.name for config in configs]
        fields = dict.fromkeys(name for config in configs for name in config.fields)
        for field in fields:
            values = [_flat(config.fields.get(field)) for config in configs]
            own = {
                (config.name, value)
                for config, value in zip(configs, values, strict=True)
                if field in config.fields
            }
            if len(own) > len({name for name, _ in own}):  # one class with several values
                columns[f"{role}.{field}"] = _of_one_kind(values)
        content = f"{role}.content"  # of own rows: a hash, told only where nothing else differs
        if content in columns:
            rest = [columns[name] for name in columns if name != content]
            others = list(zip(*rest, strict=True))
            if len({*others}) == len({*zip(others, columns[content], strict=True)}):
                del columns[content]
    if len({cell.labels for cell in cells}) > 1:
        columns["labels"] = [cell.labels for cell in cells]
    return columns


def _key(values: Sequence[Value]) -> tuple:
    """Returns values of axes as a key: numbers as floats, and None where there is none."""

    def plain(value):
        if isinstance(value, str):
            return value
        return None if value is None or value != value else float(value)

    return tuple(plain(value) for value in values)


def _flat(value: Json) -> Value:
    """Returns a value of a field as a number or a word."""
    return json.dumps(value) if isinstance(value, list | dict) else value


def _of_one_kind(values: Sequence[Value]) -> list[Value]:
    """Returns values that are all numbers or all words, None where there is none."""
    kinds = {isinstance(value, str) for value in values if value is not None}
    if len(kinds) == 1:
        return list(values)
    try:  # "inf" is how JSON says it
        return [None if value is None else float(value) for value in values]
    except ValueError:
        return [None if value is None else _word(value) for value in values]


def _word(value: Value) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None or value != value else f"{value:g}"
