"""Erasers: one file a method, one equation (`erasejax.projection`) behind them all."""

from erasejax.erasers.ablation import Ablation
from erasejax.erasers.identity import Identity
from erasejax.erasers.inlp import INLP
from erasejax.erasers.leace import LEACE
from erasejax.erasers.mean_difference import MeanDifference
from erasejax.erasers.oracle_leace import OracleLEACE, OracleProjection
from erasejax.erasers.pairs import ablate_pairs
from erasejax.erasers.quadratic import ALFQLEACE, QLEACE, ClassTransport
from erasejax.erasers.random_directions import RandomDirections
from erasejax.erasers.rlace import RLACE
from erasejax.erasers.sal import SAL
from erasejax.erasers.splince import SPLINCE

__all__ = [
    "ALFQLEACE",
    "INLP",
    "LEACE",
    "QLEACE",
    "RLACE",
    "SAL",
    "SPLINCE",
    "Ablation",
    "ClassTransport",
    "Identity",
    "MeanDifference",
    "OracleLEACE",
    "OracleProjection",
    "RandomDirections",
    "ablate_pairs",
]
