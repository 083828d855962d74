# SPDX-License-Identifier: MIT
"""What the monitor timer sees of buffers that real programs write."""

from __future__ import annotations

import os

import pytest
from helpers.apps import Apps
from helpers.registry import running_registry, until
from helpers.rundir import Rundir

from ustconsumer.protocol.control import ChannelInfo, ChannelLoad, ChannelOptions

pytestmark = pytest.mark.peers("gcc", "lttng-ust-headers")

CAPACITY = 4 * 4096


def test_buffers_that_are_overrun(rundir: Rundir, apps: Apps) -> None:
    with running_registry(rundir) as registry:
        session = registry.client.create("mine", rundir.home / "trace")
        small = ChannelOptions(subbuf_size=4096, num_subbuf=4)
        session.enable_channel("small", small)
        session.enable_channel(
            "ring", ChannelOptions(subbuf_size=4096, num_subbuf=4, mode="overwrite")
        )
        session.enable_channel(
            "unseen", ChannelOptions(subbuf_size=4096, num_subbuf=4, monitor_timer_us=0)
        )
        for name in ("small", "ring", "unseen"):
            session.enable_event("flood:tick", name)
        assert all(channel.load is None for channel in session.info().channels)
        session.start()
        program = rundir.start([apps.flood, "-1", "2"])

        def channel(name: str) -> ChannelInfo:
            return next(each for each in session.info().channels if each.name == name)

        def load(name: str) -> ChannelLoad:
            return channel(name).load or ChannelLoad()

        until(lambda: load("small").discarded_rate, "events are discarded")
        until(lambda: load("ring").history_us, "a rate is known")
        # Whatever is read meanwhile: events were discarded because it was full.
        seen = load("small")
        assert (seen.capacity, seen.highest_fill) == (CAPACITY, CAPACITY)
        assert 0 < seen.rate <= seen.highest_rate
        assert seen.history_us == 0
        # The program writes more than 16 KiB a second, by far.
        assert 0 < load("ring").history_us < 1_000_000
        assert channel("unseen").load is None
        done = rundir.drtrace("--rundir", rundir.path, "status", "-s", "mine")
        assert done.returncode == 0, done.stderr
        shown = done.stdout
        assert "      Fullest buffer: " in shown
        assert "(highest 100 %)" in shown
        program.kill()
        program.wait()
        until(lambda: load("small").rate == 0, "nothing is written")
        assert load("small").highest_rate >= seen.highest_rate
        session.destroy()


@pytest.mark.full_speed
def test_what_is_advised_holds_the_same_burst(rundir: Rundir, apps: Apps) -> None:
    # On one CPU: as much in one buffer each time.
    burst = ["taskset", "-c", str(min(os.sched_getaffinity(0))), apps.flood, "50000"]
    with running_registry(rundir) as registry:

        def lost_with(name: str, options: ChannelOptions) -> ChannelInfo:
            session = registry.client.create(name, rundir.home / name)
            session.enable_channel("c", options)
            session.enable_event("flood:tick", "c")
            session.start()
            assert rundir.run(burst).returncode == 0
            session.stop()
            (channel,) = session.info().channels
            shown = rundir.drtrace("--rundir", rundir.path, "status", "-s", name).stdout
            assert ("Advice:" in shown) == (channel.discarded > 0)
            session.destroy()
            return channel

        first = lost_with("first", ChannelOptions(subbuf_size=4096, num_subbuf=2))
        assert first.discarded
        load = first.load
        assert load
        assert load.needed > 8192
        again = ChannelOptions(
            subbuf_size=load.advised_subbuf_size, num_subbuf=load.advised_num_subbuf
        )
        second = lost_with("second", again)
        assert second.discarded == 0
        assert second.load
        assert second.load.needed == 0
