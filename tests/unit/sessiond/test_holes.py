# SPDX-License-Identifier: MIT
"""Who may still fill a hole."""

from __future__ import annotations

import asyncio
import mmap
import os
from collections.abc import Awaitable, Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from helpers.processes import child_that_inherits

from sessiond import holes as module
from sessiond.holes import HoleJudge
from ustconsumer.errors import BrokenResourceError
from ustconsumer.protocol.control import HoleFound, HoleVerdict, TraceDescription

DESCRIPTION = TraceDescription(path="ust", contexts={}, events={})


class App:
    """An application that answers when it is told to."""

    def __init__(self, pid: int, trace: Any, answers: bool = True):
        self.peer = SimpleNamespace(pid=pid)
        self.gone = False
        self.sessions = {"s": SimpleNamespace(trace=trace)}
        self.command = self
        self.asked = 0
        self.free = asyncio.Event()
        self.breaks = False
        if answers:
            self.free.set()

    def __str__(self) -> str:
        return f"'app' (pid {self.peer.pid})"

    async def run(self, command: Any) -> None:
        assert command.name == "WAIT_QUIESCENT"
        self.asked += 1
        await self.free.wait()
        if self.breaks:
            raise BrokenResourceError("application went away")


class Reader:
    def __init__(self) -> None:
        self.consume = True
        self.peer = SimpleNamespace(pid=1)
        self.verdicts: list[HoleVerdict] = []
        self.push_verdict: Callable[[HoleVerdict], None] = self.verdicts.append


class Scene:
    """A stream, its reader, and the verdicts that come."""

    def __init__(self) -> None:
        self.fd = os.memfd_create("stream")
        os.ftruncate(self.fd, 4096)
        self.stream = SimpleNamespace(id=7, fd=self.fd)
        self.trace = SimpleNamespace(
            streams=[self.stream], description=lambda: DESCRIPTION, hidden_writers=False
        )
        self.held: list[str] = []
        self.recording = SimpleNamespace(
            traces={1: self.trace}, hold=lambda stream, position, reason: self.held.append(reason)
        )
        self.reader = Reader()
        self.verdicts = self.reader.verdicts
        self.apps: list[App] = []

    def judge(self) -> HoleJudge:
        return HoleJudge(asyncio.get_running_loop(), lambda: self.apps)  # type: ignore[arg-type, return-value]

    def ask(self, judge: HoleJudge, stream: int = 7) -> None:
        message = HoleFound(stream=stream, position=4096, produced=12345)
        judge.found(self.recording, self.reader, message)  # type: ignore[arg-type]

    async def verdict(self) -> HoleVerdict:
        for _ in range(2000):
            if self.verdicts:
                return self.verdicts.pop(0)
            await asyncio.sleep(0.005)
        raise AssertionError("no verdict")


@pytest.fixture
def scene() -> Iterator[Scene]:
    made = Scene()
    yield made
    os.close(made.fd)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ANSWER_SECONDS", 0.05)


def run(story: Callable[[], Awaitable[None]]) -> None:
    async def whole() -> None:
        await story()

    asyncio.run(whole())


def test_with_nobody_left_it_may_be_repaired(scene: Scene) -> None:
    async def story() -> None:
        scene.ask(scene.judge())
        verdict = await scene.verdict()
        assert (verdict.stream, verdict.position, verdict.produced) == (7, 4096, 12345)
        assert (verdict.reason, verdict.description) == ("", DESCRIPTION)
        assert scene.held == [""]

    run(story)


def test_where_processes_may_write_that_cannot_be_seen_it_stays(scene: Scene) -> None:
    """Also when all that can be seen are gone: a child of one that could not may live."""

    async def story() -> None:
        scene.trace.hidden_writers = True
        scene.ask(scene.judge())
        verdict = await scene.verdict()
        assert "another pid namespace" in verdict.reason
        assert verdict.description is None
        assert scene.held == [verdict.reason]

    run(story)


def test_each_writer_is_asked_and_others_are_not(scene: Scene) -> None:
    async def story() -> None:
        scene.apps = [App(10, scene.trace), App(11, scene.trace), App(12, object())]
        scene.apps[1].gone = True
        scene.ask(scene.judge())
        assert (await scene.verdict()).reason == ""
        assert [app.asked for app in scene.apps] == [1, 0, 0]

    run(story)


@pytest.mark.usefixtures("impatient")
def test_one_that_does_not_answer_is_named_and_asked_once_at_a_time(scene: Scene) -> None:
    async def story() -> None:
        judge, app = scene.judge(), App(10, scene.trace, answers=False)
        scene.apps = [App(9, scene.trace), app]
        for _ in range(3):
            scene.ask(judge)
            scene.ask(judge)
            verdict = await scene.verdict()
            assert (
                verdict.reason == "application 'app' (pid 10) has not answered: it may still write"
            )
            assert verdict.description is None
        assert app.asked == 1
        scene.ask(judge)
        app.free.set()
        assert (await scene.verdict()).reason == ""
        # The answer to the old question proves nothing about what was reserved since.
        assert app.asked == 2
        assert scene.held[-1] == ""
        assert not scene.verdicts

    run(story)


def test_whoever_has_the_verdict_may_ask_again_at_once(scene: Scene) -> None:
    async def story() -> None:
        judge, first = scene.judge(), asyncio.Event()

        def push(verdict: HoleVerdict) -> None:
            scene.verdicts.append(verdict)
            if not first.is_set():
                first.set()
                scene.ask(judge)

        scene.reader.push_verdict = push
        scene.ask(judge)
        assert (await scene.verdict()).reason == ""
        assert (await scene.verdict()).reason == ""

    run(story)


def test_one_that_dies_while_it_is_asked_counts_as_dead(scene: Scene) -> None:
    async def story() -> None:
        app = App(10, scene.trace, answers=False)
        scene.apps = [app]
        scene.ask(scene.judge())
        await asyncio.sleep(0.01)
        app.gone, app.breaks = True, True
        app.free.set()
        assert (await scene.verdict()).reason == ""

    run(story)


@pytest.mark.parametrize("known", ["no", "as an application", "as the reader", "no answer"])
def test_a_process_that_has_the_memory_and_is_not_known_is_named(scene: Scene, known: str) -> None:
    memory = mmap.mmap(scene.fd, 4096)

    async def story(child: int) -> None:
        if known == "as the reader":
            scene.reader.peer.pid = child
        elif known != "no":
            scene.apps = [App(child, scene.trace)]
            # Its socket broke: it was not asked, and it lives.
            scene.apps[0].breaks = known == "no answer"
        scene.ask(scene.judge())
        reason = (await scene.verdict()).reason
        if known.startswith("as"):
            assert reason == ""
        else:
            assert f"(pid {child}) writes without being registered" in reason

    with child_that_inherits() as child:
        memory.close()
        run(lambda: story(child))


def test_a_stream_that_is_not_there_is_not_judged(scene: Scene) -> None:
    async def story() -> None:
        scene.ask(scene.judge(), stream=8)
        assert (await scene.verdict()).reason
        scene.reader.consume = False
        scene.ask(scene.judge())
        assert (await scene.verdict()).reason

    run(story)
