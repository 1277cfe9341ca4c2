"""Checks that hold a configuration to the contract of erasers, probes and datasets.

They are how the package tests its own, and as good for those of others: a test of yours calls the
one that fits. The first rule that is broken raises an AssertionError that says which it is, what
was expected and what was found. Most rules read what is traced and compile nothing; the others take
one program of a few random rows, so the first call for a configuration takes some seconds.
"""

from erasejax.testing._datasets import check_dataset
from erasejax.testing._fits import check_eraser, check_probe

__all__ = ["check_dataset", "check_eraser", "check_probe"]
