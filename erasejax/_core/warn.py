"""Warnings that point to the line of the user that led to them, however deep they come from."""

import sys
import warnings

__all__ = ["warn"]

_PACKAGE = __name__.partition(".")[0]
_BETWEEN = {_PACKAGE, "contextlib", "functools", "jax"}  # what stands between the user and a check


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warns at the innermost line that is neither of this package nor called by it to come here.

    Args:
      message: what is warned of.
      category: kind of warning.
    """
    level, frame = 1, sys._getframe()
    while frame is not None and _root(frame.f_globals) in _BETWEEN:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)


def _root(names: dict[str, object]) -> str:
    """Returns the package of the module that has these names."""
    return str(names.get("__name__", "")).partition(".")[0]
