"""What probes read of rows before a concept is erased and after, and what that costs a task."""

from erasejax.readout._found import Line, Protocol
from erasejax.readout._question import Question
from erasejax.readout._table import Table, answers, fairness
from erasejax.readout._words import caption, majority, no_interval

__all__ = [
    "Line",
    "Protocol",
    "Question",
    "Table",
    "answers",
    "caption",
    "fairness",
    "majority",
    "no_interval",
]
