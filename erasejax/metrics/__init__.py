"""Metrics: what a probe reads, and what erasing cost."""

from erasejax.metrics.calibration import expected_calibration_error
from erasejax.metrics.guardedness import (
    GuardednessTest,
    canonical_correlations,
    guardedness_test,
    linear_r2,
)
from erasejax.metrics.resampling import Interval, bootstrap
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
    "Interval",
    "accuracy",
    "auroc",
    "balanced_accuracy",
    "bootstrap",
    "canonical_correlations",
    "damage",
    "expected_calibration_error",
    "guardedness_test",
    "linear_r2",
    "log_loss",
    "majority_rate",
    "r2",
]
