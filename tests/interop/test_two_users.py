# SPDX-License-Identifier: MIT
"""Two users of one registry, with sessions of the same name."""

from __future__ import annotations

import os

import pytest
from helpers.apps import Apps
from helpers.babeltrace import babeltrace2_text
from helpers.registry import running_registry
from helpers.rundir import Rundir

from ustconsumer.errors import CommandError

pytestmark = pytest.mark.peers("gcc", "lttng-ust-headers", "babeltrace2")


def test_each_gets_the_own_one(user_rundir: Rundir, apps: Apps) -> None:
    """An ordinary user's registry, where root is the other one."""
    if os.getuid():
        pytest.skip("only root may use another user's registry")
    rundir = user_rundir

    def theirs(*arguments: str) -> str:
        result = rundir.drtrace("--rundir", rundir.path, *arguments)
        assert (result.returncode, result.stderr) == (0, "")
        return str(result.stdout)

    with running_registry(rundir) as registry:
        mine = registry.client.create("same", rundir.home / "root's")
        mine.enable_event("flood:tick")
        theirs("create", "same", "-o", str(rundir.home / "user's"))
        theirs("enable-event", "sleeper:beat")
        with pytest.raises(CommandError, match="same exists already"):
            registry.client.create("same", rundir.home / "another")
        assert mine.start() == []
        theirs("start", "same")
        consumers = {info.consumer.pid for info in registry.client.sessions() if info.consumer}
        assert len(consumers) == 2
        assert rundir.run([apps.flood, "100"]).returncode == 0
        assert rundir.run([apps.sleeper, "1", "50"]).returncode == 0
        theirs("stop")
        theirs("destroy")
        assert [info.uid for info in registry.client.sessions()] == [0]
        assert mine.info().state == "active"
        assert mine.stop() == []
        mine.destroy()
    for place, event, count in (("root's", "flood:tick", 100), ("user's", "sleeper:beat", 50)):
        lines = babeltrace2_text(rundir.home / place).lines
        # Root's session is of every program, the user's of the own: these are both.
        assert sum(f" {event}: " in line for line in lines) == len(lines) == count
