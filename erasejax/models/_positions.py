"""Which tokens of a batch count: those of the attention mask, all, the last or the first."""

from typing import Any

import numpy as np

from erasejax._core import inputs
from erasejax.models._tensors import on_host

__all__ = ["as_mask", "check_positions", "chosen"]

_POSITIONS = ("all", "last", "first", "mean")


def check_positions(positions: str) -> str:
    """Returns `positions` if it is one that there is.

    Raises:
      ValueError: it is not.
    """
    return inputs.choice("positions", positions, _POSITIONS)


def as_mask(mask: Any) -> np.ndarray | None:
    """Returns an attention mask as bool (batch, length), True where there is a token; None stays.

    Raises:
      TypeError: it holds no numbers.
      ValueError: it has other axes, or numbers other than 0 and 1.
    """
    if mask is None:
        return None
    found = on_host("mask", mask)
    if found.ndim != 2:
        raise ValueError(f"mask: expected (batch, length), 1 for a token, got shape {found.shape}")
    if not np.isin(found, (0, 1)).all():
        raise ValueError("mask: expected 1 for a token and 0 for padding, got other numbers")
    return found != 0


def chosen(path: str, shape: tuple[int, ...], mask: np.ndarray | None, positions: str) -> Any:
    """Returns which tokens of a hidden state count, bool (batch, length); None for all rows.

    Args:
      path: of the module, for the message.
      shape: of the hidden state, (batch, length, d), or (..., d) where all rows count.
      mask: as `as_mask` returns it.
      positions: "last" and "first" are those that the mask has; "mean" is of all that it has.

    Raises:
      ValueError: the mask is of another batch, or positions need (batch, length, d).
    """
    if mask is None and positions == "all":
        return None
    if len(shape) != 3 or (mask is not None and mask.shape != shape[:2]):
        expected = "batch, length" if mask is None else ", ".join(map(str, mask.shape))
        raise ValueError(
            f"{path}: expected a hidden state ({expected}, d) for this mask and "
            f"positions={positions!r}, got shape {shape}"
        )
    tokens = np.ones(shape[:2], bool) if mask is None else mask
    if positions in {"all", "mean"}:
        return tokens
    if positions == "first":
        place = tokens.argmax(axis=1)
    else:
        place = tokens.shape[1] - 1 - tokens[:, ::-1].argmax(axis=1)
    found = np.zeros_like(tokens)
    found[np.arange(len(tokens)), place] = tokens.any(axis=1)
    return found
