# SPDX-License-Identifier: MIT
"""A trigger on an event takes a snapshot that contains that event."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest
from helpers.apps import Apps
from helpers.babeltrace import babeltrace2_text
from helpers.puppet import Puppet
from helpers.registry import RunningRegistry, running_registry
from helpers.rundir import Rundir

from ustconsumer.protocol.control import (
    ChannelOptions,
    Notification,
    SnapshotOutput,
    TriggerAction,
)

pytestmark = pytest.mark.peers("gcc", "lttng-ust-headers", "babeltrace2")


def flight(registry: RunningRegistry, output: Path, pattern: str) -> None:
    """Start a session that nobody reads until a snapshot is taken."""
    session = registry.client.create("flight", output, snapshot=True)
    session.enable_channel("c", ChannelOptions(mode="overwrite", subbuf_size=16384, num_subbuf=4))
    session.enable_event(pattern, "c")
    session.start()


def snapshot_and_tell(name: str = "") -> list[TriggerAction]:
    """Return what to do once: told behind the snapshot, one hears when it is complete."""
    once = {"rate": "once-after", "rate_count": 1}
    output = SnapshotOutput(name=name)
    return [
        TriggerAction(kind="snapshot", session="flight", output=output, **once),
        TriggerAction(kind="notify", **once),
    ]


def told(registry: RunningRegistry, name: str) -> Notification:
    """Add a trigger on the next beat whose number ends in 63, and wait for its actions."""
    with registry.client.notifications(name, timeout=60.0) as notifications:
        registry.client.add_trigger(
            "sleeper:beat",
            name=name,
            filter="(n & 0x3f) == 63",
            captures=["n"],
            actions=snapshot_and_tell(name),
        )
        heard = next(notifications, None)
    assert heard is not None
    (trigger,) = registry.client.triggers()
    assert (trigger.problems, [action.failed for action in trigger.actions]) == ([], [0, 0])
    registry.client.remove_trigger(name)
    return heard


def numbers(output: Path, name: str) -> list[int]:
    """Return the numbers in the events of the one snapshot of a name, in order."""
    (snapshot,) = output.glob(f"{name}-*")
    found = re.findall(r"\bn = (\d+)", "\n".join(babeltrace2_text(snapshot).lines))
    return [int(number) for number in found]


@pytest.mark.repeat(ci=3, soak=100)
def test_of_a_c_program(rundir: Rundir, apps: Apps, repeat: int) -> None:
    output = rundir.home / "trace"
    with running_registry(rundir) as registry:
        flight(registry, output, "sleeper:beat")
        sleeper = rundir.start([apps.sleeper, "1"])
        for turn in range(repeat):
            heard = told(registry, f"special{turn}")
            assert heard.pid == sleeper.pid
            found = numbers(output, f"special{turn}")
            assert heard.captures[0] in found
            # Nothing is missing around it.
            assert found == list(range(found[0], found[-1] + 1))
        sleeper.send_signal(signal.SIGTERM)
        assert sleeper.wait() == 0


def test_of_a_program_that_is_over(rundir: Rundir, apps: Apps) -> None:
    output = rundir.home / "trace"
    with running_registry(rundir) as registry:
        flight(registry, output, "flood:tick")
        with registry.client.notifications(timeout=60.0) as notifications:
            actions = snapshot_and_tell("last")
            registry.client.add_trigger("flood:tick", filter="seq == 99", actions=actions)
            assert rundir.run([apps.flood, "100"]).returncode == 0
            assert next(notifications, None) is not None
        (snapshot,) = output.glob("last-*")
    assert len(babeltrace2_text(snapshot).lines) == 100


def test_of_a_python_program(rundir: Rundir) -> None:
    output = rundir.home / "trace"
    with running_registry(rundir) as registry:
        flight(registry, output, "p:e")
        puppet = Puppet(rundir)
        puppet.do("from ustconsumer.tracer import Provider, u32")
        puppet.do("e = Provider('p').tracepoint('e', n=u32)")
        actions = snapshot_and_tell("mine")
        with registry.client.notifications(timeout=60.0) as notifications:
            registry.client.add_trigger("p:e", filter="n == 7", actions=actions)
            puppet.do("for n in range(8): e(n)")
            assert next(notifications, None) is not None
        assert numbers(output, "mine") == list(range(8))
        puppet.close()


def test_what_fires_meanwhile_is_done_once_more(rundir: Rundir, apps: Apps) -> None:
    output = rundir.home / "trace"
    with running_registry(rundir) as registry:
        flight(registry, output, "flood:tick")
        actions = [TriggerAction(kind="snapshot", session="flight"), TriggerAction(kind="notify")]
        with registry.client.notifications(timeout=60.0) as notifications:
            registry.client.add_trigger("flood:tick", captures=["seq"], actions=actions)
            assert rundir.run([apps.flood, "100"]).returncode == 0
            heard = [next(notifications).captures[0] for _ in range(100)]
        # Nothing is told twice or in another order, and a snapshot takes longer than a flood.
        assert heard == list(range(100))
        snapshots = sorted(output.iterdir(), key=lambda path: path.stat().st_mtime)
        assert len(snapshots) < 10
    assert len(babeltrace2_text(snapshots[-1]).lines) == 100
