"""Statistics of rows: moments, and what a concept is in them."""

from erasejax.statistics._class_moments import (
    ClassMoments,
    concept_status,
    null_model_of_classes,
    within_classes,
)
from erasejax.statistics._concept import (
    SHRINKAGE_RULES,
    ShrinkageRule,
    Solved,
    check_shrinkage,
    class_gaps,
    concept_axes,
    correlations,
    null_model,
    place,
    shrink,
    solve_data,
    solve_moments,
    standardized,
    whitening,
)
from erasejax.statistics._conditional import (
    Conditional,
    conditional_blocks,
    conditional_moments,
    conditional_rows,
    task_classes,
)
from erasejax.statistics._kernel_maps import FourierMap, LandmarkMap, median_distance
from erasejax.statistics._known import knowing, known_moments
from erasejax.statistics._moments import Moments, merge
from erasejax.statistics._moved import moments_after, relative_spread, share_of_variance
from erasejax.statistics._sharded import sharded_moments
from erasejax.statistics._shared import shared_moments

__all__ = [
    "ClassMoments",
    "Conditional",
    "FourierMap",
    "LandmarkMap",
    "Moments",
    "SHRINKAGE_RULES",
    "ShrinkageRule",
    "Solved",
    "check_shrinkage",
    "class_gaps",
    "concept_axes",
    "concept_status",
    "conditional_blocks",
    "conditional_moments",
    "conditional_rows",
    "correlations",
    "known_moments",
    "knowing",
    "median_distance",
    "merge",
    "moments_after",
    "null_model",
    "null_model_of_classes",
    "place",
    "relative_spread",
    "share_of_variance",
    "sharded_moments",
    "shared_moments",
    "shrink",
    "solve_data",
    "solve_moments",
    "standardized",
    "task_classes",
    "whitening",
    "within_classes",
]
