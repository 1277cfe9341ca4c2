"""Every choice that the device decides, in one place: what runs where, and what suits caches.

A device is chosen when a program is lowered, not when it is traced: the arrays of a CPU get a CPU's
program on a host with a GPU, too, and one trace serves every platform.
"""

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import jax
from jax import lax

__all__ = [
    "ROWS_ELSEWHERE",
    "Device",
    "choose",
    "has_room",
    "is_cpu",
    "lanes_at_once",
    "outgrows_cache",
    "pieces",
    "rows_in_block",
    "rows_of_room",
    "take_turns",
]

T = TypeVar("T")


class Device(Protocol):
    """What is asked of a device of JAX."""

    platform: str

    def memory_stats(self) -> dict[str, int] | None:
        """Returns what is known of its memory."""
        ...


ROWS_ELSEWHERE = 1 << 17  # in a block that is read once, where there is no cache to keep it in
_CACHED = 1 << 22  # bytes of rows that stay in a CPU's last-level cache, twice
_CHUNK = 3 << 20  # bytes of a chunk's rows of one part: more leaves the last-level cache
_LANE = 1 << 14  # bytes of a lane's rows: more are as fast one lane after another
_SMALL = 1 << 21  # numbers that take no time: up to as many, sizes double
_MIDDLE = 1 << 23  # a program takes as long to compile as a hundred passes over so many
_LARGE = 1 << 25  # numbers that take as long to compute with as a program to compile
_PIECE = 1 << 20  # numbers in a piece of rows that are read one by one


def choose(
    *operands: Any, cpu: Callable[..., T], gpu: Callable[..., T], tpu: Callable[..., T]
) -> T:
    """Returns what the function for the platform makes of the operands.

    All are traced and one is lowered, under `vmap` and in loops, too; all of them only where a
    program is exported for several platforms.

    Args:
      operands: pytrees of arrays.
      cpu: on a CPU.
      gpu: on a GPU of any make.
      tpu: on a TPU and on what else there may be.
    """
    return lax.platform_dependent(*operands, cpu=cpu, cuda=gpu, rocm=gpu, default=tpu)


def is_cpu() -> bool:
    """Returns whether what is called outside any program runs on a CPU."""
    return jax.default_backend() == "cpu"


def rows_of_room(n: int, d: int) -> int:
    """Returns for how many rows to compile where there are n of d features: one of few sizes.

    Coarse where computing takes no time; of some rows at most half as many again, and of many an
    eighth.
    """
    size = min(max(1 << max(_SMALL // d, 1).bit_length() - 1, 64), 1 << 12)
    while size < n:
        size *= 2
    if n * d <= _SMALL:
        return size
    step = size // (4 if n * d <= _MIDDLE else 16)
    return -(-n // step) * step


def has_room(size: int) -> bool:
    """Returns whether rows of so many numbers are copied to have room for more."""
    return size <= _LARGE


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


def rows_in_block(size: int) -> int:
    """Returns how many rows of such a buffer are read at a time.

    Few, since on average half a block is read that no rows fill; but the sums of each block cost a
    pass over all sums.
    """
    block = 1 << (max(size // 8, 1) - 1).bit_length()
    return min(block, 1 << 9) if size < 1 << 15 else 1 << 11


def outgrows_cache(size: int) -> bool:
    """Returns whether a CPU should read rows of `size` bytes in blocks, while they are in cache."""
    return size > _CACHED


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
