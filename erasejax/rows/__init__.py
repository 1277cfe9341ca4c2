"""Rows: labelled rows and contrast pairs, and how anybody's arrays become them."""

from erasejax.rows._columns import Columned, check_columns, columns_of, remember_columns
from erasejax.rows._dataset import (
    Dataset,
    as_dataset,
    centered,
    class_labels,
    codes,
    describe_concept,
    leading,
    reweighted,
    weigh_classes,
)
from erasejax.rows._folds import fold_rows, random_order, reordered
from erasejax.rows._groups import count_groups, number_groups
from erasejax.rows._origin import as_dataset_about, features_about, move_point, moved, rows_about
from erasejax.rows._pairs import PairNormalization, Pairs, as_pairs, normalized_rows, shares
from erasejax.rows._room import in_room, roomy, row_by_row
from erasejax.rows._splits import split_groups, split_rows

__all__ = [
    "Columned",
    "Dataset",
    "PairNormalization",
    "Pairs",
    "as_dataset",
    "as_dataset_about",
    "as_pairs",
    "centered",
    "check_columns",
    "class_labels",
    "codes",
    "columns_of",
    "count_groups",
    "describe_concept",
    "features_about",
    "fold_rows",
    "in_room",
    "leading",
    "move_point",
    "moved",
    "normalized_rows",
    "number_groups",
    "random_order",
    "remember_columns",
    "reordered",
    "reweighted",
    "roomy",
    "row_by_row",
    "rows_about",
    "shares",
    "split_groups",
    "split_rows",
    "weigh_classes",
]
