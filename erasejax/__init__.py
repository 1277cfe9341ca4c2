"""erasejax: after this concept is erased, what can still be read, by which probe, at what cost?"""

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

from erasejax import datasets, erasers, files, metrics, probes, transport
from erasejax._core.program_cache import cache_programs
from erasejax._core.status import FailedLanesError, Status, raise_if_failed
from erasejax.erasers import (
    ALFQLEACE,
    INLP,
    LEACE,
    QLEACE,
    RLACE,
    SAL,
    SPLINCE,
    Ablation,
    ClassTransport,
    HSICDescent,
    Identity,
    KernelEraser,
    KernelLEACE,
    MeanDifference,
    OracleLEACE,
    OracleProjection,
    RandomDirections,
    ablate_pairs,
)
from erasejax.files import load, save, stream_moments
from erasejax.names import register
from erasejax.projection import Projection, TracedProjection
from erasejax.rows import Dataset, PairNormalization, Pairs
from erasejax.statistics import ClassMoments, Moments, merge, sharded_moments

if TYPE_CHECKING:
    from erasejax import models, plot, sweep, testing

__all__ = [
    "ALFQLEACE",
    "Ablation",
    "ClassMoments",
    "ClassTransport",
    "Dataset",
    "FailedLanesError",
    "HSICDescent",
    "INLP",
    "Identity",
    "KernelEraser",
    "KernelLEACE",
    "LEACE",
    "MeanDifference",
    "Moments",
    "OracleLEACE",
    "OracleProjection",
    "PairNormalization",
    "Pairs",
    "Projection",
    "QLEACE",
    "RLACE",
    "RandomDirections",
    "SAL",
    "SPLINCE",
    "Status",
    "TracedProjection",
    "ablate_pairs",
    "cache_programs",
    "datasets",
    "erasers",
    "files",
    "load",
    "merge",
    "metrics",
    "models",
    "plot",
    "probes",
    "raise_if_failed",
    "register",
    "save",
    "sharded_moments",
    "stream_moments",
    "sweep",
    "testing",
    "transport",
]

_LATE = {"models", "plot", "sweep", "testing"}


def __getattr__(name: str) -> ModuleType:
    """Imports what a first answer does not need when it is first asked for.

    Raises:
      AttributeError: there is no such name.
    """
    if name in _LATE:
        return importlib.import_module(f"erasejax.{name}")
    raise AttributeError(f"module 'erasejax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(_LATE | globals().keys())
