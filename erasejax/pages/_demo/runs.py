"""The experiment as a sweep, and its numbers as arrays."""

import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from erasejax import sweep
from erasejax.plot import Frame

__all__ = ["DATA", "ERASERS", "PROBES", "PROTOCOLS", "ZERO_ONE_DATASETS", "Results", "run", "spec"]

DATA = ("raw", "normalised")
_FIRST_COLUMN = {"name": "ablation", "directions": [[1.0, 0.0, 0.0]]}
_METHODS = ("identity", "mean-difference", "random-directions", _FIRST_COLUMN)
ERASERS: tuple[str, ...] = ("before", "mean difference", "random direction", "column 0 only")
_CONVEX = ("least-squares", "lda", "mean-difference", "logistic")  # trained without 0-1 loss
PROBES = ("LeastSquares", "LDA", "MeanDifferenceProbe", "Logistic")
PROTOCOLS = ("fitting rows", "fresh rows")
ZERO_ONE_DATASETS = 256

_DECISIONS = ["accuracy", "balanced_accuracy", "auroc", "damage", "rank", "majority_rate"]
_SEEDS = 2**20  # of each run; runs with other seeds share no draws


class Results(NamedTuple):
    """What was measured, as numpy arrays, one entry a dataset on the first axis.

    Attributes:
      convex: name to (datasets, data, eraser, protocol, probe), in the order of `PROBES`.
      zero_one: name to (datasets, data, eraser, 3): fitting rows, fresh rows, and fitting rows with
        permuted labels. The first datasets only.
    """

    convex: dict[str, np.ndarray]
    zero_one: dict[str, np.ndarray]


def spec(
    *, datasets: int, seed: int, zero_one_datasets: int = ZERO_ONE_DATASETS
) -> dict[str, object]:
    """Returns the spec of the experiment, for `erasejax.sweep.run`.

    Args:
      datasets: how many.
      seed: of all draws.
      zero_one_datasets: the first so many also meet `ZeroOne`.

    Raises:
      ValueError: a number makes no sense.
    """
    if not 1 <= datasets <= _SEEDS:
        raise ValueError(f"datasets: expected 1 to {_SEEDS:,}, got {datasets}")
    if not 0 <= seed < 2**32 // _SEEDS:
        raise ValueError(f"seed: expected 0 to {2**32 // _SEEDS - 1}, got {seed}")
    few = min(datasets, zero_one_datasets)
    return {
        "dataset": {"name": "discrete-features", "normalize": [False, True]},
        "eraser": list(_METHODS),
        "metrics": _DECISIONS,
        "first_seed": seed * _SEEDS,
        "part": [
            {
                "probe": list(_CONVEX),
                "seeds": datasets,
                "metrics": [*_DECISIONS, "log_loss", "r2"],
            },
            {"probe": "zero-one", "seeds": few},
            {"probe": "zero-one", "seeds": few, "labels": "permuted", "protocols": "fitting"},
        ],
    }


def run(
    *,
    datasets: int = 4096,
    seed: int = 0,
    zero_one_datasets: int = ZERO_ONE_DATASETS,
    progress: bool = False,
) -> Results:
    """Runs the experiment.

    Args:
      datasets: how many datasets; dataset i is the same whatever else is run.
      seed: of all draws.
      zero_one_datasets: the first so many also meet `ZeroOne`.
      progress: whether to show a bar.

    Returns:
      `Results`.

    Raises:
      ValueError: a number makes no sense.
    """
    asked = spec(datasets=datasets, seed=seed, zero_one_datasets=zero_one_datasets)
    with tempfile.TemporaryDirectory(prefix="erasejax-demo-") as folder:
        frame = sweep.run(asked, out=Path(folder), progress=progress).to_pandas()
    search = frame["probe"] == "zero-one"
    null = frame["labels"] == "permuted"
    convex = _cube(frame[~search], _CONVEX, ("fitting", "fresh"))
    true = _cube(frame[search & ~null], ("zero-one",), ("fitting", "fresh"))
    permuted = _cube(frame[search & null], ("zero-one",), ("fitting",))
    zero_one = {
        name: np.concatenate([value, permuted[name]], axis=3)[..., 0]
        for name, value in true.items()
    }
    return Results(convex, zero_one)


def _cube(
    frame: Frame, probes: tuple[str, ...], protocols: tuple[str, ...]
) -> dict[str, np.ndarray]:
    """Returns numbers (datasets, data, eraser, protocol, probe) by name from rows of the table."""
    names = [method if isinstance(method, str) else method["name"] for method in _METHODS]
    places = (
        frame["probe"].cat.set_categories(probes).cat.codes,
        frame["eraser"].cat.set_categories(names).cat.codes,
        frame["dataset.normalize"],
        frame["seed"],
    )
    frame = frame.iloc[np.lexsort([place.to_numpy() for place in places])]
    shape = (-1, len(DATA), len(names), len(probes))
    found = {}
    for name in (*_DECISIONS, "log_loss", "r2", "status"):
        spread = [f"{name}_{p}" if f"{name}_{p}" in frame else name for p in protocols]
        if name in ("log_loss", "r2") and len(probes) == 1:
            continue
        found[name] = np.stack([frame[c].to_numpy().reshape(shape) for c in spread], axis=3)
    return found
