"""Probes: one file a family; what a fitted probe can do is in `erasejax.probes.base`."""

from erasejax.probes.ccs import CCS, CCSClassifier, recursive_ccs
from erasejax.probes.contrast import CRC, ContrastClassifier, RandomDirection
from erasejax.probes.kernel import FourierProbe, KernelRidge
from erasejax.probes.linear import LDA, LeastSquares, MeanDifferenceProbe
from erasejax.probes.logistic import Logistic
from erasejax.probes.mlp import MLP
from erasejax.probes.quadratic import QDA, QuadraticClassifier
from erasejax.probes.recursive import Recursion, recursive
from erasejax.probes.selection import Selection, select_l2
from erasejax.probes.svm import LinearSVM
from erasejax.probes.zero_one import ZeroOne

__all__ = [
    "CCS",
    "CCSClassifier",
    "CRC",
    "ContrastClassifier",
    "FourierProbe",
    "KernelRidge",
    "LDA",
    "LeastSquares",
    "LinearSVM",
    "Logistic",
    "MLP",
    "MeanDifferenceProbe",
    "QDA",
    "QuadraticClassifier",
    "RandomDirection",
    "Recursion",
    "Selection",
    "ZeroOne",
    "recursive",
    "recursive_ccs",
    "select_l2",
]
