# SPDX-License-Identifier: MIT
"""A child of a bare fork writes through its parent's registration: recorded, and named."""

from __future__ import annotations

import os
import re

import pytest
from helpers.apps import Apps
from helpers.babeltrace import babeltrace2_text, discarded
from helpers.registry import running_registry, until
from helpers.rundir import Rundir

from ustconsumer.protocol.control import AppInfo, ChannelOptions

pytestmark = pytest.mark.peers("gcc", "lttng-ust-headers", "babeltrace2")

COUNT = 3000
_TICK = re.compile(r"fork:tick: .*who = (\d), seq = (\d+) \}")


@pytest.mark.parametrize("orphan", [False, True], ids=["parent alive", "parent gone"])
def test_its_events_are_recorded_and_apps_says_what_it_is(
    rundir: Rundir, apps: Apps, orphan: bool
) -> None:
    output, file = rundir.home / "trace", rundir.home / "file"
    options = ["--orphan"] if orphan else []
    with running_registry(rundir) as registry:
        session = registry.client.create("forked", output)
        session.enable_channel("chan", ChannelOptions(subbuf_size=65536, num_subbuf=16))
        session.enable_event("fork:tick", "chan")
        session.start()
        parent = rundir.start([apps.barefork, str(COUNT), *options, "--until", file])
        if orphan:
            assert parent.wait() == 0

        def children() -> list[AppInfo]:
            known = registry.client.applications()
            return [app for app in known if app.state == "unregistered"]

        until(children, "the child is seen")
        (child,) = children()
        if orphan:
            until(
                lambda: parent.pid not in registry.applications(), "the parent is seen to be gone"
            )
            (child,) = children()
        assert child.pid != parent.pid
        assert (parent.pid in registry.applications()) is not orphan
        assert (child.name, child.sessions, child.uid) == ("barefork", ["forked"], os.getuid())
        assert child.reason == (
            f"writes through the registration of 'barefork' (pid {parent.pid}): "
            "start it with liblttng-ust-fork.so"
        )
        table = rundir.drtrace("--rundir", rundir.path, "apps").stdout
        (row,) = [line for line in table.splitlines() if "unregistered" in line]
        assert row.startswith(f"{child.pid} ")
        assert row.endswith(child.reason)
        file.touch()
        until(lambda: not children(), "the child has ended")
        if not orphan:
            assert parent.wait() == 0
        assert session.stop() == []
        session.destroy()
    reading = babeltrace2_text(output)
    assert discarded(reading.stderr) == 0
    ticks = [_TICK.search(line) for line in reading.lines]
    numbers: dict[str, list[int]] = {"0": [], "1": []}
    for tick in ticks:
        assert tick
        numbers[tick[1]].append(int(tick[2]))
    assert sorted(numbers["0"]) == list(range(COUNT))
    assert sorted(numbers["1"]) == list(range(2 * COUNT))


def test_a_registered_program_is_no_such_child(rundir: Rundir, apps: Apps) -> None:
    with running_registry(rundir) as registry:
        session = registry.client.create("one", rundir.home / "trace")
        session.enable_event("sleeper:*")
        session.start()
        program = rundir.start([apps.sleeper, "1"])
        until(lambda: any(app.sessions for app in registry.client.applications()), "it is recorded")
        states = {app.pid: app.state for app in registry.client.applications()}
        assert states.get(program.pid) != "unregistered"
        # Nor are the consumer and the registry.
        assert set(states) == {program.pid}
        session.destroy()
