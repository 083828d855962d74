# SPDX-License-Identifier: MIT
"""Snapshots of programs that are gone: buffers per process, kept up to a limit."""

from __future__ import annotations

import pytest
from helpers.apps import Apps
from helpers.babeltrace import babeltrace2_text
from helpers.registry import RunningRegistry, running_registry, until
from helpers.rundir import Rundir

import ustconsumer
from ustconsumer.abi.ring import RING_LAYOUTS
from ustconsumer.paths import possible_cpus
from ustconsumer.protocol.control import ChannelOptions
from ustconsumer.ringbuffer.geometry import Geometry

pytestmark = pytest.mark.peers("gcc", "lttng-ust-headers", "babeltrace2")

EVENTS = 100


def started(registry: RunningRegistry, rundir: Rundir) -> ustconsumer.Session:
    session = registry.client.create("mine", rundir.home / "trace", snapshot=True)
    options = ChannelOptions(subbuf_size=65536, num_subbuf=4, mode="overwrite", buffers="pid")
    session.enable_channel("channel0", options)
    session.enable_event("flood:tick")
    session.start()
    return session


def traces(session: ustconsumer.Session) -> int:
    return len({stream.trace for stream in session.info().streams})


def test_programs_that_ended_and_one_that_was_killed(rundir: Rundir, apps: Apps) -> None:
    with running_registry(rundir) as registry:
        session = started(registry, rundir)
        for first in (0, 1000):
            command = [apps.flood, str(EVENTS), "--from", str(first)]
            assert rundir.run(command).returncode == 0
        ready = rundir.home / "ready"
        killed = rundir.start(
            [apps.flood, str(EVENTS), "--ready", ready, "--wait-start", rundir.home / "never"]
        )
        until(ready.exists, "it runs")
        killed.kill()
        killed.wait()
        snapshot = session.snapshot()
        assert traces(session) == 3
        # A stop does not change what the next one has.
        session.stop()
        after = session.snapshot()
        session.destroy()
    for taken in (snapshot, after):
        lines = babeltrace2_text(taken.path).lines
        numbers = sorted(int(line.partition("seq = ")[2].split(",")[0]) for line in lines)
        assert numbers == [*range(EVENTS), *range(1000, 1000 + EVENTS)]


def test_the_oldest_go_first(rundir: Rundir, apps: Apps) -> None:
    with running_registry(rundir, "--max-kept", "1M") as registry:
        session = started(registry, rundir)
        runs = 8
        for number in range(runs):
            command = [apps.flood, "1", "--from", str(number)]
            assert rundir.run(command).returncode == 0
            # Each is noticed before the next begins: that is their order.
            pids = number + 1
            until(
                lambda pids=pids: traces(session) + session.info().dropped == pids,  # type: ignore[misc]
                "its buffers are kept",
            )
        geometry = Geometry(RING_LAYOUTS["ust-9-x86_64"], 65536, 4, overwrite=True)
        left = max((1 << 20) // (geometry.file_size * possible_cpus()), 1)
        until(lambda: traces(session) == left, "the last one has ended")
        info = session.info()
        assert info.dropped == runs - left
        assert any(f"{info.dropped} ended program" in line for line in info.problems)
        snapshot = session.snapshot()
        session.destroy()
    lines = babeltrace2_text(snapshot.path).lines
    numbers = sorted(int(line.partition("seq = ")[2].split(",")[0]) for line in lines)
    assert numbers == list(range(runs - left, runs))
