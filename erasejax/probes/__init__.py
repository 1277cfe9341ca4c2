"""Probes: one file a family; what a fitted probe can do is in `erasejax.probes.base`."""

from erasejax.probes.linear import LDA, LeastSquares, MeanDifferenceProbe
from erasejax.probes.logistic import Logistic
from erasejax.probes.quadratic import QDA, QuadraticClassifier
from erasejax.probes.zero_one import ZeroOne

__all__ = [
    "LDA",
    "LeastSquares",
    "Logistic",
    "MeanDifferenceProbe",
    "QDA",
    "QuadraticClassifier",
    "ZeroOne",
]
