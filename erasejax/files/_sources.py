"""What a file's name means, and one message for whatever its reader raises.

A file is named by its path, with a part behind a colon where it has parts: ``acts.npz:layer_7``,
``acts.safetensors:x``, ``table.csv:a,b`` (columns), ``table.parquet:embedding``.
"""

import contextlib
import os
import re
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from erasejax._core.text import plain
from erasejax.names import known

if TYPE_CHECKING:
    from erasejax.files._formats import Format

__all__ = [
    "MessageError",
    "Source",
    "check_file",
    "find_format",
    "not_text",
    "parse",
    "readable",
    "split_part",
]


class Source(NamedTuple):
    """A file and the part of it that is meant.

    Attributes:
      path: the file, which exists.
      part: name of an array, or of columns with commas between them, or None for all.
      kind: the extension, which is the name of its format.
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
    def format(self) -> Any:
        """The `Format` of the file."""
        return find_format(self.path)


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
    path, part = split_part(text)
    check_file(path)
    form = find_format(path)
    if part is not None and not form.has_parts:
        raise ValueError(f"{text}: a {form.name} file holds one array, leave out ':{part}'")
    return Source(Path(path), part, form.name, encoding)


def split_part(text: str) -> tuple[str, str | None]:
    """Returns the path and the part that a name means, see `parse`; there need be no such file."""
    extensions = "|".join(map(re.escape, known("format")))
    split = re.compile(rf"(.*?(?:{extensions})):(.+)", re.I | re.S)
    if not os.path.exists(text) and (match := split.fullmatch(text)):
        return match[1], match[2]
    return text, None


def find_format(path: str | os.PathLike[str]) -> "Format":
    """Returns the `Format` that the extension of a file says.

    Raises:
      ValueError: the extension is unknown.
    """
    kind, formats = os.path.splitext(path)[1].lower(), known("format")
    if kind not in formats:
        raise ValueError(
            f"{path}: unknown extension {kind!r}, expected one of {', '.join(formats)}"
        )
    return formats[kind]()


def check_file(path: str | os.PathLike[str]) -> None:
    """Checks that there is a regular file, so that opening it neither waits nor never ends.

    Raises:
      FileNotFoundError: there is nothing of this name.
      ValueError: it is a folder, a pipe or a device.
    """
    if not os.path.exists(path):
        raise FileNotFoundError(f"{path}: no such file")
    if os.path.isdir(path):
        raise ValueError(f"{path}: is a folder, expected a file")
    if not os.path.isfile(path):
        raise ValueError(f"{path}: is a pipe or device, expected a file")


def not_text(source: Source, where: str) -> str:
    """Returns a message about text in another encoding; `where` says which text it is."""
    said = f"not {source.encoding}" if source.encoding else "not UTF-8"
    return (
        f"{source.path}: {where} is {said}; say how the text is encoded, for example "
        "--encoding cp1252"
    )


class MessageError(ValueError):
    """A ValueError whose message is complete."""


@contextlib.contextmanager
def readable(source: Source) -> Generator[None, None, None]:
    """Turns whatever a reader raises for a damaged file into one message.

    Readers of foreign formats raise errors of every kind over bytes that their authors did not
    think of, so all kinds are caught; nothing but a reader belongs inside.

    Raises:
      MessageError: the file cannot be read.
      MemoryError: what was asked for does not fit in memory.
    """
    try:
        yield
    except (MessageError, MemoryError):
        raise
    except Exception as error:
        reason = next(iter(str(error).splitlines()), "")
        if not isinstance(error, ValueError | OSError) or not reason:
            reason = f"{type(error).__name__}, {reason}" if reason else type(error).__name__
        reason = plain(reason)[:300].rstrip(".")
        raise MessageError(f"{source}: cannot be read as {source.kind}: {reason}") from None
