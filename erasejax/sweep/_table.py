"""The table of a sweep, put together from its blocks."""

import json
import os
from collections import deque
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from erasejax._core.extras import require
from erasejax._core.views import View
from erasejax._core.warn import warn
from erasejax.plot import along_layers, axes_of, chosen, draw_table, heat_map
from erasejax.sweep._axes import Value, describe, key_of, word
from erasejax.sweep._blocks import is_block
from erasejax.sweep._pieces import Piece, merged, pieces
from erasejax.sweep._store import Store
from erasejax.sweep._summary import Numbers, summarised

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    import xarray as xr
    from matplotlib.axes import Axes

__all__ = ["Sweep"]


class Sweep:
    """The results of a sweep, by its manifests.

    Of each cell and seed there is one row, with all the numbers that were ever asked of it. Where a
    cell was run in several precisions or by several versions, those asked for last count.

    Args:
      path: the folder, or the URL of one in a bucket.

    Attributes:
      path: the folder, or the URL as text.
      manifests: what was asked for, the oldest first.

    Raises:
      FileNotFoundError: there is no sweep.
      ValueError: a manifest is missing or damaged.
      OSError: the bucket cannot be reached.

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
        names = self._store.names()
        if foreign := sorted(name for name in names if not is_block(name)):
            warn(f"{self.path}: not part of the sweep, and not read: {', '.join(foreign[:8])}")
        self._pieces = pieces(self.manifests, names)

    def __repr__(self) -> str:
        return f"Sweep({str(self.path)!r}, {self._counted()})"

    def _repr_html_(self) -> str:
        facts: dict[str, object] = {"in": str(self.path), "there are": self._counted()}
        for name, values in self._described().items():
            several = [*dict.fromkeys(v for v in values if v is not None)]
            shown = ", ".join(v if isinstance(v, str) else f"{v:g}" for v in several[:8])
            more = len(several) - 8
            facts[name] = shown + (f" and {more:,} more" if more > 0 else "")
        facts["numbers"] = ", ".join(name for name in self.columns if name != "status")
        lacking = sum(piece.missing is not None for piece in self._pieces)
        status = f"{lacking:,} blocks are missing: run the sweep again" if lacking else ""
        return View("Sweep", facts, status).html()

    def _counted(self) -> str:
        stored = sum(len(piece.stored) for piece in self._pieces)
        missing = sum(piece.missing is not None for piece in self._pieces)
        there, planned = self.trials
        return f"{stored} blocks, {missing} missing, {there:,} of {planned:,} trials"

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

    @property
    def num_classes(self) -> int | None:
        """How many classes, equally frequent, all datasets have; None where that differs."""
        parts = [part for manifest in self.manifests for part in manifest.grid.parts]
        found = {_equal_classes(config.fields) for part in parts for config in part.datasets}
        return found.pop() if len(found) == 1 else None

    def plot(
        self,
        column: str,
        *,
        along: str | None = None,
        across: str | None = None,
        where: dict[str, object] | None = None,
        boundary: float | None = None,
        ax: "Axes | None" = None,
    ) -> "Axes":
        """Draws the means of a number: curves along one axis, or a heat map over two.

        Files of yours that differ by one number are the layers of a model, the axis "layer".

        Args:
          column: the number, such as "accuracy_fresh"; see `columns`.
          along: the axis from left to right, such as "dataset.rows"; None for the one of numbers
            that has the most values. All others that vary make lines.
          across: the second axis of a heat map, see `ej.plot.heat_map`; None for curves.
          where: the values of other axes, by name.
          boundary: of a heat map, the mean at which one phase ends and the other begins.
          ax: matplotlib axes to draw on; None for new ones.

        Returns:
          The axes. `ax.figure.savefig` writes them, and a notebook shows new ones.

        Raises:
          ModuleNotFoundError: matplotlib is missing.
          ValueError: there is no such column, axis or value, no axis of numbers varies, or there
            are more lines than can be told apart.
        """
        if across is not None:
            if along is None:
                raise ValueError("along: a heat map needs both axes, along and across")
            return heat_map(
                self, column, along=along, across=across, where=where, boundary=boundary, ax=ax
            )
        frame = along_layers(self.to_pandas())
        if along is None:
            rows, others = chosen(frame, self.columns, column, where)
            numeric, _ = axes_of(rows, others)
            if not numeric:
                raise ValueError("along: no axis of numbers varies; report() draws histograms")
            along = numeric[0]
        rows, others = chosen(frame, self.columns, column, where, drawn=(along,))
        return draw_table(rows, column, along, others, classes=self.num_classes, ax=ax)

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
        tables = list(self._tables([self._pieces[i] for i in chosen]))
        columns = self._coded(chosen, [table.num_rows for table in tables])
        joined = pa.concat_tables(tables, promote_options="permissive").combine_chunks()
        for name in ("seed", *self.columns):
            there = name in joined.column_names
            columns[name] = joined[name] if there else pa.nulls(joined.num_rows, pa.float32())
        return pa.table(columns)

    def _coded(self, chosen: Sequence[int], sizes: Sequence[int]) -> "dict[str, pa.Array]":
        """Returns the columns that say what a trial was, of some pieces with so many rows."""
        pa = require("pyarrow", "sweep")
        columns = {}
        for name, values in self._described().items():
            words = [word for word in dict.fromkeys(values) if word is not None]
            places: dict[Value, int] = {word: i for i, word in enumerate(words)}
            codes = [places.get(values[i], -1) for i in chosen]
            codes = np.repeat(codes, sizes).astype(np.int32)
            codes = pa.array(codes, mask=codes < 0)
            column = pa.DictionaryArray.from_arrays(codes, pa.array(words))
            columns[name] = column if isinstance(words[0], str) else column.dictionary_decode()
        return columns

    def _tables(self, chosen: Iterable[Piece]) -> "Iterator[pa.Table]":
        """Yields the tables of pieces; some are read ahead, never all."""
        with ThreadPoolExecutor(self._store.threads) as pool:
            ahead: deque[Future[pa.Table]] = deque()
            for piece in chosen:
                ahead.append(pool.submit(self._read, piece))
                if len(ahead) > 4 * self._store.threads:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()

    def _read(self, piece: Piece) -> "pa.Table":
        tables = [self._store.read(block, piece.numerics) for block in piece.stored]
        return tables[0] if len(tables) == 1 else merged(tables)

    def _warn_of_gaps(self) -> None:
        cells: dict[Hashable, bool] = {}  # whether all seeds are there
        for piece in self._pieces:
            whole = piece.seeds == piece.planned
            cells[piece.cell.key] = cells.get(piece.cell.key, True) and whole
        there, planned = self.trials
        if there < planned:
            lacking = sum(not whole for whole in cells.values())
            warn(
                f"{self.path}: {there:,} of {planned:,} trials are there; {lacking:,} of "
                f"{len(cells):,} cells lack seeds, see missing(); running the sweep again goes on"
            )

    def _warn_of_mixture(self) -> None:
        kinds = {json.dumps(dict(piece.numerics)) for piece in self._pieces if piece.stored}
        if len(kinds) > 1:
            warn(
                f"{self.path}: cells of several versions or precisions in one table: "
                f"{', '.join(sorted(kinds))}"
            )

    def _described(self) -> dict[str, list[Value]]:
        return describe([piece.cell for piece in self._pieces])

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
                frame[name] = [word(value) for value in frame[name]]
        found = frame.set_index([*keys, "seed"]).to_xarray()
        return found.assign_attrs({name: str(value) for name, value in fixed.items()})

    def summary(self, frame: "pd.DataFrame | None" = None) -> "pd.DataFrame":
        """Returns a `pandas.DataFrame` with a row a cell and, for every number, its statistics.

        Columns are pairs (number, statistic): mean, sd (from dataset to dataset), se (of the mean),
        the quantiles q05, q50 and q95, and count, how many trials have the number. Trials whose
        status has an error bit have none; `failed` counts them. The columns (trials, count) and
        (trials, planned) say how many trials of a cell there are, and how many were asked for.

        Without `frame` the blocks are read one cell after another, so a table that is larger than
        the memory has a summary, too.

        Args:
          frame: what `to_pandas` returned, if it is at hand.

        Raises:
          DamagedBlockError: a file is damaged or foreign.
          ValueError: nothing is stored yet.
        """
        pd = require("pandas", "sweep")
        names = [name for name in self.columns if name != "status"]
        keys, cells = self._stored_cells() if frame is None else self._cells_of(frame)
        summary = pd.DataFrame(summarised(cells, names), index=pd.MultiIndex.from_frame(keys))
        planned = self._planned(list(keys))
        found = keys.itertuples(index=False, name=None)
        summary["trials", "planned"] = [planned[key_of(key)] for key in found]
        return summary

    def _stored_cells(self) -> "tuple[pd.DataFrame, Iterator[Numbers]]":
        """Returns what the cells are, and their numbers as they are read.

        Raises:
          ValueError: nothing is stored yet.
        """
        pa = require("pyarrow", "sweep")
        described = self._described()
        groups: dict[tuple, list[int]] = {}
        for i, piece in enumerate(self._pieces):
            if piece.stored:
                key = key_of([values[i] for values in described.values()])
                groups.setdefault(key, []).append(i)
        if not groups:
            raise ValueError(f"{self.path}: nothing is stored yet; run the sweep")
        self._warn_of_gaps()
        self._warn_of_mixture()
        keys = self._coded([own[0] for own in groups.values()], [1] * len(groups))

        def cells() -> Iterator[Numbers]:
            tables = self._tables(self._pieces[i] for own in groups.values() for i in own)
            for own in groups.values():
                yield _numbers([next(tables).drop_columns("seed") for _ in own])

        return pa.table(keys).to_pandas(), cells()

    def _cells_of(self, frame: "pd.DataFrame") -> "tuple[pd.DataFrame, Iterator[Numbers]]":
        """Returns what the cells of a table are, and their numbers."""
        axes = [name for name in frame.columns if name not in (*self.columns, "seed")]
        groups = frame.groupby(axes, dropna=False, observed=True, sort=False).ngroup().to_numpy()
        order = np.argsort(groups, kind="stable")
        starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
        columns = {name: frame[name].to_numpy() for name in self.columns}

        def cells() -> Iterator[Numbers]:
            for own in np.split(order, starts[1:]):
                yield lambda name, own=own: columns[name][own]

        return frame[axes].iloc[order[starts]], cells()

    def _planned(self, axes: Sequence[str]) -> dict[tuple, int]:
        """Returns how many trials were asked for with the same values of some axes."""
        described = self._described()
        found: dict[tuple, int] = {}
        for i, piece in enumerate(self._pieces):
            key = key_of([described[name][i] for name in axes])
            found[key] = found.get(key, 0) + piece.planned
        return found


def _numbers(tables: "Sequence[pa.Table]") -> Numbers:
    """Returns the numbers of a cell by name, NaN where it has none; copied when asked for."""
    pa = require("pyarrow", "sweep")
    table = pa.concat_tables(tables, promote_options="permissive")
    there = set(table.column_names)
    return lambda name: np.array(
        table[name] if name in there else np.full(table.num_rows, np.nan, np.float32)
    )


def _equal_classes(fields: Mapping[str, object]) -> int | None:
    """Returns how many classes a dataset has; None where they are not known to be as frequent."""
    rows = fields.get("rows")
    if "content" in fields or (isinstance(rows, list | tuple) and len({*rows}) > 1):
        return None  # of rows of the user's nothing says it
    count = fields.get("num_classes", 2)
    return count if isinstance(count, int) else None
