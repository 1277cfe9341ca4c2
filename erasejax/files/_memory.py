"""What must be held whole is refused before it is read, where this machine cannot hold it.

A few kilobytes of a table or an archive may stand for more numbers than any machine has memory. A
file of that kind may be right, so no bound is set but the memory itself: that of the machine, or
what is left of a limit on the process. Features are read in blocks, and need no such check.
"""

import os

try:
    import resource
except ImportError:  # not on Windows
    resource = None

__all__ = ["check_memory"]


def check_memory(what: str, size: int) -> None:
    """Checks that so many bytes can be held.

    Args:
      what: that needs them, for the message.
      size: bytes, at the least.

    Raises:
      MemoryError: they cannot.
    """
    limit = _limit()
    if limit is not None and size > limit:
        raise MemoryError(f"{what} takes at least {size >> 20:,} MB, there are {limit >> 20:,}")


def _limit() -> int | None:
    """Returns how many bytes this process may hold, or None where that cannot be told."""
    try:
        page = os.sysconf("SC_PAGE_SIZE")
        limit = page * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None
    if resource is not None:
        soft, _ = resource.getrlimit(resource.RLIMIT_AS)
        if soft != resource.RLIM_INFINITY:
            try:
                with open("/proc/self/statm") as file:
                    used = page * int(file.read().split()[0])
            except OSError:
                used = 0
            limit = min(limit, max(soft - used, 0))
    return limit
