# SPDX-License-Identifier: MIT
"""The consumer's view of a session: traces, streams, wake-ups, the registry's pushes."""

from __future__ import annotations

import contextlib
import math
import os
import select
import time
from collections.abc import Callable, Iterable, Iterator

from ustconsumer._native.ring import Ring
from ustconsumer.client.connection import Connection
from ustconsumer.consumer.mapping import MappedStream, map_stream
from ustconsumer.consumer.outage import PASSING
from ustconsumer.consumer.packet import Trace
from ustconsumer.consumer.pool import Pool
from ustconsumer.consumer.spare import Spare
from ustconsumer.ctf.metalog import MetadataLogReader
from ustconsumer.errors import (
    BrokenResourceError,
    CommandError,
    LayoutError,
    RemoteProtocolError,
    UstConsumerError,
)
from ustconsumer.protocol.control import (
    Attach,
    Attached,
    Clear,
    ConsumerStats,
    Describe,
    Description,
    Drain,
    Drained,
    HoleFound,
    HoleVerdict,
    Message,
    Release,
    Rotate,
    SessionEnded,
    StreamAdded,
    StreamReady,
    TimersChanged,
    TraceAdded,
    TraceClosed,
    TraceDescription,
    TraceEnded,
)

__all__ = ["Subscription"]

_PIPE_CHUNK = 1 << 16
#: Seconds between two attempts to map a stream.
_RETRY = 0.2
#: The registry is busy stopping the session when it is asked.
_DESCRIBE_SECONDS = 5.0


