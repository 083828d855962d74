# SPDX-License-Identifier: MIT
from __future__ import annotations

import errno
import os
import struct
import tempfile
from collections.abc import Iterator
from typing import IO

import pytest
from helpers.rings import CHANNEL_ID, CPU, UUID, TestRing, make_ring

from ustconsumer._native.ring import (
    DRAIN_EMPTY,
    DRAIN_ERRNO,
    DRAIN_LIE,
    DRAIN_MORE,
    PUMP_IDLE,
    PUMP_READY,
    PUMP_STOPPED,
    PUMP_TIME,
    PUMP_WORD,
    Ring,
    RingSet,
)
from ustconsumer.errors import LayoutError, RingBufferError

HEADER = struct.Struct("<I16sIQQQQQQQI")
INDEX = struct.Struct(">9Q")


@pytest.fixture(params=[False, True], ids=["discard", "overwrite"])
def ring(request: pytest.FixtureRequest) -> Iterator[TestRing]:
    with make_ring(overwrite=request.param) as made:
        yield made


@pytest.fixture
def data() -> Iterator[IO[bytes]]:
    with tempfile.TemporaryFile() as file:
        yield file


@pytest.fixture
def index() -> Iterator[IO[bytes]]:
    with tempfile.TemporaryFile() as file:
        yield file


def entries(index: IO[bytes]) -> list[tuple[int, ...]]:
    return list(INDEX.iter_unpack(os.pread(index.fileno(), 1 << 20, 0)))


def test_packets_and_index_entries_are_those_of_the_buffer(
    ring: TestRing, data: IO[bytes], index: IO[bytes]
) -> None:
    for now in (2000, 3000, 4000):
        ring.packet(now)
    assert ring.ring.drain(data.fileno(), index.fileno(), 1 << 20) == DRAIN_EMPTY

    raw = os.pread(data.fileno(), 1 << 20, 0)
    assert len(raw) == 3 * 4096
    for number, (begin, end) in enumerate([(1000, 2000), (3000, 3000), (4000, 4000)]):
        packet = raw[number * 4096 : (number + 1) * 4096]
        header = HEADER.unpack_from(packet)
        sizes = (HEADER.size * 8, 4096 * 8)
        ident = (0xC1FC1FC1, UUID, CHANNEL_ID, CPU)
        assert header == (*ident, begin, end, *sizes, number, 0, CPU)
        assert not any(packet[HEADER.size :])
        assert entries(index)[number] == (
            *(number * 4096, 4096 * 8, HEADER.size * 8, begin, end, 0, CHANNEL_ID, CPU, number),
        )
    assert (ring.ring.packet_count, ring.ring.byte_count) == (3, 3 * 4096)
    assert ring.ring.positions() == (3 * 4096, 3 * 4096)


def test_bytes_after_the_content_are_not_leaked(ring: TestRing, data: IO[bytes]) -> None:
    geometry = ring.stream.geometry
    for page in range(geometry.nr_pages):
        start = geometry.data_at(page) + HEADER.size
        ring.memory[start : start + 4096 - HEADER.size] = b"\xaa" * (4096 - HEADER.size)
    ring.packet(2000)
    assert ring.ring.drain(data.fileno(), -1, 1 << 20) == DRAIN_EMPTY
    assert not any(os.pread(data.fileno(), 4096, HEADER.size))


def test_the_limit_stops_between_packets(ring: TestRing, data: IO[bytes]) -> None:
    for now in (2000, 3000, 4000):
        ring.packet(now)
    assert ring.ring.drain(data.fileno(), -1, 4096, 4096) == DRAIN_MORE
    assert ring.ring.positions()[0] == 4096
    assert ring.ring.readable()


def test_a_failed_write_releases_nothing_and_can_be_repeated(
    ring: TestRing, data: IO[bytes], index: IO[bytes]
) -> None:
    ring.packet(2000)
    with open("/dev/full", "wb", buffering=0) as full:
        assert ring.ring.drain(full.fileno(), index.fileno(), 1 << 20) == DRAIN_ERRNO
        assert ring.ring.error == errno.ENOSPC
        # The index before the position, after the data: neither moved.
        assert ring.ring.positions()[0] == 0
        assert entries(index) == []
        assert ring.ring.drain(data.fileno(), full.fileno(), 1 << 20) == DRAIN_ERRNO
        assert ring.ring.positions()[0] == 0
    assert ring.ring.drain(data.fileno(), index.fileno(), 1 << 20) == DRAIN_EMPTY
    assert [entry[8] for entry in entries(index)] == [0]
    assert os.fstat(data.fileno()).st_size == 4096


