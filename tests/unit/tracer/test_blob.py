# SPDX-License-Identifier: MIT
"""A channel's object: what is not what it should be is an error, never a crash."""

from __future__ import annotations

import struct

import pytest
from helpers import captured
from hypothesis import given
from hypothesis import strategies as st

from ustconsumer.abi.ring import RING_LAYOUTS
from ustconsumer.errors import RemoteProtocolError
from ustconsumer.ringbuffer.channel import channel_blob
from ustconsumer.ringbuffer.geometry import Geometry
from ustconsumer.tracer.blob import parse_blob

LAYOUT = RING_LAYOUTS["ust-9-x86_64"]
UUID = bytes(range(16))


def blob(overwrite: bool = False, by_writer: bool = True, blocking_us: int = 0) -> bytes:
    geometry = Geometry(LAYOUT, 8192, 4, overwrite=overwrite, by_writer=by_writer)
    return channel_blob(
        geometry,
        nr_streams=2,
        channel_id=7,
        uuid=UUID,
        now=1000,
        read_timer_us=0 if by_writer else 1000,
        blocking_timeout_us=blocking_us,
    )


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("by_writer", [False, True])
def test_what_an_object_says(overwrite: bool, by_writer: bool) -> None:
    made = parse_blob(blob(overwrite, by_writer, blocking_us=-1))
    assert (made.id, made.uuid, made.nr_streams, made.blocking_ms) == (7, UUID, 2, -1)
    expected = Geometry(LAYOUT, 8192, 4, overwrite=overwrite, by_writer=by_writer)
    assert made.geometry.places() == expected.places()


def test_objects_of_the_real_consumer_are_understood() -> None:
    # 920 bytes each, with the consumer's own pointers in them.
    calls = [call.data for call in captured.command_socket() if len(call.data) == 920]
    assert len(calls) == 2
    assert {parse_blob(raw).id for raw in calls} == set(captured.channel_ids().values())


WRONG = [
    (0, "<i", 1, "recording disabled"),
    (8, "<Q", 0, "commit count mask"),
    (64, "<Q", 0, "private configuration before the references"),
    (64, "<Q", 1 << 60, "beyond the end"),
    (64, "<Q", 801, "odd"),
    (72, "<I", 0, "streams"),
    (72, "<I", 1 << 20, "streams"),
    (88, "<i", -2, "blocking timeout"),
    (120, "<Q", 8192, "buffer size"),
    (128, "<Q", 4095, "sub-buffer size"),
    (128, "<Q", 0, "sub-buffer size"),
    (136, "<I", 12, "its order"),
    (140, "<I", 0, "order of the number"),
    (144, "<I", 0, "order of the buffer size"),
    (152, "<Q", 3, "number of sub-buffers"),
    (152, "<Q", 1 << 40, "number of sub-buffers"),
    (192, "<I", 2, "mode"),
    (196, "<I", 0, "output"),
    (212, "<I", 2, "wake-up"),
]


@pytest.mark.parametrize(("at", "code", "value", "what"), WRONG)
def test_a_number_that_cannot_be_is_an_error(at: int, code: str, value: int, what: str) -> None:
    raw = bytearray(blob())
    struct.pack_into(code, raw, at, value)
    with pytest.raises(RemoteProtocolError):
        parse_blob(bytes(raw))


@pytest.mark.parametrize("length", [0, 1, 768, 887])
def test_an_object_cut_off_is_an_error(length: int) -> None:
    with pytest.raises(RemoteProtocolError):
        parse_blob(blob()[:length])


@given(st.data())
def test_whatever_it_says_there_is_an_answer(data: st.DataObject) -> None:
    raw = bytearray(blob())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw) - 8))
        value = data.draw(st.integers(0, 64) | st.integers(0, (1 << 64) - 1))
        struct.pack_into("<Q", raw, at, value)
    try:
        made = parse_blob(bytes(raw))
    except RemoteProtocolError:
        return
    # Believed only if memory of this shape can be.
    assert made.geometry.buf_size == made.geometry.subbuf_size * made.geometry.num_subbuf
    assert made.nr_streams * 16 <= len(raw)
