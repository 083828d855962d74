# SPDX-License-Identifier: MIT
"""What a consumer hands to a sink: streams and packets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ustconsumer._native.window import Window
from ustconsumer.errors import RingBufferError
from ustconsumer.units import CpuId, Nanoseconds

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from ustconsumer.ringbuffer.geometry import Geometry

__all__ = ["Packet", "Stream", "Trace"]


@dataclass(frozen=True)
class Trace:
    """One CTF trace of a session: the buffers of one uid.

    Attributes
    ----------
    id : str
    path : str
        Directory below the session's output, ``ust/uid/1000/64-bit``.
    uuid : bytes, length 16
    uid : int
        Owner of the applications that write it.
    restarts : int
        How often its metadata had started over when we came.
    """

    id: str
    path: str
    uuid: bytes
    uid: int
    restarts: int = 0


@dataclass(frozen=True)
class Stream:
    """One ring buffer, one data stream of a trace.

    Attributes
    ----------
    id : int
        Unique in the session.
    trace : Trace
    channel : str
    channel_id : int
        Stream class id in the trace.
    cpu : CpuId
    geometry : Geometry
    tracefile_size, tracefile_count : int
        Bytes that one of its files may have, and how many there are at most; 0: no limit.
    """

    id: int
    trace: Trace
    channel: str
    channel_id: int
    cpu: CpuId
    geometry: Geometry
    tracefile_size: int = 0
    tracefile_count: int = 0

    @property
    def name(self) -> str:
        """File name in LTTng's layout: ``channel0_1``."""
        return f"{self.channel}_{self.cpu}"


class Packet:
    """A packet still in its sub-buffer.

    Attributes
    ----------
    stream : Stream
    sequence : int
        Number of the sub-buffer since the stream's creation.
    timestamp_begin, timestamp_end : Nanoseconds
        CLOCK_MONOTONIC.
    content_size, packet_size : int
        Bytes; the packet is the content rounded up to a page.
    events_discarded : int
        Events lost by this stream up to this packet.
    """

    __slots__ = (
        "_data",
        "_memory",
        "content_size",
        "events_discarded",
        "packet_size",
        "sequence",
        "stream",
        "timestamp_begin",
        "timestamp_end",
    )

    def __init__(self, stream: Stream, memory: Window, content_size: int, sequence: int) -> None:
        header = stream.geometry.layout.packet.get_all(memory)
        self.stream = stream
        self.sequence = sequence
        self.timestamp_begin = Nanoseconds(header["timestamp_begin"])
        self.timestamp_end = Nanoseconds(header["timestamp_end"])
        self.events_discarded: int = header["events_discarded"]
        self.content_size = content_size
        self.packet_size = len(memory)
        self._memory: Window | None = memory
        self._data: npt.NDArray[np.uint8] | None = None

    @property
    def data(self) -> npt.NDArray[np.uint8]:
        """Bytes of the packet.

        Returns
        -------
        ndarray, shape (packet_size,), uint8
            Read-only view, no copy; valid until the sink's ``write`` returned or the
            iteration went on. `copy` is there for keeping.

        Raises
        ------
        RingBufferError
            The packet was given back.
        """
        if self._data is None:
            import numpy as np

            self._data = np.frombuffer(self.raw, np.uint8)
        return self._data

    @property
    def raw(self) -> memoryview:
        """`data` for who needs no numpy: release it before ``write`` returns."""
        if self._memory is None:
            raise RingBufferError(f"packet {self.sequence} was given back: use copy() to keep it")
        return memoryview(self._memory)

    def copy(self) -> npt.NDArray[np.uint8]:
        """Return the bytes as an array of your own, shape (packet_size,), uint8."""
        return self.data.copy()

    def release(self) -> None:
        """End the view.

        Raises
        ------
        RingBufferError
            Somebody kept a view of the packet: it would show other events soon.
        """
        self._data = None
        if self._memory is not None and self._memory.exports:
            raise RingBufferError(
                f"a view of packet {self.sequence} of {self.stream.name} was kept: "
                "keep packet.copy() instead"
            )
        self._memory = None
