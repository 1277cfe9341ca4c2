"""Concept scrubbing: an eraser for every layer, each fitted with those before it in place."""

import contextlib
import functools
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from erasejax._core.bars import bar
from erasejax._core.status import raise_if_failed
from erasejax._core.types import Given
from erasejax.erasers import LEACE, ClosedForm
from erasejax.metrics import certify
from erasejax.models._erased import erasing
from erasejax.models._hooks import hooked, replaced
from erasejax.models._outputs import hidden_state
from erasejax.models._paths import find_modules, is_torch_model
from erasejax.models._positions import as_mask
from erasejax.models._recorded import Recording
from erasejax.models._sinks import Streamed
from erasejax.models._tensors import on_host
from erasejax.projection import Projection
from erasejax.statistics import Moments

__all__ = ["Scrubbed", "ScrubbedLayer", "scrub"]

_MEMORY = 1 << 31  # bytes of hidden states that are kept by default

Batch = tuple[Any, Given]


class ScrubbedLayer(NamedTuple):
    """What scrubbing did at one layer.

    Attributes:
      original: `metrics.linear_r2` of the concept in the model as it is.
      before: the same with all layers before this one scrubbed.
      after: the same of what leaves this layer in the scrubbed model, in the model's own dtype.
      damage: the mean of |r(x) - x|^2 as a share of the variance.

    Example:
      >>> ej.models.ScrubbedLayer(original=0.9, before=0.5, after=0.0, damage=0.1).after
      0.0
    """

    original: float
    before: float
    after: float
    damage: float


class Scrubbed(NamedTuple):
    """What `scrub` found.

    Attributes:
      erasers: by path, as `erased` and `fold_into` take them.
      layers: what each did, by path.
      loss_before: the mean of the loss over the batches, in the model as it is; None without.
      loss_after: the same in the scrubbed model.

    Example:
      >>> from flax import nnx
      >>> model = nnx.Sequential(nnx.Linear(2, 2, rngs=nnx.Rngs(0)), jnp.tanh)
      >>> data = ej.datasets.GaussianClasses(rows=8, dims=2).sample(jax.random.key(0))
      >>> found = ej.models.scrub(model, [(data.x, data.z)], ["layers.0"])
      >>> found.layers["layers.0"].after, found.loss_after
      (0.0, None)
    """

    erasers: dict[str, Projection]
    layers: dict[str, ScrubbedLayer]
    loss_before: float | None
    loss_after: float | None


class _StopError(Exception):
    """Ends a forward pass: what comes after the layer is not needed."""


def scrub(
    model: Any,
    batches: Iterable[Batch],
    layers: Sequence[str],
    method: ClosedForm[Projection] | None = None,
    *,
    loss: Callable[[Any, Any], Any] | None = None,
    memory: int = _MEMORY,
    progress: bool = False,
) -> Scrubbed:
    """Fits an eraser for each layer on what it returns with all layers before it erased.

    Erasing one layer does not keep a concept out: the next one may compute it anew from what is
    left. So each eraser is fitted where the model, scrubbed so far, has come to. Where the hidden
    states of all batches fit into `memory` they are kept from layer to layer, and a layer costs a
    pass through itself; otherwise each costs a pass through all before it. Two more passes measure
    the model as it is, and scrubbed.

    Args:
      model: a torch module, which should be in eval mode, or a flax nnx Module. It is as it was
        afterwards: use `erased(model, found.erasers)` or `fold_into`.
      batches: pairs of (inputs, z), which are read several times: a list, or what makes a new
        iterator each time. Inputs are a mapping of keyword arguments, a tuple of arguments, or one
        argument. "attention_mask" among them says which tokens count. z are labels, one a sequence
        or one a token.
      layers: paths of modules, in the order in which they run.
      method: the eraser, in closed form; None for `LEACE()`.
      loss: a function of (output, inputs) that returns a number, what the scrubbed model is judged
        by; None for the field `loss` of the output, where it has one.
      memory: bytes of hidden states that may be kept.
      progress: whether to show a bar.

    Raises:
      FailedLanesError: an eraser could not be fitted.
      TypeError: the model is of neither library.
      ValueError: there is no such path, layers are out of order, batches can be read only once, or
        the model is in training mode, where it draws anew in each pass.

    Example:
      >>> from flax import nnx
      >>> first, second = (nnx.Linear(2, 2, rngs=nnx.Rngs(seed)) for seed in range(2))
      >>> model = nnx.Sequential(first, jnp.tanh, second)
      >>> data = ej.datasets.GaussianClasses(rows=30, dims=2).sample(jax.random.key(0))
      >>> found = ej.models.scrub(model, [(data.x, data.z)], ["layers.0", "layers.2"])
      >>> [layer.after for layer in found.layers.values()]
      [0.0, 0.0]

    References:
      Belrose et al. 2023, "LEACE: Perfect linear concept erasure in closed form", arXiv 2306.03819,
      section 5.
    """
    find_modules(model, layers)
    if iter(batches) is batches:
        raise ValueError("batches: they are read several times; pass a list of (inputs, z)")
    if is_torch_model(model) and model.training:
        raise ValueError("model: in training mode it draws anew in each pass; call model.eval()")
    method = method or LEACE()
    with _bar(len(layers) + 2, show=progress) as bar, _without_gradients(model):
        work = _Work(model, batches, tuple(layers), bar)
        original, loss_before = work.measure({}, loss)
        erasers, before = work.fit(method, memory)
        after, loss_after = work.measure(erasers, loss)
    found = {}
    for path, eraser in erasers.items():
        found[path] = ScrubbedLayer(
            original=_r2(eraser, original[path]),
            before=_r2(eraser, before[path]),
            after=_r2(eraser, after[path]),
            damage=float(eraser.damage(before[path])),
        )
    return Scrubbed(erasers, found, loss_before, loss_after)


