"""Probes: one file a family; what a fitted probe can do is in `erasejax.probes.base`."""

from erasejax.probes.ccs import CCS, CCSClassifier, recursive_ccs
from erasejax.probes.contrast import CRC, ContrastClassifier, RandomDirection
from erasejax.probes.linear import LDA, LeastSquares, MeanDifferenceProbe
from erasejax.probes.logistic import Logistic
from erasejax.probes.mlp import MLP
from erasejax.probes.quadratic import QDA, QuadraticClassifier
from erasejax.probes.recursive import Recursion, recursive
from erasejax.probes.zero_one import ZeroOne

__all__ = [
    "CCS",
    "CCSClassifier",
    "CRC",
    "ContrastClassifier",
    "LDA",
    "LeastSquares",
    "Logistic",
    "MLP",
    "MeanDifferenceProbe",
    "QDA",
    "QuadraticClassifier",
    "RandomDirection",
    "Recursion",
    "ZeroOne",
    "recursive",
    "recursive_ccs",
]