class Subscription:
    """An attached session.

    Parameters
    ----------
    connection : Connection
        Owned from now on.
    session : str
        Name of the session.
    kind : str
        What ``drtrace status`` calls this consumer.
    on_stream : callable
        Told of each new stream before its application may write; what it raises is
        reported to the registry as the stream's problem.
    workers : int
        Most threads that will move packets at a time.

    Raises
    ------
    CommandError
        No such session, or another consumer holds the lease.
    """

    def __init__(
        self,
        connection: Connection,
        session: str,
        kind: str,
        on_stream: Callable[[MappedStream], None],
        workers: int = 1,
    ) -> None:
        self._connection = connection
        self._on_stream = on_stream
        reply, fds = connection.exchange(Attach(session=session, consume=True, kind=kind))
        if not isinstance(reply, Attached) or len(fds) != 1:
            raise RemoteProtocolError(f"registry answered {type(reply).__name__} to attach")
        self.session = reply.session
        self.output = reply.output
        #: What the registry says of the session.
        self.attached = reply
        #: A descriptor that `listen` was told of is readable.
        self.heard = False
        self.rings = Pool(workers)
        self.streams: dict[Ring, MappedStream] = {}
        #: Traces with the reader of their metadata log.
        self.traces: dict[str, tuple[Trace, MetadataLogReader]] = {}
        self.drains: list[Drain] = []
        #: what is to be done about trace chunks
        self.chunks: list[Rotate | Clear] = []
        #: ids of traces that nobody writes any more, to be finished and `trace_closed`
        self.ended_traces: list[str] = []
        self.verdicts: list[HoleVerdict] = []
        #: streams that got other timers
        self.retimed: list[MappedStream] = []
        self.ended = False
        #: The registry is gone; its applications stop by themselves.
        self.orphaned = False
        self._unheard = False
        self._wake_fd = fds[0]
        os.set_blocking(self._wake_fd, False)
        self._poll = select.poll()
        self._poll.register(connection, select.POLLIN)
        self._poll.register(self._wake_fd, select.POLLIN)
        self._extra: set[int] = set()
        self._listened: set[int] = set()
        self._spare = Spare()
        #: Streams that could not be mapped yet, with their descriptors.
        self._postponed: list[tuple[StreamAdded, int]] = []
        self._next_attempt = 0.0
        #: No application holds a write end of the wake-up pipe any more.
        self.writers_gone = False

    def watch(self, fd: int) -> None:
        """Make `wait` return also when this descriptor becomes readable."""
        self._poll.register(fd, select.POLLIN)
        self._extra.add(fd)

    def listen(self, fd: int) -> None:
        """Make `wait` read this eventfd, and set `heard`, when it is readable."""
        self._poll.register(fd, select.POLLIN)
        self._listened.add(fd)

    def wait(self, timeout: float) -> bool:
        """Sleep until a wake-up, a push or a watched descriptor; handle pushes.

        Returns
        -------
        bool
            Whether a watched descriptor is readable.

        Raises
        ------
        RemoteProtocolError
            The registry speaks nonsense.
        """
        events = () if self._connection.pending else self._poll.poll(timeout * 1000)
        extra = False
        pushed = self._connection.pending > 0
        for fd, mask in events:
            if fd == self._wake_fd:
                self._empty_pipe(mask)
            elif fd in self._extra:
                extra = True
            elif fd in self._listened:
                with contextlib.suppress(BlockingIOError):
                    os.eventfd_read(fd)
                self.heard = True
            else:
                pushed = True
        if pushed:
            self._receive()
        return extra

    @property
    def retry_s(self) -> float:
        """How long the consumer may sleep; infinite if every stream is mapped."""
        return _RETRY if self._postponed else math.inf

    def retry(self) -> None:
        """Map what could not be mapped a moment ago."""
        if self._postponed and time.monotonic() >= self._next_attempt:
            postponed, self._postponed = self._postponed, []
            for message, fd in postponed:
                fds = [fd]
                try:
                    self._take_stream(message, fds)
                finally:
                    _close_all(fds)

    def metadata(self) -> Iterator[tuple[Trace, bytes]]:
        """Yield the metadata text that was appended since the last call, per trace."""
        for trace, log in self.traces.values():
            text = log.read()
            if text:
                yield trace, text

    def return_metadata(self, trace: Trace, text: bytes) -> None:
        """Have `metadata` yield a text again, with what comes after it: it was not written."""
        self.traces[trace.id][1].unread(text)

    def repeat_metadata(self) -> None:
        """Have `metadata` yield the text of every trace from its beginning."""
        for _, log in self.traces.values():
            log.rewind()

    def describe(self) -> list[TraceDescription]:
        """Return the layout of every record; empty if the registry does not say."""
        if self.orphaned or self.ended:
            return []
        try:
            # Pushes with descriptors may come before the answer.
            self._spare.release()
            reply = self._connection.request(Describe(session=self.session), _DESCRIBE_SECONDS)
        except (BrokenResourceError, CommandError):
            # Gone, or about to forget the session.
            return []
        finally:
            self._spare.refill()
        return reply.traces if isinstance(reply, Description) else []

    def drained(self, drain: Drain, stats: ConsumerStats) -> None:
        """Tell the registry that everything up to a drain is in the sink."""
        self._tell(Drained(token=drain.token, stats=stats))

    def done(self, token: int, stats: ConsumerStats, problem: str = "", place: str = "") -> None:
        """Tell the registry that a rotation or a clearing is done, or why it is not."""
        self._tell(Drained(token=token, stats=stats, problem=problem, place=place))

    def remove_trace(self, trace: str) -> None:
        """Let go of a trace that nobody writes: memory, metadata log, descriptors.

        Its rings are in no set any more.
        """
        for ring in [r for r, m in self.streams.items() if m.stream.trace.id == trace]:
            self.streams.pop(ring).close()
        _close_all(fd for message, fd in self._postponed if message.trace == trace)
        self._postponed = [each for each in self._postponed if each[0].trace != trace]
        known = self.traces.pop(trace, None)
        if known is not None:
            self.rings.unwatch(known[1].header)
            known[1].close()

    def tell(self, stats: ConsumerStats) -> None:
        """Tell the registry of a problem now: `stats` has it."""
        self._tell(Drained(token=0, stats=stats))

    def trace_closed(self, trace: str, stats: ConsumerStats) -> None:
        """Tell the registry that an ended trace is complete in the sink."""
        self._tell(TraceClosed(trace=trace, stats=stats))

    def hole_found(self, stream: int, position: int, produced: int) -> None:
        """Ask the registry whether a process that left a hole is dead; see `verdicts`."""
        self._tell(HoleFound(stream=stream, position=position, produced=produced))

    def release(self) -> None:
        """Give the lease back."""
        self._tell(Release())

    def close(self) -> None:
        """End the workers, unmap every stream, close every descriptor and the connection."""
        self.rings.close()
        for mapped in self.streams.values():
            mapped.close()
        self.streams.clear()
        for _, log in self.traces.values():
            log.close()
        self.traces.clear()
        _close_all(fd for _, fd in self._postponed)
        self._postponed.clear()
        self._spare.close()
        if self._wake_fd >= 0:
            os.close(self._wake_fd)
            self._wake_fd = -1
        self._connection.close()

    def _tell(self, message: Message) -> None:
        if self.orphaned or self._unheard:
            return
        try:
            self._connection.send(message)
        except BrokenResourceError:
            # What it said before it went away is still to be read, and its last word may be
            # that the session ended: `wait` meets the hang-up behind it.
            self._unheard = True

    def _orphan(self) -> None:
        if not self.orphaned:
            self.orphaned = True
            self._poll.unregister(self._connection)

    def _empty_pipe(self, mask: int) -> None:
        with contextlib.suppress(BlockingIOError):
            # Once, not until it is empty: somebody may fill it as fast as we read.
            if not os.read(self._wake_fd, _PIPE_CHUNK):
                # Hang-up stays readable: poll would spin on it.
                self.writers_gone = True
                self._poll.unregister(self._wake_fd)
        if mask & (select.POLLERR | select.POLLNVAL):
            raise UstConsumerError("the session's wake-up pipe broke")

    def _receive(self) -> None:
        while True:
            self._spare.release()
            try:
                received = self._connection.receive(0)
            except BrokenResourceError:
                self._orphan()
                return
            finally:
                self._spare.refill()
            if received is None:
                return
            message, fds = received
            try:
                self._handle(message, fds)
            finally:
                _close_all(fds)

    def _handle(self, message: Message, fds: list[int]) -> None:
        """Take what a push says; descriptors left in ``fds`` are closed by the caller."""
        if isinstance(message, TraceAdded):
            _expect(message, fds, 1)
            # Without it none of its streams could be read.
            self._spare.release()
            log = MetadataLogReader(fds.pop())
            self._spare.refill()
            uuid = bytes.fromhex(message.uuid.replace("-", ""))
            trace = Trace(message.trace, message.path, uuid, message.uid, log.restarts)
            self.traces[message.trace] = (trace, log)
            for offset in log.words:
                self.rings.watch(log.header, offset)
        elif isinstance(message, StreamAdded):
            _expect(message, fds, 1)
            problem = self._take_stream(message, fds)
            self._tell(StreamReady(stream=message.stream, problem=problem))
        elif isinstance(message, Drain):
            self.drains.append(message)
        elif isinstance(message, Rotate | Clear):
            self.chunks.append(message)
        elif isinstance(message, TraceEnded):
            self.ended_traces.append(message.trace)
        elif isinstance(message, TimersChanged):
            self._retime(message)
        elif isinstance(message, HoleVerdict):
            self.verdicts.append(message)
        elif isinstance(message, SessionEnded):
            self.ended = True
        else:
            raise RemoteProtocolError(f"unexpected push {type(message).__name__}")

    def _retime(self, message: TimersChanged) -> None:
        for mapped in self.streams.values():
            if mapped.stream.channel_id == message.channel_id:
                mapped.switch_timer_us = message.switch_timer_us
                mapped.read_timer_us = message.read_timer_us
                self.retimed.append(mapped)
        for added, _ in self._postponed:
            if added.channel_id == message.channel_id:
                added.switch_timer_us = message.switch_timer_us
                added.read_timer_us = message.read_timer_us

    def _take_stream(self, message: StreamAdded, fds: list[int]) -> str:
        """Map a stream, now or, if only something is short, later; return what is wrong."""
        try:
            self._add_stream(message, fds[0])
        except (OSError, UstConsumerError) as error:
            if isinstance(error, OSError) and error.errno in PASSING and self._spare:
                # Its writers go on, and discard what does not fit until we have it.
                self._postponed.append((message, fds.pop()))
                self._next_attempt = time.monotonic() + _RETRY
                return f"{message.channel}_{message.cpu}: {error.strerror}; tried again"
            return str(error)
        return ""

    def _add_stream(self, message: StreamAdded, fd: int) -> None:
        known = self.traces.get(message.trace)
        if known is None:
            raise LayoutError("stream", "a known trace", message.trace)
        mapped = map_stream(message, known[0], fd)
        ring = mapped.ring
        self.streams[ring] = mapped
        self.rings.add(ring)
        try:
            # The consumer before us may have been killed in the middle of anything.
            ring.take_over()
            self._on_stream(mapped)
        except BaseException:
            self.rings.remove(ring)
            del self.streams[ring]
            mapped.close()
            raise
        ring.open()


def _close_all(fds: Iterable[int]) -> None:
    for fd in fds:
        os.close(fd)


def _expect(message: Message, fds: list[int], count: int) -> None:
    if len(fds) != count:
        raise RemoteProtocolError(
            f"{type(message).__name__} came with {len(fds)} descriptors instead of {count}"
        )
