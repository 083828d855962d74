# SPDX-License-Identifier: MIT
"""What triggers do, in which order, and what becomes of what fires meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from sessiond import actions as module
from sessiond.actions import Actions, Listeners
from sessiond.sockets import Peer
from sessiond.triggers import Trigger
from ustconsumer.errors import BrokenResourceError, CommandError
from ustconsumer.protocol.application import Command
from ustconsumer.protocol.control import EventInfo, Message, Notification, TriggerAction

MINE, THEIRS = 1000, 1001


class Listener:
    """A client that hears of triggers."""

    def __init__(self, uid: int = MINE) -> None:
        self.peer = Peer(1, uid, uid)
        self.closed = False
        self.unread = 0
        self.heard: list[Notification] = []

    def send(self, message: Message) -> None:
        assert isinstance(message, Notification)
        self.heard.append(message)


class App:
    """A program; it answers WAIT_QUIESCENT unless it is stopped."""

    def __init__(self, world: World, pid: int) -> None:
        self.peer = Peer(pid, MINE, MINE)
        self.command = self
        self.gone = self.overdue = self.dies = False
        self.answers = asyncio.Event()
        self.answers.set()
        self._world = world

    def delay(self) -> str:
        return "is late"

    async def run(self, command: Command) -> None:
        self._world.log.append(f"{command.name} {self.peer.pid}")
        await self.answers.wait()
        if self.dies:
            raise BrokenResourceError("application went away")
        self._world.log.append(f"answered {self.peer.pid}")


class World:
    """Actions that are carried out by a test."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.fails: Exception | None = None
        self.go = asyncio.Event()
        self.go.set()
        self.listeners = Listeners()
        self.actions = Actions(self.listeners, self._act)

    async def _act(self, uid: int, info: TriggerAction) -> None:
        self.log.append(f"{info.kind} {info.session} for {uid}")
        await self.go.wait()
        if self.fails:
            raise self.fails

    def listen(self, listener: Listener, *names: str) -> Listener:
        self.listeners.add(listener, names)  # type: ignore[arg-type]
        return listener

    def fire(self, trigger: Trigger, app: App, *captures: Any) -> None:
        self.actions.fired(app, trigger, list(captures))  # type: ignore[arg-type]

    async def settle(self) -> None:
        for _ in range(30):
            await asyncio.sleep(0)


def trigger(*kinds: str, name: str = "t") -> Trigger:
    actions = [TriggerAction(kind=kind, session="s") for kind in kinds]
    return Trigger(name, MINE, False, EventInfo(pattern="*"), ["n"], actions)


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(60000):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it did not happen")


def run(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(scenario, 60))


def test_the_event_is_in_the_buffers_first() -> None:
    async def scenario() -> None:
        world = World()
        app = App(world, 1)
        world.fire(trigger("snapshot", "stop", "start"), app, 0)
        await world.settle()
        assert world.log == [
            *("WAIT_QUIESCENT 1", "answered 1"),
            *("snapshot s for 1000", "stop s for 1000", "start s for 1000"),
        ]
        world.log.clear()
        world.fire(trigger("start"), app, 0)
        await world.settle()
        assert world.log == ["start s for 1000"]

    run(scenario())


def test_notifications_come_in_the_order_of_actions() -> None:
    async def scenario() -> None:
        world = World()
        ear = world.listen(Listener())
        world.go.clear()
        t = trigger("notify", "start", "notify")
        world.fire(t, App(world, 1), 7)
        assert [n.captures for n in ear.heard] == [[7]]
        await world.settle()
        assert len(ear.heard) == 1
        world.go.set()
        await world.settle()
        assert [(n.trigger, n.pid, n.captures) for n in ear.heard] == [("t", 1, [7])] * 2

    run(scenario())


