"""The commands, one file each, without the parsing and printing of `erasejax.cli`."""

from erasejax.cli._apply import apply
from erasejax.cli._fit import fit
from erasejax.cli._info import info
from erasejax.cli._probe import probe
from erasejax.cli._sweep import describe, sweep

__all__ = ["apply", "describe", "fit", "info", "probe", "sweep"]
