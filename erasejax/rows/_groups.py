"""Rows that belong together: of one name, one sentence, one template.

Such rows are not independent; groups of them are. Here the ids that users have become numbers.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Int

from erasejax._core import inputs
from erasejax._core.types import Given

__all__ = ["count_groups", "number_groups"]


def number_groups(groups: Given, n: int) -> Int[Array | np.ndarray, " n"]:
    """Returns the groups of rows as numbers 0, 1, ... in the order of their ids, (n,) int32.

    Args:
      groups: (n,) integers or booleans of any values; or text, where they are not traced.
      n: number of rows.

    Raises:
      TypeError: they are neither.
      ValueError: they have another shape.
    """
    if isinstance(groups, Tracer):
        _check(groups, n, "integers", "iub")
        order = jnp.argsort(groups)
        new = groups[order[1:]] != groups[order[:-1]]
        ranks = jnp.cumsum(jnp.concatenate([jnp.zeros(1, bool), new]), dtype=jnp.int32)
        return jnp.zeros(n, jnp.int32).at[order].set(ranks)
    if hasattr(groups, "__dlpack__") and not isinstance(groups, np.ndarray):
        groups = inputs.as_array("groups", groups)
    ids = np.asarray(groups)
    if ids.dtype == object:  # text in a column of pandas
        ids = _text(ids)
    _check(ids, n, "integers or text", "iubUST")
    return np.unique(ids, return_inverse=True)[1].astype(np.int32)


def count_groups(numbers: Int[Array | np.ndarray, " n"], num_groups: int | None) -> int:
    """Returns how many groups there are, or are at most: a static number.

    Args:
      numbers: (n,) what `number_groups` returned.
      num_groups: at most so many, or None to count them.

    Raises:
      ValueError: they are traced and num_groups is None, or there are more.
    """
    if isinstance(numbers, Tracer):
        if num_groups is None:
            raise ValueError(
                "num_groups: required for groups under jit, vmap or grad, where values are not "
                "known; pass num_groups=..., how many there are at most"
            )
        least = 1
    else:
        least = int(np.max(numbers)) + 1
        num_groups = least if num_groups is None else num_groups
    if num_groups < least:
        raise ValueError(f"num_groups: expected at least {least}, got {num_groups}")
    return int(num_groups)


def _text(ids: np.ndarray) -> np.ndarray:
    """Returns ids of a column of objects; numpy would make the text "nan" of one that is missing.

    Raises:
      TypeError: some are text, and some are not.
      ValueError: some are missing.
    """
    missing = np.flatnonzero([isinstance(one, float) and one != one for one in ids.flat])
    if len(missing):
        raise ValueError(
            f"groups: expected an id for every row, got NaN in row {missing[0]} ({len(missing)} of "
            f"{ids.size} rows); leave these rows out, or give each an id of its own"
        )
    if len({isinstance(one, str) for one in ids.flat}) > 1:
        raise TypeError("groups: expected integers or text, got both")
    return np.asarray(ids.tolist())


def _check(ids: jax.Array | np.ndarray, n: int, what: str, kinds: str) -> None:
    """Checks the shape and the kind of ids.

    Raises:
      TypeError: they are of another kind.
      ValueError: they are not one a row.
    """
    if ids.shape != (n,):
        raise ValueError(f"groups: expected shape ({n},), one id a row of x, got {ids.shape}")
    if ids.dtype.kind not in kinds:
        raise TypeError(f"groups: expected {what}, got {ids.dtype}")
