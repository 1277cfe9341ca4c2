"""The files that the arguments of `fit` name: one of rows, or several that are counted."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from erasejax._core.text import plain
from erasejax.erasers import ClosedForm
from erasejax.files import Counted, Together, count_files, find_together, is_many, load_counted

__all__ = ["Given", "count", "find_given", "say"]


class Given(NamedTuple):
    """The files that the arguments name.

    Attributes:
      x: of features, as they were named.
      z: of labels.
      task: of the task, or none.
      together: the same, found, where they are several or counted one after another.
      local: those on this machine.
    """

    x: tuple[str, ...]
    z: tuple[str, ...]
    task: tuple[str, ...]
    together: Together | None
    local: list[str]


def find_given(
    rows: tuple[str, ...],
    labels: tuple[str, ...],
    task: str | None,
    encoding: str | None,
    *,
    counted: bool,
) -> Given:
    """Returns the files that the arguments name.

    Args:
      rows: features, and their labels behind them if these are not named otherwise.
      labels: the labels.
      task: the task.
      encoding: of text in the files.
      counted: whether a single file is found as several are.

    Raises:
      ValueError: features stand without labels, or labels without features; see `find_together`.
      OSError: there are no such files.
    """
    x, z = (rows, labels) if labels else (rows[:-1], rows[-1:])
    kept = () if task is None else (task,)
    named = (*x, *z, *kept)
    if named and not (x and z):
        raise ValueError("expected features and their labels, X LABELS")
    if not named or not (counted or len(x) + len(z) > 2 or any(map(is_many, named))):
        return Given(x, z, kept, None, list(named))
    found = find_together(x, z, kept, encoding=encoding)
    local = [place.path for places in found for place in places if not place.is_url]
    return Given(x, z, kept, found, local)


def count(
    config: ClosedForm,
    given: Given,
    moments: Path | None,
    concept: str,
    drop: str | None,
    covariance: Callable[[int], bool],
) -> Counted:
    """Returns the moments of all files, those that were counted before among them.

    Args:
      config: the method that is solved from them.
      given: the files; where there are none, `moments` holds what was counted.
      moments: where moments are kept, or None.
      concept: what labels that are numbers mean.
      drop: columns that are no features.
      covariance: whether to keep that of so many features.

    Raises:
      ValueError: the method cannot be solved from them; see `count_files`.
    """
    counted = None
    if moments is not None and (moments.exists() or given.together is None):
        counted = load_counted(moments)
        if config.needs_covariance and counted.moments.xx.ndim == 1:
            raise ValueError(
                f"{moments}: keeps variances only, and this method needs the covariance; count "
                "the files with this --method into another file of moments"
            )
        if config.needs_task and not counted.moments.task:
            raise ValueError(
                f"{moments}: holds no task to keep; count the files with this --method and --task "
                "into another file of moments"
            )
        if counted.within_task != (config.given != "none"):
            what = "within a task" if counted.within_task else "within no task"
            raise ValueError(
                f"{moments}: counts classes {what}; count the files with this --method and --given "
                "into another file of moments"
            )
    if given.together is None:
        assert counted is not None
        return counted
    return count_files(
        given.together,
        saved=moments,
        concept=concept,
        drop=drop,
        covariance=covariance,
        progress="fitting",
        say=say,
        within_task=config.given != "none",
    )


def say(text: str) -> None:
    """Prints what is worth a line while the command runs."""
    print(f"erasejax: {plain(text)}", file=sys.stderr)
