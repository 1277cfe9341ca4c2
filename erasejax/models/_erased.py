"""A model without a concept, for the time of a context."""

import contextlib
from collections.abc import Callable, Generator, Mapping
from typing import Any

import numpy as np

from erasejax._core.warn import warn
from erasejax.models._hooks import hooked
from erasejax.models._outputs import hidden_state
from erasejax.models._positions import as_mask, check_positions, chosen
from erasejax.models._tensors import applied, as_like, narrow, select, widen
from erasejax.projection import Projection

__all__ = ["erased", "erasing"]


@contextlib.contextmanager
def erased(
    model: Any,
    erasers: Mapping[str, Projection],
    *,
    mask: Any = None,
    positions: str = "all",
) -> Generator[None, None, None]:
    """Erases concepts from what modules of a model return, inside the context.

    Afterwards the model is as it was, to the last bit, also where something was raised. Contexts
    may be nested, at the same module too: their erasers run in the order in which they were opened.

    Args:
      model: a torch module or a flax nnx Module. No copy is made.
      erasers: fitted erasers by the path of a module, such as "encoder.layer.3". A module may
        return the hidden state, a tuple or list of which it is the first, or a dataclass or mapping
        of which it is the first tensor with as many features as the eraser; nothing else changes.
      mask: (batch, length), 1 for a token; padding passes unchanged. None for all tokens.
      positions: which tokens are erased: "all", or the "first" or the "last" that the mask has.
        "mean" erases the mean over the mask's tokens: they are moved alike, by what erasing would
        move their mean.

    Raises:
      TypeError: the model is of neither library, an eraser needs the concept when applied, or a
        module returns no tensor of floats.
      ValueError: there is no such path, or a hidden state does not fit the eraser or the mask.

    Warns:
      UserWarning: a module was not called, and nothing was erased there.

    Under jit: what is traced inside the context is erased, with this mask. `nnx.jit` traces anew in
      every context, so open it around the loop; a model that `jax.jit` or `torch.compile` has
      compiled before, or closed over, is not changed.

    Example:
      >>> from flax import nnx
      >>> model = nnx.Sequential(nnx.Linear(2, 2, rngs=nnx.Rngs(0)), jnp.tanh)
      >>> data = ej.datasets.GaussianClasses(rows=8, dims=2).sample(jax.random.key(0))
      >>> eraser = ej.LEACE().fit(model.layers[0](data.x), data.z)
      >>> with ej.models.erased(model, {"layers.0": eraser}):
      ...     hidden = model.layers[0](data.x)
      >>> float(ej.metrics.linear_r2(hidden, data.z))
      0.0

    References:
      Belrose et al. 2023, arXiv 2306.03819, section 5: concept scrubbing.
    """
    if not isinstance(erasers, Mapping):
        kind = type(erasers).__name__
        raise TypeError(f"erasers: expected a dict of erasers by path, got {kind}")
    own_mask, positions = as_mask(mask), check_positions(positions)
    uncalled = set(erasers)

    def function(path: str, eraser: Projection) -> Callable[[Any], Any]:
        erase = erasing(path, eraser, own_mask, positions)

        def run(output: Any) -> Any:
            uncalled.discard(path)
            return erase(output)

        return run

    with hooked(model, {path: function(path, eraser) for path, eraser in erasers.items()}):
        yield
    if uncalled:
        warn(
            f"{', '.join(sorted(uncalled))}: not called inside the context, or in a program that "
            "was compiled before; nothing was erased there"
        )


def erasing(
    path: str, eraser: Projection, mask: np.ndarray | None, positions: str = "all"
) -> Callable[[Any], Any]:
    """Returns a function of what a module returned that erases its hidden state.

    Args:
      path: of the module, for messages.
      eraser: what is erased.
      mask: bool (batch, length), or None.
      positions: as for `erased`.

    Raises:
      TypeError: the eraser needs the concept when applied.
    """
    erase = applied(eraser)

    def run(output: Any) -> Any:
        try:
            hidden, put = hidden_state(output, eraser.dims)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{path}: {error}") from None
        tokens = chosen(path, tuple(hidden.shape), mask, positions)
        return put(_erase(erase, hidden, tokens, positions == "mean"))

    return run


def _erase(
    erase: Callable[[Any], Any], hidden: Any, tokens: np.ndarray | None, as_one: bool
) -> Any:
    """Returns a hidden state with some tokens erased.

    Args:
      erase: the eraser.
      hidden: (batch, length, d), or (..., d) without tokens.
      tokens: (batch, length) bool, or None for all.
      as_one: whether those of a sequence are moved by what erasing moves their mean by.
    """
    if tokens is None:
        return erase(hidden)
    there = as_like(tokens[..., None], hidden) != 0
    if not as_one:
        return select(there, erase(hidden), hidden)
    wide = widen(hidden)
    count = as_like(np.maximum(tokens.sum(axis=1), 1)[:, None], wide)
    mean = select(there, wide, 0).sum(1) / count
    moved = wide - (mean - erase(mean))[:, None]
    return select(there, narrow(moved, hidden), hidden)
