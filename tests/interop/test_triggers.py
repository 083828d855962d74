# SPDX-License-Identifier: MIT
"""Triggers on events of real programs, in C and in Python: notifications, start, stop."""

from __future__ import annotations

import asyncio
import signal
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.apps import Apps
from helpers.babeltrace import babeltrace2_text
from helpers.fakeapp import FakeApp
from helpers.puppet import Puppet
from helpers.registry import RunningRegistry, running_registry, until
from helpers.rundir import Rundir

from ustconsumer.client.triggers import Notifications
from ustconsumer.errors import CommandError, UsageError
from ustconsumer.protocol.control import Notification, TriggerAction, TriggerInfo

pytestmark = pytest.mark.peers("gcc", "lttng-ust-headers", "babeltrace2")

#: A time in which what must not come would have come; nothing waits for it in vain.
QUIET = 0.3
#: Beyond 8 times the length of the sequence: nearer ones liblttng-ust 2.13 finds in other memory.
CAPTURES = [
    *("i8", "u64", "i64", "f32", "f64", "s", "bytes", "bytes[1]", "color"),
    *("$ctx.vpid", "$ctx.procname", "nothing", "bytes[99]", "$ctx.nothing", "$app.no:body"),
]


@pytest.fixture
def registry(rundir: Rundir) -> Iterator[RunningRegistry]:
    with running_registry(rundir) as running:
        yield running


def heard(notifications: Notifications, count: int) -> list[Notification]:
    """Return the next notifications; one more, and the test fails at the next call."""
    found: list[Notification] = []
    while len(found) < count:
        received = next(notifications, None)
        assert received is not None, found
        found.append(received)
    return found


def nothing_more(notifications: Notifications) -> None:
    notifications._timeout = QUIET
    assert list(notifications) == []
    notifications._timeout = 60.0


def only(registry: RunningRegistry) -> TriggerInfo:
    (trigger,) = registry.client.triggers()
    return trigger


def notify(rate: str = "", count: int = 0) -> TriggerAction:
    return TriggerAction(kind="notify", rate=rate, rate_count=count)


def test_captures_of_a_c_program(registry: RunningRegistry, rundir: Rundir, apps: Apps) -> None:
    made = registry.client.add_trigger(
        "filters:event", filter='i64 < 0 && s == "h*"', captures=CAPTURES
    )
    assert (made.name, made.captures, made.problems) == ("trigger0", CAPTURES, [])
    with registry.client.notifications(timeout=60.0) as notifications:
        text = b"h\xe9llo".hex()
        events = ["7", "1.5", text, "-3", "0.1", text, "-3", "0.1", b"other".hex()]
        # It is over before we have read a word of what it told.
        with rundir.start([apps.filters, *events]) as process:
            assert process.wait() == 0
        (one,) = heard(notifications, 1)
        nothing_more(notifications)
    f32 = struct.unpack("f", struct.pack("f", 0.1))[0]
    assert (one.trigger, one.pid, one.missed) == ("trigger0", process.pid, 0)
    assert one.captures == [
        *(-3, 2**64 - 3, -3, f32, 0.1, "h\ufffdllo", list(b"h\xe9llo"), 0xE9),
        {"type": "enum", "value": -3},
        *(process.pid, "filters"),
        *[None] * 4,
    ]
    info = only(registry)
    assert (info.hits, info.lost, info.problems) == (1, 0, [])


def test_captures_of_a_python_program(registry: RunningRegistry, rundir: Rundir) -> None:
    captures = ["n", "d", "s", "l", "l[2]", "c", "$ctx.vpid", "nothing", "l[3]"]
    puppet = Puppet(rundir)
    puppet.do(
        "import enum\n"
        "from ustconsumer.tracer import Provider, enumeration, f64, i64, sequence, string\n"
        "class Colour(enum.Enum):\n"
        "    RED = 1\n"
        "e = Provider('p').tracepoint('e', n=i64, d=f64, s=string, "
        "l=sequence(i64), c=enumeration(Colour))"
    )
    # It was there before.
    registry.client.add_trigger("p:*", filter="n > 5", captures=captures, name="mine")
    with registry.client.notifications("mine", timeout=60.0) as notifications:
        puppet.do(
            "e(5, 0.5, 'five', [1, 2, 3], Colour.RED); e(6, 2.5, 'six', [4, -5, 6], Colour.RED)"
        )
        (one,) = heard(notifications, 1)
        nothing_more(notifications)
    assert one.captures == [
        *(6, 2.5, "six", [4, -5, 6], 6, {"type": "enum", "value": 1}, puppet.pid, None, None)
    ]
    puppet.close()


