"""Erasers and probes as estimators of scikit-learn: pipelines, cross-validation, grid searches."""

from erasejax._core.extras import require

require("sklearn", "sklearn")

from erasejax.sklearn._eraser import ConceptEraser  # noqa: E402
from erasejax.sklearn._probe import Probe  # noqa: E402

__all__ = ["ConceptEraser", "Probe"]
