"""What probes still read after an eraser, on rows that neither was fitted to."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

import erasejax as ej

__all__ = ["scores"]


def scores(
    method: ej.erasers.Eraser,
    probes: Mapping[str, Any],
    parts: Sequence[ej.Dataset],
    key: jax.Array,
) -> dict[str, float]:
    """Fits the eraser to the first part, the probes to the second, and scores the third.

    Args:
      method: the eraser.
      probes: probes by name.
      parts: three datasets.
      key: of the eraser and of each probe.

    Returns:
      the accuracy of each probe; "majority", what the largest class would give; "damage", for an
      eraser that keeps the features; "directions", how many it takes, for one that is linear; of
      rows with a task of two labels, "task", the accuracy of a logistic regression for it, and
      "TPR gap", how much its recall differs between the classes of the concept.
    """
    fitting, seen, scored = parts
    eraser = method.fit(fitting, key=key)
    seen, left = (part.replace(x=eraser(part.x)) for part in (seen, scored))
    found = {
        name: float(ej.metrics.accuracy(probe.fit(seen, key=key), left))
        for name, probe in probes.items()
    }
    found["majority"] = float(ej.metrics.majority_rate(scored.z))
    if left.x.shape == scored.x.shape:
        found["damage"] = float(ej.metrics.damage(scored.x, left.x))
    if isinstance(eraser, ej.Projection):
        found["directions"] = float(eraser.rank)
    if scored.task is not None:
        y, truth = (np.asarray(part.task).reshape(-1).astype(np.int32) for part in (seen, left))
        predicted = ej.probes.Logistic().fit(seen.x, y).predict(left.x)
        found["task"] = float((np.asarray(predicted) == truth).mean())
        found["TPR gap"] = float(ej.metrics.tpr_gap(predicted, truth, groups=scored.z))
    return found
