# SPDX-License-Identifier: MIT
"""``record --wait-all``: until every program that the command started has ended."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path

import pytest
from helpers import processes
from helpers.apps import Apps
from helpers.drtrace import Summary
from helpers.registry import until
from helpers.rundir import Rundir

pytestmark = pytest.mark.peers("gcc", "lttng-ust-headers", "babeltrace2")


class Daemon:
    """``daemonise``, recorded: the command has ended, the daemon runs and waits for a word."""

    def __init__(self, rundir: Rundir, apps: Apps, *options: str, events: int = 50):
        self._ready, self._go = rundir.home / "ready", rundir.home / "go"
        self.recorder: subprocess.Popen[str] = rundir.start_drtrace(
            *("record", "-e", "daemonise:*", *options),
            *(apps.daemonise, str(events), self._ready, self._go),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        until(self._ready.exists, "the daemon runs")
        self.pid = int(self._ready.read_text())

    def go(self) -> None:
        self._go.touch()

    def adopted(self) -> bool:
        """Whether its parents, the command among them, have ended."""
        return _parent(self.pid) == self.recorder.pid

    def finish(self) -> tuple[Summary, list[str]]:
        stdout, stderr = self.recorder.communicate()
        assert self.recorder.returncode == 0, stderr
        return Summary(stdout), stderr.splitlines()


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def sequence(lines: list[str]) -> list[int]:
    return [int(seq) for seq in re.findall(r"seq = (\d+)", "\n".join(lines))]


@pytest.mark.parametrize("preload", ["fork", "none"])
def test_a_daemon_is_recorded_until_it_ends(preload: str, apps: Apps, rundir: Rundir) -> None:
    daemon = Daemon(rundir, apps, "--wait-all", f"--preload={preload}")
    until(daemon.adopted, "the command ends")
    # Longer than anybody is given to register: it is waited for because it is recorded.
    assert not processes.ended(daemon.recorder.pid, 3)
    daemon.go()
    summary, complaints = daemon.finish()
    assert complaints == []
    assert sequence(summary.check()) == [*range(50)]
    # With the library three processes registered, without it only the first.
    assert summary.processes == (3 if preload == "fork" else 1)


@pytest.mark.parametrize("preload", ["fork", "none"])
def test_without_it_the_recording_ends_with_the_command(
    preload: str, apps: Apps, rundir: Rundir
) -> None:
    script = f"{apps.daemonise} 50 ready go; until [ -e ready ]; do sleep 0.01; done"
    options = [f"--preload={preload}", "-e", "daemonise:*"]
    result = rundir.drtrace("record", *options, "sh", "-c", script)
    pid = int((rundir.home / "ready").read_text())
    assert processes.alive(pid)
    os.kill(pid, signal.SIGKILL)
    assert result.stderr.splitlines() == [
        "Warning: 1 program is still running and recorded no more, "
        f"daemonise (pid {pid}): --wait-all records until they end",
        "Warning: no event matched daemonise:*: `drtrace record -e '*'` shows what there is",
    ]
    assert Summary(result.stdout).check() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_waiting(number: signal.Signals, apps: Apps, rundir: Rundir) -> None:
    daemon = Daemon(rundir, apps, "--wait-all")
    until(daemon.adopted, "the command ends")
    daemon.recorder.send_signal(number)
    # It may have come before the end of the command was noticed: then it was lost on it.
    while not processes.ended(daemon.recorder.pid, 10):
        daemon.recorder.send_signal(number)
    summary, complaints = daemon.finish()
    assert len(complaints) == 2
    assert (
        f"1 program is still running and recorded no more, daemonise (pid {daemon.pid})"
        in (complaints[0])
    )
    assert "--wait-all" not in complaints[0]
    assert summary.check() == []
    processes.end(daemon.pid)


def test_a_signal_before_goes_to_the_command(apps: Apps, rundir: Rundir) -> None:
    """The command ends by it; what it left behind is waited for all the same."""
    script = (
        f"trap 'exit 9' TERM; {apps.sleeper} 1 --ready ready >/dev/null 2>&1 & echo $! > pid;"
        "until [ -e ready ]; do sleep 0.01; done; touch running; while :; do sleep 0.01; done"
    )
    recorder = rundir.start_drtrace(
        *("record", "--wait-all", "-e", "sleeper:*", "sh", "-c", script),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    until((rundir.home / "running").exists, "everything runs")
    left = int((rundir.home / "pid").read_text())
    recorder.send_signal(signal.SIGTERM)
    until(lambda: _parent(left) == recorder.pid, "the command ends")
    assert not processes.ended(recorder.pid, 0.5)
    os.kill(left, signal.SIGTERM)
    stdout, stderr = recorder.communicate()
    assert (recorder.returncode, stderr) == (9, "")
    summary = Summary(stdout)
    numbers = [int(n) for n in re.findall(r"\{ n = (\d+) \}", "\n".join(summary.check()))]
    assert numbers == [*range(summary.recorded)]


@pytest.mark.parametrize("preload", ["fork", "none"])
def test_programs_started_later_by_those_left_behind(
    preload: str, apps: Apps, rundir: Rundir
) -> None:
    # Nobody is registered when the command ends; but it does not take them long.
    run = f"sleep 0.3; {apps.sleeper} 10 20; {apps.flood} 30; {apps.sleeper} 10 20"
    script = f"({run}) >/dev/null 2>&1 &"
    options = ["--wait-all", f"--preload={preload}", "-e", "sleeper:*,flood:*"]
    result = rundir.drtrace("record", *options, "sh", "-c", script)
    assert (result.returncode, result.stderr) == (0, "")
    assert Summary(result.stdout).recorded == 70


def test_whoever_is_not_traced_is_not_waited_for(rundir: Rundir) -> None:
    result = rundir.drtrace(
        *("record", "--wait-all", "--preload=none", "sh", "-c", "sleep 600 >/dev/null & echo $!"),
        stderr=subprocess.DEVNULL,
        capture_output=False,
        stdout=subprocess.PIPE,
    )
    left = int(Summary(result.stdout).before[0])
    assert processes.alive(left)
    os.kill(left, signal.SIGKILL)
