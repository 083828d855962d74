# SPDX-License-Identifier: MIT
"""A paused session: programs run on, nothing is recorded, everything stays as it is."""

from __future__ import annotations

import signal
import time

import pytest
from helpers.apps import Apps
from helpers.babeltrace import babeltrace2_text
from helpers.registry import RunningRegistry, running_registry, until
from helpers.rundir import Rundir

import ustconsumer
from ustconsumer.errors import CommandError

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
