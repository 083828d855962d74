# SPDX-License-Identifier: MIT
"""The live side of a session: its buffers, its wake-up pipe, and who reads it."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence

from sessiond.registry import Session
from sessiond.sockets import Peer
from sessiond.traces import Stream, Trace, WakePipe
from ustconsumer.protocol.control import (
    ConsumerInfo,
    ConsumerStats,
    Drain,
    Drained,
    Message,
    SessionEnded,
    SessionInfo,
    StreamReady,
    TraceAdded,
)

__all__ = ["Recording", "Subscription"]

_log = logging.getLogger("sessiond")

#: A consumer that maps a stream takes microseconds; the application waits meanwhile.
_READY_SECONDS = 2.0


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
        self._push = push
        self._may_map = may_map
        self._tokens = itertools.count(1)
        self._unready: set[int] = set()
        self._drains: dict[int, asyncio.Future[None]] = {}
        self._ready: asyncio.Future[None] | None = None
        self._ended = False

    def push_trace(self, trace: Trace) -> None:
        """Announce a trace and all its streams."""
        if self.consume and not self._may_map(trace.uid):
            _log.warning(
                "consumer of pid %d may not read buffers of uid %d", self.peer.pid, trace.uid
            )
            return
        metadata = trace.metadata.reopen_read_only()
        try:
            added = TraceAdded(trace=trace.id, path=trace.path, uuid=str(trace.uuid), uid=trace.uid)
            self._push(added, (metadata,))
        finally:
            os.close(metadata)
        for stream in trace.streams:
            self._push_stream(stream, trace.id)

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
        self._unready.discard(message.stream)
        if not self._unready and self._ready is not None and not self._ready.done():
            self._ready.set_result(None)

    async def wait_ready(self) -> None:
        """Wait until every announced stream is mapped; not for ever."""
        if self._unready and not self._ended:
            if self._ready is None or self._ready.done():
                self._ready = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._ready], timeout=_READY_SECONDS)
            if self._unready and not self._ended:
                _log.warning(
                    "consumer of pid %d did not map %d streams in %.0f s: going on",
                    self.peer.pid,
                    len(self._unready),
                    _READY_SECONDS,
                )
                self._unready.clear()

    async def drain(self, final: bool, seconds: float) -> bool:
        """Have everything recorded so far written; return whether it was, in time."""
        if self._ended:
            return False
        token = next(self._tokens)
        drained = self._drains[token] = asyncio.get_running_loop().create_future()
        self._push(Drain(token=token, final=final), ())
        await asyncio.wait([drained], timeout=seconds)
        del self._drains[token]
        return drained.done() and not self._ended

    def drained(self, message: Drained) -> None:
        """Take the answer to `Drain`."""
        self.stats = message.stats
        drained = self._drains.get(message.token)
        if drained is not None and not drained.done():
            drained.set_result(None)

    def push_end(self) -> None:
        """Say that the session is gone."""
        self._push(SessionEnded(), ())

    def end(self) -> None:
        """Note that it is gone; nobody waits for it any more."""
        self._ended = True
        for waiting in (self._ready, *self._drains.values()):
            if waiting is not None and not waiting.done():
                waiting.set_result(None)


class Recording:
    """What a session needs beyond its description, as long as it exists.

    Attributes
    ----------
    lease : Subscription or None
        The one consumer; by message or by death its end is the end of the lease.
    lock : asyncio.Lock
        Held by a verb that changes the session.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.pipe = WakePipe()
        self.lock = asyncio.Lock()
        self.lease: Subscription | None = None
        self.traces: dict[int, Trace] = {}
        self._observers: list[Subscription] = []
        self._making: dict[int, asyncio.Task[Trace]] = {}
        self._next_stream = 0
        self._lease_taken = asyncio.Event()
        self._lease_free = asyncio.Event()
        self._lease_free.set()
        self._closed = False

    @property
    def subscriptions(self) -> Iterator[Subscription]:
        if self.lease is not None:
            yield self.lease
        yield from tuple(self._observers)

    async def trace_for(self, uid: int, layout: str, tracer: str) -> Trace:
        """Return the trace of a uid, made and known to the consumer.

        Raises
        ------
        RingBufferError
            There is not enough memory.
        """
        made = self.traces.get(uid)
        if made is not None:
            return made
        making = self._making.get(uid)
        if making is None:
            making = asyncio.ensure_future(self._make(uid, layout, tracer))
            self._making[uid] = making
            making.add_done_callback(lambda done: self._made(uid, done))
        # Shielded: one application that goes away must not take the others' buffers along.
        return await asyncio.shield(making)

    def _made(self, uid: int, done: asyncio.Task[Trace]) -> None:
        self._making.pop(uid, None)
        # Looked at here as well: those who waited for it may be gone.
        if not done.cancelled() and done.exception() is not None:
            _log.error("session %s: no buffers: %s", self.session.name, done.exception())

    async def _make(self, uid: int, layout: str, tracer: str) -> Trace:
        trace = Trace(self.session, uid, layout, self._next_stream, tracer)
        self._next_stream += len(self.session.channels) * trace.cpus
        try:
            await asyncio.to_thread(trace.allocate)
        except BaseException:
            trace.close()
            raise
        if self._closed:
            trace.close()
            return trace
        self.traces[uid] = trace
        for subscription in self.subscriptions:
            subscription.push_trace(trace)
        if self.lease is not None:
            await self.lease.wait_ready()
        return trace

    def attach(self, subscription: Subscription) -> None:
        """Take a subscription in and tell it what there is."""
        if subscription.consume:
            assert self.lease is None
            self.lease = subscription
            self._lease_taken.set()
            self._lease_free.clear()
        else:
            self._observers.append(subscription)
        for trace in self.traces.values():
            subscription.push_trace(trace)

    def detach(self, subscription: Subscription) -> None:
        """Let a subscription go: released, hung up, or dead."""
        subscription.end()
        if self.lease is subscription:
            self.lease = None
            self._lease_taken.clear()
            self._lease_free.set()
        elif subscription in self._observers:
            self._observers.remove(subscription)

    async def wait_lease(self) -> None:
        """Wait until a consumer holds the lease."""
        await self._lease_taken.wait()

    async def wait_released(self) -> None:
        """Wait until no consumer holds the lease."""
        await self._lease_free.wait()

    def stream_count(self) -> int:
        return sum(1 for trace in self.traces.values() for _ in trace.streams)

    def info(self, slow: Iterable[str]) -> SessionInfo:
        session = self.session
        consumer = None
        if self.lease is not None:
            consumer = ConsumerInfo(
                pid=self.lease.peer.pid, kind=self.lease.kind, stats=self.lease.stats
            )
        return SessionInfo(
            name=session.name,
            id=session.id,
            uid=session.uid,
            gid=session.gid,
            state=session.state,
            output=session.output,
            created=session.created.isoformat(),
            channels=[channel.info() for channel in session.channels],
            streams=[
                stream.info(trace.id) for trace in self.traces.values() for stream in trace.streams
            ],
            consumer=consumer,
            processes=list(session.processes),
            slow=list(slow),
        )

    def close(self) -> None:
        """Say goodbye to the readers and let go of the memory."""
        self._closed = True
        for trace in self.traces.values():
            trace.metadata.complete(trace.channels)
        for subscription in self.subscriptions:
            subscription.push_end()
        for trace in self.traces.values():
            trace.close()
        self.pipe.close()
