"""Writing a file whole or not at all; every writer of the project goes through here."""

import contextlib
import hashlib
import os
import platform
import secrets
import time
from collections.abc import Generator
from pathlib import Path

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None

__all__ = ["check_target", "discard", "remove_orphans", "replacing", "temporary_file"]

_PREFIX = ".erasejax-"
_HOST = hashlib.sha256(platform.node().encode()).hexdigest()[:8]
_DAY = 86400  # seconds
_open: set[Path] = set()


@contextlib.contextmanager
def replacing(
    path: str | os.PathLike[str], *, overwrite: bool = True
) -> Generator[Path, None, None]:
    """Writes a file whole or not at all.

    ::

        with replacing("out.npy") as temporary:
            np.save(temporary, x)

    What is written to the temporary file, which lies beside `path` and has its extension, reaches
    the disk and then takes the name `path` in one step. If anything is raised inside, the temporary
    file is removed and `path` stays as it was.

    Args:
      path: the file to write. A link is followed.
      overwrite: False refuses to replace a file, also one that appears in the meantime.

    Yields:
      The path of the temporary file, which exists and is empty.

    Raises:
      FileExistsError: `path` exists and overwrite is False.
      FileNotFoundError: the folder of `path` does not exist.
      OSError: `path` is a folder or a device, or cannot be written.
    """
    target = check_target(path, overwrite=overwrite)
    with temporary_file(target) as temporary:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        if overwrite or not _publish(temporary, target):
            os.replace(temporary, target)
    if os.name == "posix":
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextlib.contextmanager
def temporary_file(target: Path) -> Generator[Path, None, None]:
    """Makes an empty file beside `target`, with its extension, that is gone afterwards.

    Yields:
      Its path.

    Raises:
      OSError: it cannot be made.
    """
    temporary, held = _create(target)
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)
        _open.discard(temporary)
        if held is not None:
            os.close(held)


def _create(target: Path) -> tuple[Path, int | None]:
    """Makes an empty file beside `target`, and locks it for as long as this process lives.

    The lock tells `remove_orphans` that the file is still being written.

    Returns:
      Its path, and the file descriptor that holds the lock; None where there are no such locks.

    Raises:
      OSError: it cannot be made.
    """
    while True:
        name = f"{_PREFIX}{_HOST}-{secrets.token_hex(8)}{target.suffix[:32]}"
        temporary = target.with_name(name)
        _open.add(temporary)
        try:
            held = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
        except OSError as error:
            _open.discard(temporary)
            raise type(error)(
                error.errno, f"cannot write here: {error.strerror}", str(target.parent)
            ) from None
        if fcntl is None:
            os.close(held)
            return temporary, None
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(held, fcntl.LOCK_EX)  # waits for somebody who takes it for an orphan
        if os.fstat(held).st_nlink:
            return temporary, held
        os.close(held)  # taken for an orphan before it was locked
        _open.discard(temporary)


def remove_orphans(folder: str | os.PathLike[str]) -> None:
    """Removes temporary files in a folder that were left by processes that are gone.

    Files that another process is writing are locked and stay. Locks need not reach other machines:
    their files go after a day.
    """
    if fcntl is None:
        return
    for temporary in Path(folder).glob(f"{_PREFIX}*"):
        try:
            ours = temporary.name.startswith(f"{_PREFIX}{_HOST}-")
            if not ours and time.time() - temporary.stat().st_mtime < _DAY:
                continue
            held = os.open(temporary, os.O_RDWR)
        except OSError:  # done in the meantime, or somebody else's
            continue
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            temporary.unlink(missing_ok=True)
        except OSError:
            pass
        finally:
            os.close(held)


def discard() -> None:
    """Removes the temporary files of this process, for a handler of a signal that ends it."""
    for temporary in tuple(_open):
        temporary.unlink(missing_ok=True)


def check_target(path: str | os.PathLike[str], *, overwrite: bool = True) -> Path:
    """Returns the real path of a file that may be written, or says why it may not.

    Args:
      path: the file.
      overwrite: whether it may exist.

    Raises:
      FileExistsError: it exists and overwrite is False.
      IsADirectoryError: it is a folder.
      OSError: it is no regular file.
      FileNotFoundError: its folder does not exist.
    """
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise IsADirectoryError(f"{path}: is a folder; give the name of a file")
    if target.exists():
        if not target.is_file():
            raise OSError(f"{path}: not a regular file; give the name of a file")
        if not overwrite:
            raise FileExistsError(f"{path}: exists; overwrite=True replaces it")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"{path}: the folder {target.parent} does not exist")
    return target


def _publish(temporary: Path, target: Path) -> bool:
    """Gives the file its name unless that is taken; False where the file system has no links.

    Raises:
      FileExistsError: the name was taken in the meantime.
    """
    try:
        os.link(temporary, target)
    except FileExistsError:
        raise FileExistsError(f"{target}: exists; overwrite=True replaces it") from None
    except OSError:
        if target.exists():
            raise FileExistsError(f"{target}: exists; overwrite=True replaces it") from None
        return False
    return True
