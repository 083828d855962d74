# SPDX-License-Identifier: MIT
"""The packets of a stream on their way to a relay: read, sent, arrived."""

from __future__ import annotations

import time
from collections import deque
from typing import NamedTuple, Protocol

from ustconsumer.consumer.packet import Packet, Stream

__all__ = [
    "Arrived",
    "Flow",
    "Keeper",
    "Outgoing",
    "make_outgoing",
]


class Outgoing(NamedTuple):
    """A packet, copied from its sub-buffer.

    Attributes
    ----------
    content : bytes
        Without the padding at its end, which is not sent.
    packet_size : int
        Bytes, padding included.
    begin, end : int
        Time stamps of the packet, nanoseconds of CLOCK_MONOTONIC.
    discarded, sequence : int
        As in the packet's header.
    """

    content: bytes
    packet_size: int
    begin: int
    end: int
    discarded: int
    sequence: int


def make_outgoing(packet: Packet) -> Outgoing:
    """Return a copy of a packet, to be sent."""
    # A copy first: its writers may change the header, and the index must say the same.
    content = packet.data[: packet.content_size].tobytes()
    header = packet.stream.geometry.layout.packet.get_all(content)
    return Outgoing(
        content,
        packet.packet_size,
        header["timestamp_begin"],
        header["timestamp_end"],
        header["events_discarded"],
        packet.sequence,
    )


class Arrived(NamedTuple):
    """What has arrived since somebody asked: how much, and the last one's number."""

    packets: int
    size: int
    #: None if there was nothing
    sequence: int | None


class Keeper(Protocol):
    """Keeps packets where they outlive us, first in, first out, per stream."""

    @property
    def size(self) -> int:
        """Bytes of all packets."""

    def append(self, key: str, content: bytes, facts: tuple[int, ...]) -> None:
        """Keep a packet with some numbers, or raise `OSError` and keep nothing of it."""

    def count(self, key: str) -> int:
        """Return how many packets of a stream there are."""

    def read(self, key: str, number: int) -> tuple[bytes, tuple[int, ...]]:
        """Return a packet, 0 being the oldest."""

    def pop(self, key: str) -> None:
        """Let go of the oldest packet of a stream."""

    def close(self) -> None:
        """Leave what is there for who comes next."""


class Flow:
    """The packets of one stream between its reader and the relay; the caller has the lock.

    Each is in ``waiting``, then in ``sent``, then it has arrived. With a keeper, packets that
    the relay does not take now are kept there, and those come behind them too, until all of
    it was sent: what is in ``sent`` and ``waiting`` then is the beginning of it.

    Attributes
    ----------
    beacon : int
        Nothing older than this comes any more, once what is here was sent; 0: nobody said so.
    ended : bool
        Nothing more is read.
    """

    def __init__(self, stream: Stream, keeper: Keeper | None = None) -> None:
        self.stream = stream
        self.waiting: deque[Outgoing] = deque()
        self.sent: deque[Outgoing] = deque()
        self.beacon = 0
        self.ended = False
        self._begin = time.monotonic()
        self._keeper = keeper
        self._key = str(stream.id)
        #: Of those here the first so many are with the keeper too.
        self._kept = 0
        self._packets = 0
        self._size = 0
        self._sequence: int | None = None
        #: The relay has everything before this sequence number.
        self._at_relay = 0
        #: The keeper had, when we came.
        self._at_keeper = 0
        if keeper is not None and keeper.count(self._key):
            self._at_keeper = self.newest + 1

    @property
    def age_s(self) -> float:
        """Seconds since there is this stream."""
        return time.monotonic() - self._begin

    @property
    def is_kept(self) -> bool:
        """Whether there are packets with the keeper: others come behind them."""
        return self._keeper is not None and self._keeper.count(self._key) > 0

    @property
    def is_empty(self) -> bool:
        """Whether everything has arrived."""
        return not self.waiting and not self.sent and not self.is_kept

    @property
    def newest(self) -> int:
        """Sequence number of the newest packet here; -1: there is none."""
        if self._keeper is not None and (count := self._keeper.count(self._key)):
            return Outgoing(b"", *self._keeper.read(self._key, count - 1)[1]).sequence
        here = self.waiting or self.sent
        return here[-1].sequence if here else -1

    def has_before(self, sequence: int) -> bool:
        """Return whether a packet up to this number has not arrived."""
        if self.sent or (self.waiting and self.waiting[0].sequence <= sequence):
            return True
        return not self.waiting and self.is_kept and self._oldest_kept() <= sequence

    def _oldest_kept(self) -> int:
        assert self._keeper is not None
        return Outgoing(b"", *self._keeper.read(self._key, 0)[1]).sequence

    def skip(self, packet: Outgoing) -> bool:
        """Return whether a packet was here before; then its buffer need not hold it any more.

        A consumer before us may have been killed after it sent or kept it, before it gave it
        back.
        """
        before = packet.sequence < max(self._at_relay, self._at_keeper)
        if before:
            self._done(packet)
        return before

    def keep(self, packet: Outgoing) -> None:
        """Give a packet to the keeper, behind those that have not arrived.

        Raises
        ------
        OSError
            It does not take it.
        """
        keeper = self._keeper
        assert keeper is not None
        if self.skip(packet):
            return
        here = [*self.sent, *self.waiting]
        for each in here[self._kept :]:
            keeper.append(self._key, each.content, each[1:])
            self._kept += 1
            self._done(each)
        keeper.append(self._key, packet.content, packet[1:])
        self._done(packet)

    def load(self, limit: int) -> int:
        """Get packets back from the keeper to be sent; return their bytes."""
        keeper, size = self._keeper, 0
        if keeper is None or self.waiting:
            return 0
        end = self._kept + limit
        while self._kept < min(keeper.count(self._key), end):
            content, facts = keeper.read(self._key, self._kept)
            packet = Outgoing(content, *facts)
            if not self._kept and packet.sequence < self._at_relay:
                keeper.pop(self._key)
                continue
            self.waiting.append(packet)
            self._kept += 1
            size += packet.packet_size
        return size

    def arrived(self, count: int) -> int:
        """The first so many packets that were sent have arrived; return their bytes."""
        size = 0
        for _ in range(count):
            packet = self.sent.popleft()
            size += packet.packet_size
            if self._kept and self._keeper is not None:
                self._kept -= 1
                self._keeper.pop(self._key)
            else:
                self._done(packet)
        return size

    def known(self, following: int) -> int:
        """The relay has everything before this sequence number; return the bytes of that here."""
        size = 0
        self._at_relay = following
        while self.waiting and self.waiting[0].sequence < following:
            self.sent.append(self.waiting.popleft())
            size += self.arrived(1)
        return size

    def again(self) -> int:
        """What was sent is to be sent again; return how many packets that are."""
        count = len(self.sent)
        self.waiting.extendleft(reversed(self.sent))
        self.sent.clear()
        return count

    def take_arrived(self) -> Arrived:
        """Return what has arrived, or is kept, since the last call."""
        arrived = Arrived(self._packets, self._size, self._sequence)
        self._packets = self._size = 0
        self._sequence = None
        return arrived

    def _done(self, packet: Outgoing) -> None:
        """Its buffer need not hold it any more."""
        self._packets += 1
        self._size += packet.packet_size
        self._sequence = packet.sequence
