"""The results as a long table, for the file."""

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from erasejax._core.extras import require
from erasejax.pages._demo.runs import DATA, ERASERS, PROBES, PROTOCOLS, Results

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["to_table"]

_COLUMNS = {
    "dataset": "index of the dataset; with the seed it fixes every draw",
    "data": "raw, or normalised: each column standardised over both classes before anything else",
    "eraser": "before (nothing erased), or what was projected out",
    "probe": "the classifier that looks for the label",
    "protocol": "fitting rows: eraser, probe and score on the same rows; fresh rows: the eraser on "
    "one set of rows, the probe on a second, the score on a third",
    "labels": "true, or permuted (before the eraser was fitted): the null of a search",
    "accuracy": "share of the scored rows predicted right",
    "balanced_accuracy": "mean over the classes of the share of their rows predicted right",
    "auroc": "area under the ROC curve, ties counted half",
    "log_loss": "mean negative log-probability of the label, nats; null without a likelihood",
    "r2": "share of the label's variance explained; null unless the probe is a regression",
    "damage": "mean squared change of the scored rows over their total variance",
    "rank": "number of directions the eraser removed",
    "majority_rate": "share of the larger class in the scored rows",
    "status": "bits of erasejax.Status from eraser and probe, 0 if all went well",
}


Columns: TypeAlias = dict[str, Any]  # arrays, and pairs of codes and words


def to_table(results: Results) -> "pa.Table":
    """Returns the results in long format: one row a dataset, data, eraser, probe and protocol.

    Args:
      results: from `run`.

    Returns:
      A `pyarrow.Table`; the field metadata say what each column is.
    """
    pa = require("pyarrow", "sweep")
    convex = _long(results.convex, PROTOCOLS, ("true",) * 2, PROBES)
    zero_one = {name: value[..., None] for name, value in results.zero_one.items()}
    names = (*PROTOCOLS, PROTOCOLS[0])
    zero_one = _long(zero_one, names, ("true", "true", "permuted"), ("ZeroOne",))
    columns, fields = [], []
    for name, meaning in _COLUMNS.items():
        if isinstance(convex[name], tuple):
            words = [*dict.fromkeys(convex[name][1] + zero_one[name][1])]
            codes = [
                np.array([words.index(word) for word in part[1]], np.int8)[part[0]]
                for part in (convex[name], zero_one[name])
            ]
            column = pa.DictionaryArray.from_arrays(np.concatenate(codes), pa.array(words))
        else:
            values = np.concatenate([convex[name], zero_one[name]])
            missing = np.isnan(values) if values.dtype.kind == "f" else None
            column = pa.array(values, mask=missing)
        columns.append(column)
        fields.append(pa.field(name, column.type, metadata={"doc": meaning}))
    return pa.table(columns, schema=pa.schema(fields, metadata={"erasejax.table": "demo"}))


def _long(
    scores: dict[str, np.ndarray],
    protocols: tuple[str, ...],
    labels: tuple[str, ...],
    names: tuple[str, ...],
) -> Columns:
    """Returns columns from scores (dataset, data, eraser, protocol, probe).

    A column is an array, or a pair of codes and words.
    """
    shape = scores["accuracy"].shape
    index = [np.tile(grid.ravel(), shape[0]) for grid in np.indices(shape[1:], np.int8)]
    empty = np.full(index[0].size, np.nan, np.float32)
    columns: Columns = {name: empty for name in _COLUMNS}
    columns |= {name: value.ravel() for name, value in scores.items()}
    return columns | {
        "dataset": np.repeat(np.arange(shape[0], dtype=np.int32), np.prod(shape[1:])),
        "data": (index[0], DATA),
        "eraser": (index[1], ERASERS),
        "protocol": (index[2], protocols),
        "labels": (index[2], labels),
        "probe": (index[3], names),
    }
