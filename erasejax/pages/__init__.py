"""Pages that hold their pictures: of a sweep, of probes, and of the demonstration."""

from erasejax.pages._demo import run_demo
from erasejax.pages._probe import check_page, write_probe_page
from erasejax.pages._sweep import report

__all__ = ["check_page", "report", "run_demo", "write_probe_page"]
