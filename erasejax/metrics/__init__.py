"""Metrics: what a probe reads, and what erasing cost."""

from erasejax.metrics.guardedness import (
    GuardednessTest,
    canonical_correlations,
    guardedness_test,
    linear_r2,
)
from erasejax.metrics.scores import (
    accuracy,
    auroc,
    balanced_accuracy,
    damage,
    log_loss,
    majority_rate,
    r2,
)

__all__ = [
    "GuardednessTest",
    "accuracy",
    "auroc",
    "balanced_accuracy",
    "canonical_correlations",
    "damage",
    "guardedness_test",
    "linear_r2",
    "log_loss",
    "majority_rate",
    "r2",
]
