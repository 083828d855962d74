# SPDX-License-Identifier: MIT
"""What a ring refuses, in both definitions; what it does is in ``tests/property``."""

from __future__ import annotations

import os
from typing import Any

import pytest
from helpers.ringwriter import RingWriter

from ustconsumer._native.ring import Ring
from ustconsumer.abi.ring import RING_LAYOUTS
from ustconsumer.errors import LayoutError, RingBufferError
from ustconsumer.ringbuffer.allocate import initialise
from ustconsumer.ringbuffer.commit import Producer
from ustconsumer.ringbuffer.geometry import Geometry
from ustconsumer.ringbuffer.memory import StreamMemory
from ustconsumer.ringbuffer.python_ring import PythonRing

LAYOUT = RING_LAYOUTS["ust-9-x86_64"]
UUID = b"0123456789abcdef"


class Stream:
    """One stream in plain memory, a ring on it, and a writer."""

    def __init__(self, kind: type, overwrite: bool, wake_fd: int = -1):
        self.geometry = Geometry(LAYOUT, 4096, 4, overwrite)
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
        self.ring = kind(self.raw, where, uuid=UUID, stream_id=3, cpu=0, wake_fd=wake_fd)
        self.memory = StreamMemory(self.raw, self.geometry)
        self.writer = RingWriter(Producer(self.memory, UUID, 3, 0))

    def fill(self, subbufs: int) -> None:
        for number in range(subbufs):
            assert self.writer.write(0, bytes(3000), 200 + number) == 0
            assert self.ring.switch(False, 200 + number)


@pytest.fixture(params=[PythonRing, Ring])
def kind(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(params=[False, True], ids=["discard", "overwrite"])
def stream(request: pytest.FixtureRequest, kind: type) -> Stream:
    return Stream(kind, request.param)


def test_too_short_memory(kind: type) -> None:
    geometry = Geometry(LAYOUT, 4096, 4)
    where: Any = geometry if kind is PythonRing else geometry.places()
    with pytest.raises(LayoutError):
        kind(bytearray(geometry.file_size - 1), where)


def test_put_without_get(stream: Stream) -> None:
    for put in (stream.ring.put, stream.ring.put_next, stream.ring.current):
        with pytest.raises(RingBufferError):
            put()


def test_one_sub_buffer_is_held_at_a_time(stream: Stream) -> None:
    stream.fill(2)
    assert stream.ring.get_next()
    assert stream.ring.held()
    before = bytes(stream.raw)
    with pytest.raises(RingBufferError):
        stream.ring.get_next()
    with pytest.raises(RingBufferError):
        stream.ring.get(4096)
    assert bytes(stream.raw) == before


def test_nothing_to_read_is_not_an_error(stream: Stream) -> None:
    assert not stream.ring.readable()
    assert not stream.ring.snapshot()
    assert not stream.ring.get_next()
    assert not stream.ring.get(0)


def test_consumed_moves_forward_only(stream: Stream) -> None:
    stream.fill(3)
    stream.ring.move_consumer(8192)
    stream.ring.move_consumer(4096)
    assert stream.ring.positions() == (8192, 3 * 4096)


def test_an_overtaken_reader_keeps_its_packet(kind: type) -> None:
    """The page taken is the reader's own: writers go round without touching it."""
    stream = Stream(kind, overwrite=True)
    stream.fill(1)
    assert stream.ring.get_next()
    page, size, position = stream.ring.current()
    assert (size, position) == (84 + 6 + 3000, 0)
    at = stream.geometry.data_at(page)
    packet = bytes(stream.raw[at : at + size])
    stream.fill(9)
    assert bytes(stream.raw[at : at + size]) == packet
    stream.ring.put()
    consumed, produced = stream.ring.positions()
    assert produced == 10 * 4096
    assert produced - consumed == stream.geometry.buf_size
    assert stream.ring.get(consumed)
    assert stream.ring.current()[2] == consumed


def test_switch_announces_what_it_delivers(kind: type) -> None:
    read_end, write_end = os.pipe2(os.O_NONBLOCK)
    try:
        stream = Stream(kind, overwrite=False, wake_fd=write_end)
        stream.fill(1)
        with pytest.raises(BlockingIOError):
            os.read(read_end, 1)  # no reader is announced
        stream.ring.open()
        stream.fill(1)
        assert os.read(read_end, 8) == b"\0"
        stream.ring.close()
        stream.fill(1)
        with pytest.raises(BlockingIOError):
            os.read(read_end, 1)
    finally:
        os.close(read_end)
        os.close(write_end)


def test_clear_forgets_what_was_delivered(stream: Stream) -> None:
    stream.fill(2)
    stream.writer.write(0, b"x", 300)
    stream.ring.clear()
    assert stream.ring.positions() == (3 * 4096, 3 * 4096)
    assert not stream.ring.get_next()


def test_one_of_two_committers_delivers(stream: Stream) -> None:
    """Both may see the full count, which is added to and then loaded: the first one is elected."""
    stream.writer.write(0, b"x", 300)
    stream.memory.store_cc_sb(0, 1)
    assert stream.ring.switch(False, 301)
    assert stream.memory.load_cc_sb(0) == 1
    assert stream.memory.load_count(0) == 0
    assert not stream.ring.readable()


# -- memory that lies ---------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 83, 4097, (1 << 64) - 1])
def test_impossible_size_of_a_packet(stream: Stream, size: int) -> None:
    stream.fill(1)
    stream.memory.store_data_size(0, size)
    assert stream.ring.get_next()
    with pytest.raises(RingBufferError):
        stream.ring.current()


@pytest.mark.parametrize("page", [5, (1 << 32) - 1])
def test_impossible_page_of_the_reader(stream: Stream, page: int) -> None:
    stream.fill(1)
    assert stream.ring.get_next()
    stream.memory.store("rsb_id", page)
    with pytest.raises(RingBufferError):
        stream.ring.current()


@pytest.mark.parametrize("consumed", [4096, 1 << 40, 1 << 63, (1 << 64) - 4096])
def test_consumed_position_of_another_turn(stream: Stream, consumed: int) -> None:
    """Every operation ends, whatever the position."""
    stream.fill(1)
    stream.memory.store("consumed", consumed)
    stream.ring.readable()
    stream.ring.snapshot()
    stream.ring.switch(True, 400)
    stream.writer.write(0, b"x", 500)
    stream.ring.switch(True, 600)
    if stream.ring.get_next():
        stream.ring.put_next()
