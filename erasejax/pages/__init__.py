"""Pages that hold their pictures: of a sweep, and of the demonstration."""

from erasejax.pages._demo import run_demo
from erasejax.pages._sweep import report

__all__ = ["report", "run_demo"]
