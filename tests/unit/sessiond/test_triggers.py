# SPDX-License-Identifier: MIT
"""Triggers as the registry keeps them: names, owners, rate policies, bounds."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from sessiond.access import Access
from sessiond.actions import Listeners
from sessiond.sockets import Peer
from sessiond.triggering import TriggerVerbs
from sessiond.triggers import Action, Trigger, Triggers
from ustconsumer.errors import CommandError, UsageError
from ustconsumer.protocol.control import (
    AddTrigger,
    EventInfo,
    Listen,
    ListTriggers,
    Message,
    RemoveTrigger,
    TriggerAction,
)

ROOT, MINE, THEIRS = 0, 1000, 1001
NOTIFY = TriggerAction(kind="notify")


class Asker:
    """A connection, as far as a verb sees it."""

    def __init__(self, uid: int) -> None:
        self.peer = Peer(1, uid, uid)
        self.closed = False


class Host:
    """A daemon without applications."""

    def __init__(self) -> None:
        self.access = Access(ROOT, True, "no-such-group")
        self.triggers = Triggers()
        self.listeners = Listeners()

    async def settle_trigger(self, trigger: Trigger) -> list[str]:
        return []

    def ask(self, uid: int, request: Message) -> Any:
        handlers = TriggerVerbs(self).handlers()
        return asyncio.run(handlers[type(request)](Asker(uid), request))  # type: ignore

    def add(self, asker: int, **options: Any) -> str:
        options.setdefault("actions", [NOTIFY])
        request = AddTrigger(event=EventInfo(pattern="p:*"), **options)
        (trigger,) = self.ask(asker, request).triggers
        name: str = trigger.name
        return name

    def names(self, uid: int) -> list[tuple[int, str]]:
        return [(each.uid, each.name) for each in self.ask(uid, ListTriggers()).triggers]


def turns(rate: str, count: int, times: int) -> list[int]:
    action = Action(TriggerAction(kind="notify", rate=rate, rate_count=count))
    return [turn for turn in range(1, times + 1) if action.due()]


def test_rate_policies_count_as_lttng() -> None:
    assert turns("", 0, 4) == [1, 2, 3, 4]
    assert turns("every", 1, 3) == [1, 2, 3]
    assert turns("every", 3, 10) == [3, 6, 9]
    assert turns("once-after", 1, 5) == [1]
    assert turns("once-after", 4, 9) == [4]


def test_names() -> None:
    host = Host()
    assert host.add(MINE) == "trigger0"
    assert host.add(MINE, name="trigger1") == "trigger1"
    assert host.add(MINE) == "trigger2"
    host.ask(MINE, RemoveTrigger(name="trigger0"))
    # None comes twice.
    assert host.add(MINE) == "trigger3"
    with pytest.raises(CommandError) as taken:
        host.add(MINE, name="trigger1")
    assert taken.value.kind == "trigger-exists"
    # Each user has names of their own.
    assert host.add(THEIRS, name="trigger1") == "trigger1"


def test_owners() -> None:
    host = Host()
    host.add(MINE, name="a")
    host.add(THEIRS, name="b")
    host.add(ROOT, name="c", uid=MINE)
    assert host.names(MINE) == [(MINE, "a"), (MINE, "c")]
    assert host.names(THEIRS) == [(THEIRS, "b")]
    assert len(host.names(ROOT)) == 3
    with pytest.raises(CommandError) as denied:
        host.add(MINE, uid=THEIRS)
    assert denied.value.kind == "permission"
    for request in (RemoveTrigger(name="b"), RemoveTrigger(name="b", uid=THEIRS)):
        with pytest.raises(CommandError):
            host.ask(MINE, request)
    host.ask(ROOT, RemoveTrigger(name="b", uid=THEIRS))
    assert host.names(THEIRS) == []


@pytest.mark.parametrize(
    "options",
    [
        {"actions": []},
        {"actions": [NOTIFY] * 65},
        {"actions": [TriggerAction(kind="dance")]},
        {"actions": [TriggerAction(kind="stop")]},
        {"actions": [TriggerAction(kind="notify", rate="every")]},
        {"actions": [TriggerAction(kind="notify", rate="often", rate_count=1)]},
        {"captures": ["a"] * 65},
        {"captures": ["a.b"]},
        {"name": "x" * 256},
        {"name": "a\x1b"},
    ],
)
def test_refused(options: dict[str, Any]) -> None:
    host = Host()
    with pytest.raises(UsageError):
        host.add(MINE, **options)
    assert host.names(ROOT) == []


def test_there_is_an_end() -> None:
    triggers = Triggers()
    for number in range(1024):
        triggers.add(Trigger(str(number), MINE, False, EventInfo(pattern="*"), [], [NOTIFY]))
    with pytest.raises(CommandError, match="1024"):
        triggers.add(Trigger("more", MINE, False, EventInfo(pattern="*"), [], [NOTIFY]))
    triggers.add(Trigger("more", THEIRS, False, EventInfo(pattern="*"), [], [NOTIFY]))


def test_failures_are_ours_to_count() -> None:
    host = Host()
    host.add(MINE, actions=[TriggerAction(kind="notify", failed=7)])
    assert host.ask(MINE, ListTriggers()).triggers[0].actions[0].failed == 0


def test_problems_are_few() -> None:
    trigger = Trigger("t", MINE, False, EventInfo(pattern="*"), [], [NOTIFY])
    for number in range(100):
        trigger.problem(f"line {number % 20}")
    assert trigger.info().problems == [f"line {number}" for number in range(12, 20)]


def test_listening_has_a_reply() -> None:
    assert type(Host().ask(MINE, Listen())).__name__ == "Done"
