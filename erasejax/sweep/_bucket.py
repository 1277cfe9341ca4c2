"""Where a sweep lies: a bucket, or anything else that fsspec reaches by a URL."""

import logging
import time
from collections.abc import Callable
from typing import Any

from erasejax._core.extras import STORES, require

__all__ = ["Bucket"]

_WAITS = (0.3, 1.0, 3.0)  # seconds before trying again, after the library has given up
_PATIENCE = 60  # seconds after which nothing is tried again
_FINAL = (FileNotFoundError, PermissionError)  # trying again would not help
_DENIED = ("credential", "forbidden", "denied", "unauthorized", "anonymous", " 401", " 403")


class Bucket:
    """A bucket. An object is created by one request, whole or not at all, and stays as it is.

    Whoever creates an object first has created it: everybody else finds it there, and goes on.

    Args:
      url: of the bucket and the folder in it, such as s3://bucket/run.

    Attributes:
      path: the URL.
      threads: how many objects are read or written at once.
      near: whether an object is read in no time.

    Raises:
      ModuleNotFoundError: what reaches such URLs is not installed.
      ValueError: there is no such protocol.
      OSError: it cannot be reached.
    """

    threads = 16
    near = False

    def __init__(self, url: str):
        core = require("fsspec.core", "sweep")
        self.path = url if url.endswith("://") else url.rstrip("/")
        options = {}
        if own := STORES.get(url.partition(":")[0]):
            require(*own)
            # A listing that is kept denies what others have created since, even to who reads it.
            options["use_listings_cache"] = False
            logging.getLogger(own[0]).addHandler(logging.NullHandler())  # what fails is raised
        try:
            self._files, root = core.url_to_fs(self.path, **options)
        except ImportError as error:
            raise ModuleNotFoundError(f"{url}: {error}", name=error.name) from None
        except ValueError as error:
            raise ValueError(f"{url}: {error}") from None
        except Exception as error:
            raise self._failure(error) from error
        self._root: str = root.rstrip("/")

    def make(self, inner: str) -> None:
        """Makes nothing: a folder in a bucket is there once an object is in it."""

    def has(self, inner: str) -> bool:
        """Returns whether there is anything; in which folder does not matter.

        Raises:
          OSError: it cannot be listed.
        """
        return bool(self.names())

    def names(self, inner: str = "") -> set[str]:
        """Returns the names of the objects in a folder, by one listing; of none if there is none.

        Raises:
          OSError: it cannot be listed.
        """

        def listed() -> list[str]:
            self._files.invalidate_cache()  # others write, too
            return self._files.ls(f"{self._root}/{inner}".rstrip("/"), detail=False)

        try:
            found = self._tried(listed)
        except FileNotFoundError:
            return set()
        return {name.rpartition("/")[2] for name in found} - {""}

    def read(self, name: str) -> bytes:
        """Returns the content of an object.

        Raises:
          FileNotFoundError: it is gone.
          OSError: it cannot be read.
        """
        try:
            return self._tried(lambda: self._files.cat_file(f"{self._root}/{name}"))
        except FileNotFoundError:
            raise FileNotFoundError(
                f"{self.path}/{name}: was removed while it was to be read; run the sweep again"
            ) from None

    def put(self, name: str, content: bytes) -> None:
        """Creates an object, unless it is there.

        An answer that is lost, and one that says somebody else was faster, leave the object there:
        what counts is whether it is.

        Raises:
          OSError: it cannot be created.
        """
        where = f"{self._root}/{name}"

        def created() -> None:
            try:
                self._create(where, content)
            except Exception:
                if not self._is_there(where):
                    raise

        self._tried(created)

    def clean(self, inner: str) -> None:
        """Removes nothing: no object is ever half written."""

    def _create(self, where: str, content: bytes) -> None:
        try:
            self._files.pipe_file(where, content, mode="create")
        except (NotImplementedError, TypeError):  # a file system that cannot ask for it
            if not self._is_there(where):
                self._files.pipe_file(where, content)

    def _is_there(self, where: str) -> bool:
        self._files.invalidate_cache()
        return self._files.exists(where)

    def _tried(self, request: Callable[[], Any]) -> Any:
        """Returns what a request does, made again a few times where it fails.

        Raises:
          OSError: it failed every time.
        """
        start, waits = time.monotonic(), list(_WAITS)
        while True:
            try:
                return request()
            except Exception as error:  # each library has its own
                failure = self._failure(error)
                late = time.monotonic() - start > _PATIENCE
                if not waits or late or isinstance(failure, _FINAL):
                    raise failure from error
                time.sleep(waits.pop(0))

    def _failure(self, error: Exception) -> OSError:
        """Returns what went wrong as an error whose one line says what to do."""
        said = next(iter(str(error).splitlines()), "") or type(error).__name__
        if isinstance(error, FileNotFoundError):
            return FileNotFoundError(
                f"{self.path}: there is no such bucket ({said}); make it, or correct its name"
            )
        words = f"{type(error).__name__} {error}".lower()
        if isinstance(error, PermissionError) or any(word in words for word in _DENIED):
            return PermissionError(
                f"{self.path}: no access ({said}); the credentials of this machine must allow to "
                "list the bucket, to read objects and to create them"
            )
        return OSError(
            f"{self.path}: cannot be reached ({said}); what is stored stays, and the same command "
            "goes on from there"
        )
