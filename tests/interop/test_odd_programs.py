# SPDX-License-Identifier: MIT
"""Programs that fork, load late, live for a moment, are stopped or killed, do not wait for us."""

from __future__ import annotations

import json
import os
import re
import signal
from collections import Counter
from pathlib import Path

import pytest
from helpers.apps import Apps
from helpers.babeltrace import babeltrace2_text
from helpers.drtrace import Summary, end_registry
from helpers.registry import until
from helpers.rundir import Rundir

pytestmark = pytest.mark.peers("gcc", "lttng-ust-headers", "babeltrace2")


def record(rundir: Rundir, *arguments: str | Path, status: int = 0) -> Summary:
    result = rundir.drtrace("record", *arguments)
    assert (result.returncode, result.stderr) == (status, "")
    return Summary(result.stdout)


def numbers(lines: list[str], field: str) -> list[int]:
    return [int(n) for n in re.findall(rf"\b{field} = (\d+)", "\n".join(lines))]


@pytest.mark.parametrize("orphan", [[], ["--orphan"]])
@pytest.mark.parametrize("preload", ["fork", "none"])
def test_a_forked_child(preload: str, orphan: list[str], apps: Apps, rundir: Rundir) -> None:
    """It is recorded: as itself, or without liblttng-ust-fork under its parent's number."""
    options = ["--wait-all", f"--preload={preload}", "-e", "fork:*"]
    summary = record(rundir, *options, apps.barefork, "500", *orphan)
    lines = summary.check()
    seen = Counter(re.findall(r"vpid = (\d+).* who = (\d)", "\n".join(lines)))
    assert sorted((who, count) for (_, who), count in seen.items()) == [("0", 500), ("1", 500)]
    alone = preload == "none"
    assert len({pid for pid, _ in seen}) == (1 if alone else 2)
    assert summary.processes == (1 if alone else 2)


@pytest.mark.parametrize("preload", ["fork", "none"])
def test_a_provider_that_is_loaded_late(preload: str, apps: Apps, rundir: Rundir) -> None:
    """With the fork library liblttng-ust runs from the start, else it comes with the provider."""
    options = [f"--preload={preload}", "-e", "late:*"]
    summary = record(rundir, *options, apps.late, apps.late_provider, "50", "4")
    assert numbers(summary.check(), "seq") == [*range(200)]


@pytest.mark.parametrize("buffers", ["uid", "pid"])
def test_programs_that_live_for_a_moment(buffers: str, apps: Apps, rundir: Rundir) -> None:
    script = f"i=0; while [ $i -lt 20 ]; do {apps.flood} 10 || exit; i=$((i+1)); done"
    options = [f"--buffers-{buffers}", "-e", "flood:*"]
    summary = record(rundir, *options, "sh", "-c", script)
    lines = summary.check()
    assert Counter(numbers(lines, "vpid")) == dict.fromkeys(numbers(lines, "vpid"), 10)
    assert numbers(lines, "seq") == [*range(10)] * 20


def test_one_that_is_killed(apps: Apps, rundir: Rundir) -> None:
    """All it wrote is there, in order: it waited for room, so nothing was discarded."""
    script = (
        f"{apps.flood} 2000000000 --ready ready & until [ -e ready ]; do sleep 0.01; done;"
        "sleep 0.2; kill -KILL $!; wait $!"
    )
    options = ["-e", "flood:*", "--blocking-timeout=inf", "--subbuf-size=64k"]
    result = rundir.drtrace("record", *options, "sh", "-c", script)
    assert result.returncode == 128 + signal.SIGKILL
    summary = Summary(result.stdout)
    assert summary.recorded > 0
    assert summary.discarded == 0
    assert numbers(babeltrace2_text(summary.directory).lines, "seq") == [*range(summary.recorded)]


def test_one_that_is_stopped(apps: Apps, rundir: Rundir) -> None:
    """It is named, and holds nobody up for longer than its own time-out."""
    script = (
        f"{apps.sleeper} 1 --ready ready >/dev/null 2>&1 & echo $! > pid;"
        f"until [ -e ready ]; do sleep 0.01; done; kill -STOP $!; {apps.flood} 100; exit 3"
    )
    result = rundir.drtrace("record", "-e", "flood:*,sleeper:*", "sh", "-c", script)
    pid = int((rundir.home / "pid").read_text())
    os.kill(pid, signal.SIGKILL)
    assert result.returncode == 3
    assert f"(pid {pid})" in result.stderr
    lines = Summary(result.stdout).check()
    assert numbers([line for line in lines if " flood:tick: " in line], "seq") == [*range(100)]
    beats = numbers([line for line in lines if " sleeper:beat: " in line], "n")
    assert beats == [*range(len(beats))]


@pytest.mark.parametrize("timeout", ["0", "-1"])
def test_one_that_does_not_wait_for_us(timeout: str, apps: Apps, rundir: Rundir) -> None:
    """With 0 it may begin unrecorded; from then on nothing is missing."""
    variable = f"LTTNG_UST_REGISTER_TIMEOUT={timeout}"
    result = rundir.drtrace("record", "-e", "sleeper:*", "env", variable, apps.sleeper, "1", "300")
    assert (result.returncode, result.stderr) == (0, "")
    beats = numbers(Summary(result.stdout).check(), "n")
    assert beats == [*range(300 - len(beats), 300)]
    assert timeout == "0" or len(beats) == 300


def test_one_that_was_there_before_the_registry(user_rundir: Rundir, apps: Apps) -> None:
    """It sleeps on the wait word, and is recorded without being started again."""
    ready = user_rundir.home / "ready"
    early = user_rundir.start([apps.sleeper, "2", "--ready", ready])
    until(ready.exists, "the program runs")

    def drtrace(*words: str | Path) -> str:
        result = user_rundir.drtrace("--rundir", user_rundir.path, *words)
        assert (result.returncode, result.stderr) == (0, "")
        return str(result.stdout)

    trace = user_rundir.home / "trace"
    drtrace("create", "late", "-o", trace)
    try:
        drtrace("enable-event", "sleeper:*")
        drtrace("start")
        until(
            lambda: [app["pid"] for app in json.loads(drtrace("apps", "--json"))] == [early.pid],
            "it notices the registry",
        )
        until(lambda: json.loads(drtrace("status", "--json"))["processes"], "it is recorded")
        user_rundir.run(["sleep", "0.2"])
        drtrace("stop")
        beats = numbers(babeltrace2_text(trace).lines, "n")
        assert beats == [*range(beats[0], beats[0] + len(beats))]
        assert beats[0] > 0
    finally:
        drtrace("destroy")
        end_registry(user_rundir)
