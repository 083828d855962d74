# SPDX-License-Identifier: MIT
"""``--json``: every verb prints one line of JSON, and what it lists is in it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from helpers.apps import Apps
from helpers.registry import running_registry, until
from helpers.rundir import Rundir

from ustconsumer.cli.run import run
from ustconsumer.cli.verbs import VERBS

# In this order; FLOOD is a running program's pid, HOME a directory.
LINES = """
version
list
create s --output=HOME/trace
set-session s
status
enable-channel c --subbuf-size=4k
set-options -c c --switch-timer=1s
add-context -t vpid,vtid -t procname
add-context --list
enable-event flood:tick
enable-event -a
disable-event flood:tick
disable-channel c
enable-channel c
track --vpid=FLOOD
untrack --vpid=FLOOD
track --vpid --all
apps
start
regenerate metadata
regenerate statedump
pause
start
rotate
clear
enable-rotation --timer=1h
disable-rotation --timer
snapshot add-output HOME/snapshots
snapshot list-output
snapshot record
snapshot del-output 1
add-trigger --name=t --condition=event-rule-matches --type=user --name=flood:none --action=notify
list-triggers
remove-trigger t
list
list s
stop
destroy s
"""
# Prints an event a line: see test_view.
ELSEWHERE = {"view"}


def verb_of(line: str) -> str:
    words = line.split()
    return words[0] if words[0] in VERBS else " ".join(words[:2])


def test_every_verb_that_shows_something_is_here() -> None:
    showing = {name for name, verb in VERBS.items() if verb.summary.startswith(("List", "Show"))}
    assert showing > {"list", "apps"}
    assert showing <= {verb_of(line) for line in LINES.strip().splitlines()} | ELSEWHERE


@pytest.mark.peers("gcc", "lttng-ust-headers")
def test_one_line_each(
    rundir: Rundir,
    apps: Apps,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LTTNG_HOME", str(rundir.home))
    monkeypatch.chdir(rundir.home)
    said: dict[str, list[Any]] = {}
    with running_registry(rundir) as registry:
        ready = rundir.home / "ready"
        program = rundir.start([apps.flood, "-1", "1", "--ready", str(ready)])
        until(ready.exists, "the program runs")
        until(registry.client.applications, "it is registered")
        for line in LINES.strip().splitlines():
            words = line.replace("HOME", str(rundir.home)).replace("FLOOD", str(program.pid))
            assert run(["--rundir", str(rundir.path), "--json", *words.split()]) == 0, line
            out = capsys.readouterr().out
            assert out.count("\n") == 1, (line, out)
            said.setdefault(line, []).append(json.loads(out))
        program.kill()
        program.wait()
    # Listings list; the first of sessions is of none.
    assert said["list"][0] == []
    (listed,) = said["list"][1]
    assert (listed["name"], said["status"][0]["name"], said["list s"][0]["name"]) == ("s",) * 3
    (app,) = said["apps"][0]
    assert app["pid"] == program.pid
    (output,) = said["snapshot list-output"][0]
    assert output["path"] == str(rundir.home / "snapshots")
    (trigger,) = said["list-triggers"][0]
    assert trigger["name"] == "t"
    assert {"vpid", "perf:thread:task-clock"} <= {*said["add-context --list"][0]}
    (channel,) = listed["channels"]
    assert channel["contexts"] == ["vpid", "vtid", "procname"]
    assert {event["pattern"]: event["enabled"] for event in channel["events"]} == {
        "flood:tick": False,
        "*": True,
    }
