"""What passes through a model, as moments or as rows, with the concept of each row."""

import contextlib
import functools
import os
import weakref
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.core import Tracer

from erasejax._core.types import DTypeLike, Given
from erasejax.models._hooks import hooked
from erasejax.models._outputs import hidden_state
from erasejax.models._paths import is_called
from erasejax.models._positions import as_mask, check_positions, chosen
from erasejax.models._sinks import Kept, Streamed
from erasejax.models._tensors import on_host

__all__ = ["Recorded", "Recording", "recorded"]

_ONE = "z"  # the name of a concept that was given none
_AGAIN = "call acts.batch(z=..., mask=...) before each further batch"


class Recorded:
    """What passed at one path, as `acts[path]` gives it; inside the context, too.

    Example:
      >>> from flax import nnx
      >>> model = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
      >>> data = ej.datasets.GaussianClasses(rows=8, dims=2).sample(jax.random.key(0))
      >>> with ej.models.recorded(model, [""], z=data.z, rows=True) as acts:
      ...     _ = model(data.x)
      >>> acts[""].rows().shape, acts[""].z.shape
      ((16, 3), (16,))
    """

    def __init__(self, path: str, sink: Streamed | Kept, named: bool, settle: Callable[[], None]):
        self._path, self._sink, self._named, self._settle = path, sink, named, settle

    @property
    def moments(self) -> Any:
        """`Moments` of the rows so far, or `ClassMoments`; by name where z has names.

        Raises:
          ValueError: nothing passed, or rows are kept instead.
        """
        self._settle()
        if isinstance(self._sink, Kept):
            raise ValueError(
                f"{self._path}: rows are kept, and no moments; fit on rows() and z, or leave out "
                "rows and folder"
            )
        self._sink.flush()
        if not self._sink.moments:
            raise ValueError(f"{self._path}: nothing was recorded here; was the module called?")
        return dict(self._sink.moments) if self._named else self._sink.moments[_ONE]

    def rows(self) -> np.ndarray:
        """Returns the rows so far (n, d), in the order in which they passed.

        Raises:
          ValueError: nothing passed, moments are kept instead, or a file is not complete yet.
        """
        try:
            return self._kept().rows()
        except ValueError as error:
            raise ValueError(f"{self._path}: {error}") from None

    @property
    def z(self) -> np.ndarray | dict[str, np.ndarray]:
        """The concept of each of `rows()`, (n,) or (n, k); by name where z has names.

        Raises:
          ValueError: no concept was given, or moments are kept instead.
        """
        labels = {name: np.concatenate(parts) for name, parts in self._kept().labels.items()}
        if not labels:
            raise ValueError(f"{self._path}: no labels were recorded; pass z")
        return labels if self._named else labels[_ONE]

    def _kept(self) -> Kept:
        """Returns where rows are kept.

        Raises:
          ValueError: they are not.
        """
        self._settle()
        if isinstance(self._sink, Streamed):
            raise ValueError(f"{self._path}: only moments are kept; pass rows=True or folder")
        return self._sink


