# SPDX-License-Identifier: MIT
"""Finish sub-buffers that a process left unfinished when it was killed.

A writer reserves bytes, writes them, and commits them; killed in between, it leaves a
sub-buffer whose commit count never becomes full: it is never delivered, and writers that
come round to it lose every event. When no living process can commit to it any more, it
is ours: the hole is cut out, the packet gets its end, and the counters become what they
would be had the writer lived.

Notes
-----
This is not upstream's: liblttng-ust 2.13 has no repair. Every step leaves a state from
which another repair goes on, so that whoever repairs may be killed too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ustconsumer._native.atomics import fence
from ustconsumer.abi.packet import CTF_MAGIC
from ustconsumer.errors import RingBufferError
from ustconsumer.ringbuffer.commit import Producer
from ustconsumer.ringbuffer.memory import MASK, StreamMemory, before
from ustconsumer.ringbuffer.salvage import RecordReader, Salvaged, Torn, salvage

__all__ = ["Repaired", "holes", "repair"]

#: Nanoseconds by which ``last_tsc`` may be behind.
_SLACK = 1 << 27


@dataclass
class Repaired:
    """What a repair did.

    Attributes
    ----------
    packets : int
        Sub-buffers that were finished.
    lost : int
        Bytes of committed events that could not be told from the hole.
    """

    packets: int = 0
    lost: int = 0


def holes(memory: StreamMemory, produced: int) -> Iterator[int]:
    """Yield the positions of sub-buffers below ``produced`` that are not delivered."""
    geometry = memory.geometry
    size = geometry.subbuf_size
    # Writers are at most one turn ahead of an unfinished sub-buffer: they do not enter it.
    # The consumed position does not count: whoever comes round meets it all the same.
    end = geometry.subbuf_trunc(produced)
    start = geometry.subbuf_trunc(memory.load("offset") + size - 1) - geometry.buf_size
    for number in range(geometry.num_subbuf):
        position = start + number * size & MASK
        if not before(position, end):
            return
        if not memory.committed(position):
            yield position


def repair(producer: Producer, produced: int, reader: RecordReader | None) -> Repaired:
    """Finish every unfinished sub-buffer below a position.

    Parameters
    ----------
    producer : Producer
        Memory and identity of the stream.
    produced : int
        Write position at a moment since which every living writer has been outside of
        the tracer once: what is not committed below will never be.
    reader : RecordReader or None
        Walks the stream's records, to find the events behind a hole.

    Raises
    ------
    RingBufferError
        The counters contradict each other.
    """
    done = Repaired()
    for position in holes(producer.memory, produced):
        done.lost += _Subbuf(producer, position).finish(reader)
        done.packets += 1
    return done


class _Subbuf:
    """One unfinished sub-buffer."""

    def __init__(self, producer: Producer, position: int) -> None:
        self._producer = producer
        self._memory = memory = producer.memory
        geometry = memory.geometry
        self._position = position
        self._index = geometry.index(position)
        self._page = memory.page_of(memory.load_id(self._index))
        self._start = geometry.data_at(self._page)
        self._packet = geometry.layout.packet
        # Commit counters are whole words, of which the turn takes the low bits.
        count = memory.add_cc(self._index, 0)
        mask, size = geometry.commit_count_mask, geometry.subbuf_size
        committed = count - geometry.commit_base(position) & mask
        if committed > size:
            raise RingBufferError(f"a commit count is impossible: {committed} of {size} bytes")
        self._base = count - committed & MASK
        self._missing = size - committed
        if memory.load_cc_sb(self._index) - self._base & MASK not in (0, 1):
            raise RingBufferError("a delivery count is impossible")

    def finish(self, reader: RecordReader | None) -> int:
        """Deliver it; return the bytes of committed events that are lost."""
        lost = 0
        if self._missing:
            lost = self._mend(reader)
        memory, size = self._memory, self._memory.geometry.subbuf_size
        if not memory.geometry.header_size <= memory.load_data_size(self._page) <= size:
            raise RingBufferError("the content of a sub-buffer has an impossible size")
        fence()  # the packet's content before its count
        memory.add_cc(self._index, self._missing)
        # If somebody began to deliver, he is dead: it is done again as a whole.
        self._deliver()
        return lost

    # -- content ---------------------------------------------------------------------

    def _mend(self, reader: RecordReader | None) -> int:
        """Make the content whole and contiguous; note its size and its end."""
        memory, geometry = self._memory, self._memory.geometry
        torn = self._look()
        found = salvage(torn, reader)
        begin = torn.begin
        if not torn.opened:
            begin = torn.begin if torn.begin is not None else found.first
            begin = torn.latest if begin is None else begin
            memory.store_count(self._index, geometry.turn(self._position))
            self._producer.write_header(self._position, begin)
            fence()
        if torn.prefix < geometry.header_size:
            self._count_header(torn, found)
        self._cut(found)
        assert begin is not None
        end = self._content_of(found)
        memory.store_data_size(self._page, end)
        if not torn.content:
            # Who closed it did not say when. No later than the next one was opened.
            closed = self._next_begin()
            last = begin if found.last is None else found.last
            memory.store_ts_end(self._index, last if closed is None else max(closed, last))
        return found.lost

    @staticmethod
    def _content_of(found: Salvaged) -> int:
        return found.end - sum(length for _, length in found.holes)

    def _look(self) -> Torn:
        memory, geometry = self._memory, self._memory.geometry
        size, header = geometry.subbuf_size, geometry.header_size
        data = bytes(memory.view[self._start : self._start + size])
        prefix = memory.load_seq(self._index) - self._base & MASK
        if prefix > size:
            prefix = 0  # of an earlier turn
        opened = self._is_header(self._page, self._position)
        begin = self._packet.get(data, 0, "timestamp_begin") if opened else None
        if not opened:
            prefix = 0
        ts_end = memory.load_ts_end(self._index)
        # A plain store of many: an older time may have come last.
        latest = memory.load("last_tsc") + _SLACK
        following = self._next_begin()
        before_it = self._end_before()
        content = memory.load_data_size(self._page)
        # The table has the end of one turn ago until somebody closes this one.
        least = begin if begin is not None else before_it
        closed = least is not None and ts_end >= least and geometry.num_subbuf > 1
        closed |= least is not None and ts_end > least
        if closed:
            latest = ts_end
        elif following is not None:
            latest = following
        return Torn(
            data=data,
            header=header,
            prefix=prefix,
            missing=self._missing,
            content=content if closed else 0,
            perhaps=0 if closed else content,
            begin=begin if opened else before_it,
            latest=max(latest, least or 0),
            opened=opened,
        )

    def _is_header(self, page: int, position: int) -> bool:
        """Return whether the header of this very packet was written."""
        memory, geometry, packet = self._memory, self._memory.geometry, self._packet
        at = geometry.data_at(page)
        number: int = packet.get(memory.view, at, "packet_seq_num")
        magic: int = packet.get(memory.view, at, "magic")
        return magic == CTF_MAGIC and number == position // geometry.subbuf_size

    def _next_begin(self) -> int | None:
        """Return when the packet behind was opened, None if that is not known."""
        memory, geometry = self._memory, self._memory.geometry
        following = self._position + geometry.subbuf_size & MASK
        if geometry.num_subbuf == 1 or not before(following, memory.load("offset")):
            return None
        page = memory.page_of(memory.load_id(geometry.index(following)))
        if not self._is_header(page, following):
            return None
        at = geometry.data_at(page)
        begin: int = self._packet.get(memory.view, at, "timestamp_begin")
        return begin

    def _end_before(self) -> int | None:
        """Return when the packet before was closed, None if that is not known any more."""
        memory, geometry = self._memory, self._memory.geometry
        if memory.load("offset") - self._position & MASK >= geometry.buf_size:
            return None  # its sub-buffer was closed again, one turn on
        return memory.load_ts_end(geometry.index(self._position - geometry.subbuf_size & MASK))

    def _count_header(self, torn: Torn, found: Salvaged) -> None:
        """Commit the packet header, unless its writer has."""
        memory, header = self._memory, torn.header
        size = memory.geometry.subbuf_size
        inside = sum(length for _, length in found.holes)
        outside = torn.missing - inside
        # What is missing outside the content is padding, whole or not at all, and the header.
        if outside in (header, header + size - found.end) or not torn.opened:
            header = min(header, self._missing)
            memory.add_cc(self._index, header)
            self._missing -= header
        memory.store_seq(self._index, self._base + torn.header & MASK)

    def _cut(self, found: Salvaged) -> None:
        """Move the records behind each hole down over it.

        The content is always what lies before ``seq``, and what lies behind the hole
        that begins there: moved in pieces no longer than the hole, neither is ever torn.
        """
        memory, view = self._memory, self._memory.view
        removed = 0
        for number, (at, length) in enumerate(found.holes, 1):
            until = found.holes[number][0] if number < len(found.holes) else found.end
            target, source = at - removed, at + length
            removed += length
            while source < until:
                memory.store_seq(self._index, self._base + target & MASK)
                piece = min(removed, until - source)
                to, origin = self._start + target, self._start + source
                view[to : to + piece] = view[origin : origin + piece]
                fence()
                target += piece
                source += piece
        memory.store_seq(self._index, self._base + self._content_of(found) & MASK)

    # -- delivery --------------------------------------------------------------------

    def _deliver(self) -> None:
        memory, geometry = self._memory, self._memory.geometry
        layout, size = geometry.layout, geometry.subbuf_size
        content = memory.load_data_size(self._page)
        begin: int = self._packet.get(memory.view, self._start, "timestamp_begin")
        ending = {
            "timestamp_end": max(memory.load_ts_end(self._index), begin),
            "content_size": content * 8,
            "packet_size": -(-content // layout.page_size) * layout.page_size * 8,
            "events_discarded": self._lost(),
        }
        self._packet.put_all(memory.view, self._start, ending)
        memory.store_count(self._index, geometry.turn(self._position) + 1)
        fence()  # the packet before its id and its delivery count
        if geometry.overwrite:
            tag = memory.turn_tag(self._position)
            memory.store_id(self._index, self._page | layout.id_noref | tag)
            fence()
        full = self._base + size & MASK
        memory.store_seq(self._index, full)
        memory.store_cc_sb(self._index, full)

    def _lost(self) -> int:
        """Return the events lost by the end of this packet, as far as it has to tell.

        When it was closed is past. A later packet says more; the reader takes care that
        the count never goes back.
        """
        memory, geometry = self._memory, self._memory.geometry
        following = self._position + geometry.subbuf_size & MASK
        later = before(following, memory.load("offset"))
        return 0 if later else memory.lost()