def test_a_failed_write_leaves_nothing_in_the_files(
    ring: TestRing, data: IO[bytes], index: IO[bytes]
) -> None:
    """In overwrite mode other packets may come next: what is behind them must be the end."""
    for number, now in enumerate((2000, 3000)):
        ring.packet(now)
        ring.poke(number, "events_discarded", 5 + 2 * number)
    rings = RingSet()
    rings.add(ring.ring)
    with open("/dev/full", "wb", buffering=0) as full:
        ring.ring.assign(data.fileno(), full.fileno())
        assert pump(rings)[0] == PUMP_STOPPED
    assert os.fstat(data.fileno()).st_size == 0
    ring.ring.assign(data.fileno(), index.fileno())
    assert pump(rings)[0] == PUMP_IDLE
    # Nor does the first one say what was known from the second.
    assert [entry[5] for entry in entries(index)] == [5, 7]
    assert os.fstat(data.fileno()).st_size == 2 * 4096


def test_events_discarded_never_decreases(
    ring: TestRing, data: IO[bytes], index: IO[bytes]
) -> None:
    for number, now in enumerate((2000, 3000, 4000)):
        ring.packet(now)
        # What writers of 2.13 do: a total, then 0 by a committer that did not look.
        ring.poke(number, "events_discarded", (7, 0, 9)[number])
    ring.ring.drain(data.fileno(), index.fileno(), 1 << 20)
    assert [entry[5] for entry in entries(index)] == [7, 7, 9]
    raw = os.pread(data.fileno(), 3 * 4096, 0)
    assert [HEADER.unpack_from(raw, at)[9] for at in (0, 4096, 8192)] == [7, 7, 9]


@pytest.mark.parametrize(
    ("field", "value", "lie"),
    [
        ("magic", 0x12345678, "header"),
        ("stream_id", CHANNEL_ID + 1, "header"),
        ("content_size", 8 * 4097, "header"),
        ("packet_size", 8 * 8192, "header"),
        ("packet_seq_num", 5, "sequence"),
    ],
)
def test_a_packet_that_contradicts_its_buffer_is_not_written(
    ring: TestRing, data: IO[bytes], field: str, value: int, lie: str
) -> None:
    ring.packet(2000)
    ring.poke(0, field, value)
    assert ring.ring.drain(data.fileno(), -1, 1 << 20) == DRAIN_LIE
    assert lie in ring.ring.lie
    assert os.fstat(data.fileno()).st_size == 0
    assert ring.ring.get_next()
    with pytest.raises(RingBufferError, match=lie):
        ring.ring.mend_held()


def test_packets_before_a_lie_are_written(
    ring: TestRing, data: IO[bytes], index: IO[bytes]
) -> None:
    for now in (2000, 3000, 4000):
        ring.packet(now)
    ring.poke(2, "packet_seq_num", 7)
    assert ring.ring.drain(data.fileno(), index.fileno(), 1 << 20) == DRAIN_LIE
    assert "sequence" in ring.ring.lie
    assert [entry[8] for entry in entries(index)] == [0, 1]
    assert os.fstat(data.fileno()).st_size == 2 * 4096
    assert ring.ring.positions()[0] == 2 * 4096


@pytest.mark.parametrize("consumed", [8, 4096 + 1, 3 * 4096, 1 << 63, (1 << 64) - 4096 * 4])
def test_an_impossible_consumed_position_is_a_lie(data: IO[bytes], consumed: int) -> None:
    """It is a multiple of the sub-buffer size, and at most a buffer before the writers."""
    with make_ring() as made:
        made.packet(2000)
        made.packet(3000)
        at = made.stream.geometry.places()["consumed"]
        made.memory[at : at + 8] = struct.pack("<Q", consumed)
        assert made.ring.drain(data.fileno(), -1, 1 << 20) == DRAIN_LIE
        assert "position" in made.ring.lie
        assert os.fstat(data.fileno()).st_size == 0


