"""The table of a sweep, put together from its blocks."""

import json
import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from erasejax.extras import require
from erasejax.sweep.grid import ROLES, Cell
from erasejax.sweep.store import Block, Manifest, Store, blocks

__all__ = ["Sweep"]


class Sweep:
    """The results of a sweep, by the manifests in its folder.

    Args:
      path: the folder.

    Raises:
      FileNotFoundError: there is no sweep.
      ValueError: a manifest is missing or damaged.

    Warns:
      UserWarning: there are files that are not part of it.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self._store = Store(path)
        self.path = self._store.path
        self.manifests = self._store.manifests()
        there = self._store.names()
        if foreign := self._store.foreign():
            warnings.warn(
                f"{self.path}: not part of the sweep, and not read: {', '.join(foreign[:8])}",
                stacklevel=3,
            )
        self._blocks: list[tuple[Block, Manifest]] = []
        self._missing: list[Block] = []
        for several in self._asked():
            stored = [
                (block, manifest)
                for block, manifest in several
                if self._store.file(block, manifest.numerics).name in there
            ]
            self._blocks += stored[-1:]
            self._missing += [several[-1][0]] if several[-1] not in stored else []

    def __repr__(self) -> str:
        stored, missing = len(self._blocks), len(self._missing)
        return f"Sweep({str(self.path)!r}, {stored} blocks, {missing} missing)"

    @property
    def axes(self) -> tuple[str, ...]:
        """The columns that say what a trial was: role names, and fields that differ."""
        return tuple(name for name in _describe(self._cells()) if name)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of numbers."""
        found = dict.fromkeys(
            name for m in self.manifests for part in m.grid.parts for name in part.ask.columns
        )
        return (*(name for name in found if name != "status"), "status")

    def missing(self) -> Any:
        """Returns a `pandas.DataFrame` of what was asked for and is not stored, a row a block."""
        pd = require("pandas", "sweep")
        described = _describe([block.cell for block in self._missing])
        rows = {name: values for name, values in described.items()}
        rows["first_seed"] = [block.first for block in self._missing]
        rows["last_seed"] = [block.last - 1 for block in self._missing]
        return pd.DataFrame(rows)

    def to_arrow(self) -> Any:
        """Returns a `pyarrow.Table`, a row a trial: axes, seed, numbers and status.

        Raises:
          DamagedBlockError: a file is damaged or foreign.
          ValueError: nothing is stored yet.
        """
        pa = require("pyarrow", "sweep")
        chosen = self._blocks
        if not chosen:
            raise ValueError(f"{self.path}: nothing is stored yet; run the sweep")
        with ThreadPoolExecutor(4) as pool:
            read = pool.map(lambda pair: self._store.read(pair[0], pair[1].numerics), chosen)
            tables = list(read)
        described = _describe([block.cell for block, _ in chosen])
        sizes = [table.num_rows for table in tables]
        joined = pa.concat_tables(tables, promote_options="default").combine_chunks()
        columns = {}
        for name, values in described.items():
            words = [word for word in dict.fromkeys(values) if word is not None]
            places = {word: i for i, word in enumerate(words)}
            codes = np.repeat([places.get(value, -1) for value in values], sizes).astype(np.int32)
            codes = pa.array(codes, mask=codes < 0)
            column = pa.DictionaryArray.from_arrays(codes, pa.array(words))
            columns[name] = column if isinstance(words[0], str) else column.dictionary_decode()
        for name in ("seed", *self.columns):
            columns[name] = joined[name]
        return pa.table(columns)

    def to_pandas(self) -> Any:
        """Returns a `pandas.DataFrame`, a row a trial.

        Columns: `dataset`, `eraser` and `probe`, and `labels` where both kinds were run; a column
        `role.field` for every field that differs; `seed`; a column for each number, NaN where there
        is none; and `status`, bits of `erasejax.Status`.

        Raises:
          DamagedBlockError: a file is damaged or foreign.
          ValueError: nothing is stored yet.
        """
        return self.to_arrow().to_pandas()

    def to_xarray(self) -> Any:
        """Returns an `xarray.Dataset` with a dimension for every axis that has several values.

        Combinations that were not run are NaN. Axes with one value are attributes.

        Raises:
          DamagedBlockError: a file is damaged or foreign.
          ValueError: nothing is stored yet.
        """
        require("xarray", "sweep")
        frame = self.to_pandas()
        axes = [name for name in frame.columns if name not in (*self.columns, "seed")]
        fixed = {
            name: frame[name].iloc[0] for name in axes if frame[name].nunique(dropna=False) == 1
        }
        frame = frame.drop(columns=list(fixed))
        keys = [name for name in axes if name not in fixed]
        for name in keys:
            if frame[name].dtype == "category":
                frame[name] = frame[name].astype(str)
        found = frame.set_index([*keys, "seed"]).to_xarray()
        return found.assign_attrs({name: str(value) for name, value in fixed.items()})

    def summary(self, frame: Any = None) -> Any:
        """Returns a `pandas.DataFrame` with a row a cell and, for every number, its statistics.

        Columns are pairs (number, statistic): mean, sd (from dataset to dataset), se (of the mean),
        the quantiles q05, q50 and q95, and count, how many trials have the number. Trials whose
        status has an error bit have none; `failed` counts them.

        Args:
          frame: what `to_pandas` returned, if it is at hand.

        Raises:
          DamagedBlockError: a file is damaged or foreign.
          ValueError: nothing is stored yet.
        """
        pd = require("pandas", "sweep")
        frame = self.to_pandas() if frame is None else frame.copy(deep=False)
        names = [name for name in self.columns if name != "status"]
        axes = [name for name in frame.columns if name not in (*self.columns, "seed")]
        frame["status"] = (frame["status"].to_numpy() & 0xFFFF) != 0
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
        return pd.DataFrame(parts)

    def _cells(self) -> list[Cell]:
        return [block.cell for block, _ in self._blocks] + [b.cell for b in self._missing]

    def _asked(self) -> list[list[tuple[Block, Manifest]]]:
        """Returns what was asked for of each cell and range of seeds, the best last.

        The numbers of the newest spec take the place of those of an older one; among specs for the
        same numbers the one with the most seeds counts.
        """
        newest: dict[Any, int] = {}
        found: dict[Any, dict[Any, tuple[Block, Manifest]]] = {}
        for i, manifest in enumerate(self.manifests):
            numerics = tuple(sorted(manifest.numerics.items()))
            for part in manifest.grid.parts:
                numbers = (part.ask.columns, numerics)
                newest[numbers] = i
                for block in blocks(part):
                    where = (block.cell.words, block.first)
                    found.setdefault(where, {})[numbers, block.last] = (block, manifest)
        return [
            [several[key] for key in sorted(several, key=lambda k: (newest[k[0]], k[1]))]
            for several in found.values()
        ]


def _describe(cells: list[Cell]) -> dict[str, list[Any]]:
    """Returns the columns that tell cells apart: names of roles, and fields that differ."""
    columns: dict[str, list[Any]] = {}
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
                columns[f"{role}.{field}"] = values
    if len({cell.labels for cell in cells}) > 1:
        columns["labels"] = [cell.labels for cell in cells]
    return columns


def _flat(value: Any) -> Any:
    """Returns a value of a field as a number or a word."""
    return json.dumps(value) if isinstance(value, list | dict) else value
