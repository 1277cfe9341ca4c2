"""What a file's name means, and arrays of any shape.

A file is named by its path, with a part behind a colon where it has parts: ``acts.npz:layer_7``,
``acts.safetensors:x``, ``table.csv:a,b`` (columns), ``table.parquet:embedding``.
"""

import contextlib
import os
import re
import zipfile
import zlib
from collections.abc import Generator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import safetensors

__all__ = ["EXTENSIONS", "Source", "array_name", "parse", "read_array", "readable", "show"]

EXTENSIONS = (".npy", ".npz", ".csv", ".parquet", ".safetensors")
_SHOWN = 60  # characters of a name that are printed
_PART = re.compile(rf"(.*?(?:{'|'.join(map(re.escape, EXTENSIONS))})):(.+)", re.I | re.S)


class Source(NamedTuple):
    """A file and the part of it that is meant.

    Attributes:
      path: the file, which exists.
      part: name of an array, or of columns with commas between them, or None for all.
      kind: the extension, one of `EXTENSIONS`.
      encoding: of its text, as Python names it, or None for UTF-8.
    """

    path: Path
    part: str | None
    kind: str
    encoding: str | None = None

    def __str__(self) -> str:
        return str(self.path) if self.part is None else f"{self.path}:{self.part}"

    def __fspath__(self) -> str:
        return str(self)

    @property
    def is_table(self) -> bool:
        """Whether the file has named columns."""
        return self.kind in {".csv", ".parquet"}


def parse(spec: str | os.PathLike[str], encoding: str | None = None) -> Source:
    """Splits the name of a file into path and part.

    A file whose name is the whole text is taken first. Otherwise the part begins behind the first
    colon that follows a known extension.

    Args:
      spec: such as "x.npy" or "x.npz:key". A `Source` is returned as it is.
      encoding: of the text in the file, as Python names it; None for UTF-8.

    Returns:
      `Source`, which may stand wherever the name of a file may.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the extension is unknown, or it is no regular file, or has no parts, or there is
        no such encoding.
    """
    if isinstance(spec, Source):
        return spec
    if encoding is not None:
        try:
            "".encode(encoding)
        except LookupError:
            raise ValueError(
                f"--encoding: there is no encoding {encoding!r}; expected a name that Python "
                "knows, such as cp1252, latin-1, utf-16"
            ) from None
    text = os.fspath(spec)
    path, part = text, None
    if not os.path.exists(text) and (match := _PART.fullmatch(text)):
        path, part = match.groups()
    if not os.path.exists(path):
        raise FileNotFoundError(f"{path}: no such file")
    if os.path.isdir(path):
        raise ValueError(f"{path}: is a folder, expected a file")
    if not os.path.isfile(path):
        raise ValueError(f"{path}: is a pipe or device, expected a file")
    kind = os.path.splitext(path)[1].lower()
    if kind not in EXTENSIONS:
        raise ValueError(
            f"{path}: unknown extension {kind!r}, expected one of {', '.join(EXTENSIONS)}"
        )
    if kind == ".npy" and part is not None:
        raise ValueError(f"{text}: a .npy file holds one array, leave out ':{part}'")
    return Source(Path(path), part, kind, encoding)


def show(name: str) -> str:
    """Returns a name as it should be printed: cut if it is long, quoted if it would be misread."""
    name = name if len(name) <= _SHOWN else f"{name[:_SHOWN]}..."
    return name if name.isprintable() and name == name.strip() and name else repr(name)


def read_array(source: Source) -> np.ndarray:
    """Returns an array of any shape; a .npy file as a memory map.

    Args:
      source: a file that is no table.

    Raises:
      ValueError: the file is damaged, has no such array, or several and none is named.
    """
    with readable(source):
        if source.kind == ".npy":
            array = np.load(source.path, mmap_mode="r", allow_pickle=False)
            if not isinstance(array, np.ndarray):
                raise ValueError("a .npz archive with the wrong extension")
            return array
        if source.kind == ".npz":
            with np.load(source.path, allow_pickle=False) as archive:
                if isinstance(archive, np.ndarray):
                    raise ValueError("a .npy array with the wrong extension")
                return archive[array_name(source, archive.files)]
        if source.kind == ".safetensors":
            with safetensors.safe_open(source.path, framework="numpy") as file:
                return file.get_tensor(array_name(source, list(file.keys())))
    raise ValueError(f"{source}: expected an array, got a table")


def array_name(source: Source, names: list[str]) -> str:
    """Returns which array of a file is meant.

    Raises:
      MessageError: it does not exist, or there are several and none is named.
    """
    if source.part is None and len(names) == 1:
        return names[0]
    if source.part in names:
        return str(source.part)
    known = ", ".join(sorted(names)[:8]) + (", ..." if len(names) > 8 else "")
    if not names:
        raise MessageError(f"{source}: holds no arrays")
    if source.part is None:
        raise MessageError(f"{source}: holds {known}; name one as {source.path}:{names[0]}")
    raise MessageError(f"{source.path}: has no array {source.part!r}; it holds {known}")


class MessageError(ValueError):
    """A ValueError whose message is complete."""


@contextlib.contextmanager
def readable(source: Source) -> Generator[None, None, None]:
    """Turns whatever a reader raises for a damaged file into one message.

    Raises:
      MessageError: the file cannot be read.
    """
    try:
        yield
    except MessageError:
        raise
    except (
        ValueError,  # numpy, and pyarrow's ArrowInvalid
        EOFError,
        OSError,
        KeyError,
        NotImplementedError,
        SyntaxError,
        zipfile.BadZipFile,
        zlib.error,
        safetensors.SafetensorError,
    ) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        if "allow_pickle" in reason or "Python objects" in reason:
            reason = "it holds Python objects, not numbers"
        reason = "".join(c if c.isprintable() else repr(c)[1:-1] for c in reason)
        raise MessageError(f"{source}: cannot be read as {source.kind}: {reason}") from None
