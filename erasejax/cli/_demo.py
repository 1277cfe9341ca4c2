"""The command `demo`."""

from pathlib import Path

from erasejax.cli._arguments import check_seed
from erasejax.cli._common import share_among_cores
from erasejax.pages import run_demo

__all__ = ["demo"]


def demo(
    *,
    out: Path = Path("erasejax-demo"),
    datasets: int = 4096,
    seed: int = 0,
    force: bool = False,
) -> None:
    """Run the demonstration on thousands of synthetic datasets, and write its report.

    Args:
      out: folder for the report.
      datasets: how many datasets to draw.
      seed: of all draws.
      force: replace what is there.
    """
    check_seed(seed)
    share_among_cores()
    run_demo(out=out, datasets=datasets, seed=seed, force=force)
