"""The columns of numbers that a sweep has: which metrics, under which protocols."""

import dataclasses
import functools
from collections.abc import Mapping

from erasejax.metrics import Metric
from erasejax.names import known, look_up

__all__ = ["OF_PROBES", "PROTOCOLS", "TASK", "Columns", "metric_names"]

# Parts of the rows that a probe is fitted to and scored on; an eraser is always fitted to part 0.
PROTOCOLS: Mapping[str, tuple[int, int]] = {"fitting": (0, 0), "fresh": (1, 2)}
OF_PROBES = ("probe", "fit")  # what there is once for each probe and protocol
TASK = "task_"  # before the name of a metric of a probe: the probe is fitted to the task


def metric_names() -> tuple[str, ...]:
    """Returns what a spec may ask for: all metrics, and those of probes for the task, too."""
    found = known("metric")
    return (*found, *(TASK + name for name, metric in found.items() if metric.of in OF_PROBES))


@dataclasses.dataclass(frozen=True)
class Columns:
    """The columns wanted of a trial.

    Attributes:
      metrics: of `metric_names()`.
      protocols: of `PROTOCOLS`.
    """

    metrics: tuple[str, ...]
    protocols: tuple[str, ...]

    @functools.cached_property
    def names(self) -> tuple[str, ...]:
        """The names of the columns: metric_protocol, and those that no protocol changes."""
        plain = {*self.of("eraser"), *self.of("labels")}
        found = []
        for name in self.metrics:
            spread = [f"{name}_{protocol}" for protocol in self.protocols]
            found += [name] if name in plain else spread
        return (*found, "status")

    @property
    def parts(self) -> list[int]:
        """The parts of a dataset's rows that are drawn."""
        return sorted({0, *(part for name in self.protocols for part in PROTOCOLS[name])})

    def of(self, *what: str) -> dict[str, Metric]:
        """Returns the metrics that are of something, by name.

        Args:
          *what: see `erasejax.metrics.Metric`; "task" for those of a probe of the task, without
            their prefix.

        Raises:
          ValueError: a metric is not known.
        """
        found = {}
        for name in self.metrics:
            plain = name.removeprefix(TASK)
            metric = look_up("metric", plain)
            if ("task" if plain != name else metric.of) in what:
                found[plain] = metric()
        return found
