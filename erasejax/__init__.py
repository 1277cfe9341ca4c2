"""erasejax: after this concept is erased, what can still be read, by which probe, at what cost?"""

from erasejax import datasets, metrics, probes
from erasejax.checks import Status, raise_if_failed
from erasejax.data import Dataset
from erasejax.erasers import (
    INLP,
    LEACE,
    RLACE,
    SAL,
    SPLINCE,
    Ablation,
    Identity,
    MeanDifference,
    OracleLEACE,
    OracleProjection,
    RandomDirections,
)
from erasejax.io import load, save
from erasejax.mesh import sharded_moments
from erasejax.moments import Moments, merge
from erasejax.projection import Projection, TracedProjection
from erasejax.streaming import stream_moments

__all__ = [
    "Ablation",
    "Dataset",
    "INLP",
    "Identity",
    "LEACE",
    "MeanDifference",
    "Moments",
    "OracleLEACE",
    "OracleProjection",
    "Projection",
    "RLACE",
    "RandomDirections",
    "SAL",
    "SPLINCE",
    "Status",
    "TracedProjection",
    "datasets",
    "load",
    "merge",
    "metrics",
    "probes",
    "raise_if_failed",
    "save",
    "sharded_moments",
    "stream_moments",
]
