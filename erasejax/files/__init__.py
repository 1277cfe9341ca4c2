"""Files: anybody's features and labels, saved objects, and writing that is whole or not at all."""

from erasejax.files._arrays import open_array, read_array
from erasejax.files._csv import CSV
from erasejax.files._features import Features, open_features
from erasejax.files._formats import Format, Writer
from erasejax.files._joint import joint_labels as joint_labels
from erasejax.files._labels import (
    Labels,
    read_classes,
    read_groups,
    read_labels,
    read_labels_again,
    read_task,
)
from erasejax.files._layers import find_layers as find_layers
from erasejax.files._npy import NPY
from erasejax.files._npz import NPZ
from erasejax.files._parquet import Parquet
from erasejax.files._places import is_many
from erasejax.files._replacing import check_target, discard, remove_orphans, replacing
from erasejax.files._safetensors import Safetensors, read_tensors
from erasejax.files._saved import Header, load, package_version, read_header, save
from erasejax.files._sources import Source, parse, readable
from erasejax.files._stored import Stored, Tensor
from erasejax.files._streaming import check_rows, padded_blocks, read_blocks
from erasejax.files._tables import Table, open_table
from erasejax.files._tally import Counted, load_counted, merge_counted
from erasejax.files._together import Together, find_together, read_together
from erasejax.files._totals import count_files, read_again, stream_moments
from erasejax.files._writing import open_writer, output_format, written_dtype
from erasejax.names import fill_room

__all__ = [
    "CSV",
    "Counted",
    "Features",
    "Format",
    "Header",
    "Labels",
    "NPY",
    "NPZ",
    "Parquet",
    "Safetensors",
    "Source",
    "Stored",
    "Table",
    "Tensor",
    "Together",
    "Writer",
    "check_rows",
    "check_target",
    "count_files",
    "discard",
    "find_together",
    "is_many",
    "load",
    "load_counted",
    "merge_counted",
    "open_array",
    "open_features",
    "open_table",
    "open_writer",
    "output_format",
    "package_version",
    "padded_blocks",
    "parse",
    "read_again",
    "read_array",
    "read_blocks",
    "read_classes",
    "read_groups",
    "read_header",
    "read_labels",
    "read_labels_again",
    "read_task",
    "read_tensors",
    "read_together",
    "readable",
    "remove_orphans",
    "replacing",
    "save",
    "stream_moments",
    "written_dtype",
]

fill_room(__name__)
