"""The page of what probes read before erasing and after: one HTML file that holds it all."""

import csv
import io
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from erasejax._core.extras import require
from erasejax.files import check_target, replacing
from erasejax.pages import _html as html
from erasejax.pages._before_after import Panel, curves, dots
from erasejax.pages._html import Html, element, join
from erasejax.plot import save
from erasejax.readout import (
    Line,
    Protocol,
    Question,
    Table,
    answers,
    caption,
    fairness,
    majority,
    no_interval,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["check_page", "write_probe_page"]

_CLASSES = 8  # of a confusion table; rarer ones stand together

Found = Mapping[str, Sequence[Protocol]]


def check_page(path: str | os.PathLike[str], *, overwrite: bool) -> None:
    """Checks that a page can be written before any work is done.

    Raises:
      ValueError: it is no .html file.
      FileExistsError: it exists and overwrite is False.
      OSError: it cannot be written.
      ModuleNotFoundError: matplotlib is missing.
    """
    if Path(path).suffix.lower() not in {".html", ".htm"}:
        raise ValueError(f"{path}: expected the extension .html")
    check_target(path, overwrite=overwrite)
    require("matplotlib.figure", "plot")


def write_probe_page(
    path: str | os.PathLike[str],
    asked: Question,
    found: Found,
    *,
    summary: str,
    overwrite: bool = False,
) -> None:
    """Writes the page.

    Args:
      path: of the page.
      asked: the question.
      found: the protocols by the names of the files.
      summary: which rows there are.
      overwrite: False refuses to replace a file.

    Raises:
      FileExistsError: the page exists and overwrite is False.
      OSError: it cannot be written.
    """
    with replacing(path, overwrite=overwrite) as temporary:
        temporary.write_text(_page(asked, found, summary), encoding="utf-8")


def _page(asked: Question, found: Found, summary: str) -> Html:
    names = list(found)
    several = len(names) > 1
    title = f"{asked.concept.source}: what probes read of it before erasing and after"
    eraser = f"erased by {asked.where or getattr(asked.method, 'name', 'the method')}"
    if asked.given != "none":
        eraser += f" within the classes of the task ({asked.given})"
    files = f"{names[0]} to {names[-1]}, {len(names)} files" if several else names[0]
    drawn = _along_layers(found) if several else _of_one(found[names[0]])
    parts = [part for name in names for part in _tables(name, found[name], asked, several)]
    return html.page(
        title,
        element("p", f"{files}, {eraser}. {summary}."),
        _intervals(asked.splits),
        element("h2", "Pictures"),
        *(_figure(*each) for each in drawn),
        element("h2", "Tables"),
        *parts,
        element(
            "p",
            "All numbers: ",
            html.download("scores.csv", _scores(found)),
            " and ",
            html.download("counts.csv", _counts(found, asked)),
            class_="tiny",
        ),
    )


def _intervals(splits: int) -> Html:
    text = (
        "Intervals of one set of rows, and of one split, are 95% bootstrap intervals of the "
        "accuracy for other rows to score; the probe is the same."
    )
    if splits > 1:
        text += (
            f" Those of {splits} splits into fresh rows are 95% intervals of the mean, for other "
            "rows to fit and to score; splits share rows, which widens them."
        )
    return element("p", text, class_="tiny")


def _accuracy(line: Line) -> tuple[float, float, float]:
    return (line.scores["accuracy"] or math.nan, *line.interval)


def _number(line: Line, name: str) -> tuple[float, float, float]:
    """Returns a number of a task's answers with the ends of its interval, NaN where unknown."""
    found, half = line.fairness[name], line.halves.get(name, math.nan)
    value = math.nan if found is None else found
    return value, value - half, value + half


def _panels(protocol: Protocol) -> Iterator[Panel]:
    """Yields what can be drawn of a protocol: accuracies, then how answers differ by group."""
    yield Panel("accuracy for the concept", protocol.lines, _accuracy, protocol.majority)
    if task := protocol.task_lines:
        yield Panel("accuracy for the task", task, _accuracy, protocol.task_majority)
        for name in task[0].fairness:
            yield Panel(name, task, lambda line, name=name: _number(line, name))


def _of_one(protocols: Sequence[Protocol]) -> Iterator[tuple[str, "Figure", str]]:
    """Yields title, picture and caption of one set of features."""
    for protocol in protocols:
        panels = list(_panels(protocol))
        title, _, rest = protocol.title.partition(": ")
        text = f"{rest[:1].upper()}{rest[1:]}."
        text += "".join(f" Of how answers differ {said}." for said in no_interval(protocol))
        yield title, dots(panels), text


def _along_layers(found: Found) -> Iterator[tuple[str, "Figure", str]]:
    """Yields the same of several: a picture for each number."""
    fresh = {name: list(_panels(protocols[-1])) for name, protocols in found.items()}
    first = next(iter(found.values()))[-1]
    for i, panel in enumerate(next(iter(fresh.values()))):
        text = "On fresh rows, a panel for each probe."
        if not math.isnan(panel.number(panel.lines[0])[1]):
            text += " Band: 95% interval."
        else:
            text += "".join(f" {said.capitalize()}." for said in no_interval(first))
        yield panel.title, curves({name: panels[i] for name, panels in fresh.items()}), text


def _figure(title: str, figure: "Figure", text: str) -> Html:
    drawn = io.BytesIO()
    save(figure, drawn, "svg")
    source = html.data_url("image/svg+xml", drawn.getvalue())
    picture = html.figure(html.image(source, f"{title}: {text}"), text)
    return join([element("h3", title), picture])


def _tables(
    name: str, protocols: Sequence[Protocol], asked: Question, several: bool
) -> Iterator[Html]:
    """Yields the tables of one file; those of several can be unfolded."""
    for protocol in protocols:
        parts = list(_parts(protocol, asked))
        if several:
            yield html.details(name, *parts, folded=True)
        else:
            yield join([element("h3", protocol.title), *parts])


def _parts(protocol: Protocol, asked: Question) -> Iterator[Html]:
    yield _table(answers(protocol.lines))
    yield element("p", join(caption(protocol), "<br>"), class_="tiny")
    yield from _confusion("the concept", protocol.lines, asked.classes)
    task = protocol.task_lines
    if not task:
        return
    assert protocol.task_majority is not None
    names, groups = asked.tasks, asked.classes
    yield element("h3", "Probes of the task")
    yield _table(answers(task))
    yield element("p", majority(protocol.task_majority), class_="tiny")
    yield from _confusion("the task", task, names)
    yield element("h3", "How the task's answers differ between classes of the concept")
    yield _table(fairness(task))
    for text in no_interval(protocol):
        yield element("p", text, class_="tiny")
    if len(names) == 2:
        yield element("p", f"A positive decision is to answer {names[1]}.", class_="tiny")
    yield from _recall(task, names, groups)


def _table(table: Table) -> Html:
    head = element("tr", *(element("th", name) for name in ("probe", "", *table.head)))
    lines = [
        html.row([name if when == "before" else "", when], cells)
        for name, when, cells in table.rows
    ]
    return html.table([head], lines)


def _confusion(what: str, lines: Sequence[Line], names: Sequence[str]) -> Iterator[Html]:
    """Yields for each probe which classes it takes for which, before and after, side by side."""
    yield element("h3", f"Which classes of {what} are taken for which")
    for before, after in zip(lines[::2], lines[1::2], strict=True):
        sides = [_pooled(line.counts.sum(axis=1), names) for line in (before, after)]
        shown = sides[0][0]
        title = f"{before.probe}: share of the rows of a class (down) by answer (across)"
        yield _side_by_side(title, shown, shown, [_shares(counts) for _, counts in sides])


def _recall(lines: Sequence[Line], names: Sequence[str], groups: Sequence[str]) -> Iterator[Html]:
    """Yields for each probe how often it is right, by class of the task and of the concept."""
    for before, after in zip(lines[::2], lines[1::2], strict=True):
        sides = []
        for line in (before, after):
            right = np.diagonal(line.counts, axis1=0, axis2=2).T
            with np.errstate(invalid="ignore"):
                sides.append((right / line.counts.sum(axis=2))[: _CLASSES * 4, :_CLASSES])
        title = f"{before.probe}: share answered right, by class of the task and of the concept"
        yield _side_by_side(title, names[: _CLASSES * 4], groups[:_CLASSES], sides)


def _pooled(counts: np.ndarray, names: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """Returns a confusion table of the most frequent classes, with all others as one."""
    if len(names) <= _CLASSES:
        return list(names), counts
    often = np.sort(np.argsort(-counts.sum(axis=1), kind="stable")[: _CLASSES - 1])
    place = np.full(len(names), len(often))
    place[often] = np.arange(len(often))
    pooled = np.zeros((_CLASSES, _CLASSES), counts.dtype)
    np.add.at(pooled, (place[:, None], place[None]), counts)
    return [*(str(names[i]) for i in often), f"{len(names) - len(often)} others"], pooled


def _shares(counts: np.ndarray) -> np.ndarray:
    size = counts.sum(axis=1, keepdims=True)
    return np.where(size > 0, counts / np.maximum(size, 1), np.nan)


def _side_by_side(
    title: str, rows: Sequence[str], columns: Sequence[str], sides: Sequence[np.ndarray]
) -> Html:
    """Returns shares before and after as one table, whose cells are tinted by them."""
    k = len(columns)
    when = [element("th", word, colspan=k) for word in ("before", "after")]
    head = [
        element("tr", element("th"), *when),
        element("tr", element("th"), *(element("th", name) for _ in sides for name in columns)),
    ]
    body = [
        element(
            "tr",
            element("th", name, scope="row"),
            *(_cell(float(share)) for side in sides for share in side[i]),
        )
        for i, name in enumerate(rows)
    ]
    table = html.table(head, body, parts=(1, k, k), class_="tinted")
    return join([element("p", title, class_="tiny"), table])


def _cell(share: float) -> Html:
    if math.isnan(share):
        return element("td", "-")
    return element("td", f"{share:.3f}", style=f"--share: {share:.0%}")


def _scores(found: Found) -> str:
    """Returns all numbers as CSV, a line each."""
    lines: list[tuple[str, ...]] = [
        ("features", "rows", "of", "probe", "when", "number", "value", "low", "high")
    ]
    for name, protocols in found.items():
        for protocol in protocols:
            rows = protocol.title.partition(":")[0]
            for of, own in (("concept", protocol.lines), ("task", protocol.task_lines)):
                for line in own:
                    for number, value in (line.scores | line.fairness).items():
                        low, high = _ends(line, number, value)
                        key = (name, rows, of, line.probe, line.when, number)
                        lines.append((*key, *map(_text, (value, low, high))))
    return _csv(lines)


def _ends(line: Line, number: str, value: float | None) -> tuple[float | None, float | None]:
    if number == "accuracy":
        return line.interval
    half = line.halves.get(number)
    return (None, None) if value is None or half is None else (value - half, value + half)


def _counts(found: Found, asked: Question) -> str:
    """Returns how many rows there are by label, group and answer, as CSV."""
    lines: list[tuple[str, ...]] = [
        ("features", "rows", "of", "probe", "when", "label", "group", "answer", "count")
    ]
    for name, protocols in found.items():
        for protocol in protocols:
            rows = protocol.title.partition(":")[0]
            for of, own, names, groups in (
                ("concept", protocol.lines, asked.classes, ("",)),
                ("task", protocol.task_lines, asked.tasks, asked.classes),
            ):
                for line in own:
                    for (y, g, p), count in np.ndenumerate(line.counts):
                        key = (name, rows, of, line.probe, line.when)
                        lines.append((*key, names[y], groups[g], names[p], str(count)))
    return _csv(lines)


def _csv(lines: Sequence[Sequence[str]]) -> str:
    written = io.StringIO()
    csv.writer(written, lineterminator="\n").writerows(lines)
    return written.getvalue()


def _text(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else f"{value:.7g}"
