"""Metrics: what a probe reads, and what erasing cost."""

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
    "accuracy",
    "auroc",
    "balanced_accuracy",
    "damage",
    "log_loss",
    "majority_rate",
    "r2",
]
