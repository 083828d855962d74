# SPDX-License-Identifier: MIT
"""Buffers of processes that ended, kept for the snapshots to come: the newest, up to a limit."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from sessiond.traces import Trace

__all__ = ["KeptTraces"]

#: Each has descriptors: one for a stream, one for its metadata.
_MAX_TRACES = 256


class KeptTraces:
    """Ended traces of a session in snapshot mode; the oldest go first.

    Parameters
    ----------
    limit : int
        Bytes of buffers. The newest trace is kept, however large it is.
    drop : callable
        Lets go of a trace.

    Attributes
    ----------
    dropped : int
        Traces that had to go.
    """

    def __init__(self, limit: int, drop: Callable[[Trace], None]) -> None:
        self.dropped = 0
        self._limit = limit
        self._drop = drop
        self._traces: deque[Trace] = deque()

    def add(self, trace: Trace) -> None:
        """Keep a trace; older ones go if that is too much."""
        self._traces.append(trace)
        while len(self._traces) > 1 and (
            len(self._traces) > _MAX_TRACES or self.size > self._limit
        ):
            self.make_room()

    def make_room(self) -> bool:
        """Let go of the oldest trace; return whether there was one."""
        if not self._traces:
            return False
        self.dropped += 1
        self._drop(self._traces.popleft())
        return True

    @property
    def size(self) -> int:
        """Bytes of the buffers that are kept."""
        return sum(trace.size for trace in self._traces)
