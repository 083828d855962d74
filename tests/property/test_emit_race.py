# SPDX-License-Identifier: MIT
"""The native writer in several processes, one buffer, while a reader switches and reads."""

from __future__ import annotations

import mmap
import os
import signal
import struct
import subprocess
import sys
from collections import Counter
from typing import Any

import pytest

from ustconsumer._native.ring import Ring
from ustconsumer.abi.ring import RING_LAYOUTS
from ustconsumer.ringbuffer.allocate import create_memory, initialise
from ustconsumer.ringbuffer.geometry import Geometry
from ustconsumer.ringbuffer.memory import StreamMemory

LAYOUT = RING_LAYOUTS["ust-9-x86_64"]
UUID = bytes.fromhex("2a6422d06cee11e08c08cb07d7b3a564")
IDENTITY: dict[str, Any] = {"uuid": UUID, "stream_id": 3, "cpu": 0}
EVENTS = 40_000
WRITERS = 3

#: Events of different lengths, each with who wrote it and its number, checked by the reader.
PROGRAM = f"""
import sys, mmap, os, struct
from ustconsumer._native.emit import Writer
from ustconsumer.abi.ring import RING_LAYOUTS
from ustconsumer.ringbuffer.geometry import Geometry

fd, size, num, overwrite, who, events = map(int, sys.argv[1:])
geometry = Geometry(RING_LAYOUTS["ust-9-x86_64"], size, num, bool(overwrite))
memory = mmap.mmap(fd, geometry.file_size)
writer = Writer(memory, geometry.places(), uuid=bytes.fromhex("{UUID.hex()}"), stream_id=3, cpu=0)
print("ready", flush=True)
sys.stdin.readline()
recorded = 0
for number in range(events):
    length = (number * 7 + who) % 60
    payload = struct.pack("<III", who, number, length) + bytes([number & 255]) * length
    recorded += writer.write(number & 1, payload) == 0
print(recorded, flush=True)
sys.stdin.readline()
"""


def records(packet: bytes) -> list[tuple[int, int]]:
    """Check every byte of a packet's content; return who wrote which event."""
    header = LAYOUT.packet.get_all(packet)
    assert header["uuid"] == UUID
    assert header["content_size"] == len(packet) * 8
    found = []
    at, last = LAYOUT.packet.size, header["timestamp_begin"]
    while at < len(packet):
        event_id, low = struct.unpack_from("<HI", packet, at)
        if event_id == 65535:
            _, event_id, now = struct.unpack_from("<HIQ", packet, at)
            at += 14
        else:
            now = (last & ~0xFFFFFFFF) + low + ((low < last & 0xFFFFFFFF) << 32)
            at += 6
        assert last <= now <= header["timestamp_end"]
        last = now
        who, number, length = struct.unpack_from("<III", packet, at)
        assert event_id == number & 1
        assert packet[at + 12 : at + 12 + length] == bytes([number & 255]) * length
        found.append((who, number))
        at += 12 + length
    assert at == len(packet)
    return found


@pytest.mark.repeat(ci=1, soak=20)
@pytest.mark.parametrize("overwrite", [False, True], ids=["discard", "overwrite"])
def test_every_event_once(overwrite: bool, repeat: int) -> None:
    for run in range(repeat):
        geometry = Geometry(LAYOUT, 4096, [4, 2, 8][run % 3], overwrite)
        fd = create_memory(geometry, "race")
        memory = mmap.mmap(fd, geometry.file_size)
        initialise(
            memory,
            geometry,
            stream_nr=0,
            channel_id=3,
            now=0,
            active_readers=0,
            uuid=UUID,
            cpu=0,
        )
        arguments = [fd, geometry.subbuf_size, geometry.num_subbuf, int(overwrite)]
        programs = [
            subprocess.Popen(
                [sys.executable, "-P", "-c", PROGRAM, *map(str, [*arguments, who, EVENTS])],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
                pass_fds=[fd],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            for who in range(WRITERS)
        ]
        os.close(fd)
        ring = Ring(memory, geometry.places(), **IDENTITY)
        packets: list[bytes] = []

        def take(
            ring: Ring = ring,
            memory: mmap.mmap = memory,
            geometry: Geometry = geometry,
            packets: list[bytes] = packets,
        ) -> None:
            while ring.get_next():
                page, size, _ = ring.current()
                at = geometry.data_at(page)
                packets.append(memory[at : at + size])
                ring.put_next()

        try:
            for program in programs:
                assert program.stdout is not None
                assert program.stdout.readline() == b"ready\n"
            for program in programs:
                assert program.stdin is not None
                program.stdin.write(b"go\n")
                program.stdin.flush()
            turns = 0
            answers = {program.stdout.fileno(): b"" for program in programs if program.stdout}
            for stdout in answers:
                os.set_blocking(stdout, False)
            while not all(answer.endswith(b"\n") for answer in answers.values()):
                turns += 1
                take()
                if turns % 50 == 0:
                    ring.switch(turns % 100 == 0)
                    for stdout in answers:
                        try:
                            answers[stdout] += os.read(stdout, 100)
                        except BlockingIOError:
                            continue
        finally:
            for program in programs:
                program.send_signal(signal.SIGKILL)
                program.communicate()
        ring.switch(True)
        take()
        ring.release()
        state = StreamMemory(memory, geometry)
        lost, recorded = state.lost(), sum(map(int, answers.values()))
        state.release()
        memory.close()
        assert recorded + lost == WRITERS * EVENTS
        sequence = [LAYOUT.packet.get(packet, 0, "packet_seq_num") for packet in packets]
        assert sequence == sorted(set(sequence))
        found = [record for packet in packets for record in records(packet)]
        assert Counter(found).most_common(1)[0][1] == 1
        for who in range(WRITERS):
            numbers = [number for writer, number in found if writer == who]
            assert numbers == sorted(numbers)
        if overwrite:
            assert len(found) <= recorded
        else:
            assert sequence == list(range(len(packets)))
            assert len(found) == recorded