def test_what_fires_meanwhile_is_done_once_more() -> None:
    async def scenario() -> None:
        world = World()
        ear = world.listen(Listener())
        world.go.clear()
        t = trigger("snapshot", "notify")
        apps = [App(world, pid) for pid in (1, 2, 3)]
        world.fire(t, apps[0], 0)
        await world.settle()
        for number in range(1, 2001):
            world.fire(t, apps[1 + number % 2], number)
        await world.settle()
        assert world.log.count("snapshot s for 1000") == 1
        world.go.set()
        await world.settle()
        # Once more, when both that fired are quiet; those told behind it are bounded.
        quiet = ["WAIT_QUIESCENT 3", "answered 3", "WAIT_QUIESCENT 2", "answered 2"]
        assert world.log[3:] == [*quiet, "snapshot s for 1000"]
        assert world.log.count("snapshot s for 1000") == 2
        assert [n.captures[0] for n in ear.heard] == list(range(1025))
        assert (t.hits, t.lost) == (2001, 2000 - 1024)

    run(scenario())


def test_failures_are_counted_and_said() -> None:
    async def scenario() -> None:
        world = World()
        t = trigger("start", "stop")
        app = App(world, 1)
        world.fails = CommandError("it is so already", "already")
        world.fire(t, app, 0)
        await world.settle()
        assert ([a.info.failed for a in t.actions], t.info().problems) == ([0, 0], [])
        world.fails = CommandError("no room")
        world.fire(t, app, 0)
        await world.settle()
        # The second is tried although the first failed.
        assert [a.info.failed for a in t.actions] == [1, 1]
        assert t.info().problems == ["start of session s: no room", "stop of session s: no room"]

    run(scenario())


def test_a_program_that_does_not_answer(monkeypatch: Any) -> None:
    monkeypatch.setattr(module, "COMMAND_SECONDS", 0.01)

    async def scenario() -> None:
        world = World()
        stopped, dead, slow = App(world, 1), App(world, 2), App(world, 3)
        stopped.answers.clear()
        dead.dies = True
        slow.overdue = True
        t = trigger("snapshot")
        for app in (stopped, dead, slow):
            world.fire(t, app, 0)
        await until(lambda: world.log.count("snapshot s for 1000") == 2)
        lines = "\n".join(t.info().problems)
        assert lines.count("is late") == 2
        # Its answer is still awaited: the next command must not get it.
        stopped.answers.set()
        await world.settle()
        assert "answered 1" in world.log

    run(scenario())


def test_who_hears() -> None:
    async def scenario() -> None:
        world = World()
        root, theirs = world.listen(Listener(0)), world.listen(Listener(THEIRS))
        named, other = world.listen(Listener(), "t"), world.listen(Listener(), "other")
        world.fire(trigger("notify"), App(world, 1), 0)
        assert [len(each.heard) for each in (root, theirs, named, other)] == [1, 0, 1, 0]
        named.closed = True
        world.fire(trigger("notify"), App(world, 1), 0)
        assert [len(each.heard) for each in (root, named)] == [2, 1]

    run(scenario())


def test_who_does_not_read_misses() -> None:
    async def scenario() -> None:
        world = World()
        ear = world.listen(Listener())
        t, app = trigger("notify"), App(world, 1)
        world.fire(t, app, 0)
        ear.unread = 2 << 20
        for number in range(5):
            world.fire(t, app, number)
        ear.unread = 0
        world.fire(t, app, 9)
        world.fire(t, app, 10)
        assert [(n.captures[0], n.missed) for n in ear.heard] == [(0, 0), (9, 5), (10, 0)]

    run(scenario())


def test_the_end_waits_for_what_is_under_way() -> None:
    async def scenario() -> None:
        world = World()
        world.go.clear()
        t = trigger("stop")
        world.fire(t, App(world, 1), 0)
        await world.settle()
        world.fire(t, App(world, 1), 0)
        ending = asyncio.ensure_future(world.actions.close())
        await world.settle()
        assert not ending.done()
        world.go.set()
        await ending
        assert world.log.count("stop s for 1000") == 1

    run(scenario())
