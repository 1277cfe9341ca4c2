"""Probes: what looks for a concept in features, one file a family."""

from erasejax.names import fill_room
from erasejax.probes._attention import AttentionLikelihood, AttentionProbe
from erasejax.probes._base import (
    Classifier,
    FittedProbe,
    Likelihood,
    LinearClassifier,
    LinearLikelihood,
    LinearProbe,
    LinearRegressor,
    Probe,
)
from erasejax.probes._ccs import CCS, CCSClassifier, recursive_ccs
from erasejax.probes._contrast import CRC, ContrastClassifier, ContrastProbe, RandomDirection
from erasejax.probes._convex.lbfgs import Prepared as Prepared
from erasejax.probes._convex.lbfgs import Start as Start
from erasejax.probes._convex.lbfgs import Until as Until
from erasejax.probes._kernel import FourierProbe, KernelRidge
from erasejax.probes._linear import LDA, LeastSquares, MeanDifferenceProbe
from erasejax.probes._logistic import Logistic
from erasejax.probes._mlp import MLP, MLPLikelihood
from erasejax.probes._quadratic import QDA, QuadraticClassifier
from erasejax.probes._recursive import Recursion, recursive
from erasejax.probes._recursive import recurse as recurse
from erasejax.probes._selection import Selection, select_l2
from erasejax.probes._svm import LinearSVM
from erasejax.probes._tokens import mean_pooled
from erasejax.probes._zero_one import ZeroOne

__all__ = [
    "AttentionLikelihood",
    "AttentionProbe",
    "CCS",
    "CCSClassifier",
    "CRC",
    "Classifier",
    "ContrastClassifier",
    "ContrastProbe",
    "FittedProbe",
    "FourierProbe",
    "KernelRidge",
    "LDA",
    "LeastSquares",
    "Likelihood",
    "LinearClassifier",
    "LinearLikelihood",
    "LinearProbe",
    "LinearRegressor",
    "LinearSVM",
    "Logistic",
    "MLP",
    "MLPLikelihood",
    "MeanDifferenceProbe",
    "Probe",
    "QDA",
    "QuadraticClassifier",
    "RandomDirection",
    "Recursion",
    "Selection",
    "ZeroOne",
    "mean_pooled",
    "recursive",
    "recursive_ccs",
    "select_l2",
]

fill_room(__name__)
