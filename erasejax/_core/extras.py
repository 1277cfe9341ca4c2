"""Modules of optional extras: imported when used, with a clear error where they are missing."""

import importlib
import types
from collections.abc import Mapping

__all__ = ["STORES", "require"]

# What reaches the URLs of a store, and the extra that brings it, by their protocol.
STORES: Mapping[str, tuple[str, str]] = {
    "s3": ("s3fs", "s3"),
    "s3a": ("s3fs", "s3"),
    "gs": ("gcsfs", "gcs"),
    "gcs": ("gcsfs", "gcs"),
}


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
