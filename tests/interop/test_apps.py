# SPDX-License-Identifier: MIT
"""The programs of ``tests/apps`` do what the other tests rely on: seen by the real LTTng."""

from __future__ import annotations

import re
import signal
import time
from collections import Counter

import pytest
from helpers.apps import Apps
from helpers.babeltrace import babeltrace2_text, discarded
from helpers.lttng import lttng_record
from helpers.rundir import Rundir

pytestmark = pytest.mark.peers("lttng", "lttng-sessiond", "babeltrace2")


def _path(apps: Apps, word: str) -> str:
    return str(apps.late_provider) if word == "late_provider" else word


@pytest.mark.parametrize(
    ("program", "arguments", "fields"),
    [
        ("flood", ["500", "3"], "thread"),
        ("barefork", ["500"], "who"),
        ("barefork", ["500", "--orphan"], "who"),
        ("sleeper", ["1", "500"], None),
        ("ros2", ["500"], None),
        # The library beside it, loaded and unloaded twice.
        ("late", ["late_provider", "250", "2"], None),
    ],
)
def test_emits_each_event_once(
    apps: Apps, program: str, arguments: list[str], fields: str | None
) -> None:
    with lttng_record(
        [apps.directory / program, *(_path(apps, word) for word in arguments)],
        channel=["--subbuf-size=256K"],
        events=["flood:*,fork:*,sleeper:*,ros2:*,late:*"],
    ) as directory:
        reading = babeltrace2_text(directory)
    assert discarded(reading.stderr) == 0
    number = re.compile(r"\b(?:seq|n) = (\d+)")
    author = re.compile(rf"\b{fields} = (\d+)")
    seen = Counter(
        (int(author.search(line)[1]) if fields else 0, int(number.search(line)[1]))
        for line in reading.lines
    )
    authors = {"flood": 3, "barefork": 2}.get(program, 1)
    assert seen == {(who, seq): 1 for who in range(authors) for seq in range(500)}


def test_files_as_signals(apps: Apps, rundir: Rundir) -> None:
    go, ready = rundir.home / "go", rundir.home / "ready"
    flood = rundir.start([apps.flood, "1", "--ready", ready, "--wait-start", go])
    sleeper = rundir.start([apps.sleeper, "10", "--ready", rundir.home / "sleeping"])
    while not ready.exists() or not (rundir.home / "sleeping").exists():
        time.sleep(0.01)
    assert flood.poll() is None
    go.touch()
    assert flood.wait() == 0
    sleeper.send_signal(signal.SIGTERM)
    assert sleeper.wait() == 0
