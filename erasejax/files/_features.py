"""Features from anybody's files, in blocks of rows."""

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping, Sequence

import jax
import ml_dtypes
import numpy as np

from erasejax._core.text import show
from erasejax._core.warn import warn
from erasejax.files import _tables as tables
from erasejax.files._arrays import open_array
from erasejax.files._memory import check_memory
from erasejax.files._sources import Source, parse

__all__ = ["Features", "open_features"]


@dataclasses.dataclass(frozen=True)
class Features:
    """Rows of features in a file, read when asked for.

    Integers, booleans and float8 become float32. float64 becomes float32 unless jax's x64 mode is
    on. float16 and bfloat16 stay as they are. Blocks that are `exact` are float64 where the file
    holds float64, or integers of 32 bits or more: what subtracts their mean keeps more digits that
    way. Columns of integers among columns of floats are warned of when they are read, unless
    somebody has named them.

    Attributes:
      source: where they come from.
      shape: (n, d).
      dtype: in which they are used.
      columns: names of the features, where the file has them.
      wide: whether the file holds numbers that only float64 holds exactly.
    """

    source: Source
    shape: tuple[int, int]
    dtype: np.dtype
    columns: tuple[str, ...] | None
    _read: Callable[[int], Iterator[np.ndarray]]
    wide: bool = False

    def blocks(self, rows: int, *, exact: bool = False) -> Iterator[np.ndarray]:
        """Yields (rows, d) arrays in the order of the file; the last one may be shorter.

        Only about one block is in memory at a time, but for .csv files and arrays of .npz files
        that lie by columns, which are read whole.

        Args:
          rows: rows in a block.
          exact: whether blocks are float64 where only that holds the numbers of the file.

        Yields:
          Finite float arrays.

        Raises:
          ValueError: a value is NaN or infinite. It is raised after the last finite block, and the
            message counts all such values of the file.
        """
        bad, first, start = 0, None, 0
        for block in _rechunk(self._read(rows), rows):
            whole = block
            with np.errstate(over="ignore"):
                block = block.astype(self.dtype, copy=False)
            finite = np.isfinite(block)
            if not finite.all():
                where = np.argwhere(~finite)
                bad += len(where)
                if first is None:
                    value = block[tuple(where[0])]
                    first = (start + int(where[0][0]), int(where[0][1]), value)
            start += len(block)
            if first is None:
                yield whole.astype(np.float64, copy=False) if exact and self.wide else block
            del block, whole  # before the next is read
        if start != self.shape[0]:
            raise ValueError(f"{self.source}: expected {self.shape[0]} rows, found {start}")
        if first is not None:
            row, column, value = first
            name = f" ({show(self.columns[column])})" if self.columns else ""
            raise ValueError(
                f"{self.source}: {bad} of {self.shape[0] * self.shape[1]} values are NaN, infinite "
                f"or missing as {self.dtype}, the first ({value}) in row {row}, column "
                f"{column}{name}, counted from 0; remove or fill them"
            )

    def array(self, *, exact: bool = False) -> np.ndarray:
        """Returns all rows, (n, d).

        Args:
          exact: as for `blocks`.

        Raises:
          ValueError: a value is NaN or infinite.
          MemoryError: the machine cannot hold them.
        """
        n, d = self.shape
        check_memory(f"{self.source}: {n} rows of {d}", n * d * self.dtype.itemsize)
        (whole,) = self.blocks(n, exact=exact)
        return whole


def open_features(
    spec: str | os.PathLike[str],
    *,
    labels: str | os.PathLike[str] | None = None,
    task: str | os.PathLike[str] | None = None,
    groups: str | os.PathLike[str] | None = None,
    weights: str | os.PathLike[str] | None = None,
    columns: Sequence[str] | None = None,
    drop: str | None = None,
) -> Features:
    """Opens features, (n, d) numbers. Of a table all columns, which must be numeric.

    An index that pandas has written is no feature, unless it is named.

    Args:
      spec: file, with a part where it has parts. Columns of a table are names and patterns with
        commas between them, "table.csv:a,b" or "table.csv:f*", or one column of lists.
      labels: where the labels come from. If that is a column of the same table, it is no feature.
      task: where a task comes from; the same holds.
      groups: where groups of rows come from; the same holds.
      weights: where weights of rows come from; the same holds.
      columns: which columns of a table to take where `spec` names none, instead of all.
      drop: columns of a table that are no features, named as in `spec`: "id,meta_*".

    Returns:
      `Features`.

    Raises:
      ValueError: the file is damaged, or does not hold rows of numbers.
      FileNotFoundError: there is no such file.
      ModuleNotFoundError: reading tables needs pyarrow.
    """
    source = parse(spec)
    if source.format.is_table:
        others = {"labels": labels, "task": task, "groups": groups, "weights": weights}
        return _table_features(source, others, columns, drop)
    if drop is not None:
        raise ValueError(f"{source}: has no columns with names; leave out --drop")
    stored = open_array(source).require()
    return Features(
        source,
        _row_shape(source, stored.shape),
        _float_dtype(source, stored.dtype),
        None,
        stored.blocks,
        _is_wide(stored.dtype),
    )


