# SPDX-License-Identifier: MIT
"""What a session with buffers in files leaves when everything dies, made by hand."""

from __future__ import annotations

import mmap
import struct
from collections import Counter
from pathlib import Path
from typing import Any

from helpers import handmade
from helpers.ringwriter import RingWriter

from ustconsumer._native.ring import Ring
from ustconsumer.abi.ring import RING_LAYOUTS
from ustconsumer.ctf.metadata import event_block, stream_block, trace_header
from ustconsumer.ctf.reading import Trace
from ustconsumer.ctf.types import Field, Integer, String
from ustconsumer.ringbuffer.allocate import initialise
from ustconsumer.ringbuffer.commit import Producer
from ustconsumer.ringbuffer.geometry import Geometry
from ustconsumer.ringbuffer.memory import StreamMemory

__all__ = ["METADATA", "PLACE", "START", "CrashedStream", "numbers"]

CHANNEL, CPU = 0, 1
#: Clock cycles when the buffer was made: far from what the clock says now.
START = 1 << 50
PLACE = Path("crash-20261123-120000/ust/uid/1000/64-bit")
UUID = bytes.fromhex(handmade.UUID.replace("-", ""))
_FIELDS = (Field("n", Integer(32, False)), Field("text", String()))
METADATA = (
    trace_header(handmade.description())
    + stream_block(CHANNEL, ())
    + event_block(CHANNEL, 0, "p:tick", 13, _FIELDS)
    + event_block(CHANNEL, 1, "p:late", 13, _FIELDS)
)


class CrashedStream:
    """The file of a stream, and what was recorded in it.

    Parameters
    ----------
    directory : Path
        Of the trace; made, with its metadata.

    Attributes
    ----------
    memory : mmap
        What `save` writes.
    """

    def __init__(
        self,
        directory: Path,
        *,
        subbuf_size: int = 4096,
        num_subbuf: int = 4,
        overwrite: bool = False,
    ) -> None:
        self.path = directory / f"chan_{CPU}"
        layout = RING_LAYOUTS["ust-9-x86_64"]
        self.geometry = geometry = Geometry(layout, subbuf_size, num_subbuf, overwrite=overwrite)
        self.memory = mmap.mmap(-1, geometry.file_size)
        identity: dict[str, Any] = {"uuid": UUID, "cpu": CPU}
        initialise(
            self.memory,
            geometry,
            stream_nr=CPU,
            channel_id=CHANNEL,
            now=START,
            active_readers=1,
            **identity,
        )
        self.words = StreamMemory(self.memory, geometry)
        self.writer = RingWriter(Producer(self.words, UUID, CHANNEL, CPU))
        self.ring = Ring(self.memory, geometry.places(), stream_id=CHANNEL, **identity)
        self.time = START
        self._number = 0
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "metadata").write_text(METADATA)

    def write(self, count: int, event: int = 0, length: int = 90) -> list[int]:
        """Record events, numbered on; return the numbers of those that had room."""
        done = []
        for _ in range(count):
            self.time += 1000
            if self.writer.write(event, self.payload(self._number, length), self.time) == 0:
                done.append(self._number)
            self._number += 1
        return done

    @staticmethod
    def payload(number: int, length: int = 90) -> bytes:
        """Return what an event has: a number, a text."""
        return struct.pack("<I", number) + b"x" * length + b"\0"

    def save(self) -> Path:
        """Write the file, as it would be found now; return its path."""
        self.path.write_bytes(self.memory[:])
        return self.path

    def close(self) -> None:
        self.ring.release()
        self.words.release()
        self.memory.close()


def numbers(directory: Path) -> Counter[int]:
    """Return the numbers of the events in a trace, each as often as it is there."""
    return Counter(event.fields["n"] for event in Trace(directory))  # type: ignore[misc]
