"""A format of rows: how many, how long, and the numbers."""

from contextlib import contextmanager
from typing import ClassVar

import numpy as np

import erasejax as ej


class Rows(ej.files.Format):
    """One array of float32 behind its shape."""

    name: ClassVar[str] = ".rows"
    has_parts = False
    dtypes = ("float32",)

    def open(self, source):
        """Describes the array."""
        shape = tuple(np.fromfile(source.path, "<i8", 2).tolist())
        tensor = ej.files.Tensor(source.path, 16, shape, np.dtype("<f4"))
        return {"": lambda: tensor.stored(source)}

    @contextmanager
    def write(self, path, shape, dtype, names):
        """Opens a file for rows."""
        with open(path, "wb") as file:
            file.write(np.array(shape, "<i8").tobytes())
            yield lambda block: file.write(block.tobytes())
