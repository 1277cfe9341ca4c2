"""Metrics: what a probe reads, what erasing cost, and how sure one can be of either."""

from erasejax.metrics._accuracy import accuracy, balanced_accuracy
from erasejax.metrics._auroc import auroc
from erasejax.metrics._base import Metric
from erasejax.metrics._base import offered as offered
from erasejax.metrics._by_group import GroupRates, group_rates
from erasejax.metrics._calibration import calibration_by_group, expected_calibration_error
from erasejax.metrics._certificate import Certificate, certify, certify_rows
from erasejax.metrics._codelength import OnlineCode, codelength
from erasejax.metrics._damage import damage
from erasejax.metrics._fairness import (
    demographic_parity_difference,
    demographic_parity_ratio,
    equalized_odds_difference,
    tpr_gap,
    worst_group_accuracy,
)
from erasejax.metrics._guardedness import GuardednessTest, guardedness_test
from erasejax.metrics._leak import LinearLeak as LinearLeak
from erasejax.metrics._leak import linear_leak as linear_leak
from erasejax.metrics._learning_curve import LearningCurve, learning_curve
from erasejax.metrics._linear_r2 import canonical_correlations, linear_r2
from erasejax.metrics._log_loss import log_loss
from erasejax.metrics._majority import majority_rate
from erasejax.metrics._r2 import r2
from erasejax.metrics._recall import recall_at_fpr
from erasejax.metrics._resampling import Interval, bootstrap
from erasejax.metrics._rounding import erase as erase
from erasejax.metrics._rounding import is_coarse as is_coarse
from erasejax.metrics._rounding import is_rounded as is_rounded
from erasejax.metrics._rounding import named_dtype as named_dtype
from erasejax.metrics._selectivity import ControlTask, selectivity
from erasejax.metrics._v_information import UsableInformation, v_information
from erasejax.names import fill_room

__all__ = [
    "Certificate",
    "ControlTask",
    "GroupRates",
    "GuardednessTest",
    "Interval",
    "LearningCurve",
    "Metric",
    "OnlineCode",
    "UsableInformation",
    "accuracy",
    "auroc",
    "balanced_accuracy",
    "bootstrap",
    "calibration_by_group",
    "canonical_correlations",
    "certify",
    "certify_rows",
    "codelength",
    "damage",
    "demographic_parity_difference",
    "demographic_parity_ratio",
    "equalized_odds_difference",
    "expected_calibration_error",
    "group_rates",
    "guardedness_test",
    "learning_curve",
    "linear_r2",
    "log_loss",
    "majority_rate",
    "r2",
    "recall_at_fpr",
    "selectivity",
    "tpr_gap",
    "v_information",
    "worst_group_accuracy",
]

fill_room(__name__)
