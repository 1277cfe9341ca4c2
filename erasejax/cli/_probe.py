"""The command `probe`: scores before and after, under two protocols spelled out."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from rich.console import Console
from tyro.conf import arg

from erasejax._core.text import lines_of
from erasejax.cli._arguments import (
    Columns,
    Encoding,
    OptionalFile,
    Rows,
    check_seed,
    configure,
    needs_files,
)
from erasejax.cli._common import check_dims, load_eraser
from erasejax.files import (
    Features,
    check_rows,
    find_layers,
    open_features,
    parse,
    read_groups,
    read_labels,
    read_labels_again,
)
from erasejax.names import look_up
from erasejax.pages import check_page, write_probe_page
from erasejax.probes import Probe
from erasejax.readout import Protocol, Question, Table, answers, caption, fairness, majority

__all__ = ["ask", "probe", "question"]

Found = Mapping[str, Sequence[Protocol]]  # by the name of a file


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
        keep_mean=keep_mean,
        seed=seed,
        seeds=seeds,
        drop=drop,
        encoding=encoding,
    )
    found = ask(asked, files)
    if out is not None:
        write_probe_page(out, asked, found, summary=summary, overwrite=force)
    console = Console()
    if not console.is_terminal:
        console.width = 110
    print(lines_of(summary))
    for name, protocols in found.items():
        for protocol in protocols:
            print(
                f"\n{lines_of(protocol.title if len(found) == 1 else f'{name}. {protocol.title}')}"
            )
            _print(console, protocol, weights=weights)
    return None if out is None else str(out)


def question(
    *rows: str,
    method: str | None = None,
    given: str | None = None,
    eraser: str | None = None,
    probes: str = "logistic,lda,mean-difference",
    task: str | None = None,
    groups: str | None = None,
    keep_mean: bool = True,
    seed: int = 0,
    seeds: int = 1,
    drop: str | None = None,
    encoding: str | None = None,
) -> tuple[str, Question, dict[str, Features]]:
    """Reads what is asked; the arguments are those of `probe`.

    Returns:
      What rows there are, the question, and the features by the names of their files.

    Raises:
      ValueError: the input cannot be used.
    """
    check_seed(seed)
    if not 1 <= seeds <= 2**31 - seed:
        raise ValueError(f"--seeds: expected a whole number of splits from 1 on, got {seeds}")
    if len(rows) < 2:
        raise ValueError("expected features and their labels, X LABELS")
    *named, labels = rows
    named = find_layers(named)
    if given is not None and task is None:
        raise ValueError("--given needs --task FILE, within whose classes it erases")
    fitted, config, notes = None, None, {}
    if eraser is not None:
        if method is not None or not keep_mean or given is not None:
            raise ValueError(
                "--eraser brings its own method; leave out --method, --given and --keep-mean"
            )
        if len(named) > 1:
            raise ValueError(f"--eraser is of the features of one file, got {len(named)} files")
        fitted, notes = load_eraser(eraser)
    else:
        config = _configured(method or "mean-difference", given, task, keep_mean)
    kinds = {name: look_up("probe", name, Probe)() for name in _names(probes)}
    columns: Any = notes.get("columns")
    features = {
        name: open_features(
            parse(name, encoding),
            labels=labels,
            task=task,
            groups=groups,
            columns=columns,
            drop=drop,
        )
        for name in named
    }
    class_names: Any = notes.get("class_names")
    if fitted and fitted.needs_z and class_names:  # it reads labels, by their numbers
        concept = read_labels_again(parse(labels, encoding), class_names)
    else:
        concept = read_labels(parse(labels, encoding), concept="classes")
    kept = None if task is None else read_labels(parse(task, encoding), concept="classes")
    together = None if groups is None else read_groups(parse(groups, encoding))
    for each in features.values():
        check_rows(each, concept)
        if kept is not None:
            check_rows(each, kept, what="task entries")
        if together is not None:
            check_rows(each, together, what="group ids")
    for of in (concept, kept):
        if of is not None and len(of.names or ()) != 2 and "zero-one" in kinds:
            raise ValueError(
                f"{of.source}: the probe zero-one separates 2 classes, got {len(of.names or ())}"
            )
    if fitted and eraser:
        check_dims(fitted, eraser, features[named[0]])
        if fitted.needs_z and not notes.get("class_names"):
            raise ValueError(f"{eraser}: reads a real concept; the probes here read classes")
        options: Any = notes.get("options") or {}
        given = None if kept is None else options.get("given")
    asked = Question(
        probes=kinds,
        concept=concept,
        task=kept,
        groups=together,
        method=config,
        eraser=fitted,
        where=str(eraser or ""),
        given=given or "none",
        seed=seed,
        splits=seeds,
    )
    summary = f"{len(concept.values)} rows"
    if together is not None:
        summary += f" in {len(together.names or ())} groups"
    summary += f", {concept}"
    if kept is not None:
        summary += f"; the task has {kept}"
    if told := asked.unequal():
        summary += f"\n{told}"
    asked.split(seed)  # whatever is wrong with it is said before any work
    return summary, asked, features


def ask(asked: Question, files: Mapping[str, Features]) -> dict[str, list[Protocol]]:
    """Asks a question of the features of one file, or of several.

    Returns:
      For each file its protocols: both of one file with an eraser to fit, else fresh rows alone.
    """
    from tqdm import tqdm

    found = {}
    total = len(files) * asked.splits
    with tqdm(total=total, desc="probing", unit="split", delay=1, disable=None, leave=False) as bar:
        for name, features in files.items():
            x = features.array(exact=True)
            both = len(files) == 1 and asked.eraser is None
            same = [asked.same_rows(x)] if both else []
            found[name] = [*same, asked.fresh_rows(x, done=bar.update)]
    return found


def _names(probes: str) -> list[str]:
    return list(dict.fromkeys(name.strip() for name in probes.split(",")))


def _configured(method: str, given: str | None, task: str | None, keep_mean: bool) -> Any:
    """Returns the eraser that a method and its options name.

    Raises:
      ValueError: it needs files that `probe` does not take.
    """
    kind = look_up("eraser", method)
    if needs_files(kind) and not (kind.needs_task and task is not None):
        hint = ", or say --task FILE" if kind.needs_task else ""
        raise ValueError(f"{method}: fit it first and give the file as --eraser{hint}")
    options: dict[str, object] = {} if keep_mean else {"keep_mean": False}
    return configure(method, options if given is None else options | {"given": given})


def _print(console: Console, protocol: Protocol, *, weights: bool) -> None:
    """Prints the tables of a protocol, and what they say."""
    console.print(_drawn(answers(protocol.lines, weights=weights)))
    for line in caption(protocol):
        print(lines_of(line))
    _warn(protocol.lines)
    if not protocol.task_lines:
        return
    assert protocol.task_majority is not None
    print("Probes of the task:")
    console.print(_drawn(answers(protocol.task_lines, weights=weights)))
    print(majority(protocol.task_majority))
    _warn(protocol.task_lines)
    print("Their answers, with the classes of the concept as groups:")
    console.print(_drawn(fairness(protocol.task_lines)))


def _drawn(table: Table) -> Any:
    """Returns a table as rich draws it."""
    from rich.table import Table as Drawn

    drawn = Drawn("probe", "")
    for name in table.head:
        drawn.add_column(name, justify="right")
    for name, when, cells in table.rows:
        first = name if when == "before" else ""
        drawn.add_row(first, when, *cells, end_section=when == "after")
    return drawn


def _warn(lines: Sequence[Any]) -> None:
    for line in lines:
        if line.warning:
            print(lines_of(f"{line.probe}, {line.when}: {line.warning}"))
