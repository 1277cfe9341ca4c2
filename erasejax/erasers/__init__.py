"""Erasers: one file a method, one equation (`erasejax.projection`) behind them all."""

from erasejax.erasers.ablation import Ablation
from erasejax.erasers.identity import Identity
from erasejax.erasers.mean_difference import MeanDifference
from erasejax.erasers.random_directions import RandomDirections

__all__ = ["Ablation", "Identity", "MeanDifference", "RandomDirections"]