class Recording(Mapping[str, Recorded]):
    """What passed at each path, as `recorded` gives it.

    Example:
      >>> from flax import nnx
      >>> model = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
      >>> data = ej.datasets.GaussianClasses(rows=8, dims=2).sample(jax.random.key(0))
      >>> with ej.models.recorded(model, [""], z=data.z[:8]) as acts:
      ...     _ = model(data.x[:8])
      ...     acts.batch(z=data.z[8:])
      ...     _ = model(data.x[8:])
      >>> list(acts), float(acts[""].moments.total)
      ([''], 16.0)
    """

    def __init__(self, sinks: Mapping[str, Streamed | Kept], z: Any, mask: Any, positions: str):
        self._sinks, self._positions = sinks, positions
        self._named = isinstance(z, Mapping)
        self._names = tuple(z) if self._named else (_ONE,) * (z is not None)
        self._pending: list[tuple[str, np.ndarray]] = []
        self._traced, self._open = False, True
        self._announce(z, mask)

    def batch(
        self, *, z: Given | Mapping[str, Given] | None = None, mask: Given | None = None
    ) -> None:
        """Announces the next batch: call it before each forward pass but the first.

        Args:
          z: its concepts, as for `recorded`.
          mask: its attention mask; None for no padding.

        Raises:
          TypeError: z or mask holds no numbers.
          ValueError: z has other names than before, or the mask is none.
        """
        self._settle()
        self._announce(z, mask)

    def __getitem__(self, path: str) -> Recorded:
        """Returns what passed at a path."""
        return Recorded(path, self._sinks[path], self._named, self._settle)

    def __iter__(self) -> Iterator[str]:
        """Yields the paths."""
        return iter(self._sinks)

    def __len__(self) -> int:
        """Returns how many paths there are."""
        return len(self._sinks)

    def _announce(self, z: Any, mask: Any) -> None:
        """Takes the labels and the mask of a batch.

        Raises:
          ValueError: they are of another kind than those before.
        """
        given = dict(z) if isinstance(z, Mapping) else {} if z is None else {_ONE: z}
        if set(given) != set(self._names):
            expected = ", ".join(map(repr, self._names)) if self._named else "one concept"
            raise ValueError(f"z: expected {expected} as in the first batch, got {list(given)}")
        self._labels = {name: _as_labels(name, values) for name, values in given.items()}
        self._mask, self._passed = as_mask(mask), False

    def _take(self, path: str, output: Any) -> Any:
        """Records what a module returned, and returns it; traced, whenever it is computed.

        Raises:
          ValueError: the batch was not announced.
        """
        if not self._open:
            return output
        try:
            hidden = hidden_state(output)[0]
        except (TypeError, ValueError) as error:
            raise type(error)(f"{path}: {error}") from None
        if isinstance(hidden, Tracer):
            self._traced = True
            later = functools.partial(_wait, weakref.ref(self), path)
            jax.debug.callback(later, jax.lax.stop_gradient(hidden))
        else:
            if self._passed and (self._labels or self._mask is not None):
                raise ValueError(
                    f"{path}: another forward pass with the labels of the last; {_AGAIN}"
                )
            self._add(path, on_host(path, hidden))
        return output if path else self._finish(output)

    def _settle(self) -> None:
        """Adds what programs have computed."""
        if self._traced:
            jax.effects_barrier()
        pending, self._pending = self._pending, []
        for path, hidden in pending:
            self._add(path, hidden)

    def _finish(self, output: Any) -> Any:
        """Notes that a forward pass of the whole model is over."""
        self._passed = True
        return output

    def _add(self, path: str, hidden: np.ndarray) -> None:
        """Adds the rows of a hidden state that count.

        Raises:
          ValueError: labels or mask do not fit.
        """
        if hidden.ndim < 2:
            raise ValueError(f"{path}: expected a hidden state (..., d), got shape {hidden.shape}")
        try:
            tokens = chosen(path, hidden.shape, self._mask, self._positions)
            labels = {
                name: _of_rows(name, z, hidden.shape, tokens, self._positions)
                for name, z in self._labels.items()
            }
        except ValueError as error:
            raise ValueError(f"{error}; {_AGAIN}") from None
        if self._positions == "mean":
            there = tokens.any(axis=1)
            hidden, tokens = _means(hidden[there], tokens[there]), None
        places = None if tokens is None or tokens.all() else np.flatnonzero(tokens)
        self._sinks[path].add(hidden.reshape(-1, hidden.shape[-1]), places, labels)


def _wait(later: weakref.ref[Recording], path: str, hidden: jax.Array) -> None:
    """Keeps a copy until no program runs: a callback must not start one.

    Programs outlive the context, and should not keep what was recorded.
    """
    acts = later()
    if acts is not None and acts._open:
        acts._pending.append((path, np.array(hidden)))


@contextlib.contextmanager
def recorded(
    model: Any,
    paths: Sequence[str],
    *,
    z: Given | Mapping[str, Given] | None = None,
    mask: Given | None = None,
    positions: str = "all",
    num_classes: int | Mapping[str, int] | None = None,
    by_class: bool = False,
    rows: bool | str | os.PathLike[str] = False,
    folder: str | os.PathLike[str] | None = None,
    dtype: DTypeLike | None = None,
) -> Generator[Recording, None, None]:
    """Records what modules of a model return, inside the context.

    Rows are streamed into moments, a block at a time, and not stored, unless rows are asked for.
    Inside `erased` contexts that were opened before, what is recorded is erased; what those opened
    afterwards do at the same module is not seen.

    Args:
      model: a torch module or a flax nnx Module.
      paths: of modules, such as "encoder.layer.3"; what they may return is as for `erased`.
      z: the concept of the first batch, one a sequence, (batch,) or (batch, k), or one a token,
        (batch, length) or (batch, length, k); integers and floats mean what they do in `fit`. A
        dict of several by name. None for no concept, where rows are kept.
      mask: (batch, length), 1 for a token; padding is never counted. None for no padding.
      positions: the rows that count: "all" tokens, the "first" or the "last" that the mask has, or
        the "mean" over the mask's tokens as one row a sequence.
      num_classes: of class labels; None counts those that come. A dict where z is one.
      by_class: whether moments are `ClassMoments`, for QLEACE.
      rows: True keeps rows in memory; a path ending in .npy writes those of the one path there.
      folder: writes the rows of each path to "<path>.npy" there. A file appears when the context
        ends, whole or, where something was raised, not at all.
      dtype: of kept rows, such as float16; None for that of the hidden state.

    Yields:
      A `Recording`: `acts[path]` has `moments`, or `rows()` and `z`.

    Raises:
      TypeError: the model is of neither library, z is missing, or a module returns no tensor.
      ValueError: there is no such path, labels are neither one a sequence nor one a token, or a
        further batch was not announced by `acts.batch`.

    Under jit: rows reach the host by a callback, of programs that are traced inside the context.

    Example:
      >>> from flax import nnx
      >>> model = nnx.Sequential(nnx.Linear(2, 4, rngs=nnx.Rngs(0)), jnp.tanh)
      >>> tokens = jax.random.normal(jax.random.key(0), (6, 5, 2))  # 6 sequences of 5 tokens
      >>> labels, mask = np.array([0, 0, 0, 1, 1, 1]), np.ones((6, 5))
      >>> mask[:, 4] = 0
      >>> with ej.models.recorded(model, ["layers.0"], z=labels, mask=mask) as acts:
      ...     _ = model(tokens)
      >>> moments = acts["layers.0"].moments
      >>> float(moments.total), int(ej.LEACE().solve(moments).rank)
      (24.0, 1)
    """
    paths = [paths] if isinstance(paths, str) else list(paths)
    keep = rows is not False or folder is not None
    if z is None and not keep:
        raise TypeError("z: missing; moments are of rows with a concept; rows=True needs none")
    if (num_classes is not None or by_class) and keep:
        raise ValueError("num_classes, by_class: rows are kept, and no moments")
    files = _files(paths, rows, folder)
    check_positions(positions)
    with contextlib.ExitStack() as stack:
        counts = num_classes if isinstance(num_classes, Mapping) else {}
        if isinstance(num_classes, int):
            counts = dict.fromkeys(z if isinstance(z, Mapping) else (_ONE,), num_classes)
        sinks = {
            path: Kept(files[path], dtype, stack) if keep else Streamed(dict(counts), by_class)
            for path in paths
        }
        acts = Recording(sinks, z, mask, positions)
        functions: dict[str, Callable[[Any], Any]]
        functions = {path: functools.partial(acts._take, path) for path in paths}
        if "" not in paths and is_called(model):
            functions[""] = acts._finish
        try:
            with hooked(model, functions):
                yield acts
                acts._settle()
        finally:
            acts._open = False
        for sink in sinks.values():
            sink.flush()


