# SPDX-License-Identifier: MIT
"""What live viewers see of the sessions that a relay receives; read-only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

__all__ = ["Entry", "SessionView", "StreamView"]


class Entry(NamedTuple):
    """An entry of a stream's index: a packet that is whole. Sizes in bits, offset in bytes."""

    offset: int
    packet_size: int
    content_size: int
    begin: int
    end: int
    discarded: int
    class_id: int
    instance: int
    sequence: int


class StreamView(Protocol):
    """A stream of a session."""

    @property
    def handle(self) -> int:
        """Unique in the relay."""

    @property
    def trace_id(self) -> int:
        """The same for all streams of a trace: theirs is one metadata stream."""

    @property
    def name(self) -> str:
        """``channel0_1``, or ``metadata``."""

    @property
    def path(self) -> str:
        """Below the session, ``ust/uid/1000/64-bit``."""

    @property
    def is_metadata(self) -> bool:
        """Whether it has text instead of packets."""

    @property
    def published(self) -> bool:
        """Whether viewers may know of it: ``STREAMS_SENT`` came after it."""

    @property
    def closed(self) -> bool:
        """Whether nothing more comes."""

    @property
    def busy(self) -> bool:
        """Whether a rotation or clear is under way: asked for later."""

    @property
    def first(self) -> int:
        """Number of the oldest packet that can still be had."""

    @property
    def volatile(self) -> bool:
        """Whether packets may go at any time: a viewer keeps the one that it was told of."""

    @property
    def count(self) -> int:
        """Packets so far whose data and index are both there, those before `first` among them."""

    @property
    def beacon(self) -> int | None:
        """Time before which nothing more comes; None if the last word was a packet."""

    @property
    def class_id(self) -> int:
        """CTF stream class, as the last index said."""

    def entry(self, number: int) -> Entry:
        """Return an entry, ``first <= number < count``."""

    def read(self, number: int, offset: int, size: int) -> bytes:
        """Return bytes of a packet, from an offset within it on; fewer at its end."""

    @property
    def metadata_size(self) -> int:
        """Bytes of metadata so far; they only grow, also when the file starts over."""

    def read_metadata(self, position: int) -> bytes:
        """Return the metadata from a position on: whole packets, whole declarations."""


class SessionView(Protocol):
    """A session of a producer."""

    @property
    def id(self) -> int:
        """Unique in the relay."""

    @property
    def name(self) -> str:
        """Of the session where it is recorded."""

    @property
    def host(self) -> str:
        """Where that is."""

    @property
    def live_us(self) -> int:
        """Period in which idle streams say so, microseconds; 0: not a live session."""

    @property
    def closed(self) -> bool:
        """Whether its producer is gone, for good."""

    @property
    def streams(self) -> Sequence[StreamView]:
        """Every stream so far, also closed ones that viewers have not read to their end."""
