# SPDX-License-Identifier: MIT
"""A ring buffer whose memory lies, and a snapshot that must not believe it.

``python -m helpers.hostile_snapshot MODE FIRST COUNT`` runs cases in a process of their own,
so that a crash is seen as one. As in `helpers.hostile`, the data area is made of known bytes,
and around the memory there are canaries.
"""

from __future__ import annotations

import contextlib
import faulthandler
import mmap
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from helpers.hostile import CANARY, DATA, GUARD, HANG, HEADER, LAYOUT, Shape, liar, lie, shapes
from helpers.rings import CHANNEL_ID, CPU, UUID

from ustconsumer._native.observer import OBSERVE_WHOLE, ObservedRing
from ustconsumer.abi.packet import CTF_MAGIC
from ustconsumer.consumer.observer import ObservedStream
from ustconsumer.consumer.packet import Packet, Stream, Trace
from ustconsumer.consumer.snapshot import Snapshot, take_snapshot
from ustconsumer.units import CpuId

_TRACE = Trace("t", "ust/uid/1/64-bit", UUID, 1)
_METADATA = b"stream {\n\tid = %d;\n};\n" % CHANNEL_ID
#: A snapshot waits for writers only so long, whatever they seem to do.
_SECONDS = 20.0


class Victim:
    """An observer of lying memory: its view is read-only, with canaries behind it.

    Parameters
    ----------
    shape : Shape
    fd : int
        A file that begins with the memory of the stream.
    length : int
        Of the file.
    """

    def __init__(self, shape: Shape, fd: int, length: int) -> None:
        geometry = self.geometry = shape.geometry
        self.big = mmap.mmap(fd, length)
        self.writable = memoryview(self.big)[GUARD : GUARD + geometry.file_size]
        self.writable[:] = shape.honest
        behind = length - GUARD - geometry.file_size
        self.big[GUARD + geometry.file_size :] = bytes([CANARY]) * behind
        self._view = mmap.mmap(fd, length, mmap.MAP_SHARED, mmap.PROT_READ)
        self._memory = memoryview(self._view)[GUARD : GUARD + geometry.file_size]
        ring = ObservedRing(
            self._memory, geometry.places(), uuid=UUID, stream_id=CHANNEL_ID, cpu=CPU
        )
        stream = Stream(1, _TRACE, "channel0", CHANNEL_ID, CpuId(CPU), geometry)
        self.observed = ObservedStream(stream, ring, self._view)

    def close(self) -> None:
        self.observed.ring.release()
        self._memory.release()
        self.writable.release()
        self._view.close()
        self.big.close()

    def snapshot(self) -> int:
        """Take a snapshot; check what is in it; return how many packets that is."""
        with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
            place = Path(directory) / "s"
            began = time.monotonic()
            taken = take_snapshot([self.observed], lambda: [(_TRACE, _METADATA)], place)
            assert time.monotonic() - began < _SECONDS, "it did not end"
            return self._check_file(taken, (place / _TRACE.path / f"channel0_{CPU}").read_bytes())

    def look(self, chance: random.Random) -> int:
        """Ask the observer for single packets, also where none can be; return how many came."""
        ring = self.observed.ring
        consumed, produced = ring.positions()
        ring.lost()
        size = self.geometry.subbuf_size
        around = [
            (produced // size - chance.randrange(self.geometry.num_subbuf + 2)) * size,
            consumed // size * size,
            chance.getrandbits(64) // size * size,
        ]
        came = 0
        for position in around:
            position %= 1 << 64
            assert 0 <= ring.prefix(position) <= size
            ring.begins(position)
            whole = ring.take(position)
            assert (whole is not None) == (ring.status == OBSERVE_WHOLE)
            parts = whole, ring.take_open(position, chance.choice((0, 1, 1 << 63)))
            for packet in filter(None, parts):
                came += 1
                self._check_packet(packet, position // size)
        return came

    def follow(self) -> int:
        """Read along for a while, as a program of one's own does."""
        came = 0
        while came < 1000:
            packet: Packet | None = self.observed.next_packet()
            if packet is None:
                break
            self._check_packet(packet.data.tobytes(), packet.sequence)
            came += 1
        return came

    # -- what must hold whatever the memory says -----------------------------------

    def check_memory(self) -> None:
        """Nothing was written around the memory."""
        end = self.geometry.file_size + GUARD
        assert self.big[:GUARD] == bytes([CANARY]) * GUARD
        assert self.big[end:] == bytes([CANARY]) * (len(self.big) - end)

    def _check_file(self, taken: Snapshot, raw: bytes) -> int:
        sequences = []
        while raw:
            size: int = LAYOUT.packet.get(raw, 0, "packet_size") // 8
            sequences.append(LAYOUT.packet.get(raw, 0, "packet_seq_num"))
            assert 0 < size <= len(raw)
            self._check_packet(raw[:size], sequences[-1])
            raw = raw[size:]
        assert sequences == sorted(set(sequences))
        assert len(sequences) == taken.packets <= self.geometry.num_subbuf + 1
        if not taken.lost and sequences:
            assert sequences == list(range(sequences[0], sequences[0] + len(sequences)))
        # What is missing is said.
        assert bool(taken.problems) >= bool(taken.lost)
        return taken.packets

    def _check_packet(self, packet: bytes, sequence: int) -> None:
        header = LAYOUT.packet.get_all(packet)
        content, size = header["content_size"], header["packet_size"]
        assert (header["magic"], header["uuid"]) == (CTF_MAGIC, UUID)
        assert (header["stream_id"], header["packet_seq_num"]) == (CHANNEL_ID, sequence)
        assert size == len(packet) * 8
        assert len(packet) % 4096 == 0
        assert not content % 8
        assert HEADER * 8 <= content <= size <= self.geometry.subbuf_size * 8
        assert header["timestamp_begin"] <= header["timestamp_end"]
        strange = set(packet[HEADER : content // 8]) - {0, DATA}
        assert not strange, f"bytes that are not of the data area: {sorted(strange)[:8]}"
        assert not any(packet[content // 8 :])


@contextlib.contextmanager
def _big(length: int) -> Iterator[int]:
    """Give a file of canaries."""
    fd = os.memfd_create("hostile")
    try:
        os.ftruncate(fd, length)
        os.pwrite(fd, bytes([CANARY]) * length, 0)
        yield fd
    finally:
        os.close(fd)


def _case(mode: str, seed: int, shape: Shape, fd: int, length: int) -> int:
    chance = random.Random(seed)  # noqa: S311 (repeatable, not secret)
    victim = Victim(shape, fd, length)
    believed = 0
    try:
        if mode == "static":
            for _ in range(chance.randrange(1, 6)):
                lie(chance, shape, victim.writable)
            before = bytes(victim.writable)
            believed += victim.look(chance) + victim.snapshot() + victim.follow()
            assert bytes(victim.writable) == before, "an observer wrote"
        else:
            with liar(seed, shape, victim.writable):
                for _ in range(4):
                    believed += victim.look(chance) + victim.snapshot() + victim.follow()
        victim.check_memory()
    finally:
        victim.close()
    return believed


def run(mode: str, first: int, count: int) -> int:
    """Run cases; return how many packets were believed."""
    made = shapes()
    length = 2 * GUARD + max(shape.geometry.file_size for shape in made)
    believed = 0
    with _big(length) as fd:
        for seed in range(first, first + count):
            faulthandler.dump_traceback_later(HANG, exit=True)
            shape = random.Random(seed).choice(made)  # noqa: S311 (repeatable, not secret)
            try:
                believed += _case(mode, seed, shape, fd, length)
            except BaseException as error:
                error.add_note(f"case {seed} of {mode}")
                raise
    return believed


if __name__ == "__main__":
    faulthandler.enable()
    print(run(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
