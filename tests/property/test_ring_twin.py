# SPDX-License-Identifier: MIT
"""Our ring buffers beside those of liblttng-ust-ctl: equal to the byte, always.

One channel is made by LTTng's control library and driven by it, a twin is made and
driven by us; events are written by the tracer's client code there and by
the readable or the native writer here. After every operation the whole shared memory is compared.
Nothing is masked: both sides are given the same clock value for each operation.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import random
import struct
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.ringwriter import COMPACT, LARGE, Reservation, RingWriter, header_size
from helpers.ustctl import UstCtl, possible_cpus

from ustconsumer._native.emit import Reservation as NativeReservation
from ustconsumer._native.emit import Writer
from ustconsumer._native.ring import Ring
from ustconsumer.abi.ring import RING_LAYOUTS
from ustconsumer.ringbuffer import reader
from ustconsumer.ringbuffer.allocate import create_memory, initialise
from ustconsumer.ringbuffer.channel import channel_blob
from ustconsumer.ringbuffer.commit import Producer
from ustconsumer.ringbuffer.geometry import Geometry
from ustconsumer.ringbuffer.memory import MASK, StreamMemory
from ustconsumer.ringbuffer.python_ring import PythonRing
from ustconsumer.ringbuffer.stream import StreamView

pytestmark = pytest.mark.peers("gcc", "liblttng-ust-ctl")

LAYOUT = RING_LAYOUTS["ust-9-x86_64"]
UUID = bytes.fromhex("2a6422d06cee11e08c08cb07d7b3a564")
CHANNEL_ID = 7
CPU = possible_cpus() - 1
#: A timer that never fires here.
HOUR_US = 3_600_000_000
#: Fields of the channel object that only mean something in the process that has it.
PRIVATE_FIELDS = ("handle", "priv", "config_cb", "config_cb_ptr")
TIMER_FIELDS = ("switch_timer", "switch_timer_enabled", "read_timer", "read_timer_enabled")


def difference(geometry: Geometry, ours: Any, theirs: Any) -> str:
    """Say where two memories differ first, in the terms of the layout."""
    at = next(i for i in range(geometry.file_size) if ours[i] != theirs[i])
    tables = ("hot", "cold", "ts_end", "array", "data", "pages", "wsb", "cnt")
    starts = {"control": 0} | {name: getattr(geometry, name) for name in tables}
    name = max((start, name) for name, start in starts.items() if start <= at)[1]
    word = at - at % 8
    mine, other = (struct.unpack_from("<Q", m, word)[0] for m in (ours, theirs))
    return f"{geometry}: byte {at} = {name} + {at - starts[name]}: {mine:#x}, C {other:#x}"


# -- creation ------------------------------------------------------------------------


@pytest.mark.parametrize("num_subbuf", [1, 2, 4, 8])
@pytest.mark.parametrize("subbuf_size", [4096, 8192, 131072])
@pytest.mark.parametrize("read_timer_us", [0, HOUR_US])
@pytest.mark.parametrize("overwrite", [False, True])
def test_new_channel_is_equal(
    ust_ctl: Path, overwrite: bool, read_timer_us: int, subbuf_size: int, num_subbuf: int
) -> None:
    if overwrite and num_subbuf == 1:
        return  # refused by both
    geometry = Geometry(LAYOUT, subbuf_size, num_subbuf, overwrite, by_writer=not read_timer_us)
    options = {"switch_timer_us": 0, "read_timer_us": read_timer_us, "blocking_timeout_us": 2500}
    with UstCtl(
        ust_ctl, geometry, now=10**15, channel_id=CHANNEL_ID, uuid=UUID, **options
    ) as theirs:
        for number, memory in enumerate(theirs.streams):
            fd = create_memory(geometry, "twin")
            with mmap.mmap(fd, geometry.file_size) as ours:
                os.close(fd)
                initialise(
                    ours,
                    geometry,
                    stream_nr=number,
                    cpu=number,
                    channel_id=CHANNEL_ID,
                    uuid=UUID,
                    now=10**15,
                    active_readers=1,
                )
                assert len(memory) == geometry.file_size
                assert ours[:] == memory[:], difference(geometry, ours, memory)
    nr_streams = len(theirs.streams)
    # The C library leaves zeros where we put references to nowhere.
    blob = channel_blob(
        geometry,
        nr_streams=nr_streams,
        channel_id=CHANNEL_ID,
        uuid=UUID,
        now=10**15,
        spare=0,
        **options,
    )
    expected = bytearray(theirs.blob)
    for name in PRIVATE_FIELDS + TIMER_FIELDS:
        at = LAYOUT.channel.offset(name)
        size = LAYOUT.channel.field_size(name)
        expected[at : at + size] = bytes(size)
    assert blob == bytes(expected)
    spared = channel_blob(
        geometry,
        nr_streams=nr_streams,
        channel_id=CHANNEL_ID,
        uuid=UUID,
        now=10**15,
        **options,
    )
    end = LAYOUT.channel_buf + nr_streams * LAYOUT.ref
    assert spared[:end] == blob[:end]
    assert spared[end : end + 96] == b"\xff" * 96
    assert spared[end + 96 :] == blob[end + 96 :]


# -- operations ------------------------------------------------------------------------

#: Where positions start: (turns below 2**64, wraps of the position already behind).
STARTS = {
    "from zero": None,
    "position wraps": (2, 0),
    "position and commit counters wrap": (2, -1),
}


OPERATIONS = 170


class Twins:
    """One stream of each kind, their operations, and the comparison after each."""

    def __init__(self, program: Path, kind: type, geometry: Geometry, seed: str, start: Any):
        self.random = random.Random(seed)  # noqa: S311 - no secret
        #: A lazy reader is overtaken or stops the writers, an eager one finds nothing.
        self.eagerness = self.random.choice([0.2, 1, 2])
        self.seed = seed
        self.log: list[str] = []
        self.geometry = geometry
        self.now = self.random.choice([1000, 10**15, (1 << 27) - 500])
        header_type = self.random.choice([COMPACT, LARGE])
        self.theirs = UstCtl(
            program,
            geometry,
            now=self.now,
            channel_id=CHANNEL_ID,
            uuid=UUID,
            cpu=CPU,
            header_type=header_type,
            read_timer_us=0 if geometry.by_writer else HOUR_US,
        )
        self.their_memory = self.theirs.streams[CPU]
        fd = create_memory(geometry, "twin")
        self.our_memory = mmap.mmap(fd, geometry.file_size)
        os.close(fd)
        self.pipe, wake_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.wake_fd = wake_fd
        identity: dict[str, Any] = {
            "uuid": UUID,
            "stream_id": CHANNEL_ID,
            "cpu": CPU,
            "wake_fd": wake_fd,
        }
        initialise(
            self.our_memory,
            geometry,
            stream_nr=CPU,
            cpu=CPU,
            channel_id=CHANNEL_ID,
            uuid=UUID,
            now=self.now,
            active_readers=1,
        )
        self.memory = StreamMemory(self.our_memory, geometry)
        if start is not None:
            for memory in (self.memory, StreamMemory(self.their_memory, geometry)):
                _turn_to(memory, *start)
        where: Any = geometry if kind is PythonRing else geometry.places()
        self.ring = kind(self.our_memory, where, **identity)
        # As the ring: the readable definitions, or what runs.
        self.writer: RingWriter | Writer = (
            RingWriter(Producer(self.memory, UUID, CHANNEL_ID, CPU, wake_fd), header_type)
            if kind is PythonRing
            else Writer(self.our_memory, geometry.places(), header_type=header_type, **identity)
        )
        self.open: list[Reservation | NativeReservation] = []
        self.taken_by_next = False
        self.compare()

    def close(self) -> None:
        self.theirs.close()
        os.close(self.pipe)
        os.close(self.wake_fd)

    # -- one operation on both -----------------------------------------------------------

    def both(self, command: str, *arguments: int) -> int:
        """Run an operation on the other side; return what it returned."""
        self.log.append(" ".join([str(self.now), command, *map(str, arguments)]))
        result, wakeups = self.theirs.call(self.now, command, *arguments)
        self.log[-1] += f" -> {result}"
        self.expected_wakeups = wakeups
        return result

    def compare(self) -> None:
        ours, theirs = self.our_memory, self.their_memory
        if ours[:] != theirs[:]:
            raise AssertionError(
                f"{difference(self.geometry, ours, theirs)}\nseed {self.seed}, "
                f"{len(self.log)} operations, the last ones:\n" + "\n".join(self.log[-12:])
            )

    def compare_wakeups(self) -> None:
        raw = fcntl.ioctl(self.pipe, termios.FIONREAD, bytes(4))
        assert struct.unpack("i", raw)[0] == self.expected_wakeups, (self.seed, self.log[-12:])

    def event(self) -> tuple[int, bytes]:
        """Choose an event: often small, sometimes just fitting what is left, or too big."""
        size = self.geometry.subbuf_size
        left = size - self.geometry.subbuf_offset(self.memory.load("offset"))
        head = header_size(self.writer.header_type, False)
        full = header_size(self.writer.header_type, True)
        largest = size - self.geometry.header_size - head
        lengths = {
            self.random.randrange(1, 100): 30,
            self.random.randrange(size // 8, size // 2): 50,
            self.random.choice([left - full, *(left - head + d for d in (-1, 0, 1))]): 10,
            largest + self.random.choice([-1, 0, 1]): 6,
        }
        length = self.random.choices(list(lengths), list(lengths.values()))[0]
        event_id = self.random.choice([0, 5, 5, 5, 30, 31, 65534, 65535])
        return event_id, bytes([self.random.randrange(256)]) * max(length, 1)

    def write(self, keep_open: bool = False) -> None:
        event_id, payload = self.event()
        result = self.both("r" if keep_open else "w", event_id, len(payload), payload[0])
        mine = self.writer.reserve(event_id, payload, self.now)
        if isinstance(mine, int):
            assert mine == result, (self.seed, self.log[-12:])
            return
        assert result == 0, (self.seed, self.log[-12:])
        if keep_open:
            self.open.append(mine)
        else:
            mine.commit()

    def commit(self) -> None:
        """Reservations end in the reverse order, as in a thread and its signal handlers."""
        assert self.both("k") == 0
        self.open.pop().commit()

    def flush(self, final: bool) -> None:
        assert self.both("f", int(not final)) == 0
        self.ring.switch(final, self.now)

    def clear(self) -> None:
        assert self.both("c") == 0
        self.ring.switch(False, self.now)  # clear's own switch would read the real clock
        self.ring.clear()

    def get_next(self) -> None:
        result = self.both("n")
        assert result in (0, -errno.EAGAIN)
        assert self.ring.get_next() is (result == 0), (self.seed, self.log[-12:])
        self.taken_by_next = True
        if result == 0:
            self.check_held()

    def get(self) -> None:
        geometry = self.geometry
        consumed, offset = self.ring.positions()
        subbufs = (geometry.subbuf_trunc(offset) - consumed & MASK) // geometry.subbuf_size
        step = self.random.randrange(max(subbufs, 1))
        if self.random.random() < 0.15:
            step = self.random.choice([-1, -1, -1, subbufs])
        position = consumed + step * geometry.subbuf_size & MASK
        result = self.both("g", position)
        assert result in (0, -errno.EAGAIN)
        assert self.ring.get(position) is (result == 0), (self.seed, self.log[-12:])
        self.taken_by_next = False
        if result == 0:
            self.check_held()

    def check_held(self) -> None:
        """Compare what both sides say of the packet that is held."""
        geometry = self.geometry
        page, data_size, _ = self.ring.current()
        view = StreamView(self.our_memory, geometry)
        header = view.packet_header(page)
        packet_bytes = -(-data_size // 4096) * 4096
        fields = (
            *("timestamp_begin", "timestamp_end", "events_discarded", "content_size"),
            *("packet_size", "packet_seq_num", "stream_id", "stream_instance_id"),
        )
        # The library counts a page's place from the beginning of the data.
        mmap_offset = int(view.pages[page]["mmap_offset"])
        mine = [0, 0, data_size, packet_bytes, mmap_offset, *(int(header[f]) for f in fields)]
        theirs = self.theirs.call(self.now, "h")
        assert mine == theirs, (self.seed, self.log[-12:])

    def give_back(self) -> None:
        if self.taken_by_next and self.random.random() < 0.8:
            assert self.both("N") == 0
            self.ring.put_next()
        else:
            assert self.both("G") == 0
            self.ring.put()

    def snapshot(self) -> None:
        result = self.both("s")
        assert self.ring.snapshot() is (result == 0)

    def sample(self) -> None:
        assert self.both("S") == 0
        mine = reader.sample_positions(self.memory)  # the native reader has no such method
        assert self.theirs.call(self.now, "p") == [0, 0, *mine]

    def without_reader(self) -> None:
        """Write while no reader is announced: no wake-up may be sent."""
        at = LAYOUT.control.offset("active_readers")
        self.ring.close()
        self.their_memory[at : at + 8] = bytes(8)
        self.write()
        self.ring.open()
        self.their_memory[at : at + 8] = (1).to_bytes(8, "little")

    def while_disabled(self) -> None:
        """Write to a stream that is paused: the event vanishes, no counter moves."""
        at = LAYOUT.control.offset("record_disabled")
        for memory in (self.our_memory, self.their_memory):
            memory[at : at + 4] = (1).to_bytes(4, "little")
        self.write()
        for memory in (self.our_memory, self.their_memory):
            memory[at : at + 4] = bytes(4)

    def step(self) -> None:
        """Do one random operation on both sides and compare."""
        self.now += self.random.choice([1, 17, 1000, 1000, 1 << 26, 1 << 27, 1 << 33])
        at_boundary = self.geometry.subbuf_offset(self.memory.load("offset")) == 0
        operations: list[tuple[float, Any]] = [
            (50, self.write),
            (6 if len(self.open) < 3 else 0, lambda: self.write(keep_open=True)),
            (12 if self.open else 0, self.commit),
            (5, lambda: self.flush(final=False)),
            (30 if at_boundary else 3, lambda: self.flush(final=True)),
            (1, self.clear),
            (3, self.snapshot),
            (2, self.sample),
            (2, self.without_reader),
            (1, self.while_disabled),
        ]
        if self.ring.held():
            operations += [(30 * self.eagerness, self.give_back)]
        else:
            # On a sub-buffer that is not committed the C library tries for 60 ms.
            slow = (0.2 if self.open else 1) * self.eagerness
            operations += [(25 * slow, self.get_next), (8 * slow, self.get)]
        weights = [weight for weight, _ in operations]
        self.random.choices([operation for _, operation in operations], weights)[0]()
        self.compare()
        self.compare_wakeups()


def _turn_to(memory: StreamMemory, turns_below: int, wraps: int) -> None:
    """Make a new stream one that has already run to ``turns_below`` turns before a wrap.

    ``wraps`` is how often its position went through 2**64 before, modulo ``num_subbuf``:
    commit counters grow by ``subbuf_size`` where positions grow by ``buf_size``, so they
    come near their own wrap only in the last one.
    """
    geometry, layout = memory.geometry, memory.geometry.layout
    position = (1 << 64) - turns_below * geometry.buf_size
    turn = geometry.turn(position) + wraps % geometry.num_subbuf * ((1 << 64) // geometry.buf_size)
    base = turn * geometry.subbuf_size & MASK
    header = geometry.header_size
    memory.store("offset", position + header)
    memory.store("consumed", position)
    for index in range(geometry.num_subbuf):
        open_bytes = header if index == 0 else 0
        memory.add_cc(index, base + open_bytes - (header if index == 0 else 0))
        memory.store_seq(index, base + open_bytes & MASK)
        memory.store_cc_sb(index, base)
        memory.store_count(index, turn)
        if geometry.overwrite:
            # The tag of the last delivery, one turn ago.
            last = memory.turn_tag(position - geometry.buf_size)
            memory.store_id(index, memory.load_id(index) | last)
    first = geometry.num_subbuf * turn & MASK
    layout.packet.put(memory.view, geometry.data, "packet_seq_num", first)


@pytest.fixture
def twins_made() -> Iterator[list[Twins]]:
    made: list[Twins] = []
    yield made
    for twins in made:
        twins.close()


@pytest.mark.repeat(ci=1, soak=8)
@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("overwrite", [False, True], ids=["discard", "overwrite"])
@pytest.mark.parametrize("kind", [PythonRing, Ring])
def test_operations_are_equal(
    ust_ctl: Path,
    kind: type,
    overwrite: bool,
    start: str,
    repeat: int,
    twins_made: list[Twins],
) -> None:
    """A run is 170 operations; all of it follows from its seed, the same for both kinds."""
    for run in range(repeat):
        case = run + list(STARTS).index(start)
        num_subbuf = [4, 8, 2, 2 if overwrite else 1][case % 4]
        subbuf_size = [8192, 4096, 4096, 16384][case % 4]
        by_writer = case % 4 != 2
        geometry = Geometry(LAYOUT, subbuf_size, num_subbuf, overwrite, by_writer)
        twins = Twins(ust_ctl, kind, geometry, f"{overwrite}/{start}/{run}", STARTS[start])
        twins_made.append(twins)
        begin = twins.ring.positions()[1]
        for _ in range(OPERATIONS):
            twins.step()
        wrapped = twins.ring.positions()[1] < begin
        assert wrapped is (STARTS[start] is not None), f"{geometry} did not go far enough"
