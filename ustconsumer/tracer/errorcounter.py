# SPDX-License-Identifier: MIT
"""Counters in memory of the registry: notifications that it did not get."""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Callable
from typing import Any

from ustconsumer._native import atomics, emit
from ustconsumer.tracer.objects import MisuseError, Node

__all__ = ["ErrorCounter"]

_MAX_CPUS = 1 << 14
_MAX_COUNTERS = 1 << 24


class ErrorCounter(Node):
    """Counts, per notifier, what did not fit into the pipe; one memory per CPU.

    Parameters
    ----------
    gone : callable
        Called when the counter is destroyed.
    values : dict
        Configuration of a counter, as in its row.
    """

    def __init__(self, gone: Callable[[], None], values: dict[str, Any]):
        if (
            values["arithmetic"] != 0
            or values["dimensions"] != 1
            or values["bitness"] not in (0, 1)
        ):
            raise MisuseError(errno.EINVAL)
        if not 1 <= values["size"] <= _MAX_COUNTERS:
            raise MisuseError(errno.EINVAL)
        self._gone = gone
        self._size: int = values["size"]
        self._width = 8 if values["bitness"] else 4
        self._memories: dict[int, mmap.mmap] = {}

    @property
    def length(self) -> int:
        """Bytes of one CPU's memory: the counters, then two bits for each."""
        return self._size * self._width + 2 * (self._size // 8)

    def add_cpu(self, cpu: int, length: int, fds: list[int]) -> None:
        """Map the memory of one CPU; the descriptor stays the caller's."""
        if cpu >= _MAX_CPUS or length != self.length or os.fstat(fds[0]).st_size < length:
            raise MisuseError(errno.EINVAL)
        if cpu in self._memories:
            raise MisuseError(errno.EBUSY)
        self._memories[cpu] = mmap.mmap(fds[0], length)

    def count(self, index: int) -> None:
        """Count one loss of a notifier; an index that is none is not counted."""
        memory = self._memories.get(emit.current_cpu())
        if memory is None or not 0 <= index < self._size:
            return
        if self._width == 8:
            atomics.fetch_add_u64(memory, index * 8, 1)
            return
        # Two of 32 bits share the word that can be added to. Others write here too.
        at, shift = index * 4 & -8, 32 * (index & 1)
        while True:
            old = atomics.load_u64(memory, at)
            low = old >> shift & 0xFFFFFFFF
            new = old & ~(0xFFFFFFFF << shift) | (low + 1 & 0xFFFFFFFF) << shift
            if atomics.cas_u64(memory, at, old, new) == old:
                return

    def destroy(self) -> None:
        """Unmap."""
        self._gone()
        for memory in self._memories.values():
            memory.close()
        self._memories = {}
