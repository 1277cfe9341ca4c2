"""The command `probe`: scores before and after, under two protocols spelled out."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import arg

from erasejax._core.console import open_console, print_table
from erasejax._core.text import lines_of, plain, told_apart
from erasejax.cli._arguments import Columns, Encoding, OptionalFile, Rows
from erasejax.cli._question import question
from erasejax.pages import check_page, write_probe_page
from erasejax.readout import (
    Line,
    Protocol,
    Table,
    answers,
    caption,
    fairness,
    majority,
    no_interval,
)

__all__ = ["probe"]


def probe(
    rows: Rows,
    /,
    *,
    method: str | None = None,
    given: Annotated[str | None, arg(metavar="pooled|each")] = None,
    eraser: str | None = None,
    probes: str = "logistic,lda,mean-difference",
    task: OptionalFile = None,
    groups: OptionalFile = None,
    concept: Annotated[str, arg(metavar="auto|classes")] = "auto",
    keep_mean: bool = True,
    seed: int = 0,
    seeds: Annotated[int, arg(metavar="N")] = 1,
    out: Annotated[Path | None, arg(metavar="PAGE.HTML")] = None,
    force: bool = False,
    drop: Columns = None,
    encoding: Encoding = None,
    weights: bool = False,
) -> str | None:
    """Show what probes read before and after erasing.

    Two protocols. One set of rows: eraser, probe and score see the same rows. Fresh rows: the
    eraser is fitted on a third of the rows, the probe on another, and the last is scored.
    Beside the accuracy stands its 95% bootstrap interval for other rows to score. Below the
    scores it says what linear probes could read of the erased rows; on rows that the eraser
    has not seen, with a test and the smallest leak that the test would find.

    Rows of one name, sentence or template are not independent: intervals are too short and the
    test finds leaks that are none. Say with --groups which rows belong together.

    Several files of the same rows, such as the layers of a model, are probed one after another
    under the protocol of fresh rows.

    Args:
      rows: features, (rows, features), and behind them one class label a row. Several files of
        features, or a pattern (acts.npz:layer*), are layers.
      method: how to erase, {erasers}; mean-difference if nothing is said.
      given: erase within the classes of the task, pooled or each, as fit does.
      eraser: file of an eraser fitted elsewhere, instead of a method.
      probes: {probes}; commas between.
      task: a second label a row, which should survive: probes of it before and after, and how
        their answers differ between the classes of the first.
      groups: which rows belong together, one id a row, integers or text; no group is split.
      concept: what labels and a task that are whole floats mean; "classes" takes them as classes.
      keep_mean: project about the mean of the rows, not about the origin.
      seed: of the split, and of methods and probes that draw.
      seeds: how many splits into fresh rows, of seeds from --seed on. Above one: means, ± half of
        their 95% interval for other rows to fit and to score.
      out: also write a page with the pictures, tables and confusion.
      force: replace the page if it exists.
      drop: columns of a table that are no features; names and patterns, commas between.
      encoding: of text in the files, such as cp1252; UTF-8 if nothing is said.
      weights: also show how long the weight vectors of linear probes are, per sd of x.

    Returns:
      The name of the page, where there is one.

    Raises:
      ValueError: the input cannot be used, or fitting failed.
    """
    if out is not None:
        check_page(out, overwrite=force)
    summary, asked, files = question(
        *rows,
        method=method,
        given=given,
        eraser=eraser,
        probes=probes,
        task=task,
        groups=groups,
        concept=concept,
        keep_mean=keep_mean,
        seed=seed,
        seeds=seeds,
        drop=drop,
        encoding=encoding,
    )
    found = asked.ask(files)
    if out is not None:
        write_probe_page(out, asked, found, summary=summary, overwrite=force)
    print(lines_of(summary))
    names = told_apart(list(found))
    for protocols in zip(*found.values(), strict=True):
        print(f"\n{lines_of(protocols[0].title)}")
        _print(dict(zip(names, protocols, strict=True)), weights=weights)
    return None if out is None else str(out)


def _print(found: Mapping[str, Protocol], *, weights: bool) -> None:
    """Prints the tables of a protocol, and what they say.

    Args:
      found: by the names of the features; where there are several, lines begin with them.
      weights: whether to show the lengths of weight vectors.
    """

    def show(lines: Callable[[Protocol], Sequence[Line]], table: Callable[..., Table]) -> None:
        tables = {name: table(lines(protocol)) for name, protocol in found.items()}
        print_table(open_console(), _drawn(tables))

    def say(words: Callable[[Protocol], list[str]]) -> None:
        for name, protocol in found.items():
            for text in words(protocol):
                print(lines_of(f"{name}: {text}" if len(found) > 1 else text))

    show(lambda one: one.lines, lambda lines: answers(lines, weights=weights))
    say(lambda one: caption(one) + _warnings(one.lines))
    if not all(one.task_lines for one in found.values()):
        return
    print("\nProbes of the task")
    show(lambda one: one.task_lines, lambda lines: answers(lines, weights=weights))
    say(lambda one: [majority(one.task_majority or 0.0), *_warnings(one.task_lines)])
    print("\nHow their answers differ between the classes of the concept")
    show(lambda one: one.task_lines, fairness)
    for text in no_interval(next(iter(found.values()))):
        print(text)


def _drawn(tables: Mapping[str, Table]) -> Any:
    """Returns tables of several features as one that rich draws."""
    from rich.table import Table as Drawn
    from rich.text import Text

    several = len(tables) > 1
    drawn = Drawn(*["features"] * several, "probe", "")
    for name in next(iter(tables.values())).head:
        drawn.add_column(name, justify="right")
    for features, table in tables.items():
        for i, (name, when, cells) in enumerate(table.rows):
            first = name if when == "before" else ""
            of = [Text(plain(features) if i == 0 else "")] * several  # a name may hold markup
            drawn.add_row(*of, first, when, *cells, end_section=when == "after")
    return drawn


def _warnings(lines: Sequence[Line]) -> list[str]:
    return [f"{line.probe}, {line.when}: {line.warning}" for line in lines if line.warning]
