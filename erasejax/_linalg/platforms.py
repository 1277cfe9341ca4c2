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
    "is_coarse",
    "lanes_at_once",
    "on_cpu",
    "outgrows_cache",
    "pieces",
    "rows_at_once",
    "rows_in_block",
    "rows_of_room",
]


class Device(Protocol):
    """What is asked of a device of JAX."""

    def memory_stats(self) -> dict[str, int] | None:
        """Returns what is known of its memory."""
        ...


BLOCK = 192  # columns that LAPACK factorises in one thread
_LARGE = 1024  # beyond it the work outlasts the spinning, and many blocks are slow to compile
_COLUMNS = 4  # right-hand sides of a block that the BLAS solves for in one thread
_CACHED = 1 << 22  # bytes of rows that stay in the last-level cache, twice
_CHUNK = 3 << 20  # bytes of a chunk's rows of one part: more leaves the last-level cache
_SMALL = 1 << 21  # numbers that take no time: rows up to as many share one program
_MIDDLE = 1 << 23  # numbers up to which sizes double; beyond, an eighth at a time
_PIECE = 1 << 20  # numbers in a piece of rows that are read one by one
_ELSEWHERE = 1 << 17  # rows in a block where there is no such cache


def on_cpu() -> bool:
    """Returns whether programs run on a CPU unless they say otherwise."""
    return jax.default_backend() == "cpu"


def rows_at_once(limit: int) -> int:
    """Returns the most rows in a block that is read once: `limit` on a CPU, elsewhere many more."""
    return limit if on_cpu() else _ELSEWHERE


def rows_of_room(n: int, d: int) -> int:
    """Returns for how many rows to compile where there are n of d features: one of few sizes.

    Coarse where computing takes no time, and at most an eighth more than there are where it does.
    """
    size = min(max(1 << (_SMALL // d).bit_length() - 1, 64), 1 << 12)
    while size < n:
        size *= 2
    if n * d <= _MIDDLE:
        return size
    step = size // 16
    return -(-n // step) * step


def pieces(n: int, d: int) -> list[tuple[int, int]]:
    """Returns (start, size) of pieces that cover n rows of d numbers: large ones, and small ones.

    Large ones stay in the cache; small ones cost little where most of the last is no row.
    """
    large = 1 << (max(_PIECE // d, 64).bit_length() - 1)
    small, found, start = large // 16, [], 0
    while start < n:
        size = large if n - start > large - small else small
        found.append((start, size))
        start += size
    return found


def is_coarse(size: int) -> bool:
    """Returns whether a buffer of so many numbers may have room for as many rows as there are."""
    return size <= _MIDDLE


def rows_in_block(size: int) -> int:
    """Returns how many rows of such a buffer are read at a time.

    Few, since on average half a block is read that no rows fill; but the sums of each block cost a
    pass over all sums.
    """
    block = 1 << (max(size // 8, 1) - 1).bit_length()
    return min(block, 1 << 9) if size < 1 << 15 else 1 << 11


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
