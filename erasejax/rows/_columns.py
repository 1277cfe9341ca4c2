"""Names of columns: what was fitted to a data frame refuses one whose columns are others.

Features are told apart by their place alone, so columns in another order would give wrong rows that
look right. The names stand beside the fields of what was fitted and are no part of the pytree: no
program is compiled for them, and what `vmap`, `jit` or `tree.map` returns has none.
"""

from collections.abc import Sequence
from typing import TypeVar

from erasejax._core.foreign import column_names
from erasejax._core.pytrees import Tree
from erasejax._core.text import show
from erasejax.rows._dataset import Dataset

__all__ = ["Columned", "check_columns", "columns_of", "remember_columns"]

T = TypeVar("T")


class Columned(Tree):
    """What was fitted to features that may have names."""

    @property
    def columns(self) -> tuple[str, ...] | None:
        """(d,) names of the features it was fitted on, None where they had none."""
        return vars(self).get("_columns")


def columns_of(x: object) -> tuple[str, ...] | None:
    """Returns the names of features: those of a data frame some of whose columns have text as name.

    Args:
      x: rows, or a `Dataset` of them.
    """
    return column_names(x.x if isinstance(x, Dataset) else x)


def remember_columns(fitted: T, names: Sequence[str] | None) -> T:
    """Returns what was fitted itself, which from now on knows the names of its features.

    Args:
      fitted: that nobody else has yet.
      names: (d,), or None where they have none.
    """
    if isinstance(fitted, Columned) and names is not None:
        object.__setattr__(fitted, "_columns", tuple(names))
    return fitted


def check_columns(name: str, x: object, of: object) -> None:
    """Checks that features have the names, and the order, of those that something was fitted on.

    They are not put in order here: rows come back in the order of the fit, and who put the names of
    `x` on them would mistake one feature for another.

    Args:
      name: of the argument.
      x: rows; anything is right where they, or those of the fit, have no names.
      of: what was fitted.

    Raises:
      ValueError: they are others.
    """
    expected = of.columns if isinstance(of, Columned) else None
    got = None if expected is None else columns_of(x)
    if expected is None or got is None or got == expected:
        return
    known = set(got)
    if missing := [column for column in expected if column not in known]:
        more = f" and {len(missing) - 8} more" if missing[8:] else ""
        raise ValueError(
            f"{name}: expected the {len(expected)} columns that {type(of).__name__} was fitted on; "
            f"there is no {', '.join(map(show, missing[:8]))}{more}"
        )
    pairs = enumerate(zip(got, (*expected, "none"), strict=False))
    at, (found, wanted) = next((i, pair) for i, pair in pairs if pair[0] != pair[1])
    raise ValueError(
        f"{name}: expected the {len(expected)} columns that {type(of).__name__} was fitted on, in "
        f"their order; got {len(got)}, and column {at} is {show(found)} in place of {show(wanted)}"
        f"; pass {name}[list(fitted.columns)]"
    )
