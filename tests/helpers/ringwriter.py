# SPDX-License-Identifier: MIT
"""Writers into the ring buffers of others."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from pathlib import Path

from ustconsumer.ringbuffer.commit import Producer
from ustconsumer.ringbuffer.geometry import Geometry
from ustconsumer.ringbuffer.memory import StreamMemory
from ustconsumer.ringbuffer.reserve import (
    COMPACT,
    LARGE,
    Reservation,
    RingWriter,
    header_size,
)

__all__ = ["COMPACT", "LARGE", "Reservation", "RingWriter", "header_size", "writers_into"]


def writers_into(pid: int, geometry: Geometry) -> Iterator[tuple[mmap.mmap, RingWriter, int]]:
    """Yield a writer into each ring buffer a process has, and when the buffer began.

    The memory of the writer is released, and the map closed, by the caller.
    """
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            if not os.readlink(entry).startswith("/memfd:ust-chan_"):
                continue
        except FileNotFoundError:
            continue  # it goes on setting itself up
        fd = os.open(entry, os.O_RDWR)
        shared = mmap.mmap(fd, geometry.file_size)
        os.close(fd)
        memory = StreamMemory(shared, geometry)
        header = geometry.layout.packet.get_all(memory.view, geometry.data)
        producer = Producer(
            memory, header["uuid"], header["stream_id"], header["stream_instance_id"]
        )
        yield shared, RingWriter(producer), header["timestamp_begin"]
