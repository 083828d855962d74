# SPDX-License-Identifier: MIT
"""``drtrace`` verb by verb, with real programs that start before and after ``start``."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.apps import Apps
from helpers.babeltrace import babeltrace2_text, discarded
from helpers.drtrace import end_registry
from helpers.rundir import Rundir

pytestmark = pytest.mark.peers("gcc", "lttng-ust-headers", "babeltrace2")


class Shell:
    """Somebody at a terminal."""

    def __init__(self, rundir: Rundir):
        self.rundir = rundir

    def __call__(self, line: str, *more: Any) -> str:
        """Run a ``drtrace`` command that must succeed without a word of complaint."""
        result = self.rundir.drtrace("--rundir", self.rundir.path, *line.split(), *more)
        assert (result.returncode, result.stderr) == (0, ""), f"{line}: {result}"
        output: str = result.stdout
        return output

    def start(self, *command: Any) -> subprocess.Popen[bytes]:
        """Start a program; return when it runs, and so is registered."""
        ready = self.rundir.home / f"ready-{len(list(self.rundir.home.iterdir()))}"
        process = self.rundir.start([*map(str, command), "--ready", ready])
        self.rundir.run(["sh", "-c", f"until [ -e {ready} ]; do sleep 0.01; done"])
        return process


@pytest.fixture(params=["rundir", "user_rundir"], ids=["tester", "ordinary"])
def drtrace(request: pytest.FixtureRequest) -> Iterator[Shell]:
    """Give a shell of whoever runs the tests, then of a user that is not root."""
    rundir: Rundir = request.getfixturevalue(request.param)
    yield Shell(rundir)
    if (rundir.path / "drtrace.sock").exists():
        end_registry(rundir)


def beats(trace: Path) -> dict[int, list[int]]:
    """Return the numbers in a trace of sleepers, by process."""
    reading = babeltrace2_text(trace)
    assert discarded(reading.stderr) == 0
    found: dict[int, list[int]] = {}
    for line in reading.lines:
        match = re.search(r"vpid = (\d+) .*\{ n = (\d+) \}", line)
        if match:
            found.setdefault(int(match[1]), []).append(int(match[2]))
    return found


def test_step_by_step(drtrace: Shell, apps: Apps) -> None:
    home = drtrace.rundir.home
    trace = home / "trace"
    created = drtrace("create demo -o", trace)
    assert created == f"Session demo created.\nTraces will be output to {trace}\n"
    before = drtrace.start(apps.sleeper, 1)
    assert "channel chan enabled for session demo" in drtrace("enable-channel -u chan")
    assert drtrace("add-context -u -t vpid") == "ust context vpid added to all channels\n"
    enabled = drtrace("enable-event -u sleeper:*,flood:* -c chan")
    assert enabled == (
        "ust event sleeper:* created in channel chan\nust event flood:* created in channel chan\n"
    )
    assert "demo [inactive]" in drtrace("list")
    assert drtrace("start") == "Tracing started for session demo\n"
    after = drtrace.start(apps.sleeper, 1)
    states = {app["pid"]: app for app in json.loads(drtrace("apps --json"))}
    assert {before.pid, after.pid} <= set(states)
    assert {states[pid]["sessions"][0] for pid in (before.pid, after.pid)} == {"demo"}
    assert "Recording session demo: [active]" in drtrace("status")
    flooded = drtrace.rundir.run([apps.flood, "100"])
    assert flooded.returncode == 0
    assert drtrace("stop") == "Tracing stopped for session demo\n"

    # The trace is complete while the session still exists, and nothing is added to it.
    stopped = beats(trace)
    assert set(stopped) == {before.pid, after.pid}
    for numbers in stopped.values():
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    # The second was recorded from its first event on.
    assert stopped[after.pid][0] == 0
    assert len([1 for line in babeltrace2_text(trace).lines if " flood:tick: " in line]) == 100
    assert drtrace("destroy") == "Destroying session demo..\nSession demo destroyed\n"
    assert beats(trace) == stopped
    assert drtrace("list") == "Currently no available recording session\n"
    assert not (home / ".drtracerc").exists()
    for program in (before, after):
        program.terminate()
        assert program.wait() == 0


def test_start_and_stop_again(drtrace: Shell, apps: Apps) -> None:
    trace = drtrace.rundir.home / "trace"
    drtrace("create again -o", trace)
    drtrace("add-context -t vpid")
    drtrace("enable-event sleeper:beat")
    program = drtrace.start(apps.sleeper, 1)
    counts = []
    for _ in range(3):
        drtrace("start")
        drtrace.rundir.run(["sleep", "0.05"])
        drtrace("stop")
        counts.append(len(beats(trace)[program.pid]))
    assert counts[0] < counts[1] < counts[2]
    numbers = beats(trace)[program.pid]
    assert numbers == sorted(set(numbers))
    drtrace("destroy again")


def test_two_sessions_record_the_same_program_apart(drtrace: Shell, apps: Apps) -> None:
    home = drtrace.rundir.home
    for name, pattern in (("ticks", "flood:*"), ("beats", "sleeper:*")):
        drtrace(f"create {name} -o", home / name)
        drtrace(f"enable-event -s {name} {pattern}")
        drtrace(f"start {name}")
    assert drtrace.rundir.run([apps.flood, "50"]).returncode == 0
    assert drtrace.rundir.run([apps.sleeper, "0", "20"]).returncode == 0
    listed = json.loads(drtrace("list --json"))
    assert [(session["name"], session["state"]) for session in listed] == [
        ("beats", "active"),
        ("ticks", "active"),
    ]
    drtrace("destroy --all")
    assert len(babeltrace2_text(home / "ticks").lines) == 50
    assert len(babeltrace2_text(home / "beats").lines) == 20


def test_selection_by_level_and_exclusion(drtrace: Shell, apps: Apps) -> None:
    """As documented for lttng: at least as severe, exactly, and patterns left out."""
    home = drtrace.rundir.home
    names = {}
    for name, options in (
        ("all", "-a"),
        ("severe", "fields:* --loglevel=WARNING"),
        ("only", "fields:* --loglevel-only=TRACE_DEBUG_LINE"),
        ("without", "fields:* -x fields:i*,fields:e*"),
    ):
        drtrace(f"create {name} -o", home / name)
        drtrace(f"enable-event -s {name} {options}")
        drtrace(f"start {name}")
        names[name] = home / name
    assert drtrace.rundir.run([apps.fields]).returncode == 0
    drtrace("destroy -a")

    def fields(name: str) -> set[str]:
        lines = babeltrace2_text(names[name]).lines
        return {match[1] for line in lines if (match := re.search(r" (fields:\w+): ", line))}

    every = fields("all")
    assert fields("severe") | fields("only") < every
    assert not fields("severe") & fields("only")
    assert fields("severe")
    assert fields("only")
    assert fields("without") == {
        name for name in every if not name.startswith(("fields:i", "fields:e"))
    }


def test_losses_are_a_warning_at_stop(drtrace: Shell, apps: Apps) -> None:
    home = drtrace.rundir.home
    drtrace("create lossy -o", home / "lossy")
    drtrace("enable-channel tiny --subbuf-size=4k --num-subbuf=2")
    drtrace("enable-event flood:*")
    drtrace("start")
    assert drtrace.rundir.run([apps.flood, "200000", "2"]).returncode == 0
    result = drtrace.rundir.drtrace("--rundir", drtrace.rundir.path, "stop")
    reading = babeltrace2_text(home / "lossy")
    lost = discarded(reading.stderr)
    assert len(reading.lines) + lost == 400_000
    # As with `lttng stop`: said, and no failure.
    assert result.returncode == 0
    if lost:
        assert f"{lost} events were discarded in session lossy" in result.stderr
    drtrace("destroy")


def test_names_places_and_the_current_session(drtrace: Shell) -> None:
    home = drtrace.rundir.home
    created = drtrace("create")
    match = re.fullmatch(
        rf"Session (auto-\d{{8}}-\d{{6}}) created.\n"
        rf"Traces will be output to {home}/lttng-traces/\1\n",
        created,
    )
    assert match, created
    assert (home / ".drtracerc").read_text() == f"session={match[1]}\n"
    named = drtrace("create named")
    assert re.search(rf"output to {home}/lttng-traces/named-\d{{8}}-\d{{6}}\n", named)
    # The variable and the option beat the current session.
    env = {"DRTRACE_SESSION": match[1]}
    status = drtrace.rundir.drtrace("--rundir", drtrace.rundir.path, "status", env=env)
    assert status.stdout.startswith(f"Recording session {match[1]}: [inactive]\n")
    assert json.loads(drtrace("status --json -s", match[1]))["name"] == match[1]
    drtrace("destroy -a")
    refused = drtrace.rundir.drtrace("--rundir", drtrace.rundir.path, "start")
    assert refused.returncode == 1
    assert "no current recording session" in refused.stderr


def test_view_reads_the_newest_trace(user_rundir: Rundir, apps: Apps) -> None:
    recorded = user_rundir.drtrace("record", "-e", "flood:*", apps.flood, "3")
    assert recorded.returncode == 0
    viewed = user_rundir.drtrace("view")
    assert viewed.returncode == 0
    assert viewed.stdout.count(" flood:tick: ") == 3
    directory = recorded.stdout.splitlines()[-1]
    assert user_rundir.drtrace("view", directory).stdout == viewed.stdout
