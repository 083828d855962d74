# SPDX-License-Identifier: MIT
"""The readable definitions behind the methods of the native `Ring`."""

from __future__ import annotations

from typing import Any

from ustconsumer._native.atomics import fence
from ustconsumer.errors import LayoutError, RingBufferError
from ustconsumer.ringbuffer import reader
from ustconsumer.ringbuffer.commit import Producer
from ustconsumer.ringbuffer.geometry import Geometry
from ustconsumer.ringbuffer.memory import StreamMemory
from ustconsumer.ringbuffer.switch import switch
from ustconsumer.ringbuffer.takeover import take_over
from ustconsumer.units import Position

__all__ = ["PythonRing"]


class PythonRing:
    """One ring buffer, for reading and testing. Same methods as ``_native.ring.Ring``.

    Parameters
    ----------
    buf : buffer
        Memory of the stream, writable.
    geometry : Geometry
    uuid, stream_id, cpu, wake_fd
        As in `Producer`.
    """

    def __init__(
        self,
        buf: Any,
        geometry: Geometry,
        *,
        uuid: bytes = bytes(16),
        stream_id: int = 0,
        cpu: int = 0,
        wake_fd: int = -1,
    ):
        if len(uuid) != 16:
            raise LayoutError("uuid", "16 bytes", len(uuid))
        self.memory = StreamMemory(buf, geometry)
        self.producer = Producer(self.memory, uuid, stream_id, cpu, wake_fd)
        #: Bytes behind the consumed position that were read and are not given back yet.
        self.ahead = 0

    def open(self) -> None:
        """Announce a reader: writers send wake-ups from now on."""
        self.memory.store("active_readers", 1)
        fence()

    def close(self) -> None:
        """Withdraw the reader; the memory stays mapped."""
        fence()
        self.memory.store("active_readers", 0)

    def release(self) -> None:
        """Give the buffer back; nothing else works afterwards."""
        self.memory.release()

    def positions(self) -> tuple[int, int]:
        """Return ``(consumed, produced)``; the two are not sampled at one instant."""
        return self.memory.load("consumed"), self.memory.load("offset")

    def readable(self) -> bool:
        """Return whether the sub-buffer at ``consumed``, and `ahead`, can be read now."""
        return reader.readable(self.memory, self.ahead)

    def snapshot(self) -> bool:
        """Note where reading can begin and end; False if nothing was produced."""
        return reader.snapshot(self.memory)

    def held(self) -> bool:
        """Return whether a reader holds a sub-buffer (also one that died holding it)."""
        return self.memory.held

    def take_over(self) -> bool:
        """Mend what a reader left that was killed; return whether there was anything."""
        return take_over(self.memory)

    def get(self, position: int) -> bool:
        """Take the sub-buffer at ``position``; False if it cannot be read now."""
        return reader.get(self.memory, position)

    def put(self) -> None:
        """Give the held sub-buffer back; does not move ``consumed``."""
        reader.put(self.memory)

    def get_next(self) -> bool:
        """Take the sub-buffer at ``consumed``; False if there is none to read."""
        if self.memory.held:
            raise RingBufferError("a sub-buffer is held already: put it first")
        return reader.get_next(self.memory)

    def put_next(self) -> None:
        """Give the held sub-buffer back and move ``consumed`` past it."""
        reader.put_next(self.memory)

    def move_consumer(self, position: int) -> None:
        """Move ``consumed`` forward to ``position``; never backward."""
        reader.move_consumer(self.memory, position)

    def current(self) -> tuple[int, int, Position]:
        """Return ``(page, data_size, position)`` of the held sub-buffer.

        Raises
        ------
        RingBufferError
            None is held, or its id or size is impossible.
        """
        memory, geometry = self.memory, self.memory.geometry
        if not memory.held:
            raise RingBufferError("no sub-buffer is held")
        page = memory.page_of(memory.load("rsb_id"))
        size = memory.load_data_size(page)
        if not geometry.header_size <= size <= geometry.subbuf_size:
            raise RingBufferError(f"a packet's size is not within its sub-buffer: {size} bytes")
        return page, size, Position(memory.load("get_subbuf_consumed"))

    def switch(self, final: bool, now: int | None = None) -> bool:
        """Close the sub-buffer being written; return whether a packet was closed."""
        return switch(self.producer, final, now)

    def clear(self) -> None:
        """Forget everything delivered; sound only while no writer writes."""
        self.switch(False)
        geometry = self.memory.geometry
        reader.move_consumer(self.memory, geometry.subbuf_trunc(self.memory.load("offset")))
