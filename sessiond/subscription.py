# SPDX-License-Identifier: MIT
"""One attached consumer or observer, as the registry sees it."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
from collections.abc import Callable, Sequence

from sessiond.registry import Channel
from sessiond.sockets import Peer
from sessiond.traces import Stream, Trace
from ustconsumer.protocol.control import (
    ConsumerStats,
    Drain,
    Drained,
    HoleVerdict,
    Message,
    SessionEnded,
    StreamReady,
    TimersChanged,
    TraceAdded,
    TraceEnded,
)

__all__ = ["Subscription"]

_log = logging.getLogger("sessiond")

#: A consumer maps a stream in microseconds, unless its disk is slow to make the files. The
#: program's ``main`` waits meanwhile, but not for ever: see ``reconcile``.
_READY_SECONDS = 1.0


class Subscription:
    """One attached consumer or observer.

    Parameters
    ----------
    push : callable
        Sends a message with descriptors, which stay the caller's.
    consume : bool
        It holds the lease and gets writable memory; otherwise memory is read-only.
    may_map : callable
        Whether it may have the memory of a trace, by the trace's uid.
    """

    def __init__(
        self,
        peer: Peer,
        kind: str,
        consume: bool,
        push: Callable[[Message, Sequence[int]], None],
        may_map: Callable[[int], bool],
    ) -> None:
        self.peer = peer
        self.kind = kind
        self.consume = consume
        self.stats = ConsumerStats()
        #: where a relay has the chunk that the last rotation ended
        self.place = ""
        #: Streams it could not take, one line each.
        self._refusals: list[str] = []
        self._push = push
        self._may_map = may_map
        self._tokens = itertools.count(1)
        self._unready: set[int] = set()
        self._late = False
        self._waits: dict[asyncio.Future[None], set[int]] = {}
        self._drains: dict[int, asyncio.Future[str | None]] = {}
        self._ended = False

    @property
    def problems(self) -> list[str]:
        """What it had to give up or to wait for, one line each."""
        return [*self._refusals, *self.stats.problems]

    def push_trace(self, trace: Trace) -> None:
        """Announce a trace and all its streams."""
        if self.consume and not self._may_map(trace.uid):
            _log.warning(
                "consumer of pid %d may not read buffers of uid %d", self.peer.pid, trace.uid
            )
            return
        metadata = trace.metadata.reopen_read_only()
        try:
            process = trace.owner.process
            added = TraceAdded(
                trace=trace.id,
                path=trace.path,
                uuid=str(trace.uuid),
                uid=trace.uid,
                pid=process.pid if process else 0,
            )
            self._push(added, (metadata,))
        finally:
            os.close(metadata)
        for stream in trace.streams:
            self._push_stream(stream, trace.id)
        if trace.ended:
            self.push_trace_ended(trace)

    def _push_stream(self, stream: Stream, trace: str) -> None:
        if self.consume:
            self._unready.add(stream.id)
            self._push(stream.added(trace), (stream.fd,))
            return
        fd = os.open(f"/proc/self/fd/{stream.fd}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._push(stream.added(trace), (fd,))
        finally:
            os.close(fd)

    def ready(self, message: StreamReady) -> None:
        """Note that a stream is mapped, or cannot be."""
        if message.problem:
            _log.warning(
                "consumer of pid %d cannot read stream %d: %s",
                self.peer.pid,
                message.stream,
                message.problem,
            )
            if message.problem not in self._refusals:
                self._refusals.append(message.problem)
        self._unready.discard(message.stream)
        for waiting, streams in self._waits.items():
            streams.discard(message.stream)
            if not streams and not waiting.done():
                waiting.set_result(None)

    async def wait_ready(self, trace: Trace) -> None:
        """Wait until every stream of an announced trace is mapped; not for ever."""
        streams = self._unready.intersection(stream.id for stream in trace.streams)
        if not streams or self._ended:
            return
        waiting = asyncio.get_running_loop().create_future()
        self._waits[waiting] = streams
        try:
            await asyncio.wait([waiting], timeout=_READY_SECONDS)
        finally:
            del self._waits[waiting]
        if streams and not self._ended:
            self._unready -= streams
            if not self._late:
                self._late = True
                _log.warning(
                    "consumer of pid %d did not map %d streams in %.0f s: going on; more of "
                    "this is not shown",
                    self.peer.pid,
                    len(streams),
                    _READY_SECONDS,
                )

    async def drain(self, final: bool, seconds: float) -> bool:
        """Have everything recorded so far written; return whether it was, in time."""
        return await self.ask(lambda token: Drain(token=token, final=final), seconds) is not None

    async def ask(self, push: Callable[[int], Message], seconds: float) -> str | None:
        """Have the consumer do something; return what was wrong, None if there is no answer.

        Parameters
        ----------
        push : callable
            Returns the message with the token that its `Drained` repeats.
        """
        if self._ended:
            return None
        token = next(self._tokens)
        answered = self._drains[token] = asyncio.get_running_loop().create_future()
        self._push(push(token), ())
        await asyncio.wait([answered], timeout=seconds)
        del self._drains[token]
        return answered.result() if answered.done() else None

    def drained(self, message: Drained) -> None:
        """Take the answer to `Drain` and its like."""
        self.stats = message.stats
        self.place = message.place
        answered = self._drains.get(message.token)
        if answered is not None and not answered.done():
            answered.set_result(message.problem)

    def push_trace_ended(self, trace: Trace) -> None:
        """Say that nobody writes a trace any more."""
        if not self._ended and (not self.consume or self._may_map(trace.uid)):
            self._push(TraceEnded(trace=trace.id), ())

    def push_verdict(self, verdict: HoleVerdict) -> None:
        """Say whether a hole may be repaired."""
        if not self._ended:
            self._push(verdict, ())

    def push_timers(self, channel: Channel) -> None:
        """Say that a channel has other timers."""
        options = channel.options
        timers = TimersChanged(
            channel_id=channel.id,
            switch_timer_us=options.switch_timer_us,
            read_timer_us=options.read_timer_us,
        )
        if not self._ended:
            self._push(timers, ())

    def push_end(self) -> None:
        """Say that the session is gone."""
        self._push(SessionEnded(), ())

    def end(self) -> None:
        """Note that it is gone; nobody waits for it any more."""
        self._ended = True
        for waiting in self._waits:
            if not waiting.done():
                waiting.set_result(None)
        for answered in self._drains.values():
            if not answered.done():
                answered.set_result(None)
