"""Anybody's data files: features and labels in, features out."""

from erasejax.files.arrays import read_array
from erasejax.files.features import Features, open_features
from erasejax.files.labels import Labels, read_groups, read_labels, read_labels_again, read_task
from erasejax.files.sources import EXTENSIONS, Source, parse
from erasejax.files.tables import Table, open_table
from erasejax.files.writing import Writer, open_writer

__all__ = [
    "EXTENSIONS",
    "Features",
    "Labels",
    "Source",
    "Table",
    "Writer",
    "open_features",
    "open_table",
    "open_writer",
    "parse",
    "read_array",
    "read_groups",
    "read_labels",
    "read_labels_again",
    "read_task",
]
