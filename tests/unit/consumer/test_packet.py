# SPDX-License-Identifier: MIT
from __future__ import annotations

import pytest
from helpers.rings import TestRing, make_ring

from ustconsumer.consumer.mapping import MappedStream
from ustconsumer.consumer.packet import Packet
from ustconsumer.consumer.streams import take_packet
from ustconsumer.errors import RingBufferError


def take(made: TestRing) -> Packet:
    packet = take_packet(MappedStream(made.stream, made.memory, made.ring))
    assert packet is not None
    return packet


def test_a_packet_is_a_read_only_view_of_the_memory() -> None:
    with make_ring() as made:
        made.packet(2000)
        packet = take(made)
        assert (packet.sequence, packet.events_discarded) == (0, 0)
        assert (packet.timestamp_begin, packet.timestamp_end) == (1000, 2000)
        assert (packet.content_size, packet.packet_size) == (84, 4096)
        assert packet.data.shape == (4096,)
        assert bytes(packet.data[:4]) == bytes.fromhex("c11ffcc1")
        assert not packet.data.flags.writeable
        made.memory[made.stream.geometry.data] = 0xFF
        assert packet.data[0] == 0xFF
        packet.release()
        made.ring.put_next()


def test_nothing_to_take() -> None:
    with make_ring() as made:
        assert take_packet(MappedStream(made.stream, made.memory, made.ring)) is None


def test_a_view_that_was_kept_is_an_error() -> None:
    with make_ring() as made:
        made.packet(2000)
        packet = take(made)
        kept = packet.data[10:20]
        with pytest.raises(RingBufferError, match=r"view of packet 0 .*copy"):
            packet.release()
        del kept
        packet.release()
        made.ring.put()


def test_a_released_packet_has_no_data_but_its_copy_stays() -> None:
    with make_ring() as made:
        made.packet(2000)
        packet = take(made)
        copy = packet.copy()
        packet.release()
        made.ring.put_next()
        assert copy.shape == (4096,)
        with pytest.raises(RingBufferError, match="given back"):
            _ = packet.data


def test_a_packet_that_lies_is_given_back() -> None:
    with make_ring() as made:
        made.packet(2000)
        made.poke(0, "magic", 0)
        with pytest.raises(RingBufferError, match="header"):
            take(made)
        assert not made.ring.held()
