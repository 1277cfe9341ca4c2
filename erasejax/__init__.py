"""erasejax: after this concept is erased, what can still be read, by which probe, at what cost?"""

from erasejax import (
    datasets,
    erasers,
    files,
    metrics,
    models,
    plot,
    probes,
    sweep,
    testing,
    transport,
)
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
    Identity,
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

__all__ = [
    "ALFQLEACE",
    "Ablation",
    "ClassMoments",
    "ClassTransport",
    "Dataset",
    "FailedLanesError",
    "INLP",
    "Identity",
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