class _Work:
    """The passes that scrubbing takes over the batches."""

    def __init__(self, model: Any, batches: Iterable[Batch], layers: tuple[str, ...], bar: Any):
        self.model, self.batches, self.layers, self.bar = model, batches, layers, bar

    def measure(
        self, erasers: Mapping[str, Projection], loss: Callable[[Any, Any], Any] | None
    ) -> tuple[dict[str, Moments], float | None]:
        """Returns the moments at each layer of the model with erasers, and the mean loss."""
        acts, losses = _Acts(self.layers), []
        for inputs, z, mask in self._pass():
            acts.batch(z=z, mask=mask)
            with hooked(self.model, _erasing(erasers, mask)), hooked(self.model, acts.functions()):
                output = _call(self.model, inputs)
            losses.append(_loss(output, inputs, loss))
        return acts.moments(), None if None in losses else float(np.mean(losses))

    def fit(
        self, method: ClosedForm[Projection], memory: int
    ) -> tuple[dict[str, Projection], dict[str, Moments]]:
        """Returns an eraser of each layer, and the moments that it was solved from."""
        erasers: dict[str, Projection] = {}
        moments: dict[str, Moments] = {}
        kept: list[Any] | None = None  # what the layer before returned, erased, in each batch
        for path in self.layers:
            acts = _Acts((path,))
            outputs, masks, size = [], [], 0
            for number, (inputs, z, mask) in enumerate(self._pass()):
                output = None
                if kept is None or number == 0:
                    output = self._stopped(inputs, path, _erasing(erasers, mask))
                if kept is not None:  # goes through the layer once, which may write over it
                    resumed = self._resumed(inputs, path, tuple(erasers), kept[number])
                    if number == 0 and not _agree(path, resumed, output):
                        kept = None  # this model reads more than what the last layer returned
                    else:
                        output = resumed
                acts.batch(z=z, mask=mask)
                acts.functions()[path](output)
                size += hidden_state(output)[0].nbytes
                if size <= memory:
                    outputs.append(output)
                    masks.append(mask)
            moments[path] = acts.moments()[path]
            erasers[path] = raise_if_failed(method.solve(moments[path]))
            kept = None
            if size <= memory:
                pairs = zip(outputs, masks, strict=True)
                kept = [erasing(path, erasers[path], mask)(output) for output, mask in pairs]
        return erasers, moments

    def _stopped(self, inputs: Any, path: str, functions: Mapping[str, Any]) -> Any:
        """Returns what a layer returns, with functions of what others do in force.

        Raises:
          ValueError: the layer is not called, or only after one of the others.
        """
        found = []

        def stop(output: Any) -> Any:
            found.append(output)
            raise _StopError

        with contextlib.suppress(_StopError), hooked(self.model, {**functions, path: stop}):
            _call(self.model, inputs)
        if not found:
            raise ValueError(f"{path}: was not called in the forward pass")
        return found[0]

    def _resumed(self, inputs: Any, path: str, done: Sequence[str], output: Any) -> Any:
        """Returns what a layer returns where those before it only pass `output` on."""
        with replaced(self.model, dict.fromkeys(done, output)):
            return self._stopped(inputs, path, {})

    def _pass(self) -> Iterator[tuple[Any, Any, np.ndarray | None]]:
        """Yields (inputs, z, mask) of each batch.

        Raises:
          ValueError: there are none, or they are no pairs.
        """
        batch = None
        for batch in self.batches:
            if not isinstance(batch, tuple | list) or len(batch) != 2:
                kind = type(batch).__name__
                raise ValueError(f"batches: expected pairs of (inputs, z), got a {kind}")
            inputs, z = batch
            there = isinstance(inputs, Mapping) and "attention_mask" in inputs
            yield inputs, z, as_mask(inputs["attention_mask"]) if there else None
        if batch is None:
            raise ValueError("batches: expected at least one pair of (inputs, z), got none")
        self.bar.update()


