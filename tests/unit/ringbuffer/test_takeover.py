# SPDX-License-Identifier: MIT
"""A reader that was killed, in both definitions: state by state, as its stores leave them.

That these are the states, and all of them, is what ``tests/unit/_native/test_kill_points.py``
shows with readers that really die.
"""

from __future__ import annotations

from typing import Any

import pytest
from helpers.ringwriter import RingWriter

from ustconsumer._native.ring import Ring
from ustconsumer.abi.ring import RING_LAYOUTS
from ustconsumer.errors import RingBufferError
from ustconsumer.ringbuffer.allocate import initialise
from ustconsumer.ringbuffer.commit import Producer
from ustconsumer.ringbuffer.geometry import Geometry
from ustconsumer.ringbuffer.memory import StreamMemory
from ustconsumer.ringbuffer.python_ring import PythonRing

LAYOUT = RING_LAYOUTS["ust-9-x86_64"]
UUID = b"0123456789abcdef"
SUBBUF_SIZE, NUM_SUBBUF = 4096, 4
SPARE = NUM_SUBBUF
NOREF = 1 << 32


class Stream:
    """A stream whose packets each have one event: their number, as often as it fits."""

    def __init__(self, kind: type, overwrite: bool = True):
        self.geometry = Geometry(LAYOUT, SUBBUF_SIZE, NUM_SUBBUF, overwrite)
        self.raw = bytearray(self.geometry.file_size)
        initialise(
            self.raw,
            self.geometry,
            stream_nr=0,
            cpu=0,
            channel_id=3,
            uuid=UUID,
            now=100,
            active_readers=0,
        )
        where: Any = self.geometry if kind is PythonRing else self.geometry.places()
        self.ring = kind(self.raw, where, uuid=UUID, stream_id=3, cpu=0)
        self.memory = StreamMemory(self.raw, self.geometry)
        self.writer = RingWriter(Producer(self.memory, UUID, 3, 0))
        self.written = 0

    def fill(self, subbufs: int) -> None:
        for _ in range(subbufs):
            now = 200 + self.written
            assert self.writer.write(0, bytes([self.written]) * 3000, now) == 0
            assert self.ring.switch(False, now)
            self.written += 1

    def read(self) -> list[int]:
        """Read all there is; return the numbers in the packets."""
        numbers = []
        while self.ring.get_next():
            page, size, position = self.ring.current()
            at = self.geometry.data_at(page)
            content = self.raw[at + size - 3000 : at + size]
            assert content == content[:1] * 3000
            assert content[0] == position // SUBBUF_SIZE
            numbers.append(content[0])
            self.ring.put_next()
        return numbers

    @property
    def pages(self) -> list[int]:
        """Pages of the writers' table, then the reader's."""
        ids = [self.memory.load_id(index) for index in range(NUM_SUBBUF)]
        return [each & 0xFFFFFFFF for each in (*ids, self.memory.load("rsb_id"))]

    def set_page(self, page: int) -> None:
        """Store the reader's page, its flags kept."""
        self.memory.store("rsb_id", self.memory.load("rsb_id") & ~0xFFFFFFFF | page)


