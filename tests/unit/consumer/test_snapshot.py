# SPDX-License-Identifier: MIT
"""What a snapshot takes of buffers made for the test."""

from __future__ import annotations

import contextlib
import mmap
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.ringwriter import RingWriter

from ustconsumer._native.observer import ObservedRing
from ustconsumer._native.ring import Ring
from ustconsumer.abi.ring import RING_LAYOUTS
from ustconsumer.consumer.observer import Mappings, ObservedStream
from ustconsumer.consumer.packet import Stream, Trace
from ustconsumer.consumer.snapshot import Snapshot, take_snapshot
from ustconsumer.errors import RingBufferError, UsageError
from ustconsumer.ringbuffer.allocate import create_memory, initialise
from ustconsumer.ringbuffer.commit import Producer
from ustconsumer.ringbuffer.geometry import Geometry
from ustconsumer.ringbuffer.memory import StreamMemory
from ustconsumer.units import CpuId

LAYOUT = RING_LAYOUTS["ust-9-x86_64"]
UUID = b"0123456789abcdef"
TRACE = Trace("t", "ust/uid/1/64-bit", UUID, 1)
S, N = 4096, 8
METADATA = b"stream {\n\tid = 3;\n};\n"


class Buffer:
    """A stream that a test writes into, and its read-only view."""

    def __init__(self, cpu: int, channel_id: int = 3) -> None:
        geometry = Geometry(LAYOUT, S, N, overwrite=True)
        fd = create_memory(geometry, "test")
        self._memory = mmap.mmap(fd, geometry.file_size)
        initialise(
            self._memory,
            geometry,
            stream_nr=cpu,
            cpu=cpu,
            channel_id=channel_id,
            uuid=UUID,
            now=100,
            active_readers=0,
        )
        self.words = StreamMemory(self._memory, geometry)
        self._ring = Ring(self._memory, geometry.places(), uuid=UUID, stream_id=channel_id, cpu=cpu)
        self.writer = RingWriter(Producer(self.words, UUID, channel_id, cpu))
        view = mmap.mmap(fd, geometry.file_size, mmap.MAP_SHARED, mmap.PROT_READ)
        os.close(fd)
        stream = Stream(cpu, TRACE, "channel0", channel_id, CpuId(cpu), geometry)
        ring = ObservedRing(view, geometry.places(), uuid=UUID, stream_id=channel_id, cpu=cpu)
        self.observed = ObservedStream(stream, ring, view)
        self.now = 200

    def events(self, count: int, size: int = 1000) -> None:
        for _ in range(count):
            self.now += 1
            assert self.writer.write(0, bytes(size), self.now) == 0

    def packets(self, count: int) -> None:
        for _ in range(count):
            self.events(1)
            assert self._ring.switch(False, self.now)

    def close(self) -> None:
        self.observed.close()
        self._ring.release()
        self.words.release()
        self._memory.close()


@pytest.fixture
def buffers() -> Iterator[list[Buffer]]:
    made = [Buffer(0), Buffer(1)]
    with contextlib.ExitStack() as stack:
        for buffer in made:
            stack.callback(buffer.close)
        yield made


def snapshot(buffers: list[Buffer], directory: Path, max_size: int = 0) -> Snapshot:
    observed = [buffer.observed for buffer in buffers]
    return take_snapshot(observed, lambda: [(TRACE, METADATA)], directory, max_size)


