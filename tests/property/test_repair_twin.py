# SPDX-License-Identifier: MIT
"""Buffers of liblttng-ust-ctl with a hole: repaired by us, then read and written by it."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from helpers.ringwriter import LARGE, Reservation, RingWriter
from helpers.ustctl import UstCtl, possible_cpus

from ustconsumer.abi.ring import RING_LAYOUTS
from ustconsumer.ctf.skip import FIXED
from ustconsumer.ringbuffer.commit import Producer
from ustconsumer.ringbuffer.geometry import Geometry
from ustconsumer.ringbuffer.memory import StreamMemory
from ustconsumer.ringbuffer.repair import repair
from ustconsumer.ringbuffer.salvage import RecordReader

pytestmark = pytest.mark.peers("gcc", "liblttng-ust-ctl")

LAYOUT = RING_LAYOUTS["ust-9-x86_64"]
UUID = bytes(range(16))
CHANNEL_ID, CPU = 7, possible_cpus() - 1
EVENT_ID, LENGTH = 3, 30
RECORD = 6 + LENGTH


class Twin:
    """The library's stream, and a writer of ours in it."""

    def __init__(self, theirs: UstCtl, geometry: Geometry):
        self.theirs = theirs
        self.geometry = geometry
        self.now = 10**12
        self.memory = StreamMemory(theirs.streams[CPU], geometry)
        self.producer = Producer(self.memory, UUID, CHANNEL_ID, CPU)
        self.writer = RingWriter(self.producer, LARGE)

    def call(self, command: str, *arguments: int) -> int:
        self.now += 100
        result, _ = self.theirs.call(self.now, command, *arguments)
        return result

    def write(self) -> int:
        return self.call("w", EVENT_ID, LENGTH, self.now & 0xFF)

    def drain(self) -> list[tuple[int, int, int]]:
        """Read everything; return (sequence, content, events discarded) of each packet."""
        packets = []
        while self.call("n") == 0:
            numbers = self.theirs.call(self.now, "h")
            begin, end, discarded, content, _, sequence = numbers[5:11]
            assert begin <= end
            packets.append((sequence, content // 8, discarded))
            assert self.call("N") == 0
        return packets


@pytest.mark.parametrize("behind", [0, 5])
@pytest.mark.parametrize("overwrite", [False, True], ids=["discard", "overwrite"])
def test_the_library_goes_on(ust_ctl: Path, overwrite: bool, behind: int) -> None:
    geometry = Geometry(LAYOUT, 4096, 4, overwrite)
    with UstCtl(ust_ctl, geometry, now=10**12, channel_id=CHANNEL_ID, uuid=UUID, cpu=CPU) as theirs:
        twin = Twin(theirs, geometry)
        try:
            for _ in range(300):
                assert twin.write() == 0
                twin.drain()
            number = twin.memory.load("offset") // geometry.subbuf_size
            before = geometry.subbuf_offset(twin.memory.load("offset"))
            dead = twin.writer.reserve(EVENT_ID, bytes(LENGTH), twin.now)
            assert isinstance(dead, Reservation)
            for _ in range(behind):
                assert twin.write() == 0
            assert twin.call("f", 0) == 0
            # The hole: the library does not get past it, and loses what comes round to it.
            assert twin.drain() == []
            while (result := twin.write()) == 0:
                pass
            assert result == -errno.EIO
            produced = twin.memory.load("offset")
            done = repair(twin.producer, produced, RecordReader({EVENT_ID: [(FIXED, LENGTH)]}))
            assert (done.packets, done.lost) == (1, 0)
            first, *others = twin.drain()
            assert first == (number, before + behind * RECORD, 0)
            assert [sequence for sequence, _, _ in others] == [number + 1, number + 2]
            lost = twin.memory.lost()
            for _ in range(3 * 4 * 4096 // RECORD):
                assert twin.write() == 0
                twin.drain()
            assert twin.memory.lost() == lost
        finally:
            twin.memory.release()
