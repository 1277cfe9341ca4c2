"""The commands, one file each, without the parsing and printing of `erasejax.cli`."""

from erasejax.commands.apply import apply
from erasejax.commands.fit import fit
from erasejax.commands.info import info
from erasejax.commands.probe import probe
from erasejax.commands.sweep import describe, sweep

__all__ = ["apply", "describe", "fit", "info", "probe", "sweep"]
