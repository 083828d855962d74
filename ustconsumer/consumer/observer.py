# SPDX-License-Identifier: MIT
"""Reading along in a session: beside its consumer, without it, and unnoticed."""

from __future__ import annotations

import contextlib
import mmap
import os
import select
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING

from ustconsumer._native.observer import (
    OBSERVE_DAMAGED,
    OBSERVE_OVERTAKEN,
    OBSERVE_WHOLE,
    ObservedRing,
)
from ustconsumer.consumer.mapping import described_stream
from ustconsumer.consumer.packet import Packet, Stream, Trace
from ustconsumer.ctf.metalog import MetadataLogReader
from ustconsumer.errors import BrokenResourceError, LayoutError, RemoteProtocolError
from ustconsumer.protocol.control import (
    Attach,
    Attached,
    Drain,
    HoleVerdict,
    Message,
    SessionEnded,
    StreamAdded,
    TraceAdded,
    TraceEnded,
)

if TYPE_CHECKING:
    from ustconsumer.client.connection import Connection
    from ustconsumer.consumer.snapshot import Snapshot
    from ustconsumer.ringbuffer.geometry import Geometry

__all__ = ["Mappings", "ObservedStream", "Observer", "oldest_position"]

#: An observer gets no wake-ups: it looks this often.
_POLL_SECONDS = 0.005
#: A packet that nobody finishes in this time has lost its writer.
_ABANDONED_SECONDS = 1.0
#: The registry announces what there is at once.
_ANNOUNCED_SECONDS = 10.0


