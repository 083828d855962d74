# SPDX-License-Identifier: MIT
"""Writing events into a ring buffer: reserve, write, commit.

Readable definitions; ``_native.emit`` is what runs in a traced program. The property
tests compare both with the writer of liblttng-ust after every event.

Notes
-----
Source: lttng-ust ``src/common/ringbuffer/ring_buffer_frontend.c`` and
``src/common/ringbuffer-clients/template.h``.
"""

from __future__ import annotations

import errno
import struct

from ustconsumer.ringbuffer.commit import Producer
from ustconsumer.ringbuffer.memory import MASK

__all__ = ["COMPACT", "LARGE", "Reservation", "RingWriter", "header_size"]

#: Event header types, as the registry tells the application.
COMPACT, LARGE = 1, 2
#: A timestamp whose bits above these differ from the last one's is written in full.
_TSC_BITS = 27


def header_size(header_type: int, extended: bool) -> int:
    """Return the bytes of an event header on x86-64 (packed)."""
    if header_type == COMPACT:
        return 13 if extended else 4
    return 14 if extended else 6


class Reservation:
    """Bytes reserved and written for one event, not yet committed."""

    def __init__(self, writer: RingWriter, begin: int, size: int, discarded: int):
        self._writer = writer
        self._begin = begin
        self._size = size
        self._discarded = discarded

    def commit(self) -> None:
        """Count the bytes as written; delivers the sub-buffer if they were the last."""
        end = self._begin + self._size
        self._writer.producer.commit(end - 1, end, self._size, self._discarded)


class RingWriter:
    """Writes events into one stream.

    Parameters
    ----------
    producer : Producer
    header_type : int
        `COMPACT` or `LARGE`.
    """

    def __init__(self, producer: Producer, header_type: int = LARGE):
        self.producer = producer
        self.memory = producer.memory
        self.geometry = producer.memory.geometry
        self.header_type = header_type

    def write(self, event_id: int, payload: bytes, now: int) -> int:
        """Write an event; return 0 or a negative errno as the tracer does."""
        reservation = self.reserve(event_id, payload, now)
        if isinstance(reservation, int):
            return reservation
        reservation.commit()
        return 0

    def reserve(self, event_id: int, payload: bytes, now: int) -> Reservation | int:
        """Reserve space for an event and write it; return a negative errno if it is lost."""
        memory, geometry = self.memory, self.geometry
        if geometry.layout.control.get(memory.view, 0, "record_disabled"):
            return -errno.EAGAIN
        extended = event_id > (30 if self.header_type == COMPACT else 65534)
        extended |= (now - memory.load("last_tsc") & MASK) >> _TSC_BITS != 0
        size = header_size(self.header_type, extended) + len(payload)
        old = memory.load("offset")
        used = geometry.subbuf_offset(old)
        if used and used + size < geometry.subbuf_size and memory.cas("offset", old, old + size):
            memory.store("last_tsc", now)
            self.producer.push_reader(old + size - 1)
            self.producer.clear_noref(old + size - 1)
            reservation: Reservation | int = Reservation(self, old, size, 0)
        else:
            reservation = self._reserve_slow(size, now)
        if isinstance(reservation, Reservation):
            self._put_bytes(reservation, self._header(event_id, extended, now) + payload)
        return reservation

    def _lose(self, counter: str, error: int) -> int:
        self.memory.add(counter, 1)
        return -error

    def _reserve_slow(self, size: int, now: int) -> Reservation | int:
        """Reserve at the beginning or up to the end of a sub-buffer."""
        memory, geometry, producer = self.memory, self.geometry, self.producer
        while True:
            old = begin = memory.load("offset")
            used = geometry.subbuf_offset(old)
            close_old = used != 0 and used + size > geometry.subbuf_size
            open_new = used == 0 or close_old
            if open_new:
                start = geometry.subbuf_align(old) if close_old else old
                begin = start + geometry.header_size
                free = memory.free_to_enter(start)
                if old != memory.load("offset"):
                    continue  # the counter just read may belong to another turn
                if not free:
                    return self._lose("lost_wrap", errno.EIO)
                ahead = start - geometry.subbuf_trunc(memory.load("consumed")) & MASK
                if not geometry.overwrite and ahead >= geometry.buf_size:
                    return self._lose("lost_full", errno.ENOBUFS)
                if geometry.subbuf_offset(begin) + size > geometry.subbuf_size:
                    return self._lose("lost_big", errno.ENOSPC)
            end = begin + size
            fills_new = geometry.subbuf_offset(end) == 0
            discarded = memory.lost() if fills_new or close_old else 0
            if memory.cas("offset", old, end):
                break
        memory.store("last_tsc", now)
        producer.push_reader(end - 1)
        producer.clear_noref(end - 1)
        if close_old:
            producer.clear_noref(old - 1)
            producer.close_subbuf(old, now, discarded)
        if open_new:
            producer.write_header(begin - geometry.header_size, now)
            # The tracer counts the header twice in the end it compares: ``seq`` only
            # moves when the first event commits, not when the header does.
            seq_end = begin + geometry.header_size
            producer.commit(begin - 1, seq_end, geometry.header_size, discarded)
        if fills_new:
            producer.fill_subbuf(end - 1, now)
        return Reservation(self, begin, size, discarded)

    def _header(self, event_id: int, extended: bool, now: int) -> bytes:
        if self.header_type == COMPACT:
            if extended:
                return struct.pack("<BIQ", 31, event_id, now)
            return struct.pack("<I", event_id | now << 5 & 0xFFFFFFFF)
        if extended:
            return struct.pack("<HIQ", 65535, event_id, now)
        return struct.pack("<HI", event_id, now & 0xFFFFFFFF)

    def _put_bytes(self, reservation: Reservation, record: bytes) -> None:
        memory, geometry = self.memory, self.geometry
        position = reservation._begin
        page = memory.page_of(memory.load_id(geometry.index(position)))
        at = geometry.data_at(page) + geometry.subbuf_offset(position)
        memory.view[at : at + len(record)] = record
