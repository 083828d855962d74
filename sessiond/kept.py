# SPDX-License-Identifier: MIT
"""Buffers of processes that ended, kept for the snapshots to come: the newest, up to a limit."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator

from sessiond.traces import Trace

__all__ = ["AllKept", "KeptTraces"]

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
    all_kept : AllKept, optional
        Where those of other sessions are, until `close`.

    Attributes
    ----------
    dropped : int
        Traces that had to go.
    """

    def __init__(
        self, limit: int, drop: Callable[[Trace], None], all_kept: AllKept | None = None
    ) -> None:
        self.dropped = 0
        self._limit = limit
        self._drop = drop
        self._traces: deque[Trace] = deque()
        self._all = all_kept or AllKept()
        self._all.join(self)

    def __iter__(self) -> Iterator[Trace]:
        """Iterate over the traces, the oldest first."""
        return iter(self._traces)

    def add(self, trace: Trace) -> None:
        """Keep a trace; older ones go if that is too much."""
        self._traces.append(trace)
        self._all.number(trace)
        while len(self._traces) > 1 and (
            len(self._traces) > _MAX_TRACES or self.size > self._limit
        ):
            self.forget(self._traces[0])

    def forget(self, trace: Trace) -> None:
        """Let go of a trace, for others."""
        self.dropped += 1
        self._traces.remove(trace)
        self._all.forget(trace)
        self._drop(trace)

    def clear(self) -> None:
        """Let go of all of them: nobody wants them any more."""
        for trace in tuple(self._traces):
            self._traces.remove(trace)
            self._all.forget(trace)
            self._drop(trace)

    def close(self) -> None:
        """Let go of nothing, and give no more room to other sessions."""
        self._all.leave(self)

    @property
    def size(self) -> int:
        """Bytes of the buffers that are kept."""
        return sum(trace.size for trace in self._traces)


class AllKept:
    """Ended traces of all sessions: who runs comes before who has ended."""

    def __init__(self) -> None:
        self._sessions: list[KeptTraces] = []
        self._count = itertools.count()
        #: by `id` of the trace: in which order they ended
        self._numbers: dict[int, int] = {}

    def join(self, session: KeptTraces) -> None:
        """Take in a session."""
        self._sessions.append(session)

    def leave(self, session: KeptTraces) -> None:
        """Forget a session and its traces; no matter if it has left."""
        if session not in self._sessions:
            return
        for trace in session:
            self.forget(trace)
        self._sessions.remove(session)

    def number(self, trace: Trace) -> None:
        """Take in a trace: the newest."""
        self._numbers[id(trace)] = next(self._count)

    def forget(self, trace: Trace) -> None:
        """Forget a trace."""
        del self._numbers[id(trace)]

    def free_memory(self, uid: int, size: int) -> bool:
        """Let go of the oldest traces of a uid until so many bytes are free.

        Returns
        -------
        bool
            False: all of them would not be enough, and none had to go.
        """
        mine = [(trace, kept) for trace, kept in self._oldest_first() if trace.uid == uid]
        if sum(trace.size for trace, _ in mine) < size:
            return False
        for trace, kept in mine:
            if size <= 0:
                break
            size -= trace.size
            kept.forget(trace)
        return True

    def free_descriptors(self, uid: int, count: int) -> bool:
        """Let go of the oldest traces until so many descriptors are free, a uid's own first.

        Returns
        -------
        bool
            False: there was none.
        """
        ordered = sorted(self._oldest_first(), key=lambda each: each[0].uid != uid)
        for trace, kept in ordered:
            if count <= 0:
                break
            count -= sum(1 for _ in trace.streams)
            kept.forget(trace)
        return bool(ordered)

    def _oldest_first(self) -> list[tuple[Trace, KeptTraces]]:
        every = [(trace, kept) for kept in self._sessions for trace in kept]
        return sorted(every, key=lambda each: self._numbers[id(each[0])])
