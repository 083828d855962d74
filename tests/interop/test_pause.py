# SPDX-License-Identifier: MIT
"""A paused session: programs run on, nothing is recorded, everything stays as it is."""

from __future__ import annotations

import re
import signal
import time
from functools import partial

import pytest
from helpers.apps import Apps
from helpers.babeltrace import babeltrace2_text
from helpers.registry import RunningRegistry, running_registry, until
from helpers.rundir import Rundir

import ustconsumer
from ustconsumer.errors import CommandError
from ustconsumer.protocol.control import ChannelOptions

pytestmark = pytest.mark.peers("gcc", "lttng-ust-headers", "babeltrace2")


def positions(session: ustconsumer.Session) -> list[tuple[int, int]]:
    return [(stream.produced, stream.lost) for stream in session.info().streams]


def started(registry: RunningRegistry, rundir: Rundir) -> ustconsumer.Session:
    session = registry.client.create("mine", rundir.home / "trace")
    session.enable_event("flood:tick")
    session.start()
    return session


def test_nothing_is_recorded_meanwhile(rundir: Rundir, apps: Apps) -> None:
    with running_registry(rundir) as registry:
        session = started(registry, rundir)
        ready = rundir.home / "ready"
        program = rundir.start([apps.flood, "-1", "2", "--ready", str(ready)])
        until(ready.exists, "the program runs")
        until(lambda: any(produced > 1 << 20 for produced, _ in positions(session)), "events")
        session.pause()
        assert session.info().state == "paused"
        before = positions(session)
        time.sleep(0.3)
        # The program runs at full speed; not even a loss is counted.
        assert positions(session) == before
        with pytest.raises(CommandError, match="already paused"):
            session.pause()
        session.start()
        until(lambda: positions(session) != before, "events are recorded again")
        session.pause()
        session.stop()
        program.kill()
        program.wait()
        session.destroy()
    assert babeltrace2_text(rundir.home / "trace").lines


def test_programs_that_come_while_it_is_paused(rundir: Rundir, apps: Apps) -> None:
    with running_registry(rundir) as registry:
        session = started(registry, rundir)
        assert rundir.run([apps.flood, "10"]).returncode == 0
        session.pause()
        assert rundir.run([apps.flood, "100"]).returncode == 0
        session.start()
        assert rundir.run([apps.flood, "1000"]).returncode == 0
        session.pause()
        # Destroyed as it is: what was recorded is complete.
        session.destroy()
    assert len(babeltrace2_text(rundir.home / "trace").lines) == 1010


def test_started_after_it_was_paused_and_stopped(rundir: Rundir, apps: Apps) -> None:
    with running_registry(rundir) as registry:
        session = started(registry, rundir)
        with pytest.raises(CommandError, match="configured"):
            registry.client.create("other", rundir.home / "other").pause()
        assert rundir.run([apps.flood, "10"]).returncode == 0
        session.pause()
        session.stop()
        assert session.info().state == "inactive"
        session.start()
        assert rundir.run([apps.flood, "100"]).returncode == 0
        session.destroy()
    assert len(babeltrace2_text(rundir.home / "trace").lines) == 110


def test_a_program_that_stood_still_when_it_was_stopped(rundir: Rundir, apps: Apps) -> None:
    """It goes on before it hears of the stop: what it emits until then is not recorded.

    The stop waits for an answer of the program first, as long as it waits for any.
    """
    with running_registry(rundir) as registry:
        session = started(registry, rundir)
        ready = rundir.home / "ready"
        program = rundir.start([apps.flood, "-1", "4", "--ready", str(ready)])
        until(ready.exists, "the program runs")
        until(lambda: any(produced > 1 << 20 for produced, _ in positions(session)), "events")
        session.pause()
        program.send_signal(signal.SIGSTOP)
        session.stop()
        before = positions(session)
        program.send_signal(signal.SIGCONT)
        until(lambda: not session.info().slow, "it has heard of it")
        time.sleep(0.2)
        assert positions(session) == before
        # A start lets it record again.
        session.start()
        until(lambda: positions(session) != before, "events are recorded again")
        program.kill()
        program.wait()
        session.destroy()


def _registered(registry: RunningRegistry, pid: int) -> bool:
    return any(each.pid == pid for each in registry.client.applications())


def _moved(session: ustconsumer.Session, before: list[tuple[int, int]]) -> bool:
    return positions(session) != before


@pytest.mark.repeat(ci=20, soak=1000)
@pytest.mark.full_speed
def test_again_and_again_under_load(rundir: Rundir, apps: Apps, repeat: int) -> None:
    """Nothing comes once it is paused, and programs describe themselves once."""
    with running_registry(rundir) as registry:
        session = registry.client.create("mine", rundir.home / "trace")
        # All that these programs emit would fill disks.
        files = ChannelOptions(tracefile_size=1 << 20, tracefile_count=2)
        session.enable_channel("load", files)
        session.enable_event("flood:tick", "load")
        session.enable_channel("state", ChannelOptions())
        session.enable_event("lttng_ust_statedump:start", "state")
        session.add_context(["vpid"], "state")
        session.start()
        running = [rundir.start([apps.flood, "-1", "2"])]
        until(lambda: any(produced > 1 << 20 for produced, _ in positions(session)), "events")
        for cycle in range(repeat):
            session.pause()
            before = positions(session)
            if cycle == repeat // 2:
                running.append(rundir.start([apps.flood, "-1", "1"]))
                until(partial(_registered, registry, running[-1].pid), "it has registered")
            time.sleep(0.005)
            assert positions(session) == before, cycle
            session.start(None)
            until(partial(_moved, session, before), "events are recorded again")
        session.stop()
        for program in running:
            program.kill()
            program.wait()
        session.destroy()
    lines = babeltrace2_text(next((rundir.home / "trace").rglob("metadata")).parent).lines
    dumped = [re.search(r"vpid = (\d+)", line) for line in lines if "statedump:start" in line]
    assert sorted(int(match[1]) for match in dumped if match) == sorted(p.pid for p in running)
