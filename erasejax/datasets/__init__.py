"""Synthetic datasets with known answers, one file a family."""

from erasejax.datasets.activations import Activations
from erasejax.datasets.continuous import ContinuousConcept
from erasejax.datasets.contrast import ContrastPairs
from erasejax.datasets.counterexamples import SkewedClasses, XorClasses
from erasejax.datasets.discrete import DiscreteFeatures
from erasejax.datasets.gaussian import GaussianClasses
from erasejax.datasets.two_concepts import TwoConcepts

__all__ = [
    "Activations",
    "ContinuousConcept",
    "ContrastPairs",
    "DiscreteFeatures",
    "GaussianClasses",
    "SkewedClasses",
    "TwoConcepts",
    "XorClasses",
]