def test_rate_policies(registry: RunningRegistry, rundir: Rundir, apps: Apps) -> None:
    add = registry.client.add_trigger
    add("flood:tick", name="every", actions=[notify("every", 3)], captures=["seq"])
    add("flood:tick", name="once", actions=[notify("once-after", 5)], captures=["seq"])
    with registry.client.notifications(timeout=60.0) as notifications:
        assert rundir.run([apps.flood, "11"]).returncode == 0
        found = heard(notifications, 4)
        nothing_more(notifications)
    told = {name: [n.captures[0] for n in found if n.trigger == name] for name in ("every", "once")}
    # As LTTng counts: the 3rd, 6th and 9th time; the 5th time only.
    assert told == {"every": [2, 5, 8], "once": [4]}
    assert [trigger.hits for trigger in registry.client.triggers()] == [11, 11]


def test_removed(registry: RunningRegistry, rundir: Rundir) -> None:
    puppet = Puppet(rundir)
    puppet.do(
        "from ustconsumer.tracer import Provider, i64\ne = Provider('p').tracepoint('e', n=i64)"
    )
    registry.client.add_trigger("p:e", captures=["n"], name="first")
    registry.client.add_trigger("p:e", captures=["n"], name="second")
    with pytest.raises(CommandError) as taken:
        registry.client.add_trigger("p:e", name="first")
    assert taken.value.kind == "trigger-exists"
    with registry.client.notifications(timeout=60.0) as notifications:
        puppet.do("e(1)")
        assert {n.trigger for n in heard(notifications, 2)} == {"first", "second"}
        registry.client.remove_trigger("first")
        with pytest.raises(CommandError) as gone:
            registry.client.remove_trigger("first")
        assert gone.value.kind == "no-such-trigger"
        puppet.do("e(2)")
        (one,) = heard(notifications, 1)
        assert (one.trigger, one.captures) == ("second", [2])
        nothing_more(notifications)
        # Its name is free, and what is added later is heard of.
        registry.client.add_trigger("p:e", captures=["n"], name="first", filter="n == 4")
        puppet.do("e(3); e(4)")
        assert len(heard(notifications, 3)) == 3
    puppet.close()


def test_nonsense_is_refused(registry: RunningRegistry) -> None:
    for wanted in (
        {"captures": ["a.b"]},
        {"filter": "a =="},
        {"exclusions": ["p:e"]},
        {"actions": [TriggerAction(kind="snapshot")]},
        {"actions": [TriggerAction(kind="dance")]},
        {"actions": [notify("every", 0)]},
        {"actions": [notify("never", 1)]},
        {"name": "a\nb"},
    ):
        arguments: dict[str, Any] = wanted
        with pytest.raises((UsageError, CommandError)):
            registry.client.add_trigger("p:e", **arguments)
    assert registry.client.triggers() == []


def test_start_and_stop(registry: RunningRegistry, rundir: Rundir, apps: Apps) -> None:
    output = rundir.home / "trace"
    session = registry.client.create("s", output)
    session.enable_event("flood:tick")
    actions = [TriggerAction(kind="start", session="s"), notify()]
    registry.client.add_trigger("filters:event", name="go", filter="i64 == 1", actions=actions)
    actions = [TriggerAction(kind="stop", session="s"), notify()]
    registry.client.add_trigger("filters:event", name="halt", filter="i64 == 2", actions=actions)
    with registry.client.notifications(timeout=60.0) as notifications:
        for event, name, state in (("1", "go", "active"), ("2", "halt", "inactive")):
            assert rundir.run([apps.flood, "10"]).returncode == 0
            # Twice: that it is in that state already is no failure.
            for _ in range(2):
                assert rundir.run([apps.filters, event, "0", "00"]).returncode == 0
                # It is told after the session has changed.
                assert [n.trigger for n in heard(notifications, 1)] == [name]
                assert session.info().state == state
    assert [[a.failed for a in t.actions] for t in registry.client.triggers()] == [[0, 0], [0, 0]]
    session.destroy()
    assert len(babeltrace2_text(output).lines) == 10
    # No such session any more: said, counted, and nothing else happens.
    assert rundir.run([apps.filters, "1", "0", "00"]).returncode == 0
    until(lambda: registry.client.triggers()[0].actions[0].failed, "the failure is counted")
    assert "session 's' not found" in registry.client.triggers()[0].problems[0]


