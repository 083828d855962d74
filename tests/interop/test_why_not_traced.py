# SPDX-License-Identifier: MIT
"""``drtrace apps`` says why a program that is registered is not recorded."""

from __future__ import annotations

import json
import os
import subprocess

import pytest
from helpers.apps import Apps
from helpers.registry import RunningRegistry, running_registry, until
from helpers.rundir import Rundir

pytestmark = pytest.mark.peers("gcc", "lttng-ust-headers")


def reason(registry: RunningRegistry, pid: int) -> str:
    """Return what is said of a program."""
    return registry.applications()[pid].reason


def test_its_tracepoints_match_no_rule(rundir: Rundir, apps: Apps) -> None:
    with running_registry(rundir) as registry:
        program = rundir.start([apps.sleeper, "1"])
        until(lambda: program.pid in registry.applications(), "it registers")
        session = registry.client.create("s", rundir.home / "trace")
        session.enable_channel("c")
        assert session.start() == []
        assert reason(registry, program.pid) == "no event is enabled in session s"
        session.enable_event("flood:*", "c")
        line = "no event of session s matches its tracepoints"
        until(lambda: reason(registry, program.pid) == line, "it is told")
        # It is in the session all the same: what it loads later may match.
        assert registry.applications()[program.pid].sessions == ["s"]
        table = rundir.drtrace("--rundir", rundir.path, "apps").stdout
        assert [row.endswith(line) for row in table.splitlines()] == [False, True]
        (told,) = json.loads(rundir.drtrace("--rundir", rundir.path, "--json", "apps").stdout)
        assert (told["pid"], told["reason"], told["ns_pid"]) == (program.pid, line, 0)
        session.enable_event("sleeper:*", "c")
        assert reason(registry, program.pid) == ""
        session.stop()
        session.destroy()
        assert reason(registry, program.pid) == ""


def test_a_tracker_leaves_it_out(rundir: Rundir, apps: Apps) -> None:
    with running_registry(rundir) as registry:
        program = rundir.start([apps.sleeper, "1"])
        until(lambda: program.pid in registry.applications(), "it registers")
        session = registry.client.create("s", rundir.home / "trace")
        session.enable_event("sleeper:*")
        session.track("vpid", os.getpid())
        session.start()
        told = registry.applications()[program.pid]
        assert told.sessions == []
        assert told.reason == "session s: left out by the virtual process ID tracker"
        session.track("vpid", program.pid)
        told = registry.applications()[program.pid]
        assert (told.sessions, told.reason) == (["s"], "")
        session.stop()


def test_the_session_is_of_another_user(user_rundir: Rundir, apps: Apps) -> None:
    """An ordinary user's registry, with which root's program registers."""
    if os.getuid():
        pytest.skip("only root can be somebody else")
    rundir = user_rundir
    with (
        running_registry(rundir) as registry,
        subprocess.Popen([apps.sleeper, "1"], env=rundir.env) as program,
    ):
        try:
            until(lambda: program.pid in registry.applications(), "it registers")
            for verb in (("create", "s"), ("enable-event", "sleeper:*"), ("start",)):
                assert rundir.drtrace("--rundir", rundir.path, *verb).returncode == 0
            line = f"session s is of uid {rundir.user.uid}, who may record only own programs"
            assert reason(registry, program.pid) == line
            # Recorded by another one, nobody asks why.
            session = registry.client.create("roots", rundir.home / "trace")
            session.enable_event("sleeper:*")
            session.start(consumer=None)
            told = registry.applications()[program.pid]
            assert (told.sessions, told.reason) == (["roots"], "")
            session.destroy()
            assert rundir.drtrace("--rundir", rundir.path, "destroy").returncode == 0
        finally:
            program.kill()
