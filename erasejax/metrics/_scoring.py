"""How a fitted probe is scored: rows are checked, and a score is NaN where the probe failed.

A score says nothing without its protocol: which rows the eraser was fitted on, which the probe, and
which are scored. On one and the same rows an erased label has exactly zero weights; a probe fitted
on fresh rows finds the estimation error of the eraser.
"""

from collections.abc import Callable
from typing import Protocol, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num, UInt32

from erasejax._core import inputs
from erasejax._core.foreign import as_jax_or_numpy
from erasejax._core.programs import program
from erasejax._core.status import Status, check_single, failed, flag
from erasejax._core.types import Given
from erasejax._linalg.products import ratio
from erasejax.rows import Dataset, as_dataset_about, codes, describe_concept, moved, roomy

__all__ = [
    "Fitted",
    "Likelihood",
    "Predictor",
    "Scorer",
    "checked",
    "labelled",
    "mean",
    "members",
    "score",
    "share",
    "status_of_rows",
]


class Fitted(Protocol):
    """What every fitted probe has."""

    @property
    def status(self) -> UInt32[Array, ""]:
        """Bits, see `erasejax.Status`."""
        ...

    @property
    def num_classes(self) -> int:
        """How many classes it tells apart."""
        ...


class Scorer(Fitted, Protocol):
    """A fitted probe that scores rows."""

    def scores(self, x: Given) -> Float[Array, " n *c"]:
        """Returns the scores of rows (n, d)."""
        ...


class Predictor(Fitted, Protocol):
    """A fitted probe that predicts labels."""

    def predict(self, x: Given) -> Num[Array, " n *c"]:
        """Returns the labels of rows (n, d)."""
        ...


class Likelihood(Fitted, Protocol):
    """A fitted probe that gives probabilities."""

    def log_proba(self, x: Given) -> Float[Array, "n k"]:
        """Returns the log-probabilities of the classes for rows (n, d), in nats."""
        ...


P = TypeVar("P", bound=Fitted)


def checked(
    probe: P, x: Given | Dataset, z: Given | None, weights: Given | None
) -> tuple[P, Dataset]:
    """Returns the rows, with the number of classes the probe knows, and the probe for such rows.

    Raises:
      ValueError: the probe is a batch, or was fitted on another number of features.
    """
    check_single(probe, "probe.scores(x)")
    classes = None
    if not isinstance(x, Dataset):
        z = as_jax_or_numpy("z", z)
        if z.ndim == 1 and not jnp.issubdtype(z.dtype, jnp.floating):
            classes = probe.num_classes
    options = {"weights": weights, "num_classes": classes, "decided": True}
    data, origin = as_dataset_about(x, z, of=probe, **options)
    width = data.x.shape[1]
    if (dims := getattr(probe, "dims", width)) != width:
        raise ValueError(f"x: this probe was fitted on {dims} features, got shape {data.x.shape}")
    return moved(probe, origin, back=True), data


def labelled(
    probe: P, x: Given | Dataset, z: Given | None, weights: Given | None
) -> tuple[P, Dataset]:
    """Returns a probe and rows, with as many classes as it tells apart.

    Of float64 rows both may be about an origin of their own.

    Raises:
      TypeError: z is not class labels.
    """
    probe, data = checked(probe, x, z, weights)
    if not data.is_classes:
        raise TypeError(f"z: expected integer class labels (n,), got {describe_concept(data.z)}")
    return probe, data


def score(core: Callable[[P, Dataset], jax.Array], probe: P, data: Dataset) -> jax.Array:
    """Returns core(probe, data), NaN where the probe failed or the rows cannot be scored."""
    data = roomy(data)
    return _score(core, probe, data, status_of_rows(data))


@program(static_argnums=0)
def _score(
    core: Callable[[P, Dataset], jax.Array], probe: P, data: Dataset, status: jax.Array
) -> jax.Array:
    return jnp.where(failed(probe.status | status), jnp.nan, core(probe, data))


@program  # one of its own, which all scores of the same rows share
def status_of_rows(data: Dataset) -> jax.Array:
    """Returns what no score can be of: NaN, a label of no class, a negative weight: () bits.

    A probe predicts some label for NaN, and none for a label that it does not know.
    """
    _, status = codes(data, inputs.compute_dtype(data.x))
    wrong = ~jnp.isfinite(data.x)
    wrong = wrong if data.seen is None else wrong & data.seen[:, None]
    status |= flag(wrong.any(), Status.NONFINITE)
    weights = data.own_weights
    if weights is None:
        return status
    return status | flag((weights < 0).any(), Status.NEGATIVE_WEIGHT)


def members(data: Dataset) -> jax.Array:
    """Returns one-hot labels times the row weights, (n, k)."""
    found = codes(data, inputs.compute_dtype(data.x))[0]
    return found if data.weights is None else found * data.weights[:, None]


def mean(rows: jax.Array, data: Dataset) -> jax.Array:
    """Returns the weighted mean over the first axis; rows of weight 0 are not read."""
    rows = rows.astype(inputs.compute_dtype(data.x))
    if data.weights is None:
        return jnp.mean(rows, axis=0)
    weights = data.weights.reshape(-1, *([1] * (rows.ndim - 1)))
    return jnp.sum(jnp.where(weights != 0, weights * rows, 0), axis=0) / jnp.sum(weights)


def share(rows: jax.Array, data: Dataset) -> jax.Array:
    """Returns the share of the weight that rows have of which something holds, bool (n,): ()."""
    weights = data.row_weights
    return ratio(jnp.sum(jnp.where(rows & (weights != 0), weights, 0)), jnp.sum(weights))