def sequences(directory: Path, cpu: int) -> list[int]:
    raw = (directory / TRACE.path / f"channel0_{cpu}").read_bytes()
    found = []
    while raw:
        found.append(LAYOUT.packet.get(raw, 0, "packet_seq_num"))
        raw = raw[LAYOUT.packet.get(raw, 0, "packet_size") // 8 :]
    return found


def test_all_that_is_there(buffers: list[Buffer], tmp_path: Path) -> None:
    buffers[0].packets(2)
    buffers[0].events(1)
    buffers[1].packets(20)
    taken = snapshot(buffers, tmp_path / "s")
    assert sequences(tmp_path / "s", 0) == [0, 1, 2]
    # The next event opens the place of the oldest: until then that is there as well.
    assert sequences(tmp_path / "s", 1) == list(range(20 - N, 20))
    assert (taken.streams, taken.packets, taken.bytes) == (2, 3 + N, (3 + N) * 4096)
    assert (taken.lost, taken.problems) == (0, [])


def test_no_more_than_a_size(buffers: list[Buffer], tmp_path: Path) -> None:
    buffers[0].packets(1)
    buffers[1].packets(20)
    buffers[1].events(1)
    taken = snapshot(buffers, tmp_path / "s", 5 * S)
    # What the first does not need the second has: the newest.
    assert sequences(tmp_path / "s", 0) == [0]
    assert sequences(tmp_path / "s", 1) == [17, 18, 19, 20]
    assert taken.bytes == 5 * S
    with pytest.raises(UsageError, match=f"at least {2 * S}"):
        snapshot(buffers, tmp_path / "small", S)
    assert not (tmp_path / "small").exists()


def test_a_directory_that_is_used(buffers: list[Buffer], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="not empty"):
        snapshot(buffers, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_disk_that_takes_nothing(buffers: list[Buffer], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="Not a directory"):
        snapshot(buffers, tmp_path / "file" / "s")

    def fails() -> Iterator[tuple[Trace, bytes]]:
        raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        take_snapshot([buffers[0].observed], fails, tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_a_hole_that_nobody_closes(buffers: list[Buffer], tmp_path: Path) -> None:
    buffer = buffers[0]
    buffer.events(1)
    assert not isinstance(buffer.writer.reserve(0, bytes(1000), 300), int)
    buffer.now = 300
    # It fills the packet and opens the next one.
    buffer.events(3)
    taken = snapshot([buffer], tmp_path / "s")
    assert sequences(tmp_path / "s", 0) == [0, 1]
    assert len(taken.problems) == 1
    assert "channel0_0: 1 packet cut" in taken.problems[0]
    raw = (tmp_path / "s" / TRACE.path / "channel0_0").read_bytes()
    first = LAYOUT.packet.get_all(raw)
    second = LAYOUT.packet.get_all(raw, first["packet_size"] // 8)
    assert first["content_size"] == 8 * (84 + 6 + 1000)
    assert first["timestamp_end"] == second["timestamp_begin"]


def test_an_event_that_is_being_written_is_waited_for(
    buffers: list[Buffer], tmp_path: Path
) -> None:
    buffer = buffers[0]
    reserved = buffer.writer.reserve(0, bytes(1000), 300)
    assert not isinstance(reserved, int)
    timer = threading.Timer(0.005, reserved.commit)
    timer.start()
    snapshot([buffer], tmp_path / "s")
    timer.join()
    raw = (tmp_path / "s" / TRACE.path / "channel0_0").read_bytes()
    assert LAYOUT.packet.get(raw, 0, "content_size") == 8 * (84 + 6 + 1000)


def test_an_opener_that_was_killed(buffers: list[Buffer], tmp_path: Path) -> None:
    buffer = buffers[0]
    buffer.packets(1)
    # Reserved, header and all, and nothing of it written; others went on behind it.
    assert buffer.words.cas("offset", S, 2 * S)
    buffer.packets(1)
    taken = snapshot([buffer], tmp_path / "s")
    assert sequences(tmp_path / "s", 0) == [0, 1, 2]
    assert len(taken.problems) == 1


def test_a_damaged_packet_is_left_out(buffers: list[Buffer], tmp_path: Path) -> None:
    buffer = buffers[0]
    buffer.packets(3)
    at = buffer.observed.stream.geometry.data_at(1)
    LAYOUT.packet.put(buffer.words.view, at, "content_size", 7)
    taken = snapshot([buffer], tmp_path / "s")
    assert sequences(tmp_path / "s", 0) == [0, 2]
    assert taken.lost == 1
    assert "1 packet missing" in taken.problems[0]


def test_a_channel_that_is_not_declared(tmp_path: Path) -> None:
    used, unused = Buffer(0), Buffer(1, channel_id=4)
    try:
        used.events(1)
        taken = snapshot([used, unused], tmp_path / "s")
    finally:
        used.close()
        unused.close()
    assert (taken.streams, taken.packets) == (1, 1)
    names = sorted(path.name for path in (tmp_path / "s" / TRACE.path).iterdir())
    assert names == ["channel0_0", "metadata"]


def test_mappings_are_kept_as_long_as_the_streams_are_there(buffers: list[Buffer]) -> None:
    first, second = (buffer.observed for buffer in buffers)
    mappings = Mappings()
    assert mappings.take("t", 0) is None
    mappings.replace([first, second])
    assert mappings.take("other", 0) is None
    assert mappings.take("t", 0) is first
    assert mappings.take("t", 0) is None
    # The second is not in the session any more.
    mappings.replace([first])
    with pytest.raises(RingBufferError):
        second.ring.positions()
    assert mappings.take("t", 0) is first
    assert first.ring.positions()


def test_a_write_position_that_goes_back(buffers: list[Buffer]) -> None:
    buffer = buffers[0]
    buffer.packets(2)
    observed = buffer.observed
    assert observed.next_packet() is not None
    # What comes next is damaged, and then there is nothing any more: no way but back.
    at = observed.stream.geometry.data_at(1)
    LAYOUT.packet.put(buffer.words.view, at, "content_size", 7)
    buffer.words.store("offset", 0)
    assert observed.next_packet() is None
    buffer.words.store("offset", 2 * S)
    buffer.packets(1)
    packet = observed.next_packet()
    assert packet is not None
    assert packet.sequence == 2
