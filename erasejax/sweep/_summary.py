"""Statistics of the numbers of cells, one cell at a time."""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

import numpy as np

__all__ = ["Numbers", "summarised"]

Numbers: TypeAlias = Callable[[str], np.ndarray]  # (trials,) of a cell, by name

_QUANTILES = {"q05": 0.05, "q50": 0.5, "q95": 0.95}
_NAMES = ("mean", "sd", "se", *_QUANTILES, "count")
_AT_ONCE = 2**22  # numbers of a cell in double precision


def summarised(cells: Iterable[Numbers], names: Sequence[str]) -> dict[tuple[str, str], np.ndarray]:
    """Returns (cells,) statistics of numbers by (name, statistic), and what `trials` there are.

    Args:
      cells: numbers by name, and `status`. Only one cell is held at a time.
      names: of the numbers.
    """
    found, trials, failures = [], [], []
    for cell in cells:
        failed = (cell("status") & 0xFFFF) != 0
        trials.append(len(failed))
        failures.append(int(failed.sum()))
        step = max(1, _AT_ONCE // max(1, len(failed)))
        found.append(
            np.concatenate([
                _statistics(
                    np.stack([cell(name)[~failed] for name in names[i : i + step]], dtype=float)
                )
                for i in range(0, len(names), step)
            ])
        )
    table = np.stack(found)
    columns = {
        (name, statistic): table[:, i, j]
        for i, name in enumerate(names)
        for j, statistic in enumerate(_NAMES)
    }
    for name in names:
        columns[name, "count"] = columns[name, "count"].astype(int)
    columns["trials", "count"] = np.array(trials)
    columns["trials", "failed"] = np.array(failures)
    return columns


def _statistics(values: np.ndarray) -> np.ndarray:
    """Returns (numbers, statistics) of values (numbers, trials), NaN where a trial has none.

    The values are sorted in their place.
    """
    if not values.shape[1]:
        values = np.full((len(values), 1), np.nan)
    values.sort(axis=1)  # those that are NaN come last
    there = ~np.isnan(values)
    count = there.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):  # of none, and of infinite ones
        mean = values.sum(axis=1, where=there) / count
        off = values - mean[:, None]
        squares = np.square(off, out=off).sum(axis=1, where=there)
        sd = np.sqrt(np.where(count > 1, squares, np.nan) / (count - 1))
        statistics = [mean, sd, sd / np.sqrt(count)]
        for quantile in _QUANTILES.values():
            place = quantile * np.maximum(count - 1, 0)
            low, high = (
                np.take_along_axis(values, end(place).astype(int)[:, None], axis=1)[:, 0]
                for end in (np.floor, np.ceil)
            )
            between = low + (high - low) * (place % 1)
            statistics.append(np.where(low == high, low, between))
    return np.stack([*statistics, count], axis=1)
