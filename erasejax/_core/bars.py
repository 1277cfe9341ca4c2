"""Progress bars: a widget in a notebook, a line that moves in a terminal, none elsewhere."""

import sys
import warnings
from typing import Any

from erasejax._core.extras import require

__all__ = ["bar"]


def bar(extra: str, **options: Any) -> Any | None:
    """Returns a bar of tqdm where it can be drawn; None where only lines would do.

    Args:
      extra: of erasejax that brings tqdm.
      **options: as `tqdm.tqdm` takes them.

    Raises:
      ModuleNotFoundError: tqdm is missing, and there is a terminal or a notebook.
    """
    terminal = sys.stderr is not None and sys.stderr.isatty()
    if not terminal and "IPython" not in sys.modules:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the widgets of a notebook are not installed
        kind = require("tqdm.auto", extra).tqdm
    notebook = sys.modules.get("tqdm.notebook")
    widget = notebook is not None and issubclass(kind, notebook.tqdm_notebook)
    return kind(**options) if widget or terminal else None
