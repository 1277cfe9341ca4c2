"""Many files, by names, patterns and URLs, each on this machine when its turn comes."""

import contextlib
import glob
import hashlib
import os
import tempfile
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from erasejax._core.extras import STORES, require
from erasejax._core.text import plain
from erasejax.files._replacing import remove_orphans, temporary_file
from erasejax.files._sources import Source, check_file, find_format, split_part

__all__ = ["Place", "brought", "find_places", "is_many", "named_as"]

_MARKS = ("ETag", "etag", "md5Hash", "mtime", "LastModified", "last_modified", "updated", "created")


class Place(NamedTuple):
    """A file, here or in a store.

    Attributes:
      path: its path, or its URL.
      part: what of it is meant, as in `Source`.
      size: in bytes.
      mark: what changes with its content: the time of the last change, or the store's own mark.
      encoding: as in `Source`.
    """

    path: str
    part: str | None
    size: int
    mark: str
    encoding: str | None

    def __str__(self) -> str:
        return self.path if self.part is None else f"{self.path}:{self.part}"

    @property
    def is_url(self) -> bool:
        """Whether the file is in a store."""
        return "://" in self.path


def is_many(spec: str | os.PathLike[str]) -> bool:
    """Returns whether a name is more than the name of a file on this machine.

    Args:
      spec: a file, a pattern such as "acts-*.npz:layer_7", or a URL.
    """
    path = split_part(os.fspath(spec))[0]
    return "://" in path or glob.has_magic(path) and not os.path.exists(path)


def find_places(
    specs: Sequence[str | os.PathLike[str]], encoding: str | None = None
) -> tuple[Place, ...]:
    """Returns the files that names, patterns and URLs mean, sorted by path.

    Args:
      specs: names of files as `parse` knows them; patterns of names with `*`, `?` or `[...]`; and
        URLs of either that fsspec knows, such as "s3://bucket/acts-*.npz:layer_7".
      encoding: of the text in the files.

    Raises:
      FileNotFoundError: there is no such file, or none that a pattern matches.
      ValueError: an extension is unknown, or a file is named twice.
      OSError: a store does not answer.
      ModuleNotFoundError: a URL needs fsspec, or the package of its store.
    """
    found: list[Place] = []
    for spec in specs:
        path, part = split_part(os.fspath(spec))
        listed = _stored(path) if "://" in path else _local(path)
        if not listed:
            raise FileNotFoundError(f"{path}: no file matches")
        for name, size, mark in listed:
            if part is not None and not find_format(name).has_parts:
                kind = find_format(name).name
                raise ValueError(f"{spec}: a {kind} file holds one array, leave out ':{part}'")
            found.append(Place(name, part, size, mark, encoding))
    found.sort(key=lambda place: place.path)
    for one, next_one in zip(found, found[1:], strict=False):
        if one.path == next_one.path:
            raise ValueError(f"{one.path}: is named twice")
    return tuple(found)


def brought(
    groups: Sequence[tuple[Place, ...]], *, hashed: bool = False
) -> Generator[tuple[tuple[Source, ...], str], None, None]:
    """Yields groups of files, each on this machine until the next one is asked for.

    Files of stores are temporary files here. While one group is used the next one is brought, and
    nothing more is kept. Close it: an error may hold on to it, and so to its files.

    Args:
      groups: files that are used together.
      hashed: whether the first file of each group is read once more, for its hash.

    Yields:
      Where the files of a group are, and the SHA-256 of the first one, or "".

    Raises:
      OSError: a file cannot be brought.
    """
    if any(place.is_url for group in groups for place in group):
        remove_orphans(tempfile.gettempdir())
    with ThreadPoolExecutor(1) as pool:
        ahead = None
        try:
            for i in range(len(groups)):
                ahead = ahead or pool.submit(_bring, groups[i], hashed)
                stack, sources, digest = ahead.result()
                with stack:
                    more = i + 1 < len(groups)
                    ahead = pool.submit(_bring, groups[i + 1], hashed) if more else None
                    yield sources, digest
        finally:
            if ahead is not None:
                with contextlib.suppress(Exception):  # what was raised is on its way
                    ahead.result()[0].close()


