"""Where a sweep lies: a folder, whose files appear whole or not at all."""

import errno
import os
from pathlib import Path

from erasejax._core.warn import warn
from erasejax.files import remove_orphans, replacing

__all__ = ["Folder"]

# File systems that show a bucket as a folder: there a file takes its name by being copied, or not
# at all. By their type in the table of mounts, or by what is mounted.
_BUCKETS = {"gcsfuse", "s3fs", "goofys", "geesefs", "rclone", "blobfuse", "blobfuse2"}
_BUCKETS |= {"mountpoint-s3"}


class Folder:
    """A folder. A file is written beside its place, reaches the disk, and takes its name then.

    Args:
      path: the folder.

    Attributes:
      path: the folder.
      threads: how many files are read or written at once.
      near: whether a file is read in no time.

    Raises:
      NotADirectoryError: `path` is a file.
    """

    threads = 4
    near = True

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        if self.path.exists() and not self.path.is_dir():
            raise NotADirectoryError(f"{path}: is a file, expected the folder of a sweep")

    def make(self, inner: str) -> None:
        """Makes the folder, and one in it.

        Warns:
          UserWarning: it is a mounted bucket.
        """
        (self.path / inner).mkdir(parents=True, exist_ok=True)
        if kind := _mounted_bucket(self.path):
            warn(
                f"{self.path}: is a bucket, mounted by {kind}, where no file takes its name in one "
                "step; give the bucket's URL in place of the folder (gs://..., s3://...)"
            )

    def has(self, inner: str) -> bool:
        """Returns whether there is such a folder in it."""
        return (self.path / inner).is_dir()

    def names(self, inner: str = "") -> set[str]:
        """Returns what is in the folder, or in one in it, but for files being written.

        Raises:
          FileNotFoundError: there is no such folder.
        """
        return {name for name in os.listdir(self.path / inner) if not name.startswith(".")}

    def read(self, name: str) -> bytes:
        """Returns the content of a file.

        Raises:
          OSError: it cannot be read.
        """
        return (self.path / name).read_bytes()

    def put(self, name: str, content: bytes) -> None:
        """Writes a file whole, or not at all.

        Raises:
          OSError: the disk is full, or the file cannot be written.
        """
        try:
            with replacing(self.path / name) as temporary:
                temporary.write_bytes(content)
        except OSError as error:
            if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
                raise
            raise OSError(
                error.errno,
                "no space left; what is stored stays, and the same command goes on from there "
                "once there is space",
                str(self.path),
            ) from None

    def clean(self, inner: str) -> None:
        """Removes what processes that are gone left half written."""
        remove_orphans(self.path)
        remove_orphans(self.path / inner)


def _mounted_bucket(path: Path, mounts: str = "/proc/mounts") -> str:
    """Returns by what a bucket is mounted where a folder lies; "" where it is none."""
    try:
        lines = Path(mounts).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # not Linux
        return ""
    real = f"{os.path.realpath(path)}/"
    longest = found = ""
    for line in lines:
        source, point, kind, *_ = line.split(" ")
        point = point.replace("\\040", " ").rstrip("/") + "/"
        if real.startswith(point) and len(point) >= len(longest):
            longest, found = point, f"{kind.removeprefix('fuse.')} {source}"
    return next((word for word in found.split(" ") if word in _BUCKETS), "")