def _files(
    paths: list[str], rows: bool | str | os.PathLike[str], folder: str | os.PathLike[str] | None
) -> dict[str, Path | None]:
    """Returns where the rows of each path are written; None for memory.

    Raises:
      ValueError: there is one file for several paths, or it is no .npy file.
    """
    if folder is not None:
        return {path: Path(folder) / f"{path or 'model'}.npy" for path in paths}
    if isinstance(rows, bool):
        return dict.fromkeys(paths)
    if len(paths) != 1 or Path(rows).suffix != ".npy":
        raise ValueError(f"rows: expected a .npy file, and one path; got {rows} for {paths}")
    return {paths[0]: Path(rows)}


def _as_labels(name: str, values: Any) -> np.ndarray:
    """Returns labels as numpy, booleans as integers.

    Raises:
      TypeError: they are no numbers.
      ValueError: they have no axes, or too many.
    """
    found = on_host(name, values)
    if not 1 <= found.ndim <= 3:
        raise ValueError(
            f"{name}: expected labels one a sequence or one a token, got shape {found.shape}"
        )
    return found.astype(np.int32) if found.dtype == bool else found


def _of_rows(
    name: str, z: np.ndarray, shape: tuple[int, ...], tokens: np.ndarray | None, positions: str
) -> np.ndarray:
    """Returns the labels of the rows that count.

    Args:
      name: of the concept, for the message.
      z: one a sequence or one a token; (batch, length) is one a token.
      shape: of the hidden state.
      tokens: bool (batch, length), None for all.
      positions: as for `recorded`.

    Raises:
      ValueError: they are neither.
    """
    rows = shape[:-1]
    a_token = z.shape[: len(rows)] == rows and z.ndim <= len(rows) + 1
    a_sequence = z.shape[0] == rows[0] and z.ndim <= 2
    if z.ndim == 2 and z.dtype.kind in "iu":  # k labels are binary, or it is a token's of others
        a_sequence = a_sequence and np.isin(z, (0, 1)).all()
    if not (a_token or a_sequence):
        raise ValueError(
            f"{name}: expected labels one a sequence ({rows[0]},) or one a token "
            f"({', '.join(map(str, rows))}), got shape {z.shape}"
        )
    if positions == "mean":
        if a_token:
            raise ValueError(f"{name}: a mean over tokens has no label of one; pass one a sequence")
        return z if tokens is None else z[tokens.any(axis=1)]
    if not a_token:
        z = np.broadcast_to(z[:, *(None,) * (len(rows) - 1)], (*rows, *z.shape[1:]))
    return z.reshape(-1, *z.shape[len(rows) :]) if tokens is None else z[tokens]


def _means(hidden: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """Returns the mean of the tokens of each sequence, (batch, d), in at least float32."""
    wide = hidden.astype(np.promote_types(hidden.dtype, np.float32), copy=False)
    total = np.sum(wide, axis=1, where=tokens[:, :, None], dtype=np.float64)
    return (total / tokens.sum(axis=1)[:, None]).astype(wide.dtype)
