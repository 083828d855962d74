# SPDX-License-Identifier: MIT
"""What an observer sees of a ring buffer, in both definitions."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

import pytest
from helpers.ringwriter import Reservation, RingWriter

from ustconsumer._native import observer as native
from ustconsumer._native.observer import ObservedRing
from ustconsumer._native.ring import Ring
from ustconsumer.abi.packet import CTF_MAGIC
from ustconsumer.abi.ring import RING_LAYOUTS
from ustconsumer.errors import LayoutError, RingBufferError
from ustconsumer.ringbuffer import observer as readable
from ustconsumer.ringbuffer.allocate import initialise
from ustconsumer.ringbuffer.commit import Producer
from ustconsumer.ringbuffer.geometry import Geometry
from ustconsumer.ringbuffer.memory import StreamMemory

LAYOUT = RING_LAYOUTS["ust-9-x86_64"]
UUID = b"0123456789abcdef"
STREAM_ID = 3
S, N = 4096, 4
HEADER = 84
#: An event: large header, then its payload.
EVENT = 6 + 1000


class Observing(Protocol):
    def take(self, position: int) -> bytes | None: ...
    def take_open(self, position: int, timestamp_end: int) -> bytes | None: ...
    def prefix(self, position: int) -> int: ...


class Readable:
    """The readable definitions with the native one's signatures."""

    def __init__(self, memory: StreamMemory) -> None:
        self._memory = memory

    def take(self, position: int) -> bytes | None:
        return readable.take(self._memory, position, UUID, STREAM_ID)

    def take_open(self, position: int, timestamp_end: int) -> bytes | None:
        return readable.take_open(self._memory, position, UUID, STREAM_ID, timestamp_end)

    def prefix(self, position: int) -> int:
        return readable.prefix(self._memory, position)


class Stream:
    """One stream in plain memory: a writer, a consumer's ring, an observer."""

    def __init__(self, kind: str, overwrite: bool):
        self.geometry = Geometry(LAYOUT, S, N, overwrite)
        self.raw = bytearray(self.geometry.file_size)
        initialise(
            self.raw,
            self.geometry,
            stream_nr=0,
            cpu=0,
            channel_id=STREAM_ID,
            uuid=UUID,
            now=100,
            active_readers=0,
        )
        places = self.geometry.places()
        self.memory = StreamMemory(self.raw, self.geometry)
        self.ring = Ring(self.raw, places, uuid=UUID, stream_id=STREAM_ID)
        self.writer = RingWriter(Producer(self.memory, UUID, STREAM_ID, 0))
        # Bytes cannot be written to: what an observer may do is what works on them. The
        # native one looks at the living memory, through a view that is read-only.
        view = memoryview(self.raw).toreadonly()
        self.native = ObservedRing(view, places, uuid=UUID, stream_id=STREAM_ID)
        self.observer: Observing = (
            self.native if kind == "native" else Readable(StreamMemory(view, self.geometry))
        )
        self.now = 200

    def event(self, letter: bytes) -> None:
        self.now += 1
        assert self.writer.write(0, 1000 * letter, self.now) == 0

    def reserve(self, letter: bytes) -> Reservation:
        self.now += 1
        reserved = self.writer.reserve(0, 1000 * letter, self.now)
        assert isinstance(reserved, Reservation)
        return reserved

    def close(self) -> None:
        assert self.ring.switch(False, self.now)

    def packets(self, letters: bytes) -> None:
        """Write a packet with one event for each letter."""
        for letter in letters:
            self.event(bytes([letter]))
            self.close()


