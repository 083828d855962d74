# SPDX-License-Identifier: MIT
"""A trace sent to a relay, LTTng's or ours."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Sequence
from typing import NoReturn

from ustconsumer._native.ring import DRAIN_EMPTY, DRAIN_HELD, DRAIN_MORE, Ring
from ustconsumer.consumer.chunkchange import ChunkChange
from ustconsumer.consumer.flow import Flow, Keeper, Outgoing, make_outgoing
from ustconsumer.consumer.packet import Packet, Stream, Trace
from ustconsumer.consumer.relaylink import Identity
from ustconsumer.consumer.sender import Sender
from ustconsumer.errors import RingBufferError
from ustconsumer.protocol.control import Rotate
from ustconsumer.protocol.relay import CreateChunk
from ustconsumer.protocol.relayurl import RelayUrl
from ustconsumer.relay.wire import Credentials

__all__ = ["NetworkSink", "NetworkWriter"]

#: Seconds without an arrival after which the end of a session gives up.
_PATIENCE = 5.0
#: What is kept can wait longer than what is in memory.
_KEPT_PATIENCE = 60.0
_WORD = 1 << 64


class NetworkSink:
    """Send a session to a relay.

    Parameters
    ----------
    url : RelayUrl
    identity : Identity
        ``live_us``: say to viewers how far each stream is, this often.
    credentials : Credentials
    report : callable
        Told what happens to the connection, one line each.
    keeper : Keeper, optional
        Takes packets that the relay does not take now: the buffers are free for others.
    chunk, following : CreateChunk, optional
        The trace chunk that is written and, while a rotation is under way, the next one.

    Notes
    -----
    A sub-buffer is given back when its packet has arrived: until then it can be sent again,
    also by the consumer that follows one that was killed. In overwrite mode it is given back
    when it was copied: nobody keeps it for us.
    """

    def __init__(
        self,
        url: RelayUrl,
        identity: Identity,
        credentials: Credentials | None = None,
        *,
        report: Callable[[str], None] = lambda line: None,
        keeper: Keeper | None = None,
        chunk: CreateChunk | None = None,
        following: CreateChunk | None = None,
    ) -> None:
        self._sender = Sender(
            url, credentials or Credentials(), identity, report, keeper, chunk, following
        )
        self._url = url
        self._patience = _PATIENCE if keeper is None else _KEPT_PATIENCE
        self._report = report
        self.live_us = identity.live_us

    @property
    def fd(self) -> int:
        """An eventfd: readable when packets arrived or the connection came or went."""
        return self._sender.fd

    @property
    def place(self) -> str:
        """Directory of the trace below the relay's, of the last connection if there were some."""
        return self._sender.place

    def open(self, stream: Stream) -> NetworkWriter:
        """Announce a stream; never waits for the relay."""
        return NetworkWriter(self._sender, stream)

    def metadata(self, trace: Trace, text: bytes) -> None:
        """Send text, and keep it for the next connection."""
        self._sender.append_text(trace, text)

    def end(self, trace: Trace) -> None:
        """Close a trace at the relay once all of it has arrived."""
        self._sender.end_trace(trace)

    def change_chunk(self, message: Rotate) -> ChunkChange:
        """Have the relay make another trace chunk."""
        chunk = CreateChunk(message.number, message.began)
        return self._sender.change_chunk(chunk, message.began, message.delete)

    def go_on(self, change: ChunkChange) -> None:
        """Say that what has arrived was given back to its buffers."""
        self._sender.go_on(change)

    def give_up(self, change: ChunkChange) -> str:
        """Let a change be that takes too long; return why it does."""
        return self._sender.give_up(change)

    def archive_last(self) -> None:
        """Have the relay move the last chunk to the others, when the session has ended."""
        self._sender.archive_last(int(time.time()))

    def close(self) -> None:
        """Send what is left and end the session at the relay."""
        left = self._sender.close(self._patience)
        if left:
            self._report(f"relay {self._url}: {left} bytes did not arrive, as far as is known")


