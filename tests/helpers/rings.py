# SPDX-License-Identifier: MIT
"""Ring buffers made for a test: memory, ring, and packets without a traced program."""

from __future__ import annotations

import contextlib
import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass

from ustconsumer._native.ring import Ring
from ustconsumer.abi.ring import RING_LAYOUTS
from ustconsumer.consumer.packet import Stream, Trace
from ustconsumer.ringbuffer.allocate import create_memory, initialise
from ustconsumer.ringbuffer.geometry import Geometry
from ustconsumer.units import CpuId

__all__ = ["TestRing", "make_ring"]

UUID = bytes(range(16))
CHANNEL_ID = 3
CPU = 1


@dataclass
class TestRing:
    """A stream with its memory."""

    __test__ = False

    stream: Stream
    memory: mmap.mmap
    ring: Ring

    def packet(self, now: int) -> None:
        """Close one packet, empty but for its header."""
        assert self.ring.switch(True, now)

    def poke(self, page: int, field: str, value: int) -> None:
        """Overwrite a field of a page's packet header."""
        geometry = self.stream.geometry
        geometry.layout.packet.put(self.memory, geometry.data_at(page), field, value)


@contextlib.contextmanager
def make_ring(
    subbuf_size: int = 4096, num_subbuf: int = 4, overwrite: bool = False
) -> Iterator[TestRing]:
    """Make the ring buffer of CPU 1, channel 3; its clock starts at 1000 ns."""
    geometry = Geometry(RING_LAYOUTS["ust-9-x86_64"], subbuf_size, num_subbuf, overwrite=overwrite)
    fd = create_memory(geometry, "test")
    memory = mmap.mmap(fd, geometry.file_size)
    os.close(fd)
    initialise(
        memory,
        geometry,
        stream_nr=CPU,
        cpu=CPU,
        channel_id=CHANNEL_ID,
        uuid=UUID,
        now=1000,
        active_readers=1,
    )
    ring = Ring(memory, geometry.places(), uuid=UUID, stream_id=CHANNEL_ID, cpu=CPU)
    trace = Trace("t", "ust/uid/1/64-bit", UUID, 1)
    yield TestRing(Stream(1, trace, "channel0", CHANNEL_ID, CpuId(CPU), geometry), memory, ring)
    ring.release()
    memory.close()
