"""The commands, one file each, without the parsing and printing of `erasejax.cli`."""

from erasejax.commands.apply import apply
from erasejax.commands.fit import fit
from erasejax.commands.info import info
from erasejax.commands.probe import probe

__all__ = ["apply", "fit", "info", "probe"]