@contextlib.contextmanager
def named_as(places: Sequence[Place], sources: Sequence[Source]) -> Generator[None, None, None]:
    """Lets errors name files of stores by their URLs, and not by where they lie for a moment.

    Args:
      places: the files.
      sources: where they are.

    Raises:
      ValueError: what was raised inside.
      OSError: what was raised inside.
    """
    try:
        yield
    except (ValueError, OSError) as error:
        text = str(error)
        for place, source in zip(places, sources, strict=True):
            text = text.replace(str(source.path), place.path)
        if text == str(error):
            raise
        kind = OSError if isinstance(error, OSError) else ValueError
        raise kind(text) from None


def _bring(
    group: tuple[Place, ...], hashed: bool
) -> tuple[contextlib.ExitStack, tuple[Source, ...], str]:
    with contextlib.ExitStack() as stack:
        here: dict[str, Path] = {}
        for place in group:
            if place.path not in here:
                here[place.path] = stack.enter_context(_here(place))
        sources = tuple(
            Source(here[p.path], p.part, find_format(p.path).name, p.encoding) for p in group
        )
        digest = ""
        if hashed:
            with open(sources[0].path, "rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        return stack.pop_all(), sources, digest


@contextlib.contextmanager
def _here(place: Place) -> Generator[Path, None, None]:
    """Gives a path to a file on this machine, for as long as it is needed.

    Raises:
      OSError: it cannot be brought.
    """
    if not place.is_url:
        yield Path(place.path)
        return
    suffix = os.path.splitext(place.path)[1]
    with temporary_file(Path(tempfile.gettempdir(), f"file{suffix}")) as path:
        with _reachable(place.path):
            store, name = _store(place.path)
            store.get_file(name, str(path))
        if path.stat().st_size != place.size:
            raise OSError(f"{place.path}: has changed since it was listed; try again")
        yield path


def _local(path: str) -> list[tuple[str, int, str]]:
    """Returns name, size and mark of the local files that a path means."""
    names = [path]
    if is_many(path):
        names = [name for name in glob.glob(path, recursive=True) if not os.path.isdir(name)]
    listed = []
    for name in map(os.path.normpath, names):
        check_file(name)
        found = os.stat(name)
        listed.append((name, found.st_size, str(found.st_mtime_ns)))
    return listed


def _stored(url: str) -> list[tuple[str, int, str]]:
    """Returns URL, size and mark of the files in a store that a URL means."""
    with _reachable(url):
        store, path = _store(url)
        if glob.has_magic(path):
            infos = list(store.glob(path, detail=True).values())
        else:
            infos = [store.info(path)]
        listed = []
        for info in infos:
            if info["type"] == "file":
                mark = next((str(info[key]) for key in _MARKS if info.get(key)), "")
                listed.append((store.unstrip_protocol(info["name"]), int(info["size"]), mark))
        return listed


def _store(url: str) -> tuple[Any, str]:
    """Returns the file system of a URL, and the path there."""
    return require("fsspec.core", "sweep").url_to_fs(url)


@contextlib.contextmanager
def _reachable(url: str) -> Generator[None, None, None]:
    """Turns whatever a store raises into one message; nothing but its calls belongs inside.

    Raises:
      FileNotFoundError: there is no such file.
      ImportError: fsspec is missing.
      ModuleNotFoundError: the package of the store is missing.
      OSError: anything else.
    """
    try:
        yield
    except FileNotFoundError:
        raise FileNotFoundError(f"{url}: no such file") from None
    except ImportError as error:
        if (error.name or "").partition(".")[0] == "fsspec":  # says it all
            raise
        store = STORES.get(url.partition("://")[0])
        hint = f"pip install 'erasejax[{store[1]}]'" if store else str(error).rstrip(".")
        raise ModuleNotFoundError(f"{url}: needs the package of its store: {hint}") from None
    except Exception as error:
        reason = " ".join(plain(str(error)).split())[:300].rstrip(".") or type(error).__name__
        raise OSError(f"{url}: cannot be reached: {reason}") from None