@pytest.fixture(params=["readable", "native"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=[False, True], ids=["discard", "overwrite"])
def stream(request: pytest.FixtureRequest, kind: str) -> Stream:
    return Stream(kind, request.param)


@pytest.fixture
def overwriting(kind: str) -> Stream:
    return Stream(kind, overwrite=True)


def letters(packet: bytes | None) -> bytes:
    """Return a letter for each event of a packet, after checking its header."""
    assert packet is not None
    header = LAYOUT.packet.get_all(packet)
    assert (header["magic"], header["uuid"], header["stream_id"]) == (CTF_MAGIC, UUID, STREAM_ID)
    content = header["content_size"] // 8
    assert header["packet_size"] == 8 * len(packet)
    assert len(packet) % 4096 == 0
    assert not any(packet[content:])
    events = packet[HEADER:content]
    found = b""
    while events:
        body = events[EVENT - 1000 : EVENT]
        assert len(body) == 1000
        assert len(set(body)) == 1
        found += body[:1]
        events = events[EVENT:]
    return found


def test_whole_packets(stream: Stream) -> None:
    stream.packets(b"ab")
    for number, letter in enumerate((b"a", b"b")):
        packet = stream.observer.take(number * S)
        assert letters(packet) == letter
        assert packet is not None
        assert LAYOUT.packet.get(packet, 0, "packet_seq_num") == number
    assert stream.observer.take(2 * S) is None


def test_nothing_is_stored(stream: Stream) -> None:
    stream.packets(b"ab")
    stream.event(b"c")
    before = bytes(stream.raw)
    stream.observer.take(0)
    stream.observer.take_open(2 * S, 10_000)
    assert bytes(stream.raw) == before


def test_what_a_consumer_took_is_there_until_it_is_overwritten(stream: Stream) -> None:
    stream.packets(b"a")
    assert stream.ring.get_next()
    stream.ring.put_next()
    assert letters(stream.observer.take(0)) == b"a"
    stream.packets(b"bcd")
    # The write position stands a turn beyond it: nobody has entered its place.
    assert letters(stream.observer.take(0)) == b"a"
    stream.event(b"e")
    assert stream.observer.take(0) is None
    assert letters(stream.observer.take(S)) == b"b"


def test_the_packet_that_a_reader_holds(overwriting: Stream) -> None:
    stream = overwriting
    stream.packets(b"ab")
    assert stream.ring.get(0)
    # The writers' table shows the reader's spare page in its place.
    assert letters(stream.observer.take(0)) == b"a"
    stream.ring.put()
    assert letters(stream.observer.take(0)) == b"a"


def test_the_packet_that_a_reader_holds_while_writers_go_round(overwriting: Stream) -> None:
    stream = overwriting
    stream.packets(b"ab")
    assert stream.ring.get(0)
    stream.packets(b"cdef")
    assert stream.observer.take(0) is None
    assert letters(stream.observer.take(4 * S)) == b"e"


def test_the_packet_being_written(stream: Stream) -> None:
    stream.packets(b"a")
    stream.event(b"b")
    stream.event(b"c")
    assert stream.observer.take(S) is None
    packet = stream.observer.take_open(S, 5000)
    assert letters(packet) == b"bc"
    assert packet is not None
    header = LAYOUT.packet.get_all(packet)
    assert (header["timestamp_end"], header["packet_seq_num"]) == (5000, 1)
    assert stream.observer.prefix(S) == HEADER + 2 * EVENT


def test_a_gap_ends_the_packet_being_written(stream: Stream) -> None:
    stream.event(b"a")
    open_ = stream.reserve(b"b")
    stream.event(b"c")
    assert letters(stream.observer.take_open(0, 5000)) == b"a"
    open_.commit()
    # The tracer's own count of what is contiguous does not see that the gap is closed.
    assert stream.memory.load_seq(0) == HEADER + EVENT
    assert letters(stream.observer.take_open(0, 5000)) == b"abc"


def test_a_gap_in_a_packet_that_writers_went_past(stream: Stream) -> None:
    stream.event(b"a")
    open_ = stream.reserve(b"b")
    stream.close()
    stream.packets(b"c")
    assert stream.observer.take(0) is None
    assert letters(stream.observer.take_open(0, 5000)) == b"a"
    open_.commit()
    assert letters(stream.observer.take(0)) == b"ab"


def test_killed_between_the_last_commit_and_the_delivery(stream: Stream) -> None:
    stream.event(b"a")
    stream.event(b"b")
    stream.close()
    # As if nobody had delivered it: committed in full, and the header unfinished.
    stream.memory.store_cc_sb(0, 1)
    stream.memory.store_seq(0, HEADER + EVENT)
    for field in ("timestamp_end", "content_size", "packet_size"):
        LAYOUT.packet.put(stream.raw, stream.geometry.data, field, 0)
    assert stream.observer.take(0) is None
    assert letters(stream.observer.take_open(0, 5000)) == b"ab"


def test_an_opener_that_was_killed(stream: Stream) -> None:
    stream.packets(b"a")
    # Space is reserved, the header is not there.
    assert stream.memory.cas("offset", S, S + HEADER + EVENT)
    assert stream.observer.prefix(S) == 0
    assert stream.observer.take_open(S, 5000) is None


def test_lost_events_are_in_the_header(stream: Stream) -> None:
    stream.event(b"a")
    stream.memory.add("lost_full", 3)
    stream.memory.add("lost_wrap", 2)
    packet = stream.observer.take_open(0, 5000)
    assert packet is not None
    assert LAYOUT.packet.get(packet, 0, "events_discarded") == 5


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("magic", 0),
        ("packet_seq_num", 4),
        ("uuid", bytes(16)),
        ("stream_id", STREAM_ID + 1),
        ("content_size", 8 * (HEADER - 1)),
        ("content_size", 8 * (S + 1)),
        ("content_size", 8 * HEADER + 1),
        ("content_size", 1 << 63),
        ("packet_size", 8 * (S + 1)),
        ("timestamp_end", 1),
    ],
)
def test_a_header_that_lies(stream: Stream, field: str, value: int | bytes) -> None:
    stream.packets(b"ab")
    LAYOUT.packet.put(stream.raw, stream.geometry.data, field, value)
    assert stream.observer.take(0) is None
    assert letters(stream.observer.take(S)) == b"b"


