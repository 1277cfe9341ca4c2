"""Synthetic datasets with known answers, one file a family."""

from erasejax.datasets.contrast import ContrastPairs
from erasejax.datasets.discrete import DiscreteFeatures
from erasejax.datasets.gaussian import GaussianClasses

__all__ = ["ContrastPairs", "DiscreteFeatures", "GaussianClasses"]
