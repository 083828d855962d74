# SPDX-License-Identifier: MIT
"""All that is on its way to a relay: streams, metadata, and the next trace chunk."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable

from ustconsumer.consumer.chunkchange import ChunkChange
from ustconsumer.consumer.flow import Flow, Keeper, Outgoing
from ustconsumer.consumer.packet import Stream, Trace
from ustconsumer.ctf.packets import begins
from ustconsumer.protocol.relay import CloseCommand, CreateChunk

__all__ = ["WINDOW", "TraceText", "Traffic"]

#: Bytes of packets that have not arrived, of all streams: as much as a fast link with long
#: ways needs.
WINDOW = 16 << 20
_STREAM_CLASS = re.compile(rb"^stream \{\s+id = (\d+);", re.MULTILINE)


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
        #: the chunk that follows the one that is written, while that is under way
        self.change: ChunkChange | None = None
        #: that is written; None: the first
        self.chunk: CreateChunk | None = None
        #: when the last chunk is closed, and what becomes of it, where that was said
        self.last_chunk: tuple[int, CloseCommand] | None = None
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

    def may_send(self, flow: Flow, packet: Outgoing) -> bool:
        """Return whether a packet belongs into the chunk that is written."""
        return self.change is None or self.change.admits(flow, packet)

    def all_arrived(self, change: ChunkChange) -> None:
        """All of the old chunk has: now its buffers are to know it."""
        if not change.arrived:
            change.arrived = True
            self._on_arrival()

    def end_change(self, change: ChunkChange, problem: str, place: str = "") -> None:
        """The next chunk is written, or never will be."""
        change.result = problem, place
        if not problem:
            self.chunk = change.chunk
        if self.change is change:
            self.change = None
        self._on_arrival()

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
        if self.change is not None:
            # Their writers are closed.
            self.change.settled = True
        self._patience = patience
        self._last_arrival = time.monotonic()
