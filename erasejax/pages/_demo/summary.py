"""The results for a reader: means and spreads over the datasets, for the terminal and the page."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np

from erasejax.pages._demo.runs import DATA, ERASERS, PROBES, Results

__all__ = ["NULL", "SCORES", "Row", "groups", "summary"]

NULL = "permuted"  # labels of the null of a search
SCORES = {"accuracy ± sd": "accuracy", "AUROC": "auroc", "nats": "log_loss", "R²": "r2"}


class Row(NamedTuple):
    """What was found for one kind of data, eraser and probe.

    Attributes:
      data: raw or normalised.
      eraser: its name.
      probe: its name.
      labels: "true", or "permuted" for a null.
      datasets: how many.
      scores: one a protocol, name to (mean, standard deviation) over the datasets; empty where the
        protocol was not run.
    """

    data: str
    eraser: str
    probe: str
    labels: str
    datasets: int
    scores: list[dict[str, tuple[float, float]]]

    def title(self, unit: str = "") -> str:
        """Returns what the table calls the row; `unit` follows a number of datasets of its own."""
        if self.labels == NULL:
            return "  its null"
        return f"{self.probe} ({self.datasets}{unit})" if self.probe == "ZeroOne" else self.probe

    def cells(self, protocol: int) -> Iterator[str]:
        """Yields the scores by a protocol as text, in the order of `SCORES`."""
        for name in SCORES.values():
            mean, spread = self.scores[protocol].get(name, (None, None))
            if mean is None:
                yield ""
            elif name == "accuracy":
                yield f"{mean:.4f} ± {spread:.3f}"
            else:
                yield f"{mean:.3f}".replace("-0.000", "0.000").replace("-", "\u2212")


def groups(rows: Sequence[Row]) -> Iterator[tuple[str, float, list[Row]]]:
    """Yields title, damage and rows for each kind of data and eraser."""
    for (data, eraser), group in groupby(rows, lambda row: (row.data, row.eraser)):
        found = list(group)
        yield f"{data}, {eraser}", found[0].scores[0]["damage"][0], found


def summary(results: Results) -> list[Row]:
    """Returns mean and spread over the datasets of every combination, in the table's order."""
    searches = (("ZeroOne", "true", (0, 1)), ("ZeroOne", NULL, (2,)))
    rows = []
    for i, data in enumerate(DATA):
        for j, eraser in enumerate(ERASERS):
            for k, probe in enumerate(PROBES):
                found = [_scores(results.convex, (i, j, p, k)) for p in (0, 1)]
                count = len(results.convex["accuracy"])
                rows.append(Row(data, eraser, probe, "true", count, found))
            for probe, labels, places in searches:
                found = [_scores(results.zero_one, (i, j, p)) for p in places]
                found += [{}] * (2 - len(found))
                count = len(results.zero_one["accuracy"])
                rows.append(Row(data, eraser, probe, labels, count, found))
    return rows


def _scores(found: dict[str, np.ndarray], place: tuple[int, ...]) -> dict:
    """Returns mean and standard deviation of every score that exists in a place."""
    columns = {name: values[(slice(None), *place)] for name, values in found.items()}
    return {
        name: (float(np.mean(column)), float(np.std(column)))
        for name, column in columns.items()
        if name != "status" and not np.isnan(column).any()
    }
