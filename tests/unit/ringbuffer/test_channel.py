# SPDX-License-Identifier: MIT
"""The whole object is compared with the C library's in ``tests/property``."""

from __future__ import annotations

import struct

import pytest

from ustconsumer.abi.ring import RING_LAYOUTS
from ustconsumer.errors import UsageError
from ustconsumer.ringbuffer.channel import channel_blob
from ustconsumer.ringbuffer.geometry import Geometry

LAYOUT = RING_LAYOUTS["ust-9-x86_64"]
GEOMETRY = Geometry(LAYOUT, 8192, 4)


def blob(geometry: Geometry = GEOMETRY, nr_streams: int = 2, **options: int) -> bytes:
    return channel_blob(
        geometry, nr_streams=nr_streams, channel_id=9, uuid=b"u" * 16, now=1, **options
    )


def references(raw: bytes, count: int) -> list[tuple[int, int]]:
    return [struct.unpack_from("<qq", raw, 664 + 16 * i) for i in range(count)]


@pytest.mark.parametrize(("nr_streams", "length"), [(1, 904), (2, 920), (64, 1912)])
def test_length_is_the_tracers(nr_streams: int, length: int) -> None:
    assert len(blob(nr_streams=nr_streams)) == length


@pytest.mark.parametrize("spare", [6, 7, 62])
def test_spare_references_lead_nowhere(spare: int) -> None:
    raw = blob(spare=spare)
    assert references(raw, 2 + spare) == [(1, 0), (2, 0)] + [(-1, -1)] * spare
    private = struct.unpack_from("<Q", raw, 64)[0]
    assert private >= 664 + 16 * (2 + spare)
    assert len(raw) == private + 120
    assert struct.unpack_from("<I", raw, private + 92)[0] == 9
    assert raw[private + 100 : private + 116] == b"u" * 16


@pytest.mark.parametrize(
    ("timeout_us", "milliseconds"),
    [(0, 0), (999, 0), (2500, 2), (-1, -1), (1 << 50, (1 << 31) - 1)],
)
def test_blocking_timeout(timeout_us: int, milliseconds: int) -> None:
    raw = blob(blocking_timeout_us=timeout_us)
    assert struct.unpack_from("<i", raw, 88)[0] == milliseconds


@pytest.mark.parametrize(
    ("overwrite", "read_timer_us", "client", "name"),
    [
        (False, 0, 1, b"relay-discard-mmap"),
        (True, 0, 2, b"relay-overwrite-mmap"),
        (False, 1000, 3, b"relay-discard-rt-mmap"),
        (True, 1000, 4, b"relay-overwrite-rt-mmap"),
    ],
)
def test_transport(overwrite: bool, read_timer_us: int, client: int, name: bytes) -> None:
    geometry = Geometry(LAYOUT, 8192, 4, overwrite, by_writer=read_timer_us == 0)
    raw = blob(geometry, read_timer_us=read_timer_us)
    assert struct.unpack_from("<i", raw, 304)[0] == client
    assert raw[344:599].rstrip(b"\0") == name


def test_read_timer_and_writers_cannot_both_wake() -> None:
    with pytest.raises(UsageError):
        blob(read_timer_us=1000)
