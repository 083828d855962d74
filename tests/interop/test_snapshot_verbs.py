# SPDX-License-Identifier: MIT
"""The verbs of snapshots beside those of the real ``lttng``: same words, names and layout."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from helpers.apps import Apps
from helpers.babeltrace import babeltrace2_text
from helpers.drtrace import end_registry
from helpers.lttng import lttng_sessiond
from helpers.rundir import Rundir

pytestmark = pytest.mark.peers("gcc", "lttng-ust-headers", "lttng", "lttng-sessiond", "babeltrace2")

#: Verb by verb; {home} is a directory of the user's. Each says and does the same in both.
SCRIPT = [
    "create snap --snapshot --output={home}/out",
    "snapshot list-output",
    "snapshot record",
    "enable-event -u flood:tick",
    "start",
    "RUN",
    "snapshot record",
    "snapshot record --name=named",
    "snapshot record -n other",
    "snapshot record --max-size=1x",
    "snapshot record --name=a/b",
    "snapshot record --session=nowhere",
    "snapshot add-output {home}/second",
    "snapshot del-output",
    "snapshot del-output 7",
    "snapshot del-output 1",
    "snapshot list-output",
    "snapshot record",
    "snapshot record {home}/third",
    "snapshot record file://{home}/fourth",
    "snapshot add-output --name=mine --max-size=10M {home}/second",
    "snapshot list-output",
    "snapshot record",
    "stop",
    "snapshot record --session=snap",
    "snapshot del-output mine",
]
#: Of what `drtrace` says more: what the snapshot has, and where it is.
_DETAILS = re.compile(r"\d+ packets, \d+ bytes\n/.*\n")
#: Of LTTng's, where it goes if it was told where, and that it waits.
_THEIRS = re.compile(r"Snapshot written at: .*\n|Waiting for data availability\n")
_DATE = re.compile(r"-\d{8}-\d{6}-")


def said(result: Any, home: Path) -> tuple[bool, str]:
    """Return whether a command succeeded, and what it said then, without its directory."""
    text = _THEIRS.sub("", _DETAILS.sub("", result.stdout)).replace(str(home), "HOME")
    if result.returncode:
        assert result.stdout == ""
        assert result.stderr.count("Error: ") == 1, result
        return False, ""
    return True, text


def snapshots(home: Path) -> list[str]:
    """Return the files of all snapshots, their dates left out."""
    return sorted(
        _DATE.sub("-DATE-", str(path.relative_to(home)))
        for path in home.rglob("*")
        if path.is_file() and _DATE.search(str(path)) and ".lttng" not in path.parts
    )


def test_the_same_snapshots(user_rundir: Rundir, apps: Apps) -> None:
    with lttng_sessiond() as lttng:
        home = lttng.rundir.home
        theirs = []
        for line in SCRIPT:
            if line == "RUN":
                assert lttng.rundir.run([apps.flood, "1000"]).returncode == 0
                continue
            command = ["lttng", "--no-sessiond", *line.format(home=home).split()]
            theirs.append((line, *said(lttng.rundir.run(command), home)))
        their_files = [name.replace(str(lttng.rundir.user.uid), "UID") for name in snapshots(home)]
    home = user_rundir.home
    ours = []
    try:
        for line in SCRIPT:
            if line == "RUN":
                assert user_rundir.run([apps.flood, "1000"]).returncode == 0
                continue
            result = user_rundir.drtrace(
                "--rundir", user_rundir.path, *line.format(home=home).split()
            )
            ours.append((line, *said(result, home)))
    finally:
        end_registry(user_rundir)
    assert ours == theirs
    our_files = [name.replace(str(user_rundir.user.uid), "UID") for name in snapshots(home)]
    assert our_files == their_files
    for metadata in home.rglob("metadata"):
        assert len(babeltrace2_text(metadata.parent).lines) == 1000


def test_a_snapshot_beside_the_consumer(rundir: Rundir, apps: Apps) -> None:
    def drtrace(*arguments: str) -> Any:
        result = rundir.drtrace("--rundir", rundir.path, *arguments)
        assert result.returncode == 0, result.stderr
        return result.stdout

    try:
        drtrace("create", "recorded", "-o", str(rundir.home / "trace"))
        drtrace("enable-event", "flood:tick")
        drtrace("start")
        assert rundir.run([apps.flood, "1000"]).returncode == 0
        snapshot = json.loads(drtrace("--json", "snapshot", "record", str(rundir.home / "snap")))
        drtrace("pause")
        assert "[paused]" in drtrace("status")
        directory = drtrace("snapshot", "record", "--switch", str(rundir.home / "snap"))
        drtrace("start")
        assert rundir.run([apps.flood, "10"]).returncode == 0
        byhand = rundir.home / "byhand"
        result = rundir.run_python(
            *("-m", "consumerd", "snapshot", "recorded", "--rundir", rundir.path),
            *("--output", byhand),
        )
        assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
        drtrace("destroy")
    finally:
        end_registry(rundir)
    assert len(babeltrace2_text(snapshot["path"]).lines) == 1000
    assert len(babeltrace2_text(directory.splitlines()[-1]).lines) == 1000
    # What the switch closed is on disk, and in memory still.
    assert len(babeltrace2_text(byhand).lines) == 1010
    assert len(babeltrace2_text(rundir.home / "trace").lines) == 1010


def test_nothing_to_write(rundir: Rundir) -> None:
    def drtrace(*arguments: str) -> Any:
        return rundir.drtrace("--rundir", rundir.path, *arguments)

    try:
        refused = drtrace("create", "bad", "--shm-path", "")
        assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
        assert drtrace("create", "empty", "--snapshot").returncode == 0
        assert drtrace("enable-event", "none:*").returncode == 0
        assert drtrace("start").returncode == 0
        # The general option, before the verb.
        taken = drtrace("-n", "--json", "snapshot", "record", "-n", "name")
        assert taken.returncode == 4
        assert "the buffers are empty" in taken.stderr
        # There is no directory, and none is named.
        nothing = dict.fromkeys(("streams", "packets", "bytes", "lost"), 0)
        assert json.loads(taken.stdout) == {"path": "", "relay": "", **nothing, "problems": []}
        assert not list(rundir.home.rglob("name-*"))
    finally:
        end_registry(rundir)


def test_a_consumer_that_cannot_write(rundir: Rundir, apps: Apps) -> None:
    result = rundir.run_python(
        *("-m", "consumerd", "snapshot", "nothing", "--rundir", rundir.path),
        *("--output", rundir.home / "byhand"),
    )
    assert result.returncode == 1
    assert "no session registry" in result.stderr
    assert result.stderr.count("\n") == 1
