"""Every choice that the device decides, in one place: what runs where, and what suits caches.

A device is chosen when a program is lowered, not when it is traced: the arrays of a CPU get a CPU's
program on a host with a GPU, too, and one trace serves every platform.
"""

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from jax import lax

__all__ = ["ROWS_ELSEWHERE", "Device", "choose", "lanes_at_once", "outgrows_cache"]

T = TypeVar("T")


class Device(Protocol):
    """What is asked of a device of JAX."""

    def memory_stats(self) -> dict[str, int] | None:
        """Returns what is known of its memory."""
        ...


ROWS_ELSEWHERE = 1 << 17  # in a block that is read once, where there is no cache to keep it in
_CACHED = 1 << 22  # bytes of rows that stay in a CPU's last-level cache, twice
_CHUNK = 3 << 20  # bytes of a chunk's rows of one part: more leaves the last-level cache


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


def outgrows_cache(size: int) -> bool:
    """Returns whether a CPU should read rows of `size` bytes in blocks, while they are in cache."""
    return size > _CACHED


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
