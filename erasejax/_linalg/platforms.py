"""Every choice that the device decides, in one place: how long blocks are, and what suits caches.

On a CPU a factorisation of middle size is blocked by hand, so that all but its diagonal blocks are
products. LAPACK itself is no slower, but the threads that its BLAS starts go on spinning for some
30 ms after each call, on the cores that the next program wants.
"""

from typing import Protocol

import jax

__all__ = [
    "BLOCK",
    "Device",
    "columns_at_once",
    "is_blocked",
    "lanes_at_once",
    "on_cpu",
    "outgrows_cache",
    "rows_at_once",
    "take_turns",
]


class Device(Protocol):
    """What is asked of a device of JAX."""

    platform: str

    def memory_stats(self) -> dict[str, int] | None:
        """Returns what is known of its memory."""
        ...


BLOCK = 192  # columns that LAPACK factorises in one thread
_LARGE = 1024  # beyond it the work outlasts the spinning, and many blocks are slow to compile
_COLUMNS = 4  # right-hand sides of a block that the BLAS solves for in one thread
_CACHED = 1 << 22  # bytes of rows that stay in the last-level cache, twice
_CHUNK = 3 << 20  # bytes of a chunk's rows of one part: more leaves the last-level cache
_LANE = 1 << 14  # bytes of a lane's rows: more are as fast one lane after another
_ELSEWHERE = 1 << 17  # rows in a block where there is no such cache


def on_cpu() -> bool:
    """Returns whether programs run on a CPU unless they say otherwise."""
    return jax.default_backend() == "cpu"


def rows_at_once(limit: int) -> int:
    """Returns the most rows in a block that is read once: `limit` on a CPU, elsewhere many more."""
    return limit if on_cpu() else _ELSEWHERE


def outgrows_cache(size: int) -> bool:
    """Returns whether rows of `size` bytes should be read in blocks, while they are in cache."""
    return on_cpu() and size > _CACHED


def is_blocked(columns: int) -> bool:
    """Returns whether a Cholesky factorisation of so many columns is cut into blocks of `BLOCK`."""
    return on_cpu() and BLOCK < columns <= _LARGE


def columns_at_once(d: int, m: int) -> int:
    """Returns how many of m right-hand sides one triangular solve with d columns takes."""
    if not on_cpu():
        return m
    return _COLUMNS if d <= BLOCK else 1


def take_turns(size: int) -> bool:
    """Returns whether lanes with `size` bytes of rows run one after another on a CPU.

    Side by side they save the start of each kernel, which counts where kernels are short. Larger
    ones leave the cache, and products of many at once take longer than one after another.
    """
    return size > _LANE


def lanes_at_once(device: Device, size: int, copies: int, memory: int | None) -> int:
    """Returns about how many datasets suit a device or a budget.

    Args:
      device: where they are drawn, erased and probed.
      size: bytes of the rows of one part of one dataset.
      copies: how many times such rows are held at once.
      memory: bytes for all of them; None for what suits the device.
    """
    limit = (device.memory_stats() or {}).get("bytes_limit", 0)
    if memory is not None:
        return memory // (size * copies)
    if limit:  # an accelerator: what the fits make of the rows needs room, too
        return limit // 4 // (size * copies)
    return _CHUNK // size
