"""Erasers: one file an eraser, one equation (`erasejax.projection`) behind them all."""

from erasejax._core.types import FittedEraser
from erasejax.erasers._ablation import Ablation
from erasejax.erasers._base import ClosedForm, Eraser
from erasejax.erasers._hsic_descent import HSICDescent
from erasejax.erasers._identity import Identity
from erasejax.erasers._inlp import INLP
from erasejax.erasers._kernel_leace import KernelEraser, KernelLEACE
from erasejax.erasers._leace import LEACE
from erasejax.erasers._mean_difference import MeanDifference
from erasejax.erasers._oracle_leace import OracleLEACE, OracleProjection
from erasejax.erasers._pairs import ablate_pairs
from erasejax.erasers._partial import Partial
from erasejax.erasers._quadratic import ALFQLEACE, QLEACE, ClassTransport
from erasejax.erasers._random_directions import RandomDirections
from erasejax.erasers._rlace import RLACE
from erasejax.erasers._sal import SAL
from erasejax.erasers._splince import SPLINCE
from erasejax.names import fill_room

__all__ = [
    "ALFQLEACE",
    "Ablation",
    "ClassTransport",
    "ClosedForm",
    "Eraser",
    "FittedEraser",
    "HSICDescent",
    "INLP",
    "Identity",
    "KernelEraser",
    "KernelLEACE",
    "LEACE",
    "MeanDifference",
    "OracleLEACE",
    "OracleProjection",
    "Partial",
    "QLEACE",
    "RLACE",
    "RandomDirections",
    "SAL",
    "SPLINCE",
    "ablate_pairs",
]

fill_room(__name__)