class NetworkWriter:
    """One stream on its way to the relay."""

    def __init__(self, sender: Sender, stream: Stream) -> None:
        self._sender = sender
        self._stream = stream
        self._flow: Flow = sender.open(stream)
        self._ring: Ring | None = None
        self._overwrite = stream.geometry.overwrite
        #: position behind what was read
        self._cursor = 0

    def attach(self, ring: Ring) -> None:
        """Read from the consumed position on."""
        self._ring = ring
        self._cursor = ring.positions()[0]
        ring.ahead = 0

    def drain(self, ring: Ring, max_bytes: int) -> int:
        """Read packets ahead of what is given back; see `Ring.drain`.

        Raises
        ------
        OSError
            The relay takes nothing now: `BlockingIOError` if that is no news.
        RingBufferError
            The stream contradicts itself.
        """
        self.settle()
        moved = 0
        while moved < max_bytes:
            status = self._look(ring)
            if status != DRAIN_MORE:
                return status
            self._check_room()
            size = self._take(ring)
            if size is None:
                return DRAIN_EMPTY
            moved += size
        return DRAIN_MORE

    def settle(self) -> None:
        """Give back what has arrived."""
        ring = self._ring
        if ring is None:
            return
        arrived = self._sender.take_arrived(self._flow)
        if arrived.sequence is not None:
            ring.count_moved(arrived.packets, arrived.size)
            if not self._overwrite:
                ring.move_consumer((arrived.sequence + 1) * ring.subbuf_size % _WORD)
        if not self._overwrite:
            self._find_ahead(ring)

    def keep(self, packet: Outgoing) -> None:
        """Do what comes before a packet is on its way; an `OSError` has it come again."""

    def offer(self, packet: Packet) -> None:
        """Take a packet that somebody else read and gives back."""
        self._check_room()
        outgoing = make_outgoing(packet)
        self.keep(outgoing)
        self._sender.put(self._flow, outgoing)

    def write(self, packets: Sequence[Packet]) -> None:
        """Take packets without a ring; raises `OSError` as `drain` does."""
        for packet in packets:
            self.offer(packet)

    @property
    def declared(self) -> bool:
        """Whether readers of the trace know of this stream's class yet."""
        return self._sender.declared(self._stream)

    def say_idle(self, timestamp: int) -> None:
        """Tell viewers that nothing older than this comes."""
        self._sender.say_idle(self._flow, timestamp)

    def close(self) -> None:
        """The stream ended; what was read is sent still."""
        self.settle()
        self._ring = None
        self._sender.end(self._flow)

    def _look(self, ring: Ring) -> int:
        if ring.readable():
            return DRAIN_MORE
        consumed, produced = ring.positions()
        at = consumed if self._overwrite else self._cursor
        behind = (produced - at) % _WORD
        return DRAIN_EMPTY if behind < ring.subbuf_size else DRAIN_HELD

    def _find_ahead(self, ring: Ring) -> None:
        consumed = ring.positions()[0]
        ahead = (self._cursor - consumed) % _WORD
        if ahead > self._stream.geometry.buf_size:
            # Something was stepped over that nobody could read.
            self._cursor, ahead = consumed, 0
        ring.ahead = ahead

    def _check_room(self) -> None:
        if self._sender.keeps:
            return
        problem = self._sender.obstacle(self._flow, self._stream.geometry.subbuf_size)
        if problem is not None:
            _refuse(problem)

    def _take(self, ring: Ring) -> int | None:
        """Copy the next packet; return its bytes."""
        taken = ring.get_next() if self._overwrite else ring.get(self._cursor)
        if not taken:
            return None
        try:
            packet = Outgoing(*ring.copy_held())
            self.keep(packet)
            self._sender.put(self._flow, packet)
        except (OSError, RingBufferError):
            ring.put()
            raise
        if self._overwrite:
            ring.put_next()
        else:
            ring.put()
            self._cursor = (self._cursor + ring.subbuf_size) % _WORD
            ring.ahead += ring.subbuf_size
        return packet.packet_size


def _refuse(problem: str) -> NoReturn:
    if problem:
        raise OSError(errno.ENOTCONN, problem)
    raise BlockingIOError(errno.EAGAIN, "the relay is slow")
