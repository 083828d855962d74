# SPDX-License-Identifier: MIT
"""A consumer without a free descriptor: it goes on when there are some again."""

from __future__ import annotations

import os
import resource

import pytest
from helpers.apps import Apps
from helpers.babeltrace import babeltrace2_text, discarded
from helpers.registry import running_registry, until
from helpers.rundir import Rundir

from ustconsumer.protocol.control import ChannelOptions

pytestmark = pytest.mark.peers("gcc", "lttng-ust-headers", "babeltrace2")

EVENTS = 20_000


def lowest_limit(pid: int) -> int:
    """Return the limit that leaves a process what it has."""
    return max(int(name) for name in os.listdir(f"/proc/{pid}/fd")) + 1


@pytest.mark.parametrize("free", [0, 1, 3])
def test_streams_are_taken_when_there_are_descriptors(
    rundir: Rundir, apps: Apps, free: int
) -> None:
    output = rundir.home / "trace"
    with running_registry(rundir) as registry:
        session = registry.client.create("s", output)
        session.enable_channel("chan", ChannelOptions(subbuf_size=16384, num_subbuf=4))
        session.enable_event("flood:tick", "chan")
        session.start()
        consumer = session.info().consumer
        assert consumer is not None
        # Attached does not mean that it has all it begins with.
        until(lambda: os.path.exists(f"/proc/{consumer.pid}/fd/70"), "it is complete")
        _, hard = resource.prlimit(consumer.pid, resource.RLIMIT_NOFILE)
        limit = lowest_limit(consumer.pid) + free
        resource.prlimit(consumer.pid, resource.RLIMIT_NOFILE, (limit, hard))
        assert rundir.run([apps.flood, str(EVENTS)]).returncode == 0
        # A log, two files and the memory of each stream: not for all of it.
        until(lambda: session.info().problems, "it says so")
        assert all("Too many open files" in line for line in session.info().problems)
        resource.prlimit(consumer.pid, resource.RLIMIT_NOFILE, (hard, hard))
        until(lambda: any(s.consumed for s in session.info().streams), "packets are taken")
        assert rundir.run([apps.flood, str(EVENTS)]).returncode == 0
        session.stop()
        now = session.info().consumer
        assert now is not None
        assert now.pid == consumer.pid
        assert all(s.consumed == s.produced for s in session.info().streams)
        session.destroy()
    reading = babeltrace2_text(output)
    assert len(reading.lines) + discarded(reading.stderr) == 2 * EVENTS
