# SPDX-License-Identifier: MIT
"""What whoever moves the write position must do: open, commit, deliver, close.

Used by `switch` and by writers. Readable definitions; ``_native.ring`` is what runs.

A sub-buffer is delivered when its commit count has grown by its size in this turn.
Everything that is reserved is counted: packet header, events, the padding at the end.

Notes
-----
Source: lttng-ust ``src/common/ringbuffer/frontend_internal.h``,
``ring_buffer_frontend.c`` and ``src/common/ringbuffer-clients/template.h``.
"""

from __future__ import annotations

import contextlib
import os

from ustconsumer._native.atomics import fence
from ustconsumer.abi.packet import CTF_MAGIC, UNKNOWN_SIZE
from ustconsumer.ringbuffer.memory import MASK, StreamMemory, before
from ustconsumer.ringbuffer.reader import readable

__all__ = ["Producer"]


class Producer:
    """The producing side of one stream.

    Parameters
    ----------
    memory : StreamMemory
    uuid : bytes
    stream_id, cpu : int
        Identity written into packet headers.
    wake_fd : int
        Write end of the stream's wake-up pipe, or -1. Non-blocking.
    """

    def __init__(
        self, memory: StreamMemory, uuid: bytes, stream_id: int, cpu: int, wake_fd: int = -1
    ):
        self.memory = memory
        self.uuid = uuid
        self.stream_id = stream_id
        self.cpu = cpu
        self.wake_fd = wake_fd

    # -- after the write position was moved -----------------------------------------

    def push_reader(self, position: int) -> None:
        """Move ``consumed`` out of the way of a reservation at ``position``.

        Happens in overwrite mode only: in discard mode a writer that would overtake
        the reader has given up before it moved the write position. One sub-buffer is
        enough, because every reservation that enters one does this.
        """
        memory, geometry = self.memory, self.memory.geometry
        trunc = geometry.subbuf_trunc
        while True:
            consumed = memory.load("consumed")
            if trunc(trunc(position) - trunc(consumed)) < geometry.buf_size:
                return
            if memory.cas("consumed", consumed, geometry.subbuf_align(consumed)):
                return

    def clear_noref(self, position: int) -> None:
        """Tell the reader that a writer is in this sub-buffer: it must not take it."""
        memory, geometry = self.memory, self.memory.geometry
        if not geometry.overwrite:
            return
        index, noref = geometry.index(position), geometry.layout.id_noref
        current = memory.load_id(index)
        while current & noref and not memory.cas_id(index, current, current & ~noref):
            current = memory.load_id(index)

    # -- the two ends of a sub-buffer ------------------------------------------------

    def write_header(self, position: int, now: int) -> None:
        """Write the packet header at a sub-buffer's start; it is not committed yet."""
        memory, geometry = self.memory, self.memory.geometry
        index, packet = geometry.index(position), geometry.layout.packet
        header = {
            "magic": CTF_MAGIC,
            "uuid": self.uuid,
            "stream_id": self.stream_id,
            "stream_instance_id": self.cpu,
            "timestamp_begin": now,
            "timestamp_end": 0,
            "content_size": UNKNOWN_SIZE,
            "packet_size": UNKNOWN_SIZE,
            "packet_seq_num": geometry.num_subbuf * memory.load_count(index) + index,
            "events_discarded": 0,
            "cpu_id": self.cpu,
        }
        page = memory.page_of(memory.load_id(index))
        packet.put_all(memory.view, geometry.data_at(page), header)

    def fill_subbuf(self, last: int, now: int) -> None:
        """Note size and end time of a sub-buffer whose last content byte is ``last``."""
        memory, geometry = self.memory, self.memory.geometry
        index = geometry.index(last)
        page = memory.page_of(memory.load_id(index))
        memory.store_data_size(page, geometry.subbuf_offset(last) + 1)
        memory.store_ts_end(index, now)

    def close_subbuf(self, end: int, now: int, discarded: int) -> None:
        """Commit the unused rest of a sub-buffer whose content ends before ``end``."""
        geometry = self.memory.geometry
        self.fill_subbuf(end - 1, now)
        boundary = geometry.subbuf_align(end - 1)
        # Never written: the bytes of the padding stay what they were.
        self.commit(end - 1, boundary, (boundary - end) & MASK, discarded)

    # -- commit and deliver ----------------------------------------------------------

    def commit(self, last: int, end: int, length: int, discarded: int) -> None:
        """Count ``length`` reserved bytes as written, and deliver what that completes.

        Parameters
        ----------
        last : int
            Position of a byte of the slot; selects sub-buffer and turn.
        end : int
            Position after the slot.
        length : int
            Bytes of the slot.
        discarded : int
            Lost events as this producer saw them when it closed the sub-buffer, else
            0; ends up in the packet if this commit is the last one.
        """
        memory, geometry = self.memory, self.memory.geometry
        index = geometry.index(last)
        fence()  # the bytes before their count
        count = memory.add_cc(index, length)
        full = (count - geometry.subbuf_size) & geometry.commit_count_mask
        if full == geometry.commit_base(last):
            self._deliver(index, last, count, discarded)
        # All bytes before ``end`` are committed if the count says exactly that much. A
        # race here only leaves ``seq`` behind; it serves the reading of dead buffers.
        if geometry.subbuf_offset(end - count) == 0 and before(memory.load_seq(index), count):
            memory.store_seq(index, count)

    def _deliver(self, index: int, position: int, count: int, discarded: int) -> None:
        memory, geometry = self.memory, self.memory.geometry
        layout, size = geometry.layout, geometry.subbuf_size
        # Addition and load are two steps, so two committers may both see the full count.
        if not memory.cas_cc_sb(index, count - size, count - size + 1):
            return
        page = memory.page_of(memory.load_id(index))
        content = memory.load_data_size(page)
        ending = {
            "timestamp_end": memory.load_ts_end(index),
            "content_size": content * 8,
            "packet_size": -(-content // layout.page_size) * layout.page_size * 8,
            "events_discarded": discarded,
        }
        layout.packet.put_all(memory.view, geometry.data_at(page), ending)
        memory.store_count(index, memory.load_count(index) + 1)
        fence()  # the packet before its id and its delivery count
        if geometry.overwrite:
            memory.store_id(index, page | layout.id_noref | memory.turn_tag(position))
            fence()
        memory.store_cc_sb(index, count)
        memory.store_seq(index, count)
        if geometry.by_writer and memory.load("active_readers") and readable(memory):
            self._wake()

    def _wake(self) -> None:
        if self.wake_fd >= 0:
            # Full: the reader has enough to wake up for.
            with contextlib.suppress(BlockingIOError):
                os.write(self.wake_fd, b"\0")
