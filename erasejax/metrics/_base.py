"""What a metric is: a name, what it is of, what it needs, and how it is computed.

A metric is a class in a file of this room, with its `name`; nothing lists them.
"""

import dataclasses
from collections.abc import Callable
from typing import ClassVar, Literal, get_args

import jax

from erasejax.names import Named
from erasejax.rows import Dataset

__all__ = ["Metric", "offered"]

Of = Literal["probe", "fit", "rows", "change", "eraser", "labels"]
Need = Literal["classes", "task", "likelihood", "values"]


@dataclasses.dataclass(frozen=True)
class Metric(Named):
    """What is measured: a configuration with `compute`. Subclasses say what it is of.

    What `compute` is given, and how often it is called, follows from `of`:

    - "probe": a fitted probe, and the rows that are scored; for each probe and protocol.
    - "fit": a probe's configuration, what it fitted, the rows it was fitted to, the rows that are
      scored, and `key`; for each probe and protocol.
    - "rows": erased rows that probes are fitted to; for each eraser and protocol.
    - "change": features of the scored rows before erasing, and after; for each eraser and protocol.
    - "eraser": a fitted eraser; for each eraser.
    - "labels": rows that the eraser is fitted to; for each dataset.

    Rows are a `Dataset`, with the concept. A metric of a probe or of a fit has a second name,
    with the prefix task_: then the probe is fitted to the task, and the task is the concept of the
    rows.

    Attributes:
      name: in specs and columns.
      of: see above.
      needs: without all of these there is no such number, and it is NaN. "classes": the concept is
        class labels; "task": the rows have a second concept; "likelihood": the probe has
        `log_proba`; "values": the probe predicts real values, as `LeastSquares` does.
      title: what heads it in tables, with its unit; "" where tables leave it out.
      of_pairs: whether `compute` also takes a probe of contrast pairs, and `Pairs`.
      compute: returns the number, (); a method, or a `staticmethod`. Under jit: pure.

    Example:
      >>> class Errors(ej.metrics.Metric):
      ...     name = "errors"
      ...     def compute(self, probe, rows):
      ...         return 1 - ej.metrics.accuracy(probe, rows)
      >>> dataset = ej.datasets.GaussianClasses(separation=9.0, rows=3, dims=2)
      >>> data = dataset.sample(jax.random.key(0))
      >>> float(Errors().compute(ej.probes.LDA().fit(data), data))
      0.0
    """

    role = "metric"
    of: ClassVar[Of] = "probe"
    needs: ClassVar[frozenset[Need]] = frozenset()
    title: ClassVar[str] = ""
    of_pairs: ClassVar[bool] = False
    compute: ClassVar[Callable[..., jax.Array]]

    def __init_subclass__(cls) -> None:
        if cls.of not in get_args(Of):
            raise TypeError(f"{cls.__name__}.of: expected one of {get_args(Of)}, got {cls.of!r}")
        if unknown := cls.needs.difference(get_args(Need)):
            raise TypeError(
                f"{cls.__name__}.needs: expected some of {get_args(Need)}, got {sorted(unknown)}"
            )


def offered(data: Dataset, probe: object = None, fitted: object = None) -> frozenset[str]:
    """Returns what there is of what metrics need.

    Args:
      data: rows.
      probe: the configuration of a probe, or None.
      fitted: what it fitted, or None.
    """
    there = {
        "classes": data.is_classes,
        "task": data.task is not None,
        "likelihood": hasattr(fitted, "log_proba"),
        "values": getattr(probe, "real_concepts", False),
    }
    return frozenset(name for name, found in there.items() if found)
