# SPDX-License-Identifier: MIT
"""When a consumer asks about a hole, and what it does with the answer."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from helpers.processes import child_that_inherits
from helpers.rings import CHANNEL_ID, CPU, UUID, TestRing, make_ring
from helpers.ringwriter import RingWriter

from ustconsumer.consumer import holes as module
from ustconsumer.consumer.holes import Holes
from ustconsumer.consumer.mapping import MappedStream
from ustconsumer.mappers import file_of
from ustconsumer.protocol.control import HoleVerdict, TraceDescription
from ustconsumer.ringbuffer.commit import Producer
from ustconsumer.ringbuffer.memory import StreamMemory

#: Event 0 has four bytes.
DESCRIPTION = TraceDescription(
    path="ust", contexts={CHANNEL_ID: []}, events={CHANNEL_ID: {0: [(0, 4)]}}
)


class Scene:
    """A consumer with one ring and a clock of its own."""

    def __init__(self, made: TestRing, monkeypatch: pytest.MonkeyPatch):
        self.made = made
        self.mapped = MappedStream(made.stream, made.memory, made.ring)
        self.asked: list[tuple[int, int, int]] = []
        self.subscription = SimpleNamespace(
            verdicts=[],
            orphaned=False,
            streams={made.ring: self.mapped},
            hole_found=lambda *question: self.asked.append(question),
        )
        self.problems: list[str] = []
        self.reports: list[str] = []
        self.live = [self.mapped]
        self.now = 100.0
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: self.now))
        self.holes = Holes(
            self.subscription,  # type: ignore[arg-type]
            lambda: self.live,
            self.problems.append,
            self.reports.append,
        )
        self.memory = StreamMemory(made.memory, made.stream.geometry)
        self.writer = RingWriter(Producer(self.memory, UUID, CHANNEL_ID, CPU))
        self.clock = 2000

    def write(self) -> None:
        self.clock += 10
        assert self.writer.write(0, bytes(4), self.clock) == 0

    def tear(self, behind: int = 3) -> None:
        """Leave a hole with events behind it, and close the packet."""
        self.write()
        self.clock += 10
        self.writer.reserve(0, bytes(4), self.clock)
        for _ in range(behind):
            self.write()
        self.made.ring.switch(False, self.clock + 10)

    def pass_time(self, seconds: float) -> None:
        for _ in range(round(seconds / 0.05)):
            self.now += 0.05
            self.holes.look()

    def answer(self, reason: str = "", description: TraceDescription | None = DESCRIPTION) -> None:
        stream, position, produced = self.asked[-1]
        verdict = HoleVerdict(
            stream=stream,
            position=position,
            produced=produced,
            reason=reason,
            description=None if reason else description,
        )
        self.subscription.verdicts.append(verdict)
        self.holes.look()


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    with make_ring() as made:
        scene = Scene(made, monkeypatch)
        yield scene
        scene.memory.release()


def test_rings_that_move_are_not_asked_about(scene: Scene) -> None:
    for _ in range(20):
        scene.write()
        scene.made.ring.switch(False, scene.clock)
        scene.pass_time(0.2)
        assert scene.made.ring.get_next()
        scene.made.ring.put_next()
    assert scene.asked == []
    assert scene.holes.wait_s > 1e9


def test_a_packet_written_this_moment_is_not_asked_about(scene: Scene) -> None:
    scene.tear()
    scene.pass_time(0.1)
    assert scene.asked == []
    # The consumer does not sleep through it.
    assert scene.holes.wait_s <= 0.1
    scene.pass_time(0.1)
    assert scene.asked == [(1, 0, 4096)]


def test_one_question_at_a_time_and_then_less_and_less_often(scene: Scene) -> None:
    scene.tear()
    scene.pass_time(10)
    assert len(scene.asked) == 1
    waits = []
    for number in range(2, 7):
        scene.answer("pid 7 may")
        begin = scene.now
        while len(scene.asked) < number:
            scene.pass_time(0.05)
        waits.append(scene.now - begin)
    assert waits == pytest.approx([0.25, 0.5, 1, 2, 2], abs=0.06)
    assert scene.reports == ["stream ust/uid/1/64-bit/channel0_1 waits: pid 7 may"]
    assert scene.holes.repaired == 0


def test_an_answer_repairs(scene: Scene) -> None:
    scene.tear()
    scene.pass_time(0.2)
    scene.answer()
    assert scene.holes.repaired == 1
    assert scene.reports == ["repaired 1 packet that a killed process left unfinished"]
    assert scene.problems == []
    assert scene.made.ring.get_next()
    # The events before and behind the hole.
    assert scene.made.ring.current()[1] == 84 + 4 * 10
    scene.made.ring.put_next()
    scene.pass_time(1)
    assert len(scene.asked) == 1


def test_events_that_cannot_be_told_from_the_hole_are_a_problem(scene: Scene) -> None:
    scene.tear()
    scene.pass_time(0.2)
    scene.answer(description=None)
    assert scene.holes.repaired == 1
    (problem,) = scene.problems
    assert "channel0_1: 30 bytes of events" in problem


def test_an_answer_about_a_stream_that_was_given_up_is_nobodys(scene: Scene) -> None:
    scene.tear()
    scene.pass_time(0.2)
    scene.live.clear()
    scene.answer()
    assert scene.holes.repaired == 0
    assert scene.problems == []


def test_counters_that_lie_are_said_once(scene: Scene) -> None:
    scene.tear()
    scene.memory.add_cc(0, 5000)
    scene.pass_time(0.2)
    scene.answer()
    scene.pass_time(5)
    (problem,) = scene.problems
    assert "channel0_1 cannot be repaired" in problem
    assert len(scene.asked) == 1


def test_without_a_registry_the_last_that_has_the_memory_repairs(scene: Scene) -> None:
    fd = os.memfd_create("stream")
    os.ftruncate(fd, 4096)
    scene.mapped.file = file_of(fd)
    memory = mmap.mmap(fd, 4096)
    with child_that_inherits():
        scene.subscription.orphaned = True
        scene.tear()
        scene.pass_time(3)
        assert scene.holes.repaired == 0
    scene.pass_time(3)
    assert scene.asked == []
    # Nobody is left who knew the events' layout.
    assert (scene.holes.repaired, len(scene.problems)) == (1, 1)
    memory.close()
    os.close(fd)


def test_looking_takes_a_small_share_of_the_time(scene: Scene) -> None:
    looks = []

    def slow() -> list[MappedStream]:
        looks.append(scene.now)
        scene.now += 0.01
        return []

    scene.holes._live = slow
    end = scene.now + 10
    while scene.now < end:
        scene.holes.look()
        scene.now += 0.001
    assert 8 <= len(looks) <= 11
