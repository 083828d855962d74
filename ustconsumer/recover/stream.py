# SPDX-License-Identifier: MIT
"""The packets that are left in the memory of one stream, made readable."""

from __future__ import annotations

import mmap
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field

from ustconsumer._native.observer import (
    OBSERVE_ELSEWHERE,
    OBSERVE_OPEN,
    OBSERVE_OVERTAKEN,
    ObservedRing,
)
from ustconsumer.consumer.observer import oldest_position
from ustconsumer.recover.crashfile import StreamIdentity
from ustconsumer.recover.resting import RestingPackets
from ustconsumer.recover.walk import RecordWalk
from ustconsumer.ringbuffer.geometry import Geometry

__all__ = ["Findings", "recovered_packets"]

_PAGE = 4096
#: Times that readers can still add the clock's offset to.
_LATEST = 1 << 62


@dataclass
class Findings:
    """What was found in one stream, and what was not.

    Attributes
    ----------
    events, packets : int
    unfinished : int
        Packets of which only the beginning was committed, that is in them.
    torn : int
        Packets before the newest of which nothing was committed.
    lost : int
        Packets that are not there, or damaged.
    cut : list of str
        Why packets end before their end.
    """

    events: int = 0
    packets: int = 0
    unfinished: int = 0
    torn: int = 0
    lost: int = 0
    cut: list[str] = field(default_factory=list)


class _Reader:
    """Takes packets out of a copy of a stream's memory, by time."""

    def __init__(
        self,
        ring: ObservedRing,
        geometry: Geometry,
        identity: StreamIdentity,
        resting: RestingPackets,
        still: bool,
        walk: RecordWalk,
        findings: Findings,
    ) -> None:
        self._ring = ring
        self._identity = identity
        self._resting = resting
        #: nobody reserved anything while the memory was copied, so nobody entered a page
        self._still = still
        self._geometry = geometry
        self._walk = walk
        self._findings = findings
        self._header = geometry.layout.packet
        self._ended = 0
        self._discarded = 0

    def older(self, position: int) -> Iterator[bytes]:
        """Yield packets of before the one at a position that are left on some page."""
        if not self._still:
            return
        size = self._geometry.subbuf_size
        following = self._ring.begins(position)
        for number in self._resting.before(position // size):
            packet = bytearray(self._resting.take(number) or b"")
            # What says that it is old, but was recorded later, has a damaged header.
            if following is not None and self._header.get(packet, 0, "timestamp_end") > following:
                continue
            if self._fit(packet, number * size, True, False, following):
                self._findings.packets += 1
                yield bytes(packet)

    def packet(self, position: int, newest: bool, following: int | None) -> bytes | None:
        """Return the packet at a position, None if it cannot be had.

        Parameters
        ----------
        newest : bool
            It is the one that was being written.
        following : int or None
            When the next one begins, as far as that is known.
        """
        # It remembers losses of later packets.
        self._ring.restart()
        raw, whole = self._ring.take(position), True
        if raw is None and self._ring.status == OBSERVE_OPEN:
            raw, whole = self._ring.take_open(position, _LATEST), False
        if raw is None and (self._still or self._ring.status == OBSERVE_ELSEWHERE):
            # A reader may have exchanged pages between our copies of the two words that say
            # where they are. Of a packet that was delivered and not overtaken there is one.
            raw, whole = self._resting.take(position // self._geometry.subbuf_size), True
        if raw is None:
            self._count_missing(newest)
            return None
        packet = bytearray(raw)
        if not self._fit(packet, position, whole, newest, following):
            self._findings.lost += 1
            return None
        self._findings.packets += 1
        self._findings.unfinished += not whole
        return bytes(packet)

    def _count_missing(self, newest: bool) -> None:
        if self._ring.status == OBSERVE_OVERTAKEN:
            # By a program that is alive.
            return
        if self._ring.status != OBSERVE_OPEN:
            self._findings.lost += 1
        elif not newest:
            self._findings.torn += 1

    def _fit(
        self, packet: bytearray, position: int, whole: bool, newest: bool, following: int | None
    ) -> bool:
        """Check a packet against its neighbours and its records; mend its copy."""
        header = self._header
        begin: int = header.get(packet, 0, "timestamp_begin")
        end: int = header.get(packet, 0, "timestamp_end")
        content: int = header.get(packet, 0, "content_size") // 8
        if not self._ended <= begin <= end <= _LATEST:
            return False
        latest = end
        if following is not None and begin <= following < latest:
            latest = following
        found = self._walk.good(bytes(packet[:content]), header.size, begin, latest)
        if found.problem:
            name = "unfinished packet" if not whole else "packet"
            number = position // self._geometry.subbuf_size
            self._findings.cut.append(
                f"{name} {number} ends behind {found.events} events: {found.problem}"
            )
        if not whole or found.problem or latest != end:
            # Nothing says when it ended: not before its last event.
            end = begin if found.last is None else found.last
        discarded: int = header.get(packet, 0, "events_discarded")
        if not whole and not newest:
            # How many were lost until then stands nowhere: as many as before.
            discarded = 0
        self._discarded = max(self._discarded, discarded)
        size = -(-found.end // _PAGE) * _PAGE
        packet[found.end :] = bytes(size - found.end)
        header.put(packet, 0, "stream_instance_id", self._identity.stream_instance_id)
        header.put(packet, 0, "cpu_id", self._identity.cpu_id)
        header.put(packet, 0, "timestamp_end", end)
        header.put(packet, 0, "content_size", found.end * 8)
        header.put(packet, 0, "packet_size", size * 8)
        header.put(packet, 0, "events_discarded", self._discarded)
        self._ended = end
        self._findings.events += found.events
        return True


def recovered_packets(
    memory: mmap.mmap,
    geometry: Geometry,
    produced: int,
    *,
    identity: StreamIdentity,
    walk: RecordWalk,
    findings: Findings,
) -> Generator[bytes, None, None]:
    """Yield the packets that are left in a stream's memory, by time, each readable.

    Those that a consumer has taken already are among them, as long as nothing was written
    over them; so are older ones on pages that wait for a writer, or are a reader's.

    Parameters
    ----------
    memory, produced
        See `ustconsumer.recover.crashfile.CrashFile.copy`.
    identity : StreamIdentity
        Packets of another trace or stream class are not the stream's.
    walk : RecordWalk
        Of the stream class.
    findings : Findings
        Counted up.
    """
    ring = ObservedRing(memory, geometry.places(), uuid=identity.uuid, stream_id=identity.stream_id)
    try:
        resting = RestingPackets(memory, geometry, uuid=identity.uuid, stream_id=identity.stream_id)
        still = ring.positions()[1] == produced
        reader = _Reader(ring, geometry, identity, resting, still, walk, findings)
        head = geometry.subbuf_trunc(produced)
        position = oldest_position(produced, geometry)
        yield from reader.older(position)
        while True:
            following = None
            if position != head:
                following = ring.begins(geometry.subbuf_align(position))
            packet = reader.packet(position, position == head, following)
            if packet is not None:
                yield packet
            if position == head:
                return
            position = geometry.subbuf_align(position)
    finally:
        ring.release()