def test_a_readable_packet_under_a_strange_id_is_a_lie(data: IO[bytes]) -> None:
    """Delivered in its turn, yet its id says "in use": nothing would ever come of waiting."""
    with make_ring(overwrite=True) as made:
        made.packet(2000)
        wsb = made.stream.geometry.wsb
        made.memory[wsb : wsb + 8] = struct.pack("<Q", 0)
        assert made.ring.readable()
        assert made.ring.drain(data.fileno(), -1, 1 << 20) == DRAIN_LIE
        assert "id" in made.ring.lie


@pytest.mark.parametrize("size", [0, 83, 4097, 1 << 63])
def test_an_impossible_data_size_is_not_followed(
    ring: TestRing, data: IO[bytes], size: int
) -> None:
    geometry = ring.stream.geometry
    ring.packet(2000)
    geometry.layout.page.put(ring.memory, geometry.page_at(0), "data_size", size)
    assert ring.ring.drain(data.fileno(), -1, 1 << 20) == DRAIN_LIE
    assert os.fstat(data.fileno()).st_size == 0


@pytest.mark.parametrize("overwrite", [False, True])
def test_an_id_that_selects_no_page_is_not_followed(data: IO[bytes], overwrite: bool) -> None:
    with make_ring(overwrite=overwrite) as made:
        made.packet(2000)
        geometry = made.stream.geometry
        noref = 1 << 32 if overwrite else 0
        made.memory[geometry.wsb : geometry.wsb + 8] = struct.pack("<Q", 1000 | noref)
        assert made.ring.drain(data.fileno(), -1, 1 << 20) == DRAIN_LIE
        assert "page" in made.ring.lie


def test_one_sub_buffer_is_held_at_a_time(ring: TestRing, data: IO[bytes]) -> None:
    ring.packet(2000)
    ring.packet(3000)
    assert ring.ring.get_next()
    with pytest.raises(RingBufferError, match="held already"):
        ring.ring.get_next()
    with pytest.raises(RingBufferError, match="held already"):
        ring.ring.drain(data.fileno(), -1, 1 << 20)
    ring.ring.put_next()
    with pytest.raises(RingBufferError, match="no sub-buffer"):
        ring.ring.put()
    assert ring.ring.positions()[0] == 4096


def test_memory_that_is_too_short_is_refused() -> None:
    with make_ring() as made:
        places = made.stream.geometry.places()
        with pytest.raises(LayoutError, match="stream memory"):
            type(made.ring)(bytearray(places["file_size"] - 1), places)


def test_a_set_scans_its_rings(ring: TestRing) -> None:
    rings = RingSet()
    rings.add(ring.ring)
    assert rings.scan() == []
    ring.packet(2000)
    assert rings.scan() == [ring.ring]
    active = ring.stream.geometry.places()["active_readers"]
    rings.set_active(0)
    assert ring.memory[active] == 0
    rings.set_active(1)
    assert ring.memory[active] == 1
    ring.ring.release()
    assert rings.scan() == []
    rings.remove(ring.ring)
    assert len(rings) == 0


def pump(rings: RingSet, max_bytes: int = 1 << 20) -> tuple[int, Ring | None, float]:
    return rings.pump(1_000_000_000, max_bytes, 1000)


def test_pumping_moves_packets_of_all_rings(
    ring: TestRing, data: IO[bytes], index: IO[bytes]
) -> None:
    rings = RingSet()
    rings.add(ring.ring)
    ring.ring.assign(data.fileno(), index.fileno())
    with make_ring(num_subbuf=8) as other, tempfile.TemporaryFile() as file:
        rings.add(other.ring)
        other.ring.assign(file.fileno())
        assert pump(rings) == (PUMP_IDLE, None, 0.0)
        ring.packet(2000)
        other.packet(2000)
        other.packet(3000)
        # 2 of 8 sub-buffers, 1 of 4.
        assert pump(rings) == (PUMP_IDLE, None, 0.25)
        assert os.fstat(file.fileno()).st_size == 2 * 4096
        assert [entry[8] for entry in entries(index)] == [0]
        other.packet(4000)
        assert pump(rings, 1)[0] == PUMP_TIME


