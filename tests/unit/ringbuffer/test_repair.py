# SPDX-License-Identifier: MIT
"""Writers that die at every step, and what is in the trace afterwards."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from helpers.rings import CHANNEL_ID, CPU, UUID, TestRing, make_ring
from helpers.ringwriter import LARGE, Reservation, RingWriter

from ustconsumer.abi.event import COMPACT_EVENT, EXTENDED_EVENT, EXTENDED_ID
from ustconsumer.ctf.skip import FIXED, OPAQUE, SEQUENCE
from ustconsumer.errors import RingBufferError
from ustconsumer.ringbuffer.commit import Producer
from ustconsumer.ringbuffer.memory import StreamMemory
from ustconsumer.ringbuffer.repair import Repaired, holes, repair
from ustconsumer.ringbuffer.salvage import RecordReader
from ustconsumer.ringbuffer.switch import switch

#: Payload: its number, then a sequence of bytes.
STEPS = [(FIXED, 4), (SEQUENCE + 1, 1)]
EVENT_ID = 5


class KilledError(Exception):
    pass


class Mortal(StreamMemory):
    """The memory as a process sees it that is killed before its n-th change."""

    def __init__(self, buf: Any, geometry: Any, life: int):
        super().__init__(buf, geometry)
        self.life = life
        #: lengths that were committed
        self.committed_lengths: list[int] = []

    def live(self) -> None:
        if self.life == 0:
            raise KilledError
        self.life -= 1

    def store(self, name: str, value: int) -> None:
        self.live()
        super().store(name, value)

    def cas(self, name: str, expected: int, desired: int) -> bool:
        self.live()
        return super().cas(name, expected, desired)

    def add(self, name: str, delta: int) -> None:
        self.live()
        super().add(name, delta)

    def store_seq(self, index: int, value: int) -> None:
        self.live()
        super().store_seq(index, value)

    def add_cc(self, index: int, delta: int) -> int:
        if delta:
            self.live()
            self.committed_lengths.append(delta)
        return super().add_cc(index, delta)

    def store_cc_sb(self, index: int, value: int) -> None:
        self.live()
        super().store_cc_sb(index, value)

    def cas_cc_sb(self, index: int, expected: int, desired: int) -> bool:
        self.live()
        return super().cas_cc_sb(index, expected, desired)

    def store_id(self, index: int, value: int) -> None:
        self.live()
        super().store_id(index, value)

    def cas_id(self, index: int, expected: int, desired: int) -> bool:
        self.live()
        return super().cas_id(index, expected, desired)

    def store_count(self, index: int, value: int) -> None:
        self.live()
        super().store_count(index, value)

    def store_ts_end(self, index: int, value: int) -> None:
        self.live()
        super().store_ts_end(index, value)

    def store_data_size(self, page: int, value: int) -> None:
        self.live()
        super().store_data_size(page, value)


class MortalProducer(Producer):
    memory: Mortal

    def write_header(self, position: int, now: int) -> None:
        self.memory.live()
        super().write_header(position, now)
        self.memory.live()


class MortalWriter(RingWriter):
    blank = False

    def _put_bytes(self, reservation: Reservation, record: bytes) -> None:
        # In the middle of the bytes as well.
        memory = self.memory
        assert isinstance(memory, Mortal)
        memory.live()
        if self.blank:
            raise KilledError
        half = len(record) // 2
        super()._put_bytes(reservation, record[:half])
        memory.live()
        super()._put_bytes(reservation, record)
        memory.live()


@dataclass
class Trial:
    """A ring with old events in it, its writers, and what they committed."""

    made: TestRing
    seed: str
    now: int = 10**12
    number: int = 0
    expected: list[int] = field(default_factory=list)
    doubtful: list[int] = field(default_factory=list)
    seen: list[int] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    discarded: int = 0

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)  # noqa: S311 - no secret
        self.geometry = self.made.stream.geometry
        self.memory = StreamMemory(self.made.memory, self.geometry)
        self.producer = Producer(self.memory, UUID, CHANNEL_ID, CPU)
        self.writer = RingWriter(self.producer, LARGE)
        self.reader = RecordReader({EVENT_ID: STEPS})

    def payload(self, length: int) -> bytes:
        self.number += 1
        return struct.pack("<IH", self.number, length) + bytes([self.number & 0xFF]) * length

    def tick(self) -> int:
        self.now += self.random.choice([1, 50, 200, 1000])
        return self.now

    def write(self, length: int = 30) -> int:
        payload = self.payload(length)
        result = self.writer.write(EVENT_ID, payload, self.tick())
        if result == 0:
            self.expected.append(self.number)
        return result

    def reserve(self, length: int = 30) -> list[Reservation]:
        """Begin an event of a living writer; a hole may be in its way."""
        reservation = self.writer.reserve(EVENT_ID, self.payload(length), self.tick())
        if isinstance(reservation, int):
            return []
        self.expected.append(self.number)
        return [reservation]

    def die(self, life: int, length: int = 30, blank: bool = False) -> bool:
        """Have a process write one event and be killed before its change number ``life``.

        With ``blank`` before it writes a byte of it, at the latest. Returns whether it was
        killed at all.
        """
        memory = Mortal(self.made.memory, self.geometry, life)
        writer = MortalWriter(MortalProducer(memory, UUID, CHANNEL_ID, CPU), LARGE)
        writer.blank = blank
        payload = self.payload(length)
        killed = False
        try:
            writer.write(EVENT_ID, payload, self.tick())
        except KilledError:
            killed = True
        sizes = {length + 6 + header.size for header in (COMPACT_EVENT, EXTENDED_EVENT)}
        if sizes & set(memory.committed_lengths):
            self.expected.append(self.number)
        else:
            self.doubtful.append(self.number)
        memory.release()
        return killed

    def fill(self, length: int = 30) -> None:
        """Write until the position is in the next sub-buffer."""
        trunc = self.geometry.subbuf_trunc
        start = trunc(self.memory.load("offset"))
        while trunc(self.memory.load("offset")) == start:
            assert self.write(length) == 0

    def drain(self) -> None:
        """Read every packet; note its events."""
        ring, layout = self.made.ring, self.geometry.layout
        while ring.get_next():
            ring.mend_held()
            page, size, position = ring.current()
            at = self.geometry.data_at(page)
            data = bytes(self.made.memory[at : at + size])
            header = layout.packet.get_all(data, 0)
            assert header["packet_seq_num"] == position // self.geometry.subbuf_size, self.seed
            assert header["content_size"] == size * 8, self.seed
            assert header["events_discarded"] >= self.discarded, self.seed
            self.discarded = header["events_discarded"]
            times = [header["timestamp_begin"]]
            where = layout.packet.size
            while where < size:
                time = times[-1]
                event_id = COMPACT_EVENT.get(data, where, "id")
                if event_id == EXTENDED_ID:
                    event_id = EXTENDED_EVENT.get(data, where, "id")
                    times.append(EXTENDED_EVENT.get(data, where, "timestamp"))
                    where += EXTENDED_EVENT.size
                else:
                    low = COMPACT_EVENT.get(data, where, "timestamp")
                    times.append(time + (low - time) % (1 << 32))
                    where += COMPACT_EVENT.size
                assert event_id == EVENT_ID, (self.seed, where)
                number, length = struct.unpack_from("<IH", data, where)
                where += 6
                assert data[where : where + length] == bytes([number & 0xFF]) * length, self.seed
                where += length
                self.seen.append(number)
            assert where == size, self.seed
            times.append(header["timestamp_end"])
            assert [*self.times[-1:], *times] == sorted([*self.times[-1:], *times]), self.seed
            assert times[-1] <= self.now, self.seed
            self.times += times
            ring.put_next()

    def repair(self, reader: RecordReader | None = None) -> Repaired:
        produced = self.memory.load("offset")
        return repair(self.producer, produced, reader or self.reader)

    def check(self, lost: bool = False) -> None:
        """Everything that was committed was read, once and in order; nothing else was."""
        assert self.seen == sorted(self.seen), self.seed
        if not lost:
            missing = set(self.expected) - set(self.seen)
            assert not missing, (self.seed, sorted(missing))
        assert not set(self.seen) - set(self.expected) - set(self.doubtful), self.seed

    def goes_on(self) -> None:
        """Writers get through every sub-buffer again."""
        lost = self.memory.lost()
        for _ in range(3 * self.geometry.num_subbuf):
            self.fill()
            self.drain()
        assert switch(self.producer, True, self.tick()) in (True, False)
        self.drain()
        assert self.memory.lost() == lost, self.seed
        assert self.discarded == lost, self.seed


@pytest.fixture(params=[(False, 4), (True, 4), (False, 2), (True, 2)], ids=str)
def shape(request: pytest.FixtureRequest) -> tuple[bool, int]:
    return request.param  # type: ignore[no-any-return]


def trials(shape: tuple[bool, int], name: str, turns: int = 2) -> Iterator[Trial]:
    """Yield fresh trials for ever, the buffer full of old events of the same sizes."""
    number = 0
    while True:
        with make_ring(4096, shape[1], overwrite=shape[0]) as made:
            trial = Trial(made, f"{name}/{shape}/{number}")
            try:
                for _ in range(turns * shape[1]):
                    trial.fill()
                    trial.drain()
                yield trial
            finally:
                trial.memory.release()
        number += 1


@pytest.fixture
def trial(shape: tuple[bool, int]) -> Iterator[Trial]:
    made = trials(shape, "one")
    yield next(made)
    made.close()


def finish(trial: Trial, died: bool = True) -> Repaired:
    """Others go on, everything is closed, repaired and read."""
    switch(trial.producer, True, trial.tick())
    trial.drain()
    done = trial.repair()
    trial.drain()
    assert done.lost == 0, trial.seed
    assert list(holes(trial.memory, trial.memory.load("offset"))) == [], trial.seed
    trial.check()
    trial.goes_on()
    trial.check()
    return done


def to_room(trial: Trial, room: int) -> None:
    """Write until at most so many bytes of the sub-buffer are left for the next event."""
    geometry = trial.geometry
    trial.write()
    while geometry.subbuf_size - geometry.subbuf_offset(trial.memory.load("offset")) > room:
        trial.write()


@pytest.mark.parametrize("place", ["inside", "change", "fills"])
@pytest.mark.parametrize("behind", [0, 3, 200])
def test_killed_at_every_step(shape: tuple[bool, int], place: str, behind: int) -> None:
    """An event inside a sub-buffer, one that opens the next, one that fills its own."""
    kills = 0
    for life, trial in enumerate(trials(shape, f"{place}/{behind}", turns=1)):
        length = 30
        if place == "inside":
            for _ in range(trial.random.randrange(1, 40)):
                trial.write()
            to_room(trial, 4000)
        elif place == "change":
            to_room(trial, 41)
        else:
            to_room(trial, 200)
            length = trial.geometry.subbuf_size - 12
            length -= trial.geometry.subbuf_offset(trial.memory.load("offset"))
        killed = trial.die(life, length)
        kills += killed
        room = trial.geometry.buf_size - 3 * trial.geometry.subbuf_size // 2
        for _ in range(min(behind, room // 42)):
            trial.drain()
            trial.write()
        finish(trial)
        if not killed:
            break
    # Every step that another can tell was one.
    assert kills > (4 if place == "inside" else 10)


@pytest.mark.repeat(ci=25, soak=2000)
def test_killed_among_writers_that_commit_late(shape: tuple[bool, int], repeat: int) -> None:
    """Events of all sizes, living writers that commit out of order before and behind a hole."""
    for run, trial in zip(range(repeat), trials(shape, "late", turns=1), strict=False):
        choose = trial.random
        sizes = choose.choice([(30,), (30, 31), tuple(range(200))])
        late: list[Reservation] = []
        # A record that looks whole, and others that are committed late or never: nothing
        # in the memory tells which of them was not committed.
        blank = choose.random() < 0.7
        for _ in range(choose.choice([1, 1, 1, 2]) if blank else 1):
            for _ in range(choose.randrange(5, 60)):
                trial.write(choose.choice(sizes))
                trial.drain()
            for _ in range(choose.randrange(3) if blank else 0):
                late += trial.reserve(choose.choice(sizes))
            trial.die(choose.randrange(14), choose.choice(sizes), blank)
            for _ in range(choose.randrange(3) if blank else 0):
                late += trial.reserve(choose.choice(sizes))
            choose.shuffle(late)
            for _ in range(choose.randrange(len(late) + 1)):
                late.pop().commit()
            if late:
                # Nobody is behind a reservation that is older than a turn.
                break
        room = trial.geometry.buf_size // 2 - 4096
        for _ in range(choose.randrange(room // (60 if len(sizes) < 3 else 250) + 1)):
            trial.write(choose.choice(sizes))
        for reservation in late:
            reservation.commit()
        finish(trial)
        if run + 1 == repeat:
            break


def test_a_repair_that_was_killed_is_done_again(shape: tuple[bool, int]) -> None:
    """At every change that the repair makes, the next one goes on from there."""
    kills = 0
    for life, trial in enumerate(trials(shape, "again", turns=1)):
        to_room(trial, 41)
        # After it closed the old sub-buffer, before it wrote the new header: behind that,
        # and in a part of the next one, are events of others.
        trial.die(11 if shape[0] else 8)
        for _ in range(20):
            trial.write()
        trial.drain()
        switch(trial.producer, True, trial.tick())
        memory = Mortal(trial.made.memory, trial.geometry, life)
        producer = MortalProducer(memory, UUID, CHANNEL_ID, CPU)
        try:
            repair(producer, memory.load("offset"), trial.reader)
            killed = False
        except KilledError:
            killed = True
        memory.release()
        kills += killed
        finish(trial)
        if not killed:
            break
    assert kills > 15


def test_without_the_layout_of_the_records_the_prefix_is_kept_and_the_rest_is_counted(
    trial: Trial,
) -> None:
    reader = RecordReader({EVENT_ID: [(OPAQUE, 0)]})
    to_room(trial, 3000)
    before = len(trial.expected)
    trial.die(2)
    behind = [trial.write() for _ in range(7)]
    switch(trial.producer, True, trial.tick())
    trial.drain()
    assert trial.repair(reader) == Repaired(packets=1, lost=42 * len(behind))
    trial.drain()
    trial.check(lost=True)
    assert len(trial.seen) == before
    trial.goes_on()


def test_what_lies_at_the_end_of_a_hole_alone_needs_no_layout(trial: Trial) -> None:
    to_room(trial, 3000)
    trial.die(2)
    switch(trial.producer, True, trial.tick())
    trial.drain()
    produced = trial.memory.load("offset")
    assert repair(trial.producer, produced, None) == Repaired(packets=1)
    trial.drain()
    trial.check()
    trial.goes_on()


def test_only_what_lies_below_the_position_is_repaired(trial: Trial) -> None:
    to_room(trial, 41)
    first = trial.memory.load("offset")
    trial.write()
    trial.die(2)
    switch(trial.producer, True, trial.tick())
    trial.drain()
    assert repair(trial.producer, first, trial.reader) == Repaired()
    assert trial.repair() == Repaired(packets=1)


@pytest.mark.parametrize("counter", ["cc", "cc_sb", "data_size", "id"])
def test_counters_that_contradict_each_other_are_not_repaired(trial: Trial, counter: str) -> None:
    to_room(trial, 3000)
    trial.die(2)
    position = trial.memory.load("offset")
    index = trial.geometry.index(position)
    switch(trial.producer, True, trial.tick())
    trial.drain()
    if counter == "cc":
        trial.memory.add_cc(index, 5000)
    elif counter == "cc_sb":
        trial.memory.store_cc_sb(index, trial.memory.load_cc_sb(index) + 2)
    elif counter == "id":
        trial.memory.store_id(index, 17)
    else:
        # Complete, but for its delivery.
        trial.memory.add_cc(index, 42)
        trial.memory.store_data_size(trial.memory.page_of(trial.memory.load_id(index)), 5)
    with pytest.raises(RingBufferError):
        trial.repair()


def test_losses_are_told_by_the_packets_behind(trial: Trial) -> None:
    """Those at the hole come later than the packet with the hole."""
    to_room(trial, 3000)
    trial.die(2)
    while trial.write() == 0:
        pass
    assert trial.memory.lost() == 1
    trial.repair()
    trial.drain()
    assert trial.discarded == 0
    trial.goes_on()
    trial.check()
