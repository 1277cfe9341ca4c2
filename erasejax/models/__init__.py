"""Erasers inside models of torch and flax nnx: applied where a layer ends, fitted to what passes.

No model library is imported: what a torch module or tensor is, its own methods say.
"""

from erasejax.models._erased import erased
from erasejax.models._recorded import Recorded, Recording, recorded
from erasejax.models._tensors import applied

__all__ = ["Recorded", "Recording", "applied", "erased", "recorded"]
