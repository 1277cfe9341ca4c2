"""The scores of a protocol as cells of text, for whoever prints them."""

import dataclasses
from collections.abc import Sequence

from erasejax._core.views import table_of_scores
from erasejax.readout._found import Line

__all__ = ["Table", "answers", "fairness"]


@dataclasses.dataclass(frozen=True)
class Table:
    """Cells of text.

    Attributes:
      head: of each column behind the first two, which name the probe and say when.
      rows: probe, when, and the cells.
    """

    head: tuple[str, ...]
    rows: tuple[tuple[str, str, tuple[str, ...]], ...]

    def _repr_html_(self) -> str:
        rows = [((probe, when), cells) for probe, when, cells in self.rows]
        return table_of_scores(["probe", "", *self.head], rows)


def answers(lines: Sequence[Line], *, weights: bool = False) -> Table:
    """Returns what probes score.

    Args:
      lines: of a protocol.
      weights: add the length of the probes' weight vectors.
    """
    names = [name for name in lines[0].scores if weights or name != "|weight|"]
    head, rows = [], []
    apart = not lines[0].halves  # of one split only the accuracy has an interval
    for name in names:
        head += [name, "95% interval"] if apart and name == "accuracy" else [name]
    for line in lines:
        cells = []
        for name in names:
            cells.append(_number(line.scores[name], line.halves.get(name)))
            if apart and name == "accuracy":
                cells.append(f"{line.interval[0]:.3f}-{line.interval[1]:.3f}")
        rows.append((line.probe, line.when, tuple(cells)))
    return Table(tuple(head), tuple(rows))


def fairness(lines: Sequence[Line]) -> Table:
    """Returns how what probes of the task predict differs between the classes of the concept.

    Args:
      lines: of the task.
    """
    names = tuple(lines[0].fairness)
    cells = [
        tuple(_number(line.fairness[name], line.halves.get(name)) for name in names)
        for line in lines
    ]
    own = zip(lines, cells, strict=True)
    return Table(names, tuple((line.probe, line.when, row) for line, row in own))


def _number(value: float | None, half: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if half is None else f"{value:.3f} ± {half:.3f}"
