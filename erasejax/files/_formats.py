"""What a file format is. Each is one file of this room, known by its extension."""

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar, TypeAlias

import numpy as np

from erasejax.files._sources import Source
from erasejax.files._stored import Stored
from erasejax.files._tables import Table
from erasejax.names import Named

__all__ = ["Arrays", "Format", "Names", "Opened", "Shape", "Writer"]

Arrays: TypeAlias = Mapping[str, Callable[[], Stored]]
Names: TypeAlias = tuple[str, ...]
Shape: TypeAlias = tuple[int, int]
Writer: TypeAlias = Callable[[np.ndarray], object]
Opened: TypeAlias = Generator[Writer, None, None]


class Format(Named):
    """The files of one extension: what they hold, how they are read, and how they are written.

    One of yours that is registered is read by `stream_moments` and the command line, parts of its
    files are named as "x.mine:part", and `erasejax apply` writes it.

    Attributes:
      name: the extension in lower case, with its dot.
      is_table: whether files hold a table with named columns, and not arrays.
      is_text: whether files are text that begins with a line of names.
      has_parts: whether what is in a file has names; False where that is one array.
      dtypes: names of the float dtypes that `write` takes, float32 among them: other features are
        written as float32. None at all where files are only read.

    Example:
      >>> from contextlib import contextmanager
      >>> @ej.register
      ... class Raw(ej.files.Format):
      ...     name, has_parts, dtypes = ".raw", False, ("float32",)
      ...
      ...     def open(self, source):
      ...         shape = tuple(np.fromfile(source.path, "<i8", 2).tolist())
      ...         tensor = ej.files.Tensor(source.path, 16, shape, np.dtype("<f4"))
      ...         return {"": lambda: tensor.stored(source)}
      ...
      ...     @contextmanager
      ...     def write(self, path, shape, dtype, names):
      ...         with open(path, "wb") as file:
      ...             file.write(np.array(shape, "<i8").tobytes())
      ...             yield lambda block: file.write(block.tobytes())
      >>> with ej.files.open_writer("x.raw", (3, 2), np.float32) as write:
      ...     write(np.arange(6.0).reshape(3, 2))
      >>> ej.files.open_features("x.raw").array().tolist()
      [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]
    """

    role = "format"
    is_table: ClassVar[bool] = False
    is_text: ClassVar[bool] = False
    has_parts: ClassVar[bool] = True
    dtypes: ClassVar[tuple[str, ...]] = ()

    def open(self, source: Source) -> Arrays | Table:
        """Describes what a file holds, without reading its numbers.

        Sizes that the file declares are to be checked before anything so large is allocated.
        Whatever is raised becomes one line, which says that the file cannot be read.

        Args:
          source: the file, which exists; the part of it that is meant plays no role here.

        Returns:
          Of a table, a `Table`. Else a function for each array, by its name and in the order of
          the file, which describes it as a `Stored`; one that fails hides no other.

        Raises:
          ValueError: the file is damaged.
        """
        raise NotImplementedError

    @contextmanager
    def write(self, path: Path, shape: Shape, dtype: np.dtype, names: Names) -> Opened:
        """Opens a file for features, and closes it; a context manager.

        Args:
          path: an empty file, which gets its name when it is whole.
          shape: (n, d).
          dtype: one of `dtypes`.
          names: of the d features, for those that keep them.

        Yields:
          A function that takes the next (m, d) block, an array of `dtype` that lies by rows.

        Raises:
          OSError: the file cannot be written.
        """
        raise NotImplementedError
