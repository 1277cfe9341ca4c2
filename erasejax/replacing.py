"""Writing a file whole or not at all; every writer of the project goes through here."""

import contextlib
import os
import secrets
from collections.abc import Generator
from pathlib import Path

__all__ = ["check_target", "discard", "replacing"]

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
    temporary = target.with_name(f".erasejax-{secrets.token_hex(8)}{target.suffix[:32]}")
    _open.add(temporary)
    try:
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except OSError as error:
        _open.discard(temporary)
        raise type(error)(
            error.errno, f"cannot write here: {error.strerror}", str(target.parent)
        ) from None
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        if overwrite or not _publish(temporary, target):
            os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
        _open.discard(temporary)
    if os.name == "posix":
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


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
