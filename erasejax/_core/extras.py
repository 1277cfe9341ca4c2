"""Modules of optional extras: imported when used, with a clear error where they are missing."""

import importlib
import types

__all__ = ["require"]


def require(module: str, extra: str) -> types.ModuleType:
    """Imports a module that an extra of erasejax brings.

    Args:
      module: to import.
      extra: its name, as in `erasejax[extra]`.

    Returns:
      The module.

    Raises:
      ModuleNotFoundError: it is not installed; the message says how to install it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"this needs {module.partition('.')[0]}: pip install 'erasejax[{extra}]'",
            name=error.name,
        ) from error
