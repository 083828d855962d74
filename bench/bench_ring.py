# SPDX-License-Identifier: MIT
"""Cost of the consumer's own work: scan, packet and event, without a traced program.

``pytest --override-ini=python_files=bench_*.py bench`` (or ``tox -e bench``). Each figure is for
what the benchmark's name says; divide by the count it prints for the cost of one.
"""

from __future__ import annotations

import contextlib
import os
import struct
import tempfile
from typing import Any

import pytest
from helpers.rings import TestRing, make_ring

from ustconsumer._native.ring import RingSet
from ustconsumer.consumer.mapping import MappedStream
from ustconsumer.consumer.streams import take_packet
from ustconsumer.ctf.count import EventCounter

_RINGS = 2000
_EVENTS = 100_000


def test_scan_of_2000_idle_streams(benchmark: Any) -> None:
    """Budget: 50 microseconds, warm."""
    with contextlib.ExitStack() as stack:
        rings = RingSet()
        # A few rings' memory, watched many times over: the cost is per ring watched.
        made = [stack.enter_context(make_ring()) for _ in range(100)]
        for number in range(_RINGS):
            rings.add(made[number % len(made)].ring)
        assert benchmark(rings.scan) == []


@pytest.mark.parametrize("subbuf_size", [4096, 131072])
def test_drain_of_8_packets(benchmark: Any, subbuf_size: int) -> None:
    """From memory to the page cache, index included; 8 packets of one sub-buffer each."""
    with make_ring(subbuf_size, 8) as made, tempfile.TemporaryFile() as data:
        with tempfile.TemporaryFile() as index:

            def fill() -> tuple[tuple[()], dict[str, Any]]:
                _fill(made, 8)
                made.ring.data_offset = made.ring.index_offset = 0
                return (), {}

            def drain() -> None:
                made.ring.drain(data.fileno(), index.fileno(), 1 << 30)

            benchmark.pedantic(drain, setup=fill, rounds=200, warmup_rounds=5)
        assert os.fstat(data.fileno()).st_size == 8 * subbuf_size


def test_python_views_of_8_packets(benchmark: Any) -> None:
    """What a sink in Python pays: take, view, give back; 8 packets."""
    with make_ring(4096, 8) as made:
        mapped = MappedStream(made.stream, made.memory, made.ring)

        def fill() -> tuple[tuple[()], dict[str, Any]]:
            _fill(made, 8)
            return (), {}

        def take() -> None:
            for _ in range(8):
                packet = take_packet(mapped)
                assert packet is not None
                assert len(packet.data) == 4096
                packet.release()
                made.ring.put_next()

        benchmark.pedantic(take, setup=fill, rounds=200, warmup_rounds=5)


def test_count_of_100000_events(benchmark: Any) -> None:
    """Counting for the closing summary: two integers and a string an event."""
    record = struct.pack("<HI", 0, 0) + struct.pack("<ii", 1, 2) + b"flood\0"
    content = 84 + len(record) * _EVENTS
    size = (content + 4095) // 4096 * 4096
    header = struct.pack("<I16sIQ", 0xC1FC1FC1, bytes(16), 0, 0)
    header += struct.pack("<QQQQQQI", 0, 0, content * 8, size * 8, 0, 0, 0)
    packet = (header + record * _EVENTS).ljust(size, b"\0")
    counter = EventCounter({0: []}, {0: {0: [(0, 8), (1, 0)]}})
    events, packets, _ = benchmark(counter.count, packet)
    assert (events, packets) == (_EVENTS, 1)


def _fill(made: TestRing, count: int) -> None:
    """Close packets as large as their sub-buffers, as a writer at full speed leaves them."""
    geometry = made.stream.geometry
    layout = geometry.layout
    for _ in range(count):
        _, position = made.ring.positions()
        page = geometry.index(position)
        made.packet(2000)
        layout.page.put(made.memory, geometry.page_at(page), "data_size", geometry.subbuf_size)
        for field in ("content_size", "packet_size"):
            made.poke(page, field, geometry.subbuf_size * 8)
