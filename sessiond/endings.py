# SPDX-License-Identifier: MIT
"""When the trace of a process ends: it is gone, and so is everybody who writes its buffers."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Collection, Iterable

from sessiond.traces import Trace
from ustconsumer.mappers import writers_of

__all__ = ["Endings"]

#: Between two looks at who writes the buffers of processes that are gone.
_LOOK_SECONDS = 1.0


class Endings:
    """Waits for the end of the traces of processes that are gone.

    A forked child that did not register goes on in its parent's buffers. The kernel tells
    who has them mapped, but not when that changes: so we look, for all of them at a time.

    Parameters
    ----------
    readers : callable
        Returns the processes that map buffers to read them.
    ended : callable
        Told of each trace that nobody writes any more.
    """

    def __init__(
        self, readers: Callable[[], Iterable[int]], ended: Callable[[Trace], None]
    ) -> None:
        self._readers = readers
        self._ended = ended
        self._waiting: list[Trace] = []
        self._new = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    def add(self, trace: Trace) -> None:
        """Wait for the end of a trace, whose process is gone."""
        if self._closed:
            return
        self._waiting.append(trace)
        self._new.set()
        if self._task is None:
            self._task = asyncio.ensure_future(self._watch())

    def close(self) -> None:
        """Wait for nothing any more."""
        self._closed = True
        # Not cancelled: a thread may be looking at descriptors that it must keep until then.
        self._new.set()

    async def _watch(self) -> None:
        try:
            while self._waiting and not self._closed:
                self._new.clear()
                await self._look()
                if self._waiting:
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._new.wait(), _LOOK_SECONDS)
        finally:
            self._task = None

    async def _look(self) -> None:
        traces = [trace for trace in self._waiting if not trace.closed]
        readers = {os.getpid(), *self._readers()}
        with contextlib.ExitStack() as stack:
            for trace in traces:
                stack.enter_context(trace.kept())
            written = await asyncio.to_thread(_written, traces, readers)
        for trace in traces:
            if self._closed or trace.closed:
                continue
            if trace not in written:
                self._waiting.remove(trace)
                self._ended(trace)
        self._waiting = [trace for trace in self._waiting if not trace.closed]


def _written(traces: Collection[Trace], readers: Collection[int]) -> set[Trace]:
    """Return the traces that a process other than the readers may write; slow, for a thread."""
    files = {}
    for trace in traces:
        for stream in trace.streams:
            status = os.fstat(stream.fd)
            files[status.st_dev, status.st_ino] = trace
    found = writers_of(stream.fd for trace in traces for stream in trace.streams)
    return {files[file] for file, pids in found.items() if pids - set(readers)}