def _row_shape(source: Source, shape: tuple[int, ...]) -> tuple[int, int]:
    """Returns the shape (n, d) of rows of features.

    Raises:
      ValueError: they are not.
    """
    if len(shape) != 2:
        advice = "reshape it first"
        if len(shape) == 3:
            advice = (
                "if the first are layers, save an array a layer, np.savez('acts.npz', layer0=x[0], "
                "layer1=x[1]), and name one, acts.npz:layer0, or for probe all, acts.npz:layer*, "
                "or sweep with layer = [0, 1]; of tokens take one, or their mean"
            )
        raise ValueError(
            f"{source}: expected features of shape (rows, features), got {len(shape)} axes, "
            f"{shape}; {advice}"
        )
    if 0 in shape:
        raise ValueError(f"{source}: expected at least one row and one feature, got shape {shape}")
    return shape[0], shape[1]


def _float_dtype(source: Source, dtype: np.dtype) -> np.dtype:
    """Returns the dtype in which features are used.

    Raises:
      ValueError: they are not numbers.
    """
    if dtype == ml_dtypes.bfloat16 or dtype == np.float16:
        return dtype.newbyteorder("=")
    if dtype.kind == "f" and dtype.itemsize >= 8:
        return np.dtype(jax.dtypes.canonicalize_dtype(np.float64))
    if dtype.kind in "fiub":
        return np.dtype(np.float32)
    raise ValueError(f"{source}: expected numbers, got {dtype}")


def _is_wide(dtype: np.dtype) -> bool:
    """Returns whether only float64 holds such numbers exactly."""
    return dtype.itemsize >= 8 and dtype.kind == "f" or dtype.itemsize >= 4 and dtype.kind in "iu"


def _rechunk(arrays: Iterator[np.ndarray], rows: int) -> Iterator[np.ndarray]:
    """Yields the same rows in blocks of `rows`, the last one shorter."""
    held: list[np.ndarray] = []
    count = 0
    for array in arrays:
        while count + len(array) >= rows:
            cut = rows - count
            yield np.concatenate([*held, array[:cut]]) if held else array[:cut]
            held, count, array = [], 0, array[cut:]
        if len(array):
            held.append(array)
            count += len(array)
        del array  # and with it the map of what has been read
    if held:
        yield np.concatenate(held)


def _table_features(
    source: Source,
    others: Mapping[str, str | os.PathLike[str] | None],
    columns: Sequence[str] | None,
    drop: str | None,
) -> Features:
    """Returns columns of a table as features.

    Args:
      source: the table, with a part where columns are named.
      others: where what is no feature comes from, by what it is.
      columns: which columns to take where the part names none.
      drop: columns to leave out, or None.

    Raises:
      ValueError: there are no such columns, or they do not hold numbers.
    """
    table = tables.open_table(source)
    aside = {
        name: what
        for what, other in others.items()
        for name in tables.same_table_columns(table, other)
    }
    if source.part is not None:
        names = table.choose(source.part, aside=aside)
        if leak := [name for name in names if name in aside]:
            raise ValueError(
                f"{source}: {leak[0]!r} holds the {aside[leak[0]]}, it cannot be a feature"
            )
    elif columns is not None:
        names = table.require(tuple(columns))
    else:
        names = tuple(name for name in table.columns if name not in aside)
    dropped = set(table.choose(drop)) if drop is not None else set()
    names = tuple(name for name in names if name not in dropped)
    if not names:
        raise ValueError(
            f"{source}: has no columns left for features, without labels, task, index and --drop"
        )
    dtype, width = table.matrix(names)
    fitted_on = source.part is None and columns is not None

    def read(rows: int) -> Iterator[np.ndarray]:
        if not fitted_on:
            _warn_of_integers(table, names)
        return table.blocks(names, rows)

    return Features(
        source,
        _row_shape(source, (table.rows, width)),
        _float_dtype(source, dtype),
        names if len(names) == width else None,
        read,
        _is_wide(dtype),
    )


def _warn_of_integers(table: tables.Table, names: tuple[str, ...]) -> None:
    """Warns of columns of integers among columns of floats that nobody has named.

    Warns:
      UserWarning: there are some.
    """
    part = table.source.part or ""
    named = {part, *(word.strip() for word in part.split(","))}
    odd = [name for name in table.integers(names) if name not in named]
    if odd:
        which = ", ".join(map(show, odd[:8])) + (f" and {len(odd) - 8} more" if odd[8:] else "")
        warn(
            f"{table.source.path}: integers among columns of floats are taken as features: "
            f"{which}; what is none, such as an id, is left out by --drop {show(odd[0])}"
        )
