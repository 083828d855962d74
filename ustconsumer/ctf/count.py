# SPDX-License-Identifier: MIT
"""Count the events of a data stream file without decoding them.

`EventCounter` runs; `PythonEventCounter` does the same in the open. Both walk every
packet and every record, and believe nothing they read.
"""

from __future__ import annotations

from collections.abc import Mapping
from mmap import mmap
from typing import TypeAlias

from ustconsumer._native.count import EventCounter
from ustconsumer.abi.event import COMPACT_EVENT, EXTENDED_EVENT, EXTENDED_ID
from ustconsumer.abi.packet import CTF_MAGIC, DATA_PACKET
from ustconsumer.ctf.skip import FIXED, OPAQUE, SEQUENCE, STRING, Steps, problem, records

__all__ = ["EventCounter", "PythonEventCounter", "count_events"]

Buffer: TypeAlias = bytes | bytearray | memoryview | mmap


def count_events(data: Buffer, contexts: Steps, events: Mapping[int, Steps]) -> int:
    """Return the number of events in a stream file.

    Parameters
    ----------
    data : buffer of bytes
        Whole packets of one stream class.
    contexts : list of steps
        Of the stream event context.
    events : mapping of event id to steps
        Of the payloads.

    Raises
    ------
    DecodeError
        The bytes contradict themselves or the description.
    """
    if not len(data):
        return 0
    if len(data) < DATA_PACKET.size:
        raise problem(1, 0, 0)
    stream_id: int = DATA_PACKET.get(data, 0, "stream_id")
    return EventCounter({stream_id: contexts}, {stream_id: events}).count(data)[0]


class PythonEventCounter:
    """The readable definition of `EventCounter`.

    Parameters
    ----------
    contexts : mapping of stream class id to steps
        Of the stream event contexts.
    events : mapping of stream class id to mapping of event id to steps
        Of the payloads. A stream class may be missing while it has no events.
    """

    def __init__(self, contexts: Mapping[int, Steps], events: Mapping[int, Mapping[int, Steps]]):
        self._records = records(contexts, events)

    def count(self, data: Buffer) -> tuple[int, int, int]:
        """Return (events, packets, discarded events as the last packet says)."""
        view = memoryview(data)
        events = packets = discarded = at = 0
        while at < len(view):
            if len(view) - at < DATA_PACKET.size:
                raise problem(1, at, at)
            header = DATA_PACKET.get_all(view, at)
            if header["magic"] != CTF_MAGIC:
                raise problem(2, at, at)
            size, size_rest = divmod(header["packet_size"], 8)
            if size_rest or not DATA_PACKET.size <= size <= len(view) - at:
                raise problem(3, at, at)
            content, content_rest = divmod(header["content_size"], 8)
            if content_rest or not DATA_PACKET.size <= content <= size:
                raise problem(4, at, at)
            known = self._records.get(header["stream_id"])
            if known is None and content != DATA_PACKET.size:
                raise problem(5, at, at)
            events += _packet(view, at, at + content, known or {})
            packets += 1
            discarded = header["events_discarded"]
            at += size
        return events, packets, discarded


def _packet(view: memoryview, packet: int, end: int, known: Mapping[int, Steps]) -> int:
    """Return the number of records of one packet, which ends at byte ``end``."""
    events = 0
    at = packet + DATA_PACKET.size
    while at < end:
        start = at
        if end - at < COMPACT_EVENT.size:
            raise problem(6, packet, start)
        event_id: int = COMPACT_EVENT.get(view, at, "id")
        if event_id != EXTENDED_ID:
            at += COMPACT_EVENT.size
        elif end - at < EXTENDED_EVENT.size:
            raise problem(6, packet, start)
        else:
            event_id = EXTENDED_EVENT.get(view, at, "id")
            at += EXTENDED_EVENT.size
        pairs = known.get(event_id)
        if pairs is None:
            raise problem(7, packet, start)
        for operation, argument in pairs:
            if operation == OPAQUE:
                raise problem(9, packet, start)
            size = _size(view[at:end], operation, argument)
            if size is None or size > end - at:
                raise problem(8, packet, start)
            at += size
        events += 1
    return events


def _size(rest: memoryview, operation: int, argument: int) -> int | None:
    """Return the bytes a step goes over, None if even its length is cut off."""
    if operation == FIXED:
        return argument
    if operation == STRING:
        nul = bytes(rest).find(b"\0")
        return None if nul < 0 else nul + 1
    width = 1 << (operation - SEQUENCE)
    if len(rest) < width:
        return None
    return width + int.from_bytes(rest[:width], "little") * argument
