"""Datasets: synthetic ones with known answers, one file a family, and rows of yours."""

from erasejax.datasets._activations import Activations
from erasejax.datasets._base import Generator
from erasejax.datasets._continuous import ContinuousConcept
from erasejax.datasets._contrast import ContrastPairs
from erasejax.datasets._counterexamples import SkewedClasses, XorClasses
from erasejax.datasets._discrete import DiscreteFeatures
from erasejax.datasets._gaussian import GaussianClasses
from erasejax.datasets._own import OwnRows, Rows
from erasejax.datasets._own_files import FileRows
from erasejax.datasets._two_concepts import TwoConcepts
from erasejax.names import fill_room

__all__ = [
    "Activations",
    "ContinuousConcept",
    "ContrastPairs",
    "DiscreteFeatures",
    "FileRows",
    "GaussianClasses",
    "Generator",
    "OwnRows",
    "Rows",
    "SkewedClasses",
    "TwoConcepts",
    "XorClasses",
]

fill_room(__name__)
