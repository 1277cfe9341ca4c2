"""Synthetic datasets with known answers, one file a family."""

from erasejax.datasets.discrete import DiscreteFeatures
from erasejax.datasets.gaussian import GaussianClasses

__all__ = ["DiscreteFeatures", "GaussianClasses"]
