"""Random splits of rows, each part with the same share of every class; groups stay whole."""

import numpy as np

from erasejax.files import Labels

__all__ = ["shares", "split_groups", "split_rows"]

_TOLD = 0.1  # parts that are unequal by more than a tenth are worth a line


def split_rows(labels: Labels, parts: int, seed: int) -> list[np.ndarray]:
    """Splits rows at random into equal parts with the same share of each class.

    Args:
      labels: classes.
      parts: how many.
      seed: of the split.

    Returns:
      Row numbers of each part, rising. Within a class the parts differ by at most one row.

    Raises:
      ValueError: a class has fewer rows than there are parts.
    """
    random = np.random.default_rng(seed)
    split: list[list[np.ndarray]] = [[] for _ in range(parts)]
    shift = 0
    for j, count in enumerate(labels.counts):
        if count < parts:
            raise ValueError(_too_few(labels, j, count, parts, "row"))
        members = random.permutation(np.flatnonzero(labels.values == j))
        for i in range(parts):
            split[(i + shift) % parts].append(members[i::parts])
        shift += count  # where the last class left off, so that the parts are equal
    return [np.sort(np.concatenate(piece)) for piece in split]


def split_groups(labels: Labels, groups: Labels, parts: int, seed: int) -> list[np.ndarray]:
    """Splits groups of rows at random into parts as equal as they allow, in rows of each class.

    The groups that hold most of a class come first; those within a factor of two class by class, in
    random order. Each goes to the part that has least of its classes: with n_j rows of class j in
    all, c_j in a part and y_j in the group, the part of the least sum over j of
    (c_j / n_j) (y_j / n_j), and of these that of the fewest rows.

    Args:
      labels: classes.
      groups: which rows belong together.
      parts: how many.
      seed: of the split.

    Returns:
      Row numbers of each part, rising. No group is in two parts.

    Raises:
      ValueError: a class is in fewer groups than there are parts, or a part has none of it.
    """
    k, count = len(labels.names or ()), len(groups.names or ())
    rows = np.bincount(groups.values * k + labels.values, minlength=count * k).reshape(count, k)
    for j, held in enumerate((rows > 0).sum(axis=0)):
        if held < parts:
            raise ValueError(_too_few(labels, j, int(held), parts, "group"))
    share = rows / rows.sum(axis=0)
    order = np.random.default_rng(seed).permutation(count)
    most = np.floor(np.log2(share[order].max(axis=1)))
    order = order[np.lexsort((share[order].argmax(axis=1), -most))]
    has, size = np.zeros((parts, k)), np.zeros(parts, np.int64)
    part = np.zeros(count, np.int64)
    for group in order:
        part[group] = np.lexsort((size, has @ share[group]))[0]
        has[part[group]] += share[group]
        size[part[group]] += rows[group].sum()
    if (has == 0).any():
        name = (labels.names or ())[int(np.argmax((has == 0).any(axis=0)))]
        raise ValueError(
            f"{groups.source}: whole groups were put into {parts} parts of fresh rows, and one has "
            f"no row of class {name!r}; smaller groups, or another --seed, may do"
        )
    return [np.flatnonzero(part[groups.values] == i) for i in range(parts)]


def shares(labels: Labels, split: list[np.ndarray]) -> str:
    """Returns what shares of the classes parts have, if they are unequal by much; else "".

    Args:
      labels: classes.
      split: row numbers of each part.
    """
    k = len(labels.names or ())
    rows = np.array([np.bincount(labels.values[piece], minlength=k) for piece in split])
    fair = rows.sum(axis=0) / len(split)
    # A row more or less than fair is no group's doing.
    if (np.abs(rows - fair) <= np.maximum(_TOLD * fair, 1)).all():
        return ""
    pieces = [
        f"{sum(part)} rows, "
        + ", ".join(
            f"{name} {count / sum(part):.0%}"
            for name, count in zip((labels.names or ())[:4], part, strict=False)
        )
        for part in rows.tolist()
    ]
    return "whole groups made the parts unequal: " + "; ".join(pieces)


def _too_few(labels: Labels, j: int, count: int, parts: int, what: str) -> str:
    name = (labels.names or ())[j]
    held = "has" if what == "row" else "is in"
    whole = "" if what == "row" else " of whole groups"
    return (
        f"class {name!r} {held} {count} {what}{'s' * (count != 1)}; fresh rows are a split in "
        f"{parts} parts{whole}, which takes at least {parts} {what}s of each class"
    )
