# SPDX-License-Identifier: MIT
"""Our reader and our switch against the tracer's writer at full speed, in one buffer."""

from __future__ import annotations

import struct
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.ustctl import UstCtl, possible_cpus

from ustconsumer._native.ring import Ring
from ustconsumer.abi.ring import RING_LAYOUTS
from ustconsumer.ringbuffer.geometry import Geometry
from ustconsumer.ringbuffer.memory import StreamMemory
from ustconsumer.ringbuffer.python_ring import PythonRing

pytestmark = pytest.mark.peers("gcc", "liblttng-ust-ctl")

LAYOUT = RING_LAYOUTS["ust-9-x86_64"]
UUID = bytes.fromhex("2a6422d06cee11e08c08cb07d7b3a564")
CPU = possible_cpus() - 1
EVENTS = 200_000
LENGTH = 28


def event_numbers(packet: bytes) -> list[int]:
    """Check every byte of a packet's content and return the numbers of its events."""
    header = LAYOUT.packet.get_all(packet)
    assert header["uuid"] == UUID
    assert header["content_size"] == len(packet) * 8
    assert header["timestamp_begin"] <= header["timestamp_end"]
    numbers = []
    at = LAYOUT.packet.size
    while at < len(packet):
        event_id = struct.unpack_from("<H", packet, at)[0]
        at += 14 if event_id == 65535 else 6
        number = struct.unpack_from("<I", packet, at)[0]
        assert packet[at + 4 : at + 4 + LENGTH] == bytes([number & 0xFF]) * LENGTH
        numbers.append(number)
        at += 4 + LENGTH
    assert at == len(packet)
    return numbers


def take_packet(ring: Any, view: memoryview, geometry: Geometry) -> bytes | None:
    """Take the next packet, copy it, release it."""
    if not ring.get_next():
        return None
    page, size, _ = ring.current()
    at = geometry.data_at(page)
    packet = bytes(view[at : at + size])
    ring.put_next()
    return packet


@pytest.mark.repeat(ci=5, soak=40)
@pytest.mark.parametrize("overwrite", [False, True], ids=["discard", "overwrite"])
@pytest.mark.parametrize("kind", [PythonRing, Ring])
def test_every_packet_is_whole(ust_ctl: Path, kind: type, overwrite: bool, repeat: int) -> None:
    for run in range(repeat):
        geometry = Geometry(LAYOUT, 4096, [4, 2, 8][run % 3], overwrite)
        peer = UstCtl(ust_ctl, geometry, now=0, channel_id=3, uuid=UUID, cpu=CPU)
        with peer, memoryview(peer.streams[CPU]) as view:
            where: Any = geometry if kind is PythonRing else geometry.places()
            ring = kind(view, where, uuid=UUID, stream_id=3, cpu=CPU)
            packets = []
            peer.start(0, "b", EVENTS, LENGTH)
            turns = 0
            while not peer.ended():
                packet = take_packet(ring, view, geometry)
                if packet is not None:
                    packets.append(packet)
                turns += 1
                if turns % 7 == 0:
                    ring.switch(turns % 2 == 0)
            recorded, _ = peer.answer()
            ring.switch(True)
            while (packet := take_packet(ring, view, geometry)) is not None:
                packets.append(packet)
            lost = StreamMemory(view, geometry)
            assert recorded + lost.lost() == EVENTS
            lost.release()
            ring.release()
        sequence = [LAYOUT.packet.get(packet, 0, "packet_seq_num") for packet in packets]
        numbers = [number for packet in packets for number in event_numbers(packet)]
        assert numbers == sorted(set(numbers))
        if overwrite:
            assert sequence == sorted(set(sequence))
            assert len(numbers) <= recorded
        else:
            assert sequence == list(range(len(packets)))
            assert len(numbers) == recorded


