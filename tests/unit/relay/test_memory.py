# SPDX-License-Identifier: MIT
"""Packets in memory: the oldest go, numbers and offsets stay."""

from __future__ import annotations

import pytest

from ustconsumer.errors import RemoteProtocolError
from ustconsumer.relay.memory import MemoryDirectory, MemoryPackets, MemoryStores
from ustconsumer.relay.views import Entry

_SIZE = 4096
#: What a packet costs beside its bytes is less than a page.
_ROOM_FOR_THREE = 4 * _SIZE


def entry(number: int) -> Entry:
    return Entry(number * _SIZE, _SIZE * 8, _SIZE * 8, number, number, 0, 0, 0, number)


def content(number: int) -> bytes:
    return bytes([number]) * (_SIZE - 96)


def put(packets: MemoryPackets, number: int, *, index: bool = True) -> None:
    assert packets.begin(_SIZE) == number * _SIZE
    packets.write(content(number)[:1000])
    packets.write(content(number)[1000:])
    packets.finish(96)
    if index:
        packets.index(entry(number))


def stream(stores: MemoryStores) -> MemoryPackets:
    return stores.packets(MemoryDirectory(), ("ust",), "ch_0", indexed=True, minor=13)


def test_the_oldest_packets_go_and_numbers_stay() -> None:
    stores = MemoryStores(_ROOM_FOR_THREE)
    packets = stream(stores)
    for number in range(10):
        put(packets, number)
        assert stores.budget.used <= _ROOM_FOR_THREE
    assert (packets.first, packets.count) == (7, 10)
    for number in range(7, 10):
        assert packets.entry(number) == entry(number)
        assert packets.read(number * _SIZE, _SIZE) == content(number) + bytes(96)
        assert packets.read(number * _SIZE + 999, 2) == bytes([number]) * 2
    with pytest.raises(IndexError):
        packets.entry(6)
    assert packets.read(6 * _SIZE, _SIZE) == b""
    assert packets.last() == entry(9)
    packets.close()
    assert stores.budget.used == 0


def test_streams_share_the_memory() -> None:
    """What one sends too much takes the oldest of all."""
    stores = MemoryStores(_ROOM_FOR_THREE)
    quiet, busy = stream(stores), stream(stores)
    put(quiet, 0)
    put(busy, 0)
    put(busy, 1)
    assert (quiet.first, busy.first) == (0, 0)
    put(busy, 2)
    assert (quiet.first, quiet.count, busy.first) == (1, 1, 0)
    assert quiet.last() == entry(0)


def test_a_packet_can_go_before_its_index_comes() -> None:
    stores = MemoryStores(_ROOM_FOR_THREE)
    packets = stream(stores)
    for number in range(4):
        put(packets, number, index=False)
    assert (packets.first, packets.count) == (0, 0)
    packets.index(entry(0))
    assert (packets.first, packets.count) == (1, 1)
    packets.index(entry(1))
    assert (packets.first, packets.count) == (1, 2)
    assert packets.entry(1) == entry(1)


def test_a_producer_that_comes_back_goes_on_behind_the_last_index() -> None:
    stores = MemoryStores(_ROOM_FOR_THREE)
    packets = stream(stores)
    put(packets, 0)
    put(packets, 1, index=False)
    packets.begin(_SIZE)
    packets.write(b"torn")
    packets.cut()
    assert packets.size == _SIZE
    put(packets, 1)
    assert packets.read(_SIZE, _SIZE) == content(1) + bytes(96)
    packets.close()
    assert stores.budget.used == 0


def test_what_does_not_fit_is_refused_and_takes_nothing() -> None:
    stores = MemoryStores(_ROOM_FOR_THREE)
    packets = stream(stores)
    with pytest.raises(RemoteProtocolError, match="packet of"):
        packets.begin(_ROOM_FOR_THREE)
    packets.begin(_SIZE)
    with pytest.raises(RemoteProtocolError, match="kept in memory"):
        packets.write(bytes(_ROOM_FOR_THREE))
    packets.abort()
    assert stores.budget.used == 0


def test_nothing_is_kept_of_a_session_that_is_over() -> None:
    stores = MemoryStores(_ROOM_FOR_THREE)
    packets, metadata = stream(stores), stores.metadata(MemoryDirectory(), (), resume=False)
    packets.begin(_SIZE)
    packets.close()
    metadata.close()
    for late in (lambda: packets.write(b"x"), lambda: metadata.write(b"x", 0)):
        with pytest.raises(RemoteProtocolError, match="over"):
            late()
    assert stores.budget.used == 0


def test_metadata_stays_and_packets_make_room_for_it() -> None:
    stores = MemoryStores(_ROOM_FOR_THREE)
    packets, metadata = stream(stores), stores.metadata(MemoryDirectory(), (), resume=False)
    for number in range(3):
        put(packets, number)
    metadata.write(b"a" * _SIZE, 0)
    metadata.write(b"b" * _SIZE, _SIZE)
    assert packets.first == 2
    assert metadata.read(_SIZE - 1, 2) == b"ab"
    assert metadata.size() == 2 * _SIZE
    with pytest.raises(RemoteProtocolError):
        metadata.write(bytes(_ROOM_FOR_THREE), 2 * _SIZE)
    metadata.cut(1)
    assert (metadata.read(0, 100), stores.budget.used) == (b"a", 1)
