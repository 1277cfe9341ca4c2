"""A metric of a probe."""

from typing import ClassVar

import jax

import erasejax as ej


class ErrorRate(ej.metrics.Metric):
    """The share of rows that a probe gets wrong."""

    name: ClassVar[str] = "error_rate"
    needs = frozenset({"classes"})
    title = "errors"

    def compute(self, probe: ej.probes.Classifier, rows: ej.Dataset) -> jax.Array:
        """Returns 1 - accuracy."""
        return 1 - ej.metrics.accuracy(probe, rows)
