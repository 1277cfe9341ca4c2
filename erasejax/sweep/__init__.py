"""Sweeps: thousands of datasets and seeds, erased and probed, on one device or many."""

from os import PathLike

from erasejax.sweep._blocks import DamagedBlockError
from erasejax.sweep._cells import Config as Config
from erasejax.sweep._cells import Grid
from erasejax.sweep._grid import grid, read_spec
from erasejax.sweep._run import Estimate, estimate, run
from erasejax.sweep._table import Sweep
from erasejax.sweep._trial import lane_key as lane_key
from erasejax.sweep._trial import trial

__all__ = [
    "DamagedBlockError",
    "Estimate",
    "Grid",
    "Sweep",
    "estimate",
    "grid",
    "open",
    "read_spec",
    "run",
    "trial",
]


def open(path: str | PathLike[str]) -> Sweep:
    """Opens what is stored of a sweep.

    Args:
      path: the folder, or the URL of one in a bucket.

    Returns:
      `Sweep`: `to_pandas()`, `to_xarray()`, `summary()`, `missing()`.

    Raises:
      FileNotFoundError: there is no sweep.
      ValueError: a manifest is missing or damaged.
      OSError: the bucket cannot be reached.

    Example:
      >>> spec = {"dataset": "xor-classes", "eraser": "sal", "probe": "mean-difference"}
      >>> spec |= {"metrics": "accuracy", "protocols": "fitting", "seeds": 2}
      >>> sweep = ej.sweep.run(spec, out="sweep")
      >>> ej.sweep.open("sweep").trials == sweep.trials
      True
    """
    return Sweep(path)
