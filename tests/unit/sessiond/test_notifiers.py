# SPDX-License-Identifier: MIT
"""What an application is sent of triggers, and what it may write; the test is the application."""

from __future__ import annotations

import asyncio
import os
import struct
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from sessiond.applications import Application
from sessiond.links import CommandRefusedError
from sessiond.notifiers import Notifiers
from sessiond.sockets import Peer
from sessiond.triggers import Trigger, Triggers
from ustconsumer.protocol.application import Command, Registration, Reply
from ustconsumer.protocol.control import EventInfo, TriggerAction

UID = 1000


class Link:
    """Answers every command, keeps the pipe."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.commands: list[Command] = []
        self.pipe = -1
        self.refuse = ""

    async def run(self, command: Command) -> Reply:
        self.names.append(command.name)
        self.commands.append(command)
        if command.name == self.refuse:
            raise CommandRefusedError(command, -1027)
        for fd in (fd for step in command.steps for fd in step.fds):
            self.pipe = os.dup(fd)
        return Reply(command.handle, command.number, 0, len(self.commands), b"")

    def tokens(self) -> list[int]:
        """Facts 4.1: the token of an event notifier is at 268."""
        made = [c for c in self.commands if c.name == "EVENT_NOTIFIER_CREATE"]
        return [struct.unpack_from("<Q", c.steps[1].data, 268)[0] for c in made]

    def write(self, token: int, captures: bytes = b"") -> None:
        os.write(self.pipe, struct.pack("<QH32x", token, len(captures)) + captures)


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(60000):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it did not happen")


class World:
    """Triggers, and applications that get them."""

    def __init__(self) -> None:
        self.triggers = Triggers()
        self.fired: list[tuple[int, str, list[Any]]] = []
        self.notifiers = Notifiers(
            asyncio.get_running_loop(),
            self.triggers,
            lambda app, trigger: app.peer.uid == trigger.uid,
            lambda app, trigger, values: self.fired.append((app.peer.pid, trigger.name, values)),
        )
        self.links: list[Link] = []

    def app(self, major: int = 9, uid: int = UID) -> tuple[Application, Link]:
        pid = 100 + len(self.links)
        claims = Registration(major, 0, pid, 1, uid, 0, 64, {"long": 8}, 0, "app")
        app = Application(Peer(pid, uid, 0), claims, -1)
        app.command = link = Link()  # type: ignore[assignment]
        self.links.append(link)
        return app, link

    def add(self, name: str, **options: Any) -> Trigger:
        captures = options.pop("captures", [])
        event = EventInfo(pattern="p:*", **options)
        trigger = Trigger(name, UID, False, event, captures, [TriggerAction(kind="notify")])
        self.triggers.add(trigger)
        return trigger

    async def heard(self, count: int) -> None:
        await until(lambda: len(self.fired) >= count)

    def close(self) -> None:
        self.notifiers.close()
        for link in self.links:
            if link.pipe >= 0:
                os.close(link.pipe)


def run(scenario: Any) -> None:
    async def whole() -> None:
        world = World()
        try:
            await asyncio.wait_for(scenario(world), 60)
        finally:
            world.close()

    coroutine: Coroutine[Any, Any, None] = whole()
    asyncio.run(coroutine)


def test_what_it_is_sent() -> None:
    async def scenario(world: World) -> None:
        app, link = world.app()
        await world.notifiers.align(app)
        # Nobody has a trigger: nothing, also no pipe.
        assert link.names == []
        world.add("a", filter="n == 1", exclusions=["p:x"], captures=["n", "m"])
        await world.notifiers.align(app)
        made = ["EVENT_NOTIFIER_GROUP_CREATE", "EVENT_NOTIFIER_CREATE"]
        assert link.names == [*made, "FILTER", "CAPTURE", "CAPTURE", "EXCLUSION", "ENABLE"]
        link.names.clear()
        world.add("b")
        await world.notifiers.align(app)
        await world.notifiers.align(app)
        assert link.names == ["EVENT_NOTIFIER_CREATE", "ENABLE"]
        link.names.clear()
        world.triggers.remove("a", UID)
        await world.notifiers.align(app)
        assert link.names == ["DISABLE", "RELEASE"]
        # Another user's program.
        other, link = world.app(uid=UID + 1)
        await world.notifiers.align(other)
        assert link.names == []

    run(scenario)


def test_what_it_reports() -> None:
    async def scenario(world: World) -> None:
        app, link = world.app()
        world.add("a", captures=["n"])
        world.add("b")
        await world.notifiers.align(app)
        a, b = link.tokens()
        link.write(b)
        link.write(a, b"\x91\x05")
        await world.heard(2)
        assert world.fired == [(100, "b", []), (100, "a", [5])]
        # It reported before it heard that the trigger is no more: no fault.
        world.triggers.remove("b", UID)
        link.write(b)
        await world.notifiers.align(app)
        link.write(b)
        link.write(a, b"\x91\x06")
        await world.heard(3)
        assert world.fired[2:] == [(100, "a", [6])]
        # What is in the pipe of a program that is gone counts.
        link.write(a, b"\x91\x07")
        world.notifiers.forget(app)
        assert world.fired[3:] == [(100, "a", [7])]

    run(scenario)


@pytest.mark.parametrize(
    "raw",
    [
        struct.pack("<QH32x", 99, 0),
        struct.pack("<QH32x", 0, 0),
        struct.pack("<QH32x", 1, 65535),
        struct.pack("<QH32x", 1, 2) + b"\x92\x01",
        struct.pack("<QH32x", 1, 0),
        b"\xff" * 4096,
    ],
)
def test_nonsense(raw: bytes) -> None:
    async def scenario(world: World) -> None:
        (app, link), (other, fine) = world.app(), world.app()
        trigger = world.add("a", captures=["n"])
        await world.notifiers.align(app)
        await world.notifiers.align(other)
        os.write(link.pipe, raw)
        await until(lambda: bool(trigger.info().problems))
        assert "(pid 100)" in trigger.info().problems[0]
        assert trigger.lost == 1
        link.write(1, b"\x91\x05")
        fine.write(1, b"\x91\x06")
        await world.heard(1)
        world.notifiers.forget(app)
        assert world.fired == [(101, "a", [6])]

    run(scenario)


def test_the_program_has_a_reader_of_its_own() -> None:
    """Without, a C program that writes when the registry is gone dies of SIGPIPE."""

    async def scenario(world: World) -> None:
        app, link = world.app()
        world.add("a")
        await world.notifiers.align(app)
        world.notifiers.forget(app)
        link.write(1)
        assert len(os.read(link.pipe, 100)) == 42

    run(scenario)


def test_an_old_tracer() -> None:
    async def scenario(world: World) -> None:
        app, link = world.app(major=8)
        trigger = world.add("a")
        await world.notifiers.align(app)
        assert link.names == []
        assert "(pid 100)" in trigger.info().problems[0]

    run(scenario)


def test_one_that_refuses() -> None:
    async def scenario(world: World) -> None:
        app, link = world.app()
        trigger = world.add("a", captures=["n"])
        link.refuse = "CAPTURE"
        await world.notifiers.align(app)
        await world.notifiers.align(app)
        # Not enabled, said, and not tried again.
        made = ["EVENT_NOTIFIER_GROUP_CREATE", "EVENT_NOTIFIER_CREATE", "CAPTURE"]
        assert link.names == made
        assert "CAPTURE refused" in trigger.info().problems[0]

    run(scenario)


def test_no_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(world: World) -> None:
        app, link = world.app()
        trigger = world.add("a")

        def refuse(flags: int) -> tuple[int, int]:
            raise OSError(24, "Too many open files")

        with monkeypatch.context() as patch:
            patch.setattr(os, "pipe2", refuse)
            await world.notifiers.align(app)
        assert link.names == []
        assert "Too many open files" in trigger.info().problems[0]
        await world.notifiers.align(app)
        assert link.names[-1] == "ENABLE"

    run(scenario)
