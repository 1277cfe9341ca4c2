"""Where recorded rows go: into moments, a block of one size at a time, or where they are kept."""

import contextlib
from pathlib import Path
from typing import IO, Any

import jax
import numpy as np

from erasejax._core.foreign import aligned
from erasejax._core.inputs import compute_dtype
from erasejax._core.types import DTypeLike
from erasejax.files import replacing, written_dtype
from erasejax.statistics import ClassMoments, Moments

__all__ = ["Kept", "Labels", "Streamed"]

Labels = dict[str, np.ndarray]  # of a batch, by the name of the concept

_BLOCK_VALUES = 1 << 22  # numbers in a block: 16 MiB in float32
_BLOCK_ROWS = 1 << 12


class Streamed:
    """Moments of rows, for each concept; rows are copied once, into a block, and let go with it.

    Args:
      num_classes: by the name of a concept whose labels are classes; absent where labels say it.
      by_class: whether to keep `ClassMoments`.
    """

    def __init__(self, num_classes: dict[str, int], by_class: bool):
        self.num_classes, self.by_class = dict(num_classes), by_class
        self.settled = frozenset(num_classes)
        self.kinds: dict[str, tuple[bool, ...]] = {}
        self.moments: dict[str, Moments | ClassMoments] = {}
        self.block: np.ndarray | None = None
        self.labels: Labels = {}
        self.filled = 0

    def add(self, rows: np.ndarray, places: np.ndarray | None, labels: Labels) -> None:
        """Adds rows.

        Args:
          rows: (m, d) floats.
          places: of the rows that count, (n,); None for all.
          labels: (n,) or (n, k) of each concept.

        Raises:
          ValueError: rows or labels are of another kind than those before.
        """
        for name, z in labels.items():
            self._prepare(name, z, rows)
        n, start = len(rows) if places is None else len(places), 0
        while start < n:
            block = self._room(rows, labels)
            stop = min(n, start + len(block) - self.filled)
            into = slice(self.filled, self.filled + stop - start)
            if places is None:
                block[into] = rows[start:stop]
            else:
                np.take(rows, places[start:stop], axis=0, out=block[into], mode="clip")
            for name, z in labels.items():
                self.labels[name][into] = z[start:stop]
            self.filled, start = into.stop, stop
            if self.filled == len(block):
                self.flush()

    def flush(self) -> None:
        """Adds what is in the block to the moments; room beyond it has weight 0."""
        block = self.block
        if block is None or not self.filled:
            return
        weights = np.zeros(len(block), compute_dtype(block))
        weights[: self.filled] = 1
        block[self.filled :] = block[0]  # near the others, whose mean is taken off float64 rows
        kept = jax.dtypes.canonicalize_dtype(block.dtype) == block.dtype
        x: Any = jax.device_put(block) if kept else block  # which JAX may alias
        for name, z in self.labels.items():
            z[self.filled :] = 0
            moments = self.moments[name]
            jax.block_until_ready(moments.status)  # one block at a time is in memory
            self.moments[name] = moments.update(x, z, weights)
        self.block, self.filled = None, 0

    def _room(self, rows: np.ndarray, labels: Labels) -> np.ndarray:
        """Returns the block with room for a row at least."""
        if self.block is not None and self.block.dtype != rows.dtype:
            self.flush()
        if self.block is None:
            d = rows.shape[1]
            size = min(max(1 << (_BLOCK_VALUES // d).bit_length() - 1, 64), _BLOCK_ROWS)
            self.block = aligned((size, d), rows.dtype)
            self.labels = {
                name: np.zeros((size, *z.shape[1:]), _label_dtype(z)) for name, z in labels.items()
            }
        return self.block

    def _prepare(self, name: str, z: np.ndarray, rows: np.ndarray) -> None:
        """Makes moments for a concept, or holds its labels against those that there are.

        Raises:
          ValueError: they do not fit.
        """
        real = z.dtype.kind == "f"
        classes = z.ndim == 1 and not real
        if self.kinds.setdefault(name, (real, z.ndim == 1)) != (real, z.ndim == 1):
            raise ValueError(f"{name}: expected labels as in the batches before, got {_kind(z)}")
        d, k = rows.shape[1], z.shape[1] if z.ndim == 2 else 1
        if classes:
            least, most = (int(z.min()), int(z.max())) if z.size else (0, 0)
            if least < 0:
                raise ValueError(
                    f"{name}: class labels should be 0, 1, ..., k - 1, got {least}; leave tokens "
                    "without a label out by mask"
                )
            k = max(self.num_classes.get(name, 2), most + 1)
            if name in self.settled and most >= self.num_classes[name]:
                raise ValueError(
                    f"{name}: got label {most}, but num_classes is {self.num_classes[name]}"
                )
        moments = self.moments.get(name)
        if moments is None:
            dtype = compute_dtype(rows)
            if not classes and (self.by_class or name in self.settled):
                wants = "by_class=True" if self.by_class else "num_classes"
                raise ValueError(f"{name}: {wants} needs class labels, got {_kind(z)}")
            self.moments[name] = (
                ClassMoments.init(d, k, dtype=dtype)
                if self.by_class
                else Moments.init(d, k, dtype=dtype, one_hot=classes)
            )
            if classes:
                self.num_classes[name] = k
            return
        xz = moments.xz if isinstance(moments, Moments) else moments.classes.xz[0]
        if xz.shape[0] != d:
            raise ValueError(f"x: expected hidden states of {xz.shape[0]} features, got {d}")
        if not classes and k != xz.shape[1]:
            raise ValueError(f"{name}: expected labels as in the batches before, got {_kind(z)}")
        if classes and k > self.num_classes[name]:
            if not isinstance(moments, Moments):
                raise ValueError(
                    f"{name}: label {k - 1} in a later batch; pass num_classes={k} or more"
                )
            self.flush()
            self.moments[name] = _with_classes(self.moments[name], k)
            self.num_classes[name] = k


class Kept:
    """Rows as they are, in memory or on their way into a .npy file, and their labels.

    Args:
      path: of the file, which appears when the stack is left without an error; None for memory.
      dtype: of the rows; None for theirs, or the next that the file has.
      stack: closes the file.
    """

    def __init__(self, path: Path | None, dtype: DTypeLike | None, stack: contextlib.ExitStack):
        self.path, self.dtype, self.stack = path, None if dtype is None else np.dtype(dtype), stack
        self.file: IO[bytes] | None = None
        self.parts: list[np.ndarray] = []
        self.labels: dict[str, list[np.ndarray]] = {}
        self.count, self.width, self.done = 0, 0, False

    def add(self, rows: np.ndarray, places: np.ndarray | None, labels: Labels) -> None:
        """Adds rows, as `Streamed.add` does.

        Raises:
          ValueError: they have another number of features, or numbers that the dtype has not.
        """
        dtype = rows.dtype if self.dtype is None else self.dtype
        self.dtype = dtype = written_dtype(self.path, dtype) if self.path else dtype
        if self.count and rows.shape[1] != self.width:
            raise ValueError(f"x: expected {self.width} features, got {rows.shape[1]}")
        self.width = rows.shape[1]
        own = rows if places is None else rows[places]
        with np.errstate(over="ignore"):
            part = own.astype(dtype, copy=places is None and self.path is None)
        if dtype.itemsize < rows.dtype.itemsize and np.isinf(part).sum() > np.isinf(own).sum():
            raise ValueError(f"dtype: {dtype} does not hold numbers of this hidden state")
        self.count += len(part)
        for name, z in labels.items():
            self.labels.setdefault(name, []).append(z.astype(_label_dtype(z)))
        if self.path is None:
            self.parts.append(part)
        else:
            self._open(self.path).write(np.ascontiguousarray(part).data)

    def rows(self) -> np.ndarray:
        """Returns what was kept, (n, d); of a file a view that reads it when it is used.

        Raises:
          ValueError: there is nothing, or the file is not complete yet.
        """
        if not self.count:
            raise ValueError("nothing was recorded here")
        if self.path is None:
            self.parts = [np.concatenate(self.parts)] if len(self.parts) > 1 else self.parts
            return self.parts[0]
        if not self.done:
            raise ValueError(f"{self.path}: is complete when the context ends; ask for rows() then")
        return np.load(self.path, mmap_mode="r")

    def flush(self) -> None:
        """Does nothing: rows are kept as they come."""

    def _open(self, path: Path) -> IO[bytes]:
        """Returns the temporary file, whose header says how many rows there are in the end."""
        if self.file is None:
            self.stack.push(lambda failed, *_: setattr(self, "done", failed is None))
            self.file = file = open(self.stack.enter_context(replacing(path)), "wb")
            self.stack.callback(file.close)
            self._write_header(file)
            self.stack.callback(self._write_header, file)
        return self.file

    def _write_header(self, file: IO[bytes]) -> None:
        """Writes the header; numpy leaves room in it for any number of rows."""
        descr = np.lib.format.dtype_to_descr(np.dtype(self.dtype))
        header = {"descr": descr, "fortran_order": False, "shape": (self.count, self.width)}
        file.seek(0)
        np.lib.format.write_array_header_1_0(file, header)


def _label_dtype(z: np.ndarray) -> np.dtype:
    """Returns the dtype in which labels are kept."""
    return np.dtype(np.float32 if z.dtype.kind == "f" else np.int32)


def _kind(z: np.ndarray) -> str:
    return f"{z.dtype} of shape (n{''.join(f', {k}' for k in z.shape[1:])})"


def _with_classes(moments: Any, k: int) -> Moments:
    """Returns the same moments with more classes, of which no row has been."""
    more = k - moments.xz.shape[1]

    def wider(array: jax.Array, *axes: int) -> jax.Array:
        room = [(0, more if axis in axes else 0) for axis in range(array.ndim)]
        return jax.device_put(np.pad(np.asarray(array), room))

    return moments.replace(
        mean_z=wider(moments.mean_z, 1), xz=wider(moments.xz, 1), zz=wider(moments.zz, 0, 1)
    )
