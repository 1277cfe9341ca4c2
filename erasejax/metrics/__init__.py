"""Metrics: what a probe reads, what erasing cost, and how sure one can be of either."""

from erasejax.metrics._calibration import expected_calibration_error
from erasejax.metrics._certificate import Certificate, certify, certify_rows
from erasejax.metrics._guardedness import (
    GuardednessTest,
    canonical_correlations,
    guardedness_test,
    linear_r2,
)
from erasejax.metrics._resampling import Interval, bootstrap
from erasejax.metrics._rounding import erase as erase
from erasejax.metrics._rounding import is_coarse as is_coarse
from erasejax.metrics._rounding import is_rounded as is_rounded
from erasejax.metrics._rounding import named_dtype as named_dtype
from erasejax.metrics._scores import (
    accuracy,
    auroc,
    balanced_accuracy,
    damage,
    log_loss,
    majority_rate,
    r2,
)

__all__ = [
    "Certificate",
    "GuardednessTest",
    "Interval",
    "accuracy",
    "auroc",
    "balanced_accuracy",
    "bootstrap",
    "canonical_correlations",
    "certify",
    "certify_rows",
    "damage",
    "expected_calibration_error",
    "guardedness_test",
    "linear_r2",
    "log_loss",
    "majority_rate",
    "r2",
]
