"""The command line: `erasejax`, or `python -m erasejax`."""

from erasejax.cli._main import main

__all__ = ["main"]
