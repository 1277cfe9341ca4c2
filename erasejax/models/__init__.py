"""Erasers inside models of torch and flax nnx.

No model library is imported: what a torch module or tensor is, its own methods say.
"""

from typing import TYPE_CHECKING

from erasejax.models._checkpoint import fold_checkpoint
from erasejax.models._fold import fold, fold_into
from erasejax.models._lora import save_lora

if TYPE_CHECKING:
    from erasejax.models._layer import Erase

__all__ = ["Erase", "fold", "fold_checkpoint", "fold_into", "save_lora"]


def __getattr__(name: str) -> object:
    if name == "Erase":  # which needs flax.nnx, and that takes long to import
        from erasejax.models._layer import Erase

        return Erase
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
