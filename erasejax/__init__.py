"""erasejax: after this concept is erased, what can still be read, by which probe, at what cost?"""

from erasejax import datasets, metrics, probes, sweep, transport
from erasejax.checks import Status, raise_if_failed
from erasejax.class_moments import ClassMoments
from erasejax.data import Dataset
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
from erasejax.io import load, save
from erasejax.mesh import sharded_moments
from erasejax.moments import Moments, merge
from erasejax.pairs import PairNormalization, Pairs
from erasejax.projection import Projection, TracedProjection
from erasejax.streaming import stream_moments

__all__ = [
    "ALFQLEACE",
    "Ablation",
    "ClassMoments",
    "ClassTransport",
    "Dataset",
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
    "datasets",
    "load",
    "merge",
    "metrics",
    "probes",
    "raise_if_failed",
    "save",
    "sharded_moments",
    "stream_moments",
    "sweep",
    "transport",
]
