"""Tables on the terminal: where it is narrow text is folded, numbers never.

A table that goes to a file or a pipe is as wide as it is, unless COLUMNS says how wide it may be.
"""

import os
from typing import TYPE_CHECKING, Any

from erasejax._core.extras import require

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Column, Table

__all__ = ["open_console", "print_table"]

_UNLIMITED = 1 << 16  # characters
_LEAST = 6  # of text that is folded


def open_console() -> "Console":
    """Returns where tables are printed, with the width that they may have.

    Raises:
      ModuleNotFoundError: it needs rich.
    """
    console = require("rich.console", "cli").Console()
    if not console.is_terminal and not os.environ.get("COLUMNS", "").isdigit():
        console.size = (_UNLIMITED, console.height)
    return console


def print_table(console: "Console", table: "Table") -> None:
    """Prints a table, whose columns of numbers are those that stand to the right.

    One that is too wide loses the space around its cells; then headings are folded between words,
    and text anywhere. What is too wide even so is left to the terminal to break: nothing is cut.

    Args:
      console: see `open_console`.
      table: it may be changed.
    """
    from rich.measure import Measurement

    options = console.options.update_width(_UNLIMITED)

    def measured(part: Any) -> Measurement:
        return Measurement.get(console, options, part)

    def widest(column: "Column", header: int) -> int:
        return max([header, *(measured(cell).maximum for cell in column.cells)])

    if measured(table).maximum > console.width:
        table.padding = 0
        texts = [column for column in table.columns if column.justify != "right"]
        for column in table.columns:
            column.width = widest(column, measured(column.header).minimum)
        for column in texts:
            column.no_wrap, column.overflow = False, "fold"
            column.width = min(column.width or _LEAST, _LEAST)
        least = measured(table).minimum
        for column in texts:
            column.width = None
        console.size = (max(console.width, least), console.height)
    console.print(table)
