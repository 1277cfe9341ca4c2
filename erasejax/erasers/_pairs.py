"""Contrast pairs without the mean difference of true and false."""

import jax.numpy as jnp

from erasejax._core import inputs
from erasejax._core.programs import program
from erasejax._core.status import poison
from erasejax.erasers._mean_difference import MeanDifference
from erasejax.projection import Projection
from erasejax.rows import PairNormalization, Pairs, as_pairs

__all__ = ["ablate_pairs"]


def ablate_pairs(train: Pairs, test: Pairs, *, mode: str) -> tuple[Pairs, Pairs]:
    """Projects the mean difference of true and false out of both halves of pairs.

    The direction is that of `MeanDifference` fitted to the labelled differences x+ - x- of halves
    less their means (of each template). Both halves lose it by one projection, so the difference
    loses it too. The training pairs lose their own; where the test pairs' comes from is the mode.

    A probe that divides each feature of each half by another number (`scale="features"`) reads no
    longer the difference, and may see again what was removed from it.

    Args:
      train: pairs with labels.
      test: pairs with labels of as many features; "honest" does not read them.
      mode: static. "oracle" removes from the test pairs their own mean difference, which takes
        their labels: every linear probe of x+ - x- has equal class means there, exactly (with
        several templates, where it normalises the test pairs by their own means). "honest" removes
        the direction of the training pairs, which is all that can be known of other pairs; what is
        left is the error of that estimate.

    Returns:
      (train, test) after ablation, in the dtype of each; NaN where fitting failed.

    Raises:
      TypeError: labels are missing.
      ValueError: the mode is unknown, or the features do not match.

    Under jit: pure.

    Example:
      >>> dataset = ej.datasets.ContrastPairs(rows=3, dims=2, directions=1)
      >>> train, test = (dataset.sample(jax.random.key(0), part=part) for part in range(2))
      >>> clean_train, clean_test = ej.ablate_pairs(train, test, mode="honest")
      >>> clean_train.positive.shape, clean_test.negative.shape
      ((6, 2), (6, 2))
    """
    inputs.choice("mode", mode, ("oracle", "honest"))
    train, test = as_pairs(train), as_pairs(test)
    if train.positive.shape[1] != test.positive.shape[1]:
        raise ValueError(
            f"test: expected {train.positive.shape[1]} features as in train, got "
            f"{test.positive.shape}"
        )
    eraser = _direction(train, "train")
    other = _direction(test, "test") if mode == "oracle" else eraser
    return _erase(eraser, train), _erase(other, test)


@program(static_argnames="name")
def _direction(pairs: Pairs, name: str) -> Projection:
    """Returns the eraser of the pairs' mean difference, about the middle of their halves.

    Raises:
      TypeError: the pairs have no labels.
    """
    if pairs.labels is None:
        raise TypeError(f"{name}: has no labels, which the mean difference needs")
    normalization = PairNormalization.of(pairs)
    eraser = MeanDifference().fit(normalization.differences(pairs))
    # The centre cancels in the difference. Near the rows it spares them the rounding.
    center = jnp.nanmean(normalization.mean, axis=(0, 1))
    status = eraser.status | normalization.status
    return poison(eraser.replace(center=center, status=status), status)


def _erase(eraser: Projection, pairs: Pairs) -> Pairs:
    return pairs.replace(positive=eraser(pairs.positive), negative=eraser(pairs.negative))
