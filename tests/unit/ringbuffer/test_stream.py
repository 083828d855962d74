# SPDX-License-Identifier: MIT
from __future__ import annotations

import pytest

from ustconsumer.abi.packet import CTF_MAGIC
from ustconsumer.abi.ring import RING_LAYOUTS
from ustconsumer.errors import LayoutError
from ustconsumer.ringbuffer.allocate import initialise
from ustconsumer.ringbuffer.geometry import Geometry
from ustconsumer.ringbuffer.stream import StreamView
from ustconsumer.units import SubbufIndex

LAYOUT = RING_LAYOUTS["ust-9-x86_64"]


def new_stream(geometry: Geometry) -> bytearray:
    raw = bytearray(geometry.file_size)
    initialise(
        raw,
        geometry,
        stream_nr=1,
        cpu=1,
        channel_id=5,
        uuid=bytes(range(16)),
        now=777,
        active_readers=1,
    )
    return raw


def test_a_new_stream() -> None:
    """Values are those a live liblttng-ust 2.13 leaves in a new overwrite-mode stream."""
    geometry = Geometry(LAYOUT, 8192, 4, overwrite=True)
    view = StreamView(new_stream(geometry), geometry)
    assert view.control["offset"] == 84
    assert view.control["cpu"] == 1
    assert view.control["self"].tolist() == [2, 0]
    assert view.control["crash_mmap_length"] == 45440
    assert view.hot["cc"].tolist() == view.hot["seq"].tolist() == [84, 0, 0, 0]
    assert view.cold["cc_sb"].tolist() == [0, 0, 0, 0]
    noref = 1 << 32
    assert view.ids.tolist() == [0, noref | 1, noref | 2, noref | 3]
    assert view.control["rsb_id"] == noref | 4
    assert view.pages["mmap_offset"].tolist() == [0, 8192, 16384, 24576, 32768]
    assert view.data.shape == (5, 8192)
    assert view.page_of(SubbufIndex(3)) == 3
    header = view.packet_header(0)
    assert header["magic"] == CTF_MAGIC
    assert header["uuid"].tobytes() == bytes(range(16))
    assert header["timestamp_begin"] == 777
    assert header["stream_id"] == 5


def test_views_show_the_memory_and_cannot_change_it() -> None:
    geometry = Geometry(LAYOUT, 4096, 2)
    raw = new_stream(geometry)
    view = StreamView(raw, geometry)
    raw[geometry.data] = 0x77
    assert view.data[0, 0] == 0x77
    for array in (view.control, view.hot, view.cold, view.pages, view.ids, view.counts, view.data):
        assert not array.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        view.data[0, 0] = 1


def test_memory_too_short() -> None:
    geometry = Geometry(LAYOUT, 4096, 2)
    with pytest.raises(LayoutError):
        StreamView(bytes(geometry.file_size - 1), geometry)


def test_id_without_a_page() -> None:
    geometry = Geometry(LAYOUT, 4096, 2)
    raw = new_stream(geometry)
    raw[geometry.wsb] = 2
    with pytest.raises(LayoutError):
        StreamView(raw, geometry).page_of(SubbufIndex(0))
