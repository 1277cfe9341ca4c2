"""What the arguments of `probe` ask, read from their files."""

from typing import Any

from erasejax._core.inputs import choice
from erasejax.cli._arguments import check_seed, configure, needs_files
from erasejax.cli._common import check_dims, load_eraser
from erasejax.files import (
    Features,
    check_rows,
    find_layers,
    open_features,
    parse,
    read_classes,
    read_groups,
    read_labels_again,
)
from erasejax.names import look_up
from erasejax.probes import Probe
from erasejax.readout import Question

__all__ = ["question"]


def question(
    *rows: str,
    method: str | None = None,
    given: str | None = None,
    eraser: str | None = None,
    probes: str = "logistic,lda,mean-difference",
    task: str | None = None,
    groups: str | None = None,
    concept: str = "auto",
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
    choice("--concept", concept, ("auto", "classes"))
    if not 1 <= seeds <= 2**31 - seed:
        raise ValueError(f"--seeds: expected a whole number of splits from 1 on, got {seeds}")
    if len(rows) < 2:
        raise ValueError("expected features and their labels, X LABELS")
    *given_files, labels = rows
    named = find_layers(given_files)
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
        erased = read_labels_again(parse(labels, encoding), class_names)
    else:
        erased = read_classes(parse(labels, encoding), concept)
    kept = None if task is None else read_classes(parse(task, encoding), concept)
    together = None if groups is None else read_groups(parse(groups, encoding))
    for each in features.values():
        check_rows(each, erased)
        if kept is not None:
            check_rows(each, kept, what="task entries")
        if together is not None:
            check_rows(each, together, what="group ids")
    for of in (erased, kept):
        if of is not None and len(of.names or ()) != 2 and "zero-one" in kinds:
            raise ValueError(
                f"{of.source}: the probe zero-one separates 2 classes, got {len(of.names or ())}"
            )
    if fitted and eraser:
        check_dims(fitted, eraser, next(iter(features.values())))
        if fitted.needs_z and not notes.get("class_names"):
            raise ValueError(f"{eraser}: reads a real concept; the probes here read classes")
        options: Any = notes.get("options") or {}
        given = None if kept is None else options.get("given")
    asked = Question(
        probes=kinds,
        concept=erased,
        task=kept,
        groups=together,
        method=config,
        eraser=fitted,
        where=str(eraser or ""),
        given=given or "none",
        seed=seed,
        splits=seeds,
    )
    summary = f"{len(erased.values)} rows"
    if together is not None:
        summary += f" in {len(together.names or ())} groups"
    summary += f", {erased}"
    if kept is not None:
        summary += f"; the task has {kept}"
    if told := asked.unequal():
        summary += f"\n{told}"
    asked.split(seed)  # whatever is wrong with it is said before any work
    return summary, asked, features


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