def test_pumping_stops_before_packets_when_a_watched_word_changes(
    ring: TestRing, data: IO[bytes]
) -> None:
    words = bytearray(64)
    rings = RingSet()
    rings.add(ring.ring)
    ring.ring.assign(data.fileno())
    rings.watch(words, 16)
    ring.packet(2000)
    # A word is news at first, whatever it is: what it stands for was not read yet.
    assert pump(rings)[0] == PUMP_WORD
    assert os.fstat(data.fileno()).st_size == 0
    assert pump(rings)[0] == PUMP_IDLE
    assert os.fstat(data.fileno()).st_size == 4096
    words[16] = 1
    ring.packet(3000)
    assert pump(rings)[0] == PUMP_WORD
    assert os.fstat(data.fileno()).st_size == 4096
    assert pump(rings)[0] == PUMP_IDLE
    assert os.fstat(data.fileno()).st_size == 8192
    with pytest.raises(IndexError):
        rings.watch(words, 57)


def test_pumping_reports_the_ring_it_cannot_move(ring: TestRing) -> None:
    rings = RingSet()
    rings.add(ring.ring)
    ring.packet(2000)
    assert pump(rings) == (PUMP_READY, ring.ring, 0.0)
    with open("/dev/full", "wb", buffering=0) as full:
        ring.ring.assign(full.fileno())
        assert pump(rings) == (PUMP_STOPPED, ring.ring, 0.25)
        assert ring.ring.error == errno.ENOSPC
        assert ring.ring.positions()[0] == 0


def test_wake_up_only_for_an_active_reader(ring: TestRing) -> None:
    read, write = os.pipe2(os.O_NONBLOCK)
    geometry = ring.stream.geometry
    waking = type(ring.ring)(ring.memory, geometry.places(), uuid=UUID, wake_fd=write)
    try:
        assert waking.switch(True, 2000)
        assert os.read(read, 10) == b"\0"
        waking.close()
        assert waking.switch(True, 3000)
        with pytest.raises(BlockingIOError):
            os.read(read, 10)
    finally:
        waking.release()
        os.close(read)
        os.close(write)


def test_no_ring_starves_behind_another() -> None:
    """A sink in Python takes a few packets of a ring, then others get their turn."""
    with make_ring() as one, make_ring() as other:
        rings = RingSet()
        for made in (one, other):
            rings.add(made.ring)
            made.packet(2000)
        ready = [rings.pump(0, 1 << 20, 0)[1] for _ in range(4)]
        assert ready == [one.ring, other.ring] * 2


def test_what_is_read_ahead_is_not_readable_again_and_not_given_back() -> None:
    with make_ring(overwrite=False) as ring:
        for now in (2000, 3000):
            ring.packet(now)
        rings = RingSet()
        rings.add(ring.ring)
        for number in range(2):
            assert rings.scan() == [ring.ring]
            assert ring.ring.get(number * 4096)
            ring.ring.put()
            ring.ring.ahead += 4096
        assert not ring.ring.readable()
        assert rings.scan() == []
        assert ring.ring.positions()[0] == 0
        # Given back, the place behind it is the same.
        ring.ring.move_consumer(4096)
        ring.ring.ahead = 4096
        assert not ring.ring.readable()
        ring.packet(4000)
        assert ring.ring.readable()


def test_a_copy_of_a_packet_has_its_content_and_its_facts(ring: TestRing) -> None:
    ring.packet(2000)
    ring.poke(0, "events_discarded", 7)
    assert ring.ring.get_next()
    content, packet_size, *facts = ring.ring.copy_held()
    assert len(content) == HEADER.size
    assert packet_size == 4096
    assert facts == [1000, 2000, 7, 0]
    assert HEADER.unpack(content)[:4] == (0xC1FC1FC1, UUID, CHANNEL_ID, CPU)
    assert HEADER.unpack(content)[9] == 7
    ring.ring.put_next()
    # As every other way of moving a packet, it is never less than before.
    ring.packet(3000)
    assert ring.ring.get_next()
    assert ring.ring.copy_held()[4] == 7
