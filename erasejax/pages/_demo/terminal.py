"""The table of the experiment on the terminal."""

from collections.abc import Sequence

from erasejax._core.console import open_console, print_table
from erasejax.pages._demo.runs import PROTOCOLS
from erasejax.pages._demo.summary import SCORES, Row, groups

__all__ = ["show"]

_WIDTH = 98  # of the whole table, characters


def show(rows: Sequence[Row]) -> None:
    """Prints the table, for 100 columns; on a narrower terminal accuracy and AUROC only.

    Args:
      rows: in the order of the table.
    """
    console = open_console()
    from rich import box
    from rich.table import Table

    count = len(SCORES) if console.width >= _WIDTH else 2  # the page has them all
    table = Table(
        box=box.SIMPLE_HEAD,
        padding=0,
        pad_edge=False,
        title="What can still be read, by which probe",
        caption=_caption(rows),
        caption_justify="left",
    )
    table.add_column("data, what was erased\n  probe", no_wrap=True)
    for protocol in PROTOCOLS:
        for i, name in enumerate([*SCORES][:count]):
            heading = f"{protocol.upper()}\n{name}" if i == 0 else f"\n{name}"
            table.add_column(heading, justify="right", no_wrap=True)
    for title, damage, group in groups(rows):
        note = f"[dim]damage {damage:.2f}[/dim]" if damage else ""
        table.add_row(f"[bold]{title}[/bold]", note)
        for row in group:
            cells = [cell for p in (0, 1) for cell in [*row.cells(p)][:count]]
            table.add_row(f"  {row.title()}", *cells)
        table.add_section()
    print_table(console, table)


def _caption(rows: Sequence[Row]) -> str:
    many = max(row.datasets for row in rows)
    few = min(row.datasets for row in rows)
    first, second = (name.capitalize() for name in PROTOCOLS)
    return (
        f"Means over {many:,} datasets of 200 rows (sd: from dataset to dataset); ZeroOne over the "
        f"first {few:,}, a lower bound on the best threshold. Its null: the same search after the "
        f"labels were permuted and the eraser fitted to those. {first}: eraser, probe and score "
        f"on the same rows. {second}: eraser on one set, probe on a second, score on a third. "
        "nats: log-loss, 0.693 knows nothing. Damage: mean squared change over the total variance."
    )
