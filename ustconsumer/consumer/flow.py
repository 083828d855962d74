# SPDX-License-Identifier: MIT
"""Packets on their way to a relay: read, sent, arrived."""

from __future__ import annotations

import re
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple, Protocol

from ustconsumer.consumer.packet import Packet, Stream, Trace
from ustconsumer.ctf.packets import begins

__all__ = [
    "WINDOW",
    "Arrived",
    "Flow",
    "Keeper",
    "Outgoing",
    "TraceText",
    "Traffic",
    "make_outgoing",
]

#: Bytes of packets that have not arrived, of all streams: as much as a fast link with long
#: ways needs.
WINDOW = 16 << 20
_STREAM_CLASS = re.compile(rb"^stream \{\s+id = (\d+);", re.MULTILINE)


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
        if keeper is not None and (count := keeper.count(self._key)):
            _, facts = keeper.read(self._key, count - 1)
            self._at_keeper = Outgoing(b"", *facts).sequence + 1

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


class TraceText:
    """The metadata of a trace, all of it: another connection may need it from the beginning.

    Attributes
    ----------
    classes : set of int
        Stream classes that it declares.
    ended : bool
        No more comes.
    restarts : int
        How often it started over.
    """

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.restarts = trace.restarts
        self.text = bytearray()
        self.classes: set[int] = set()
        self.ended = False

    def append(self, text: bytes) -> None:
        """Add whole declarations, or start over with all of them."""
        if self.text and begins(text):
            self.text.clear()
            self.restarts += 1
        self.text += text
        self.classes.update(int(number) for number in _STREAM_CLASS.findall(text))


class Traffic:
    """All that is on its way, and how it goes; the caller has the lock.

    Parameters
    ----------
    on_arrival : callable
        Told when something has arrived.
    keeper : Keeper, optional
        Of packets that the relay does not take now.

    Attributes
    ----------
    flows : list of Flow
    texts : dict of str to TraceText
        By the trace's id.
    held : int
        Bytes of packets here that have not arrived.
    arrivals : int
        How often something arrived.
    connected : bool
        There is a relay at the other end.
    """

    def __init__(self, on_arrival: Callable[[], None], keeper: Keeper | None = None) -> None:
        self.lock = threading.Lock()
        self.flows: list[Flow] = []
        self.texts: dict[str, TraceText] = {}
        self.held = 0
        self.arrivals = 0
        self.keeper = keeper
        self.connected = False
        #: the session was ended properly
        self.finished = False
        #: how long nothing may arrive; None until the end has come
        self._patience: float | None = None
        self._last_arrival = time.monotonic()
        self._on_arrival = on_arrival

    @property
    def still_s(self) -> float:
        """Seconds since something arrived, or since there is something that should."""
        return time.monotonic() - self._last_arrival

    @property
    def ending(self) -> bool:
        """Whether nothing more is read."""
        return self._patience is not None

    @property
    def has_ended(self) -> bool:
        """Whether nothing more is read of some trace here."""
        return self.ending or any(text.ended for text in self.texts.values())

    @property
    def is_hopeless(self) -> bool:
        """Whether the end has come, and nothing arrived for as long as that may take."""
        return self._patience is not None and self.still_s > self._patience

    @property
    def is_over(self) -> bool:
        """Whether there is nothing to do any more, or no hope."""
        if not self.ending:
            return False
        return self.finished or self.is_hopeless or not (self.left or self.connected)

    @property
    def left(self) -> int:
        """Bytes that have not arrived, wherever they are."""
        kept = 0 if self.keeper is None else self.keeper.size
        return max(self.held, kept)

    def open(self, stream: Stream) -> Flow:
        """Take a stream."""
        flow = Flow(stream, self.keeper)
        self.flows.append(flow)
        return flow

    def text_of(self, trace: Trace) -> TraceText:
        """Return the metadata of a trace."""
        return self.texts.setdefault(trace.id, TraceText(trace))

    def flows_of(self, text: TraceText) -> list[Flow]:
        """Return the streams of a trace."""
        return [flow for flow in self.flows if flow.stream.trace.id == text.trace.id]

    def put(self, flow: Flow, packet: Outgoing) -> None:
        """Take a packet."""
        if flow.skip(packet):
            self._on_arrival()
            return
        if not self.held:
            self._last_arrival = time.monotonic()
        self.held += packet.packet_size
        flow.waiting.append(packet)
        flow.beacon = 0

    def load(self, limit: int) -> None:
        """Get packets from the keeper for streams that have none waiting, if there is room."""
        for flow in self.flows:
            if self.held < WINDOW:
                self.held += flow.load(limit)

    def arrived(self, size: int) -> None:
        """Note that so many bytes have arrived."""
        if size:
            self.held -= size
            self.arrivals += 1
            self._last_arrival = time.monotonic()
            self._on_arrival()

    def send_again(self) -> int:
        """Have everything sent again that has not arrived; return how many packets were sent."""
        return sum(flow.again() for flow in self.flows)

    def forget(self, text: TraceText) -> None:
        """Let go of a trace that ended and has arrived."""
        self.flows = [flow for flow in self.flows if flow.stream.trace.id != text.trace.id]
        del self.texts[text.trace.id]

    def end(self, patience: float) -> None:
        """Let nothing more come; what is here has so many seconds from each arrival on."""
        for flow in self.flows:
            flow.ended = True
        for text in self.texts.values():
            text.ended = True
        self._patience = patience
        self._last_arrival = time.monotonic()
