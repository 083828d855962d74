# SPDX-License-Identifier: MIT
"""Programs that are stopped, wherever they are: they delay themselves, and are named."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.apps import Apps
from helpers.babeltrace import babeltrace2_text
from helpers.halting import PLACES
from helpers.registry import running_registry, until
from helpers.rundir import Rundir

pytestmark = pytest.mark.peers("gcc", "lttng-ust-headers", "babeltrace2")

#: What a program may take for a command (docs/protocol.md), and as much for all the rest:
#: a verb that waited for one stopped program after the other would take far longer.
LIMIT = 2 * 5.0


def is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] == "T"


class Shell:
    """``drtrace`` verbs, each within its limit."""

    def __init__(self, rundir: Rundir):
        self._rundir = rundir
        #: seconds that all of them took
        self.taken = 0.0

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        before = time.monotonic()
        result: subprocess.CompletedProcess[str] = self._rundir.drtrace(
            "--rundir", self._rundir.path, *arguments
        )
        taken = time.monotonic() - before
        self.taken += taken
        assert result.returncode in (0, 4), result
        assert taken < LIMIT, f"{arguments[0]} took {taken:.1f} s"
        return result


def named(said: str, pids: set[int]) -> set[int]:
    """Return those that a text names as slow."""
    slow = re.findall(r"\(pid (\d+)\) is stopped \(SIGSTOP\)", " ".join(said.split()))
    return pids & set(map(int, slow))


def test_many_at_once_each_somewhere_else(rundir: Rundir, apps: Apps) -> None:
    drtrace = Shell(rundir)
    output = rundir.home / "trace"
    with running_registry(rundir) as registry:
        drtrace("create", "s", "-o", str(output))
        drtrace("enable-event", "*")
        drtrace("start")
        find_helpers = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        halting = {
            where: rundir.start_python("-m", "helpers.halting", rundir.path, where,
                                       stdin=subprocess.PIPE, env=find_helpers)
            for where in PLACES
        }  # fmt: skip
        for where, program in halting.items():
            until(lambda pid=program.pid: is_stopped(pid), f"one is stopped at {where}")  # type: ignore[misc]
        pids = {program.pid for program in halting.values()}

        # No other program is delayed: this one is recorded from its first event on.
        assert rundir.run([apps.flood, "1000"]).returncode == 0
        sleeper = rundir.start([apps.sleeper, "1", "--ready", rundir.home / "ready"])
        until((rundir.home / "ready").exists, "another program runs")
        assert registry.applications()[sleeper.pid].sessions == ["s"]

        # No verb is delayed beyond the limit of one program, and they are named.
        assert named(drtrace("status").stdout, pids) == pids
        drtrace.taken = 0.0
        assert named(drtrace("enable-event", "late:*").stderr, pids) == pids
        for verb in ("stop", "start", "stop"):
            assert named(drtrace(verb).stderr, pids) == pids
        # Who is slow is not waited for again.
        assert drtrace.taken < 3 * 5.0
        assert named(drtrace("status").stdout, pids) == pids
        drtrace("list")
        drtrace("apps")
        for app in registry.applications().values():
            assert (app.state == "slow") == (app.pid in pids)
            assert ("is stopped (SIGSTOP)" in app.reason) == (app.pid in pids)
        lines = babeltrace2_text(output).lines
        assert sum("flood:tick" in line for line in lines) == 1000
        drtrace("start")

        # Each goes on where it was, and is recorded.
        for program in halting.values():
            program.send_signal(signal.SIGCONT)
        until(
            lambda: all(registry.applications()[pid].sessions == ["s"] for pid in pids),
            "all are recorded",
        )
        assert named(drtrace("status").stdout, pids) == set()
        assert named(drtrace("stop").stderr, pids) == set()
        for program in halting.values():
            program.communicate(b"")
            assert program.returncode == 0
        drtrace("destroy")
        assert not [line for line in registry.log() if "refused" in line or "closed" in line]


def test_one_that_has_nothing_to_do_is_named_as_well(rundir: Rundir, apps: Apps) -> None:
    drtrace = Shell(rundir)
    with running_registry(rundir):
        drtrace("create", "s", "-o", str(rundir.home / "trace"))
        drtrace("enable-event", "*")
        program = rundir.start([apps.sleeper, "1", "--ready", rundir.home / "ready"])
        until((rundir.home / "ready").exists, "the program runs")
        drtrace("start")
        assert "Slow:" not in drtrace("status").stdout
        program.send_signal(signal.SIGSTOP)
        until(lambda: is_stopped(program.pid), "it is stopped")
        assert f"'sleeper' (pid {program.pid}) is stopped" in " ".join(
            drtrace("status").stdout.split()
        )
        program.send_signal(signal.SIGCONT)
        until(lambda: not is_stopped(program.pid), "it goes on")
        assert "Slow:" not in drtrace("status").stdout
        assert drtrace("stop").stderr == ""