@pytest.fixture
def impatient() -> Iterator[None]:
    """Have threads change often: they only race where the native code has let go of the lock."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.repeat(ci=3, soak=40)
@pytest.mark.parametrize("overwrite", [False, True], ids=["discard", "overwrite"])
def test_two_that_switch_at_full_speed(
    ust_ctl: Path, overwrite: bool, repeat: int, impatient: None
) -> None:
    """A timer's switches, and those of another process at a time: they race with the writer.

    Both close the same sub-buffer if they can; one of them has to win each time.
    """
    for run in range(repeat):
        geometry = Geometry(LAYOUT, 4096, [4, 2, 64][run % 3], overwrite)
        peer = UstCtl(ust_ctl, geometry, now=0, channel_id=3, uuid=UUID, cpu=CPU)
        with peer, memoryview(peer.streams[CPU]) as view:
            rings = [
                Ring(view, geometry.places(), uuid=UUID, stream_id=3, cpu=CPU) for _ in range(3)
            ]
            done = threading.Event()
            closed = [0, 0]

            def switch(
                which: int, ring: Ring, done: threading.Event = done, closed: list[int] = closed
            ) -> None:
                turns = 0
                while not done.is_set():
                    turns += 1
                    # Mostly a timer's: they close what there is, and open nothing.
                    closed[which] += ring.switch(turns % 16 == 0)

            threads = [
                threading.Thread(target=switch, args=(which, ring))
                for which, ring in enumerate(rings[1:])
            ]
            for thread in threads:
                thread.start()
            packets = []
            try:
                peer.start(0, "b", 5 * EVENTS, LENGTH)
                while not peer.ended():
                    if (packet := take_packet(rings[0], view, geometry)) is not None:
                        packets.append(packet)
                recorded, _ = peer.answer()
            finally:
                done.set()
                for thread in threads:
                    thread.join()
            rings[0].switch(True)
            while (packet := take_packet(rings[0], view, geometry)) is not None:
                packets.append(packet)
            memory = StreamMemory(view, geometry)
            assert recorded + memory.lost() == 5 * EVENTS
            memory.release()
            for ring in rings:
                ring.release()
        assert all(closed)
        sequence = [LAYOUT.packet.get(packet, 0, "packet_seq_num") for packet in packets]
        numbers = [number for packet in packets for number in event_numbers(packet)]
        assert numbers == sorted(set(numbers))
        if overwrite:
            assert sequence == sorted(set(sequence))
        else:
            assert sequence == list(range(len(packets)))
            assert len(numbers) == recorded


PAGE = (1 << 32) - 1


def abandon(ring: Any, memory: StreamMemory, how: int) -> None:
    """Take the next packet and leave it as a killed reader does, by its stores.

    Which states there are: `ustconsumer.ringbuffer.takeover`.
    """
    spare = memory.load("rsb_id") & PAGE
    if not ring.get_next():
        return
    taken = memory.load("rsb_id") & PAGE
    if how == 0:
        return
    if how == 1:
        memory.held = False
    elif how == 2:
        memory.held = False
        memory.store("rsb_id", memory.load("rsb_id") & ~PAGE | spare)
    else:
        ring.put()
        if memory.load("rsb_id") & PAGE == spare:
            memory.store("rsb_id", memory.load("rsb_id") & ~PAGE | taken)


@pytest.mark.repeat(ci=4, soak=60)
@pytest.mark.parametrize("kind", [PythonRing, Ring])
def test_readers_die_while_a_writer_writes(ust_ctl: Path, kind: type, repeat: int) -> None:
    """Overwrite mode: the writer goes round and takes pages away while a successor mends."""
    mended = 0
    for run in range(repeat):
        geometry = Geometry(LAYOUT, 4096, [4, 2, 8, 64][run % 4], True)
        peer = UstCtl(ust_ctl, geometry, now=0, channel_id=3, uuid=UUID, cpu=CPU)
        with peer, memoryview(peer.streams[CPU]) as view:
            where: Any = geometry if kind is PythonRing else geometry.places()
            ring = kind(view, where, uuid=UUID, stream_id=3, cpu=CPU)
            memory = StreamMemory(view, geometry)
            packets = []
            peer.start(0, "b", 2 * EVENTS, LENGTH)
            turns = 0
            while not peer.ended():
                turns += 1
                abandon(ring, memory, turns % 4)
                mended += ring.take_over()
                if (packet := take_packet(ring, view, geometry)) is not None:
                    packets.append(packet)
            peer.answer()
            ring.switch(True)
            abandon(ring, memory, run % 4)
            # Nobody writes now: what is left is whole, and complete.
            ring.take_over()
            first = ring.positions()[0] // geometry.subbuf_size
            rest = []
            while (packet := take_packet(ring, view, geometry)) is not None:
                rest.append(packet)
            end = ring.positions()[1] // geometry.subbuf_size
            ids = [memory.load_id(index) for index in range(geometry.num_subbuf)]
            ids.append(memory.load("rsb_id"))
            assert sorted(each & PAGE for each in ids) == list(range(geometry.nr_pages))
            memory.release()
            ring.release()
        last = [LAYOUT.packet.get(packet, 0, "packet_seq_num") for packet in rest]
        assert last == list(range(first, end))
        packets += rest
        sequence = [LAYOUT.packet.get(packet, 0, "packet_seq_num") for packet in packets]
        assert sequence == sorted(set(sequence))
        numbers = [number for packet in packets for number in event_numbers(packet)]
        assert numbers == sorted(set(numbers))
    assert mended > 10 * repeat
