# SPDX-License-Identifier: MIT
"""A stream of the registry as memory of ours."""

from __future__ import annotations

import contextlib
import mmap
import os
from dataclasses import dataclass

from ustconsumer._native.ring import Ring
from ustconsumer.abi.ring import RING_LAYOUTS
from ustconsumer.consumer.packet import Stream, Trace
from ustconsumer.errors import LayoutError, UstConsumerError
from ustconsumer.mappers import File, file_of
from ustconsumer.protocol.control import StreamAdded
from ustconsumer.ringbuffer.geometry import Geometry
from ustconsumer.units import CpuId

__all__ = ["MappedStream", "described_stream", "map_stream"]


@dataclass(eq=False)
class MappedStream:
    """A stream with its memory and ring."""

    stream: Stream
    memory: mmap.mmap
    ring: Ring
    #: Periods in which whoever holds the lease switches it and looks at it; 0: no timer.
    switch_timer_us: int = 0
    read_timer_us: int = 0
    #: identity of the memory, for finding out who else has it
    file: File = (0, 0)

    def close(self) -> None:
        """Unmap; views still held make this wait for their end."""
        with contextlib.suppress(UstConsumerError):
            self.ring.close()
        self.ring.release()
        with contextlib.suppress(BufferError):
            self.memory.close()


def map_stream(message: StreamAdded, trace: Trace, fd: int) -> MappedStream:
    """Map what the registry says is a stream.

    Parameters
    ----------
    message : StreamAdded
    trace : Trace
        The one it belongs to.
    fd : int
        Its memory; not owned, and not needed afterwards.

    Raises
    ------
    LayoutError
        The layout is unknown, or the memory has another size than it says.
    UsageError
        Its sizes make no ring buffer.
    OSError
        It cannot be mapped.
    """
    stream = described_stream(message, trace, fd)
    geometry = stream.geometry
    memory = mmap.mmap(fd, geometry.file_size, flags=mmap.MAP_SHARED | mmap.MAP_POPULATE)
    ring = Ring(
        memory,
        geometry.places(),
        uuid=trace.uuid,
        stream_id=message.channel_id,
        cpu=message.cpu,
    )
    return MappedStream(
        stream, memory, ring, message.switch_timer_us, message.read_timer_us, file_of(fd)
    )


def described_stream(message: StreamAdded, trace: Trace, fd: int) -> Stream:
    """Return the stream that the registry describes, checked against its memory.

    Parameters and errors as those of `map_stream`.
    """
    layout = RING_LAYOUTS.get(message.layout)
    if layout is None:
        raise LayoutError("stream", "a known layout", message.layout)
    geometry = Geometry(
        layout,
        message.subbuf_size,
        message.num_subbuf,
        overwrite=message.overwrite,
        by_writer=message.by_writer,
    )
    size = os.fstat(fd).st_size
    if not geometry.file_size == message.memory_size == size:
        raise LayoutError("stream memory", f"{geometry.file_size} bytes", size)
    return Stream(
        message.stream,
        trace,
        message.channel,
        message.channel_id,
        CpuId(message.cpu),
        geometry,
        message.tracefile_size,
        message.tracefile_count,
    )
