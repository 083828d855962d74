# SPDX-License-Identifier: MIT
"""A ring buffer whose memory lies, and a reader that must not believe it.

``python -m helpers.hostile MODE FIRST COUNT`` runs cases in a process of their own, so
that a crash is seen as one. Every byte of the data area that is no packet header is
`DATA` or 0, around the memory lie `CANARY` bytes: what else appears in a file came from
somewhere it must not.
"""

from __future__ import annotations

import contextlib
import faulthandler
import itertools
import mmap
import os
import random
import signal
import struct
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from helpers.rings import CHANNEL_ID, CPU, UUID
from helpers.ringwriter import RingWriter

from ustconsumer._native.ring import (
    DRAIN_EMPTY,
    DRAIN_HELD,
    DRAIN_LIE,
    DRAIN_MORE,
    PUMP_IDLE,
    PUMP_READY,
    PUMP_STOPPED,
    PUMP_TIME,
    PUMP_WORD,
    Ring,
    RingSet,
)
from ustconsumer._native.window import Window
from ustconsumer.abi.ring import RING_LAYOUTS
from ustconsumer.errors import RingBufferError
from ustconsumer.ringbuffer.allocate import initialise
from ustconsumer.ringbuffer.commit import Producer
from ustconsumer.ringbuffer.geometry import Geometry
from ustconsumer.ringbuffer.memory import StreamMemory
from ustconsumer.ringbuffer.switch import switch

LAYOUT = RING_LAYOUTS["ust-9-x86_64"]
HEADER = LAYOUT.packet.size
ENTRY = struct.Struct(">9Q")
_WORD = 1 << 64
DATA = 0x44
#: All four bytes are `DATA`, and so are those of event records with this time and id.
_NOW = 0x44444444
_EVENT = 0x4444
CANARY = 0xC5
GUARD = 1 << 16
#: A case that takes longer hangs: it is ended and shown where.
HANG = 60


@dataclass(frozen=True)
class Shape:
    """A buffer with events in it, as its honest writers left it."""

    geometry: Geometry
    honest: bytes
    #: Words that a writer can store to: everything but the records themselves.
    words: tuple[int, ...]


