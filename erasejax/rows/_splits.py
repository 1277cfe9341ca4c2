"""Random splits of rows, each part with the same share of every class; groups stay whole."""

from collections.abc import Sequence

import numpy as np

__all__ = ["split_groups", "split_rows"]


def split_rows(
    labels: np.ndarray,
    parts: int,
    *,
    seed: int,
    names: Sequence[str],
    within: np.ndarray | None = None,
) -> list[np.ndarray]:
    """Splits rows at random into equal parts with the same share of each class.

    Args:
      labels: (n,) classes, integers in [0, k).
      parts: how many.
      seed: of the split.
      names: of the k classes.
      within: (n,) classes of something else, of which parts have the same shares, too, as far as
        the labels allow; or None.

    Returns:
      Row numbers of each part, rising. Within a class the parts differ by at most one row.

    Raises:
      ValueError: a class has fewer rows than there are parts.
    """
    random = np.random.default_rng(seed)
    split: list[list[np.ndarray]] = [[] for _ in range(parts)]
    shift = 0
    for j, count in enumerate(np.bincount(labels, minlength=len(names)).tolist()):
        if count < parts:
            raise ValueError(_too_few(names[j], count, parts, "row"))
        members = random.permutation(np.flatnonzero(labels == j))
        if within is not None:  # dealt out one class of it after another
            members = members[np.argsort(within[members], kind="stable")]
        for i in range(parts):
            split[(i + shift) % parts].append(members[i::parts])
        shift += count  # where the last class left off, so that the parts are equal
    return [np.sort(np.concatenate(piece)) for piece in split]


def split_groups(
    labels: np.ndarray,
    groups: np.ndarray,
    parts: int,
    *,
    seed: int,
    names: Sequence[str],
    source: str = "groups",
) -> list[np.ndarray]:
    """Splits groups of rows at random into parts as equal as they allow, in rows of each class.

    The groups that hold most of a class come first; those within a factor of two class by class, in
    random order. Each goes to the part that has least of its classes: with n_j rows of class j in
    all, c_j in a part and y_j in the group, the part of the least sum over j of
    (c_j / n_j) (y_j / n_j), and of these that of the fewest rows.

    Args:
      labels: (n,) classes, integers in [0, k).
      groups: (n,) which rows belong together, integers 0, 1, ..., each of which occurs.
      parts: how many.
      seed: of the split.
      names: of the k classes.
      source: where the groups come from, for messages.

    Returns:
      Row numbers of each part, rising. No group is in two parts.

    Raises:
      ValueError: a class is in fewer groups than there are parts, or a part has none of it.
    """
    k, count = len(names), int(groups.max()) + 1
    rows = np.bincount(groups * k + labels, minlength=count * k).reshape(count, k)
    for j, held in enumerate((rows > 0).sum(axis=0)):
        if held < parts:
            raise ValueError(_too_few(names[j], int(held), parts, "group"))
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
        name = names[int(np.argmax((has == 0).any(axis=0)))]
        raise ValueError(
            f"{source}: whole groups were put into {parts} parts of fresh rows, and one has "
            f"no row of class {name!r}; smaller groups, or another --seed, may do"
        )
    return [np.flatnonzero(part[groups] == i) for i in range(parts)]


def _too_few(name: str, count: int, parts: int, what: str) -> str:
    held = "has" if what == "row" else "is in"
    whole = "" if what == "row" else " of whole groups"
    return (
        f"class {name!r} {held} {count} {what}{'s' * (count != 1)}; fresh rows are a split in "
        f"{parts} parts{whole}, which takes at least {parts} {what}s of each class"
    )
