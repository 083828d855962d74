# SPDX-License-Identifier: MIT
"""The live side of a session: its buffers, its wake-up pipe, and who reads it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Iterator

from sessiond.registry import Session
from sessiond.subscription import Subscription
from sessiond.traces import Trace, WakePipe
from ustconsumer.protocol.control import ConsumerInfo, SessionInfo, TraceClosed

__all__ = ["Recording"]

_log = logging.getLogger("sessiond")


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
        #: Of consumers that are gone.
        self._past_problems: list[str] = []

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
            self._past_problems += subscription.problems
            self.lease = None
            self._lease_taken.clear()
            self._lease_free.set()
        elif subscription in self._observers:
            self._observers.remove(subscription)

    def trace_closed(self, subscription: Subscription, message: TraceClosed) -> None:
        """Note that a consumer has finished a trace that nobody writes any more."""
        subscription.stats = message.stats

    def problems(self) -> list[str]:
        """Return what kept packets from their consumers, one line each."""
        now = [] if self.lease is None else self.lease.problems
        return list(dict.fromkeys([*self._past_problems, *now]))

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
            problems=self.problems(),
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