def test_asyncio(registry: RunningRegistry, rundir: Rundir, apps: Apps) -> None:
    registry.client.add_trigger("flood:tick", captures=["seq"])

    async def listen() -> list[int]:
        found = []
        async with registry.client.notifications(timeout=60.0) as notifications:
            process = await asyncio.to_thread(rundir.run, [apps.flood, "5"])
            assert process.returncode == 0
            async for notification in notifications:
                found.append(notification.captures[0])
                if len(found) == 5:
                    # In the middle of a wait.
                    asyncio.get_running_loop().call_later(0.05, notifications.close)
            return found

    assert asyncio.run(listen()) == [0, 1, 2, 3, 4]


def test_nothing_in_time(registry: RunningRegistry) -> None:
    async def listen(notifications: Notifications) -> list[Notification]:
        return [notification async for notification in notifications]

    with registry.client.notifications(timeout=0.05) as notifications:
        assert list(notifications) == []
        assert asyncio.run(listen(notifications)) == []


def test_a_flooding_program_leaves_others_their_turn(
    registry: RunningRegistry, rundir: Rundir, apps: Apps
) -> None:
    registry.client.add_trigger("flood:tick", name="flood", captures=["seq"])
    registry.client.add_trigger("filters:event", name="quiet", captures=["n"])
    # One that hears of the flood and never reads.
    with (
        registry.client.notifications("flood"),
        registry.client.notifications("quiet", timeout=60.0) as notifications,
    ):
        flood = rundir.start([apps.flood, "-1"])
        until(lambda: registry.client.triggers()[0].hits > 10000, "a flood of notifications")
        for _ in range(5):
            assert rundir.run([apps.filters, "1", "0", "00"]).returncode == 0
            assert heard(notifications, 1)[0].trigger == "quiet"
        flood.terminate()
        flood.wait()


def test_a_program_that_writes_nonsense(
    registry: RunningRegistry, rundir: Rundir, apps: Apps
) -> None:
    registry.client.add_trigger("*", name="all")
    puppet = Puppet(rundir)
    puppet.do(
        "import os\n"
        "from ustconsumer.tracer import Provider, i64\n"
        "from ustconsumer.tracer.notifiers import NotifierGroup\n"
        "groups = []\n"
        "send = NotifierGroup.send\n"
        "NotifierGroup.send = lambda self, *rest: (groups.append(self), send(self, *rest))[1]\n"
        "e = Provider('p').tracepoint('e', n=i64)"
    )
    with registry.client.notifications(timeout=60.0) as notifications:
        puppet.do("e(1)")
        heard(notifications, 1)
        # A token that it was never given.
        puppet.do("os.write(groups[-1]._fd, (77).to_bytes(8, 'little') + bytes(34))")
        until(lambda: only(registry).problems, "it is named")
        assert f"(pid {puppet.pid})" in only(registry).problems[0]
        # Nobody hears it any more, which does it no harm.
        puppet.do("e(2)")
        nothing_more(notifications)
        assert rundir.run([apps.flood, "1"]).returncode == 0
        # flood:tick, and what its tracer says of the libraries it loads.
        assert heard(notifications, 1)
    puppet.close()


def test_a_c_program_outlives_the_registry(rundir: Rundir, apps: Apps) -> None:
    """A pipe nobody reads would end it: its tracer does not guard against SIGPIPE."""
    ready = rundir.home / "ready"
    with running_registry(rundir) as registry:
        registry.client.add_trigger("flood:tick")
        flood = rundir.start([apps.flood, "-1", "--ready", ready])
        until(lambda: only(registry).hits, "it fires")
        registry.kill()
    until(lambda: flood.poll() is not None or not _has_pipe(flood.pid), "it lets go of the pipe")
    flood.terminate()
    # Not SIGPIPE, which it may be dying of already.
    assert flood.wait() == -signal.SIGTERM
    # Takes over what the killed one has left.
    with running_registry(rundir):
        pass


def _has_pipe(pid: int) -> bool:
    return any("pipe:" in str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir())


def test_a_program_without_event_notifiers(registry: RunningRegistry, rundir: Rundir) -> None:
    old = FakeApp(rundir.path, 8)
    until(lambda: registry.applications(), "it is registered")
    registry.client.add_trigger("fake:tick")
    assert "no event notifiers" in only(registry).problems[0]
    assert not old.refused.is_set()
    old.close()
