"""Erasers inside models of torch and flax nnx: in hooks, fitted to what passes, in the weights.

No model library is imported: what a torch module or tensor is, its own methods say.
"""

from typing import TYPE_CHECKING

from erasejax.models._by_layer import LayerReadings, read_layers
from erasejax.models._checkpoint import fold_checkpoint
from erasejax.models._erased import erased
from erasejax.models._fold import fold, fold_into
from erasejax.models._lora import save_lora
from erasejax.models._recorded import Recorded, Recording, recorded
from erasejax.models._scrub import Scrubbed, ScrubbedLayer, scrub
from erasejax.models._tensors import applied

if TYPE_CHECKING:
    from erasejax.models._layer import Erase

__all__ = [
    "Erase",
    "LayerReadings",
    "Recorded",
    "Recording",
    "Scrubbed",
    "ScrubbedLayer",
    "applied",
    "erased",
    "fold",
    "fold_checkpoint",
    "fold_into",
    "read_layers",
    "recorded",
    "save_lora",
    "scrub",
]


def __getattr__(name: str) -> object:
    if name == "Erase":  # which needs flax.nnx, and that takes long to import
        from erasejax.models._layer import Erase

        return Erase
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