@pytest.fixture(params=[PythonRing, Ring])
def kind(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def stream(kind: type) -> Stream:
    return Stream(kind)


@pytest.mark.parametrize("overwrite", [False, True], ids=["discard", "overwrite"])
def test_a_clean_stream_is_left_alone(kind: type, overwrite: bool) -> None:
    stream = Stream(kind, overwrite)
    for subbufs in (0, 1, 3, 9):
        if overwrite or subbufs < NUM_SUBBUF:
            stream.fill(subbufs)
        before = bytes(stream.raw)
        assert stream.ring.take_over() is False
        assert bytes(stream.raw) == before
        stream.read()


@pytest.mark.parametrize("overwrite", [False, True], ids=["discard", "overwrite"])
def test_a_packet_that_is_held_is_read_again(kind: type, overwrite: bool) -> None:
    stream = Stream(kind, overwrite)
    stream.fill(2)
    assert stream.ring.get_next()
    assert stream.ring.take_over() is True
    assert not stream.ring.held()
    assert stream.read() == [0, 1]


def test_killed_in_get_before_the_reader_noted_the_page(stream: Stream) -> None:
    """Its spare page is in the table and its own, the packet is nowhere."""
    stream.fill(2)
    assert stream.ring.get_next()
    stream.memory.held = False
    stream.set_page(SPARE)
    assert stream.pages == [SPARE, 1, 2, 3, SPARE]
    assert stream.ring.take_over() is True
    assert stream.pages == [0, 1, 2, 3, SPARE]
    assert stream.ring.take_over() is False
    assert stream.read() == [0, 1]


@pytest.mark.parametrize("position", [0, SUBBUF_SIZE, 1 << 40])
def test_killed_between_the_exchange_and_the_flag(stream: Stream, position: int) -> None:
    """In get before its end, in put after its beginning: the noted position says nothing."""
    stream.fill(2)
    assert stream.ring.get_next()
    stream.memory.held = False
    stream.memory.store("get_subbuf_consumed", position)
    assert stream.pages == [SPARE, 1, 2, 3, 0]
    assert stream.ring.take_over() is True
    assert stream.pages == [0, 1, 2, 3, SPARE]
    assert stream.read() == [0, 1]


def test_killed_in_put_before_the_reader_noted_the_page(stream: Stream) -> None:
    """The packet is back and the reader's own, the spare page is nowhere."""
    stream.fill(2)
    assert stream.ring.get_next()
    stream.ring.put()
    stream.set_page(0)
    assert stream.ring.take_over() is True
    assert stream.pages == [0, 1, 2, 3, SPARE]
    assert stream.read() == [0, 1]


@pytest.mark.parametrize("own", [0, SPARE], ids=["in-hand", "nowhere"])
def test_a_packet_that_is_not_the_next_one(stream: Stream, own: int) -> None:
    """A reader may take any: that of a snapshot, or the next one, overtaken since."""
    stream.fill(4)
    assert stream.ring.get(2 * SUBBUF_SIZE)
    stream.memory.held = False
    stream.set_page(2 if own == 0 else SPARE)
    assert stream.ring.take_over() is True
    assert stream.read() == [0, 1, 2, 3]


@pytest.mark.parametrize("own", [0, SPARE], ids=["in-hand", "nowhere"])
@pytest.mark.parametrize("more", [3, 4, 5, 7, 8, 9])
def test_writers_went_on(stream: Stream, own: int, more: int) -> None:
    """The spare page in the table was given away: then the packet is overwritten, like others."""
    stream.fill(2)
    assert stream.ring.get_next()
    stream.memory.held = False
    stream.set_page(own)
    stream.fill(more)
    assert stream.ring.take_over() is (own == SPARE)
    assert sorted(stream.pages) == [0, 1, 2, 3, 4]
    assert stream.read() == list(range(stream.written - NUM_SUBBUF, stream.written))
    stream.fill(9)
    assert stream.read() == list(range(stream.written - NUM_SUBBUF, stream.written))


def test_a_writer_is_in_the_sub_buffer(stream: Stream) -> None:
    """It has begun to write to the spare page: that page must stay where it is."""
    stream.fill(4)
    assert stream.ring.get_next()
    stream.memory.held = False
    reservation = stream.writer.reserve(0, bytes([4]) * 3000, 300)
    assert not isinstance(reservation, int)
    stream.written += 1
    assert stream.ring.take_over() is False
    reservation.commit()
    assert stream.ring.switch(False, 301)
    assert stream.pages == [SPARE, 1, 2, 3, 0]
    assert stream.read() == [1, 2, 3, 4]


def test_consumed_moved_on_before(stream: Stream) -> None:
    """What is on disk is not put back to be read: its page is the spare one."""
    stream.fill(2)
    assert stream.ring.get_next()
    stream.memory.held = False
    stream.ring.move_consumer(SUBBUF_SIZE)
    assert stream.ring.take_over() is False
    assert stream.pages == [SPARE, 1, 2, 3, 0]
    assert stream.read() == [1]
    stream.fill(3)
    assert stream.read() == [2, 3, 4]


# -- memory that lies -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "own"),
    [
        ([1, 1, 2, 3], 4),
        ([1, 1, 2, 3], 1),
        ([0, 0, 2, 2], 4),
        ([0, 1, 2, 5], 4),
        ([0, 1, 2, 0xFFFFFFFF], 4),
        ([0, 1, 2, 3], 5),
        ([0, 1, 2, 3], 0xFFFFFFFF),
    ],
)
def test_pages_that_no_reader_leaves_like_this(stream: Stream, table: list[int], own: int) -> None:
    for index, page in enumerate(table):
        stream.memory.store_id(index, page | NOREF)
    stream.memory.store("rsb_id", own | NOREF)
    before = bytes(stream.raw)
    with pytest.raises(RingBufferError, match="not each in one place"):
        stream.ring.take_over()
    assert bytes(stream.raw) == before


def test_a_held_packet_and_a_page_named_twice(stream: Stream) -> None:
    """Who holds a packet has finished the exchange."""
    stream.fill(1)
    assert stream.ring.get_next()
    stream.set_page(SPARE)
    with pytest.raises(RingBufferError, match="not each in one place"):
        stream.ring.take_over()


@pytest.mark.parametrize("wrong", [0, 2, 1 << 32, (1 << 64) - 1])
def test_an_id_that_is_not_its_own_in_discard_mode(kind: type, wrong: int) -> None:
    stream = Stream(kind, overwrite=False)
    stream.memory.store_id(1, wrong)
    with pytest.raises(RingBufferError, match="not each in one place"):
        stream.ring.take_over()


@pytest.mark.parametrize("sequence", [2, 3, 4, 5, 1 << 40, 1 << 52, (1 << 64) - 1, (1 << 52) + 1])
@pytest.mark.parametrize("consumed", [0, 1, SUBBUF_SIZE, 1 << 40, (1 << 64) - SUBBUF_SIZE])
def test_a_spare_page_that_says_it_is_a_packet(
    stream: Stream, sequence: int, consumed: int
) -> None:
    """The packet is where it should be, or is none: nothing is exchanged."""
    stream.fill(3)
    at = stream.geometry.data_at(SPARE)
    LAYOUT.packet.put(stream.raw, at, "magic", 0xC1FC1FC1)
    LAYOUT.packet.put(stream.raw, at, "packet_seq_num", sequence)
    stream.memory.store("consumed", consumed)
    before = bytes(stream.raw)
    assert stream.ring.take_over() is False
    assert bytes(stream.raw) == before


def test_both_definitions_leave_the_same_memory() -> None:
    """Whatever the ids and the two flags of a reader are, as far as one step away from good."""
    for page in range(NUM_SUBBUF + 2):
        for index in range(NUM_SUBBUF + 1):
            for held in (False, True):
                left = []
                for each in (PythonRing, Ring):
                    stream = Stream(each)
                    stream.fill(3)
                    assert stream.ring.get_next()
                    stream.memory.held = held
                    if index == NUM_SUBBUF:
                        stream.set_page(page)
                    else:
                        stream.memory.store_id(
                            index, stream.memory.load_id(index) >> 32 << 32 | page
                        )
                    try:
                        result: object = stream.ring.take_over()
                    except RingBufferError as error:
                        result = str(error)
                    left.append((result, bytes(stream.raw)))
                assert left[0] == left[1], (page, index, held)