class _Acts:
    """Moments at paths; the labels of the first batch say what they are of."""

    def __init__(self, paths: Sequence[str]):
        self.paths, self.recording = paths, None

    def batch(self, z: Any, mask: np.ndarray | None) -> None:
        """Announces a batch."""
        if self.recording is None:
            sinks = {path: Streamed({}, by_class=False) for path in self.paths}
            self.recording = Recording(sinks, z, mask, "all")
        else:
            self.recording.batch(z=z, mask=mask)

    def functions(self) -> dict[str, Any]:
        """Returns functions that take outputs in, and return them, by path."""
        assert self.recording is not None
        return {path: functools.partial(self.recording._take, path) for path in self.paths}

    def moments(self) -> dict[str, Any]:
        """Returns the moments of all that came."""
        assert self.recording is not None
        return {path: self.recording[path].moments for path in self.paths}


def _agree(path: str, output: Any, other: Any) -> bool:
    """Returns whether two outputs of a layer are the same, but for rounding of their dtype."""
    a, b = (on_host(path, hidden_state(each)[0]) for each in (output, other))
    eps = 2.0**-7 if b.dtype.itemsize < 4 else 2.0**-20
    a, b = a.astype(np.float64), b.astype(np.float64)
    return bool(np.abs(a - b).max() <= eps * np.abs(b).max())


def _erasing(erasers: Mapping[str, Projection], mask: np.ndarray | None) -> dict[str, Any]:
    """Returns functions of outputs that erase them, by path."""
    return {path: erasing(path, eraser, mask) for path, eraser in erasers.items()}


def _call(model: Any, inputs: Any) -> Any:
    """Returns what a model returns."""
    if isinstance(inputs, Mapping):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, tuple | list) else model(inputs)


def _loss(output: Any, inputs: Any, loss: Callable[[Any, Any], Any] | None) -> float | None:
    value = getattr(output, "loss", None) if loss is None else loss(output, inputs)
    return None if value is None else float(value)


def _r2(eraser: Projection, moments: Moments) -> float:
    """Returns `metrics.linear_r2` of the rows that moments are of."""
    found = certify(eraser, moments).before
    assert found is not None  # moments have a covariance
    return float(found)


def _without_gradients(model: Any) -> contextlib.AbstractContextManager[Any]:
    """Returns a context in which torch keeps no graph; whoever has a torch model has torch."""
    return sys.modules["torch"].no_grad() if is_torch_model(model) else contextlib.nullcontext()


@contextlib.contextmanager
def _bar(total: int, *, show: bool) -> Generator[Any, None, None]:
    """Gives a bar of so many passes, which shows nothing unless asked to."""
    drawn = bar("cli", total=total, unit="pass", desc="scrub") if show else None
    with _Lines(total, show=show) if drawn is None else drawn as found:
        yield found


class _Lines(contextlib.nullcontext):
    """Says how many passes are done, in ten lines at the most, or nothing."""

    def __init__(self, total: int, *, show: bool):
        super().__init__(self)
        self._total, self._show, self._done = total, show, 0

    def update(self) -> None:
        """Counts a pass."""
        self._done += 1
        tenth = 10 * self._done // self._total > 10 * (self._done - 1) // self._total
        if self._show and tenth:
            print(f"scrub: {self._done} of {self._total} passes", file=sys.stderr, flush=True)