def _shape(subbuf_size: int, num_subbuf: int, overwrite: bool, events: int) -> Shape:
    geometry = Geometry(LAYOUT, subbuf_size, num_subbuf, overwrite=overwrite)
    memory = bytearray(geometry.file_size)
    initialise(
        memory, geometry, stream_nr=CPU, cpu=CPU, channel_id=CHANNEL_ID, uuid=UUID, now=_NOW,
        active_readers=1,
    )  # fmt: skip
    stream = StreamMemory(memory, geometry)
    # Or the first record would carry the whole time and another id.
    stream.store("last_tsc", _NOW)
    producer = Producer(stream, UUID, CHANNEL_ID, CPU, -1)
    writer = RingWriter(producer)
    for _ in range(events):
        writer.write(_EVENT, bytes([DATA]) * (subbuf_size // 5), _NOW)
    switch(producer, False, _NOW)
    stream.release()
    places = geometry.places()
    control = [at for name, at in places.items() if name in _CONTROL]
    tables = [*range(geometry.hot, geometry.data, 8), *range(geometry.pages, len(memory) - 7, 8)]
    starts = [geometry.data_at(page) for page in range(geometry.nr_pages)]
    headers = [start + at for start in starts for at in (0, 20, *range(32, HEADER - 7, 8))]
    # Each group as likely as the next, however many words it has.
    words = (*control * 40, *tables, *headers * 3)
    return Shape(geometry, bytes(memory), words)


_CONTROL = {
    "offset", "consumed", "last_tsc", "rsb_id", "active_readers", "lost_full", "lost_wrap",
    "lost_big", "get_subbuf_consumed", "prod_snapshot", "cons_snapshot", "get_subbuf",
}  # fmt: skip


def shapes() -> list[Shape]:
    """Return buffers of both modes: nearly empty, full, filled several times."""
    sizes = [(4096, 1), (4096, 4), (16384, 2), (4096, 64)]
    return [
        _shape(size, number, overwrite, events)
        for (size, number) in sizes
        for overwrite in (False, True)
        if number > overwrite
        for events in (2, 7, 5 * number + 3)
    ]


def lie(chance: random.Random, shape: Shape, memory: memoryview) -> None:
    """Store something to one word."""
    at = chance.choice(shape.words)
    (old,) = struct.unpack_from("<Q", memory, at)
    size = shape.geometry.subbuf_size
    value = chance.choice(
        (
            old ^ (1 << chance.randrange(64)),
            old + chance.choice((-1, 1, size, -size, 8, 4096, shape.geometry.buf_size)),
            chance.getrandbits(64),
            chance.getrandbits(8),
            chance.choice((0, _WORD - 1, 1 << 63, 1 << 32, _WORD - size)),
        )
    )
    struct.pack_into("<Q", memory, at, value % _WORD)


class Victim:
    """The reader's side of one case, and the files it writes."""

    def __init__(self, shape: Shape, big: mmap.mmap):
        geometry = self.geometry = shape.geometry
        self.big = big
        self.memory = memoryview(big)[GUARD : GUARD + geometry.file_size]
        self.memory[:] = shape.honest
        # One byte behind the memory on, there is nothing but canaries.
        big[GUARD + geometry.file_size :] = bytes([CANARY]) * (
            len(big) - GUARD - geometry.file_size
        )
        self.ring = Ring(self.memory, geometry.places(), uuid=UUID, stream_id=CHANNEL_ID, cpu=CPU)
        self.rings = RingSet()
        self.rings.add(self.ring)
        self.data = tempfile.TemporaryFile()  # noqa: SIM115 (closed by `close`)
        self.index = tempfile.TemporaryFile()  # noqa: SIM115 (closed by `close`)

    def close(self) -> None:
        self.rings.remove(self.ring)
        self.ring.release()
        self.memory.release()
        self.data.close()
        self.index.close()

    # -- what a consumer does ------------------------------------------------------

    def drain(self, chance: random.Random) -> None:
        status = self.ring.drain(
            self.data.fileno(), self.index.fileno(), chance.choice((1, 1 << 13, 1 << 40)),
            chance.choice((0, 8192, 65536, 1 << 40)),
        )  # fmt: skip
        assert status in (DRAIN_EMPTY, DRAIN_MORE, DRAIN_HELD, DRAIN_LIE), status
        assert status != DRAIN_LIE or self.ring.lie

    def pump(self, chance: random.Random) -> None:
        if chance.random() < 0.8:
            self.ring.assign(self.data.fileno(), self.index.fileno())
        reason, ring, fill = self.rings.pump(
            200_000, chance.choice((1, 1 << 40)), chance.choice((0, 50_000)), chance.randrange(3)
        )
        self.ring.assign(-1)
        assert reason in (PUMP_IDLE, PUMP_READY, PUMP_STOPPED, PUMP_TIME, PUMP_WORD)
        assert (ring is self.ring) == (reason in (PUMP_READY, PUMP_STOPPED))
        assert fill >= 0

    def take(self, chance: random.Random) -> None:
        if not self.ring.get_next():
            return
        try:
            self.ring.current()
            page, packet_size, content_size, _ = self.ring.mend_held()
            assert HEADER <= content_size <= packet_size <= self.geometry.subbuf_size
            window = Window(self.memory, self.geometry.data_at(page), packet_size)
            self._check_packet(bytes(memoryview(window)))
        finally:
            chance.choice((self.ring.put, self.ring.put_next))()

    def take_anywhere(self, chance: random.Random) -> None:
        if self.ring.get(chance.choice((0, 4096, chance.getrandbits(64)))):
            self.take_held(chance)

    def take_held(self, chance: random.Random) -> None:
        page, size, _ = self.ring.current()
        assert page < self.geometry.nr_pages
        assert HEADER <= size <= self.geometry.subbuf_size
        self.ring.put()

    def switch(self, chance: random.Random) -> None:
        self.ring.switch(chance.random() < 0.7, chance.choice((None, _NOW)))

    def look(self, chance: random.Random) -> None:
        self.ring.readable()
        self.ring.snapshot()
        self.ring.positions()
        self.ring.held()
        self.rings.scan()
        self.rings.lost()
        self.rings.set_active(chance.randrange(2))

    def move(self, chance: random.Random) -> None:
        if chance.random() < 0.5:
            self.ring.move_consumer(chance.getrandbits(64))
        else:
            self.ring.clear()

    def take_over(self, chance: random.Random) -> None:
        """As a successor, also of one that died with a packet in its hand."""
        if chance.random() < 0.5 and self.ring.get_next():
            self.ring.take_over()
        self.ring.take_over()

    def act(self, chance: random.Random) -> None:
        """Do one of these; a complaint is an answer."""
        actions: tuple[Callable[[random.Random], None], ...] = (
            self.drain, self.drain, self.drain, self.pump, self.pump, self.take, self.take,
            self.take_anywhere, self.switch, self.look, self.move, self.take_over,
        )  # fmt: skip
        with contextlib.suppress(RingBufferError):
            chance.choice(actions)(chance)
        if self.ring.held():
            with contextlib.suppress(RingBufferError):
                self.ring.put()

    # -- what must hold whatever the memory says -----------------------------------

    def check(self) -> None:
        """Check the files: whole packets of this stream's data area, one after the other."""
        end = self.geometry.file_size + GUARD
        canary = bytes([CANARY])
        assert self.big[:GUARD] == canary * GUARD, "written before the memory"
        assert self.big[end:] == canary * (len(self.big) - end), "written behind the memory"
        raw = os.pread(self.data.fileno(), os.fstat(self.data.fileno()).st_size, 0)
        index = os.pread(self.index.fileno(), os.fstat(self.index.fileno()).st_size, 0)
        assert len(index) % ENTRY.size == 0
        at = 0
        sequence = -1
        for entry in ENTRY.iter_unpack(index):
            offset, packet, content, _, _, _, stream, cpu, number = entry
            assert (offset, stream, cpu) == (at, CHANNEL_ID, CPU), entry
            assert packet % (4096 * 8) == 0
            assert HEADER * 8 <= content <= packet <= self.geometry.subbuf_size * 8, entry
            assert packet - content < 4096 * 8, entry
            assert 0 <= number < _WORD // self.geometry.subbuf_size
            self._check_packet(raw[at : at + packet // 8])
            at += packet // 8
            sequence = number
        assert at == len(raw) == self.ring.data_offset, (at, len(raw), sequence)
        assert self.ring.byte_count == at
        assert self.ring.packet_count == len(index) // ENTRY.size

    def _check_packet(self, packet: bytes) -> None:
        strange = set(packet[HEADER:]) - {0, DATA}
        assert not strange, f"bytes that are not of the data area: {sorted(strange)[:8]}"


@contextlib.contextmanager
def liar(seed: int, shape: Shape, memory: memoryview) -> Iterator[None]:
    """Run a process that changes words while the reader reads; it also puts them right again."""
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            chance = random.Random(seed)  # noqa: S311 (repeatable, not secret)
            for turn in itertools.count():
                if os.getppid() == 1:
                    break
                for _ in range(chance.randrange(1, 20)):
                    lie(chance, shape, memory)
                if turn % 4 == 0:
                    _put_right(shape, memory)
        os._exit(0)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _put_right(shape: Shape, memory: memoryview) -> None:
    """Store what the honest writers had stored, all but the records."""
    geometry = shape.geometry
    memory[: geometry.data] = shape.honest[: geometry.data]
    for page in range(geometry.nr_pages):
        start = geometry.data_at(page)
        memory[start : start + HEADER] = shape.honest[start : start + HEADER]
    memory[geometry.pages :] = shape.honest[geometry.pages :]


def run(mode: str, first: int, count: int) -> int:
    """Run cases; return how many packets were believed."""
    made = shapes()
    big = mmap.mmap(-1, 2 * GUARD + max(shape.geometry.file_size for shape in made))
    big[:] = bytes([CANARY]) * len(big)
    believed = 0
    for seed in range(first, first + count):
        faulthandler.dump_traceback_later(HANG, exit=True)
        chance = random.Random(seed)  # noqa: S311 (repeatable, not secret)
        shape = chance.choice(made)
        victim = Victim(shape, big)
        try:
            if mode == "static":
                for _ in range(chance.randrange(1, 6)):
                    lie(chance, shape, victim.memory)
                for _ in range(8):
                    victim.act(chance)
                    victim.check()
            else:
                with liar(seed, shape, victim.memory):
                    for _ in range(60):
                        victim.act(chance)
                victim.check()
        except BaseException as error:
            error.add_note(f"case {seed} of {mode}")
            raise
        believed += victim.ring.packet_count
        victim.close()
    return believed


if __name__ == "__main__":
    faulthandler.enable()
    print(run(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