@dataclass(eq=False)
class ObservedStream:
    """A stream with an observer's view of its memory.

    Attributes
    ----------
    stream : Stream
    ring : ObservedRing
    memory : mmap
        Read-only.
    position : int
        Of the packet that `next_packet` looks for.
    """

    stream: Stream
    ring: ObservedRing
    memory: mmap.mmap
    position: int = field(init=False, default=0)
    _stuck: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        self.rewind()

    def rewind(self) -> None:
        """Have `next_packet` begin with the oldest packet that is there."""
        _, produced = self.ring.positions()
        self.position = oldest_position(produced, self.stream.geometry)

    def next_packet(self) -> Packet | None:
        """Return the next packet that is whole, as a copy; None if there is none yet.

        Packets that writers were faster with are left out: sequence numbers tell.
        """
        while True:
            raw = self.ring.take(self.position)
            status = self.ring.status
            if raw is not None and status == OBSERVE_WHOLE:
                return self._packet(raw)
            if status == OBSERVE_OVERTAKEN:
                if not self._catch_up():
                    return None
            elif status == OBSERVE_DAMAGED or self._abandoned():
                self._step()
            else:
                return None

    def close(self) -> None:
        """Unmap."""
        self.ring.release()
        with contextlib.suppress(BufferError):
            self.memory.close()

    def _packet(self, raw: bytes) -> Packet:
        from ustconsumer._native.window import Window

        header = self.stream.geometry.layout.packet.get_all(raw)
        self._step()
        window = Window(raw, 0, len(raw))
        return Packet(self.stream, window, header["content_size"] // 8, header["packet_seq_num"])

    def _step(self) -> None:
        self.position = self.stream.geometry.subbuf_align(self.position)
        self._stuck = 0.0

    def _catch_up(self) -> bool:
        """Go to the oldest packet that is there; return whether that is forward."""
        _, produced = self.ring.positions()
        oldest = oldest_position(produced, self.stream.geometry)
        # A write position that went back is a lie: following it there could go on for ever.
        forward = oldest > self.position
        if forward:
            self.position = oldest
        return forward

    def _abandoned(self) -> bool:
        """Return whether writers went past a packet a while ago that is still not whole."""
        geometry = self.stream.geometry
        _, produced = self.ring.positions()
        if geometry.subbuf_trunc(produced) == self.position:
            return False
        now = time.monotonic()
        self._stuck = self._stuck or now
        return now - self._stuck > _ABANDONED_SECONDS


def oldest_position(produced: int, geometry: Geometry) -> int:
    """Return where the oldest packet begins that may still be in a stream's memory.

    ``produced`` is the write position.
    """
    if produced <= geometry.buf_size:
        return 0
    # The one being written takes the place of the one a turn before it.
    return geometry.subbuf_trunc(produced - geometry.buf_size + geometry.subbuf_size - 1)


class Mappings:
    """Streams that stay mapped from one observation of a session to the next.

    Mapping memory costs as much as copying a third of it. Nothing but memory is kept: no
    descriptors, no connection.
    """

    def __init__(self) -> None:
        self._streams: dict[tuple[str, int], ObservedStream] = {}

    def take(self, trace: str, stream: int) -> ObservedStream | None:
        """Return a stream that was kept, now the caller's."""
        observed = self._streams.pop((trace, stream), None)
        if observed is not None:
            observed.rewind()
        return observed

    def replace(self, streams: Iterable[ObservedStream]) -> None:
        """Keep these streams, and no others: those are not in the session any more."""
        self.close()
        for observed in streams:
            self._streams[observed.stream.trace.id, observed.stream.id] = observed

    def close(self) -> None:
        """Unmap everything."""
        for observed in self._streams.values():
            observed.close()
        self._streams.clear()


class Observer:
    """A session that this program reads along with; a context manager.

    Its descriptors are read-only, nothing in shared memory changes, and its consumer does
    not notice.

    Parameters
    ----------
    connection : Connection
        Owned from now on.
    session : str
    mappings : Mappings, optional
        Streams of this session that are mapped already; takes those of this observer at
        its end.

    Attributes
    ----------
    attached : Attached
        What the registry says of the session.
    session, output : str
    traces : dict of str to Trace
    streams : dict of int to ObservedStream
        Those there are; `refresh` adds new ones.
    ended : bool
        The session was destroyed, or the registry is gone.

    Raises
    ------
    CommandError
        No such session.
    """

    def __init__(
        self, connection: Connection, session: str, mappings: Mappings | None = None
    ) -> None:
        self._connection = connection
        self._mappings = mappings
        self.traces: dict[str, Trace] = {}
        self.streams: dict[int, ObservedStream] = {}
        self.ended = False
        self.problems: list[str] = []
        self._logs: dict[str, MetadataLogReader] = {}
        try:
            self._attach(session)
        except BaseException:
            self.close()
            raise

    def _attach(self, session: str) -> None:
        request = Attach(session=session, consume=False, kind="observer")
        reply, fds = self._connection.exchange(request)
        _close_all(fds)
        if not isinstance(reply, Attached):
            raise RemoteProtocolError(f"registry answered {type(reply).__name__} to attach")
        self.attached = reply
        self.session, self.output = reply.session, reply.output
        deadline = time.monotonic() + _ANNOUNCED_SECONDS
        self._announced = 0
        while self._announced < reply.streams and not self.ended:
            left = deadline - time.monotonic()
            if left <= 0:
                raise RemoteProtocolError(
                    f"the registry announced {self._announced} of {reply.streams} streams"
                )
            self._receive(left)

    def refresh(self) -> None:
        """Take what the registry has announced meanwhile: new traces and streams."""
        while not self.ended and self._receive(0):
            pass

    def metadata(self) -> Iterator[tuple[Trace, bytes]]:
        """Yield the metadata text (TSDL) of each trace that was appended since the last call."""
        for name, log in self._logs.items():
            text = log.read()
            if text:
                yield self.traces[name], text

    def packets(self, timeout: float | None = None) -> Iterator[Packet]:
        """Yield packets as they become whole, until the session ends.

        Those in memory first, also if a consumer has taken them. A packet that writers
        overtook is missing: see `Packet.sequence`. The one being written is not yielded.

        Parameters
        ----------
        timeout : float, optional
            Also end after this many seconds without a packet.

        Yields
        ------
        Packet
            A copy: valid as long as you like.
        """
        poll = select.poll()
        poll.register(self._connection, select.POLLIN)
        idle = time.monotonic()
        while True:
            self.refresh()
            for observed in tuple(self.streams.values()):
                while (packet := observed.next_packet()) is not None:
                    yield packet
                    idle = time.monotonic()
            if self.ended or (timeout is not None and time.monotonic() - idle >= timeout):
                return
            poll.poll(_POLL_SECONDS * 1000)

    def snapshot(self, directory: str | os.PathLike[str], max_size: int = 0) -> Snapshot:
        """Write what is in the buffers now to a directory, as a trace.

        Parameters and errors as those of `ustconsumer.consumer.snapshot.take_snapshot`.
        """
        from ustconsumer.consumer.snapshot import take_snapshot

        self.refresh()
        for log in self._logs.values():
            log.rewind()
        snapshot = take_snapshot(
            list(self.streams.values()), self.metadata, directory, max_size=max_size
        )
        snapshot.problems[:0] = self.problems
        return snapshot

    def close(self) -> None:
        """Unmap every stream unless there are `Mappings` for it, close the connection."""
        if self._mappings is not None:
            self._mappings.replace(self.streams.values())
        else:
            for observed in self.streams.values():
                observed.close()
        self.streams.clear()
        for log in self._logs.values():
            log.header.close()
            log.close()
        self._logs.clear()
        self._connection.close()

    def __enter__(self) -> Observer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _receive(self, timeout: float) -> bool:
        """Take one push; return whether there was one."""
        try:
            received = self._connection.receive(timeout)
        except BrokenResourceError:
            # What is mapped stays readable.
            self.ended = True
            return False
        if received is None:
            return False
        message, fds = received
        try:
            self._handle(message, fds)
        finally:
            _close_all(fds)
        return True

    def _handle(self, message: Message, fds: list[int]) -> None:
        """Take what a push says; descriptors left in ``fds`` are closed by the caller."""
        if isinstance(message, TraceAdded):
            _expect_one(message, fds)
            uuid = bytes.fromhex(message.uuid.replace("-", ""))
            self.traces[message.trace] = Trace(message.trace, message.path, uuid, message.uid)
            self._logs[message.trace] = MetadataLogReader(fds.pop())
        elif isinstance(message, StreamAdded):
            _expect_one(message, fds)
            self._announced += 1
            self._add_stream(message, fds[0])
        elif isinstance(message, SessionEnded):
            self.ended = True
        elif not isinstance(message, TraceEnded | Drain | HoleVerdict):
            raise RemoteProtocolError(f"unexpected push {type(message).__name__}")

    def _add_stream(self, message: StreamAdded, fd: int) -> None:
        trace = self.traces.get(message.trace)
        if trace is None:
            raise RemoteProtocolError(f"stream {message.stream} of no trace")
        if self._mappings is not None:
            known = self._mappings.take(message.trace, message.stream)
            if known is not None:
                self.streams[message.stream] = known
                return
        try:
            stream = described_stream(message, trace, fd)
            memory = mmap.mmap(
                fd, stream.geometry.file_size, mmap.MAP_SHARED | mmap.MAP_POPULATE, mmap.PROT_READ
            )
        except (LayoutError, OSError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            self.problems.append(f"{message.channel}_{message.cpu}: {reason}")
            return
        ring = ObservedRing(
            memory,
            stream.geometry.places(),
            uuid=trace.uuid,
            stream_id=message.channel_id,
            cpu=message.cpu,
        )
        self.streams[message.stream] = ObservedStream(stream, ring, memory)


def _close_all(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)
    fds.clear()


def _expect_one(message: Message, fds: list[int]) -> None:
    if len(fds) != 1:
        raise RemoteProtocolError(f"{type(message).__name__} came with {len(fds)} descriptors")