def test_ids_that_lie(overwriting: Stream) -> None:
    stream = overwriting
    stream.packets(b"ab")
    stream.memory.store_id(0, stream.memory.load_id(0) | 0xFFFF)
    stream.memory.store("rsb_id", (1 << 32) - 1)
    assert stream.observer.take(0) is None
    assert stream.observer.take_open(0, 5000) is None
    assert letters(stream.observer.take(S)) == b"b"


def test_positions_that_wrap(kind: str) -> None:
    stream = Stream(kind, overwrite=True)
    # Shortly below 2^64: all counters as they would be there.
    begin = (1 << 64) - 4 * N * S
    stream.memory.store("offset", begin)
    stream.memory.store("consumed", begin)
    base = stream.geometry.commit_base(begin)
    for index in range(N):
        stream.memory.add_cc(index, base - stream.memory.load_cc(index))
        stream.memory.store_seq(index, base)
        stream.memory.store_cc_sb(index, base)
        stream.memory.store_count(index, begin // S // N)
    for number in range(3 * N):
        stream.packets(bytes([65 + number]))
        position = (begin + number * S) % (1 << 64)
        assert letters(stream.observer.take(position)) == bytes([65 + number])


# -- writing to a file: the native one only -----------------------------------------------


@pytest.fixture
def writing(request: pytest.FixtureRequest) -> Stream:
    return Stream("native", overwrite=True)


def written(path: Path) -> list[bytes]:
    raw = path.read_bytes()
    found = []
    while raw:
        size = LAYOUT.packet.get(raw, 0, "packet_size") // 8
        found.append(letters(raw[:size]))
        raw = raw[size:]
    return found


def test_packets_in_a_file(writing: Stream, tmp_path: Path) -> None:
    writing.packets(b"abc")
    path = tmp_path / "stream"
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        for batch in (0, 2 * S, 1 << 20):
            os.ftruncate(fd, 0)
            writing.native.restart()
            writing.native.data_offset = 0
            assert writing.native.write(0, 3 * S, fd, batch) == (native.OBSERVE_WHOLE, 3 * S)
            assert written(path) == [b"a", b"b", b"c"]
            assert (writing.native.packet_count, writing.native.byte_count) == (3, 3 * 4096)
    finally:
        os.close(fd)


def test_a_file_without_what_was_overtaken(writing: Stream, tmp_path: Path) -> None:
    writing.packets(b"abcdef")
    fd = os.open(tmp_path / "stream", os.O_RDWR | os.O_CREAT)
    try:
        assert writing.native.write(0, 6 * S, fd) == (native.OBSERVE_OVERTAKEN, 0)
        assert writing.native.write(2 * S, 6 * S, fd) == (native.OBSERVE_WHOLE, 6 * S)
    finally:
        os.close(fd)
    assert written(tmp_path / "stream") == [b"c", b"d", b"e", b"f"]


def test_a_file_goes_on_behind_what_is_open_or_damaged(writing: Stream, tmp_path: Path) -> None:
    writing.packets(b"a")
    open_ = writing.reserve(b"b")
    writing.close()
    writing.packets(b"c")
    ring = writing.native
    fd = os.open(tmp_path / "stream", os.O_RDWR | os.O_CREAT)
    try:
        assert ring.write(0, 3 * S, fd) == (native.OBSERVE_OPEN, S)
        begin = ring.begins(2 * S)
        assert begin is not None
        # The tracer says nothing of what is contiguous before the first event is committed.
        assert ring.write_open(S, fd, begin, 0) == native.OBSERVE_OPEN
        assert ring.write_empty(S, fd, ring.last_end, begin) == native.OBSERVE_WHOLE
        assert ring.write(2 * S, 3 * S, fd) == (native.OBSERVE_WHOLE, 3 * S)
        assert written(tmp_path / "stream") == [b"a", b"", b"c"]
        open_.commit()
        ring.restart()
        ring.data_offset = 0
        # It would begin before the one before it ended.
        LAYOUT.packet.put(writing.raw, writing.geometry.data_at(1), "timestamp_begin", 1)
        assert ring.write(0, 3 * S, fd) == (native.OBSERVE_DAMAGED, S)
    finally:
        os.close(fd)


def test_an_empty_packet_in_place_of_one_without_a_header(writing: Stream, tmp_path: Path) -> None:
    fd = os.open(tmp_path / "stream", os.O_RDWR | os.O_CREAT)
    try:
        assert writing.native.write_empty(5 * S, fd, 700, 800) == native.OBSERVE_WHOLE
    finally:
        os.close(fd)
    raw = (tmp_path / "stream").read_bytes()
    assert written(tmp_path / "stream") == [b""]
    header = LAYOUT.packet.get_all(raw)
    assert header["packet_seq_num"] == 5
    assert (header["timestamp_begin"], header["timestamp_end"]) == (700, 800)


def test_a_file_that_takes_nothing(writing: Stream) -> None:
    writing.packets(b"a")
    fd = os.open("/dev/full", os.O_RDWR)
    try:
        assert writing.native.write(0, S, fd) == (native.OBSERVE_ERRNO, 0)
        assert writing.native.error == 28
    finally:
        os.close(fd)


def test_memory_that_is_too_short() -> None:
    geometry = Geometry(LAYOUT, S, N)
    with pytest.raises(LayoutError):
        ObservedRing(bytes(geometry.file_size - 1), geometry.places())


def test_memory_that_was_given_back(writing: Stream) -> None:
    writing.native.release()
    for call in (writing.native.positions, writing.native.lost):
        with pytest.raises(RingBufferError):
            call()
    with pytest.raises(RingBufferError):
        writing.native.take(0)
