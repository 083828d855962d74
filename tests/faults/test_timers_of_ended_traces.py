# SPDX-License-Identifier: MIT
"""Timers end with their trace: a consumer must not switch memory that it let go of."""

from __future__ import annotations

import pytest
from helpers.apps import Apps
from helpers.registry import running_registry, until
from helpers.rundir import Rundir

from ustconsumer.client.totals import count
from ustconsumer.protocol.control import ChannelOptions

pytestmark = pytest.mark.peers("gcc", "lttng-ust-headers")


def test_a_consumer_outlives_processes_with_switch_timers(rundir: Rundir, apps: Apps) -> None:
    with running_registry(rundir) as registry:
        session = registry.client.create("s", rundir.home / "trace")
        options = ChannelOptions(
            subbuf_size=16384, num_subbuf=16, buffers="pid", switch_timer_us=1000
        )
        session.enable_channel("chan", options)
        session.enable_event("flood:tick", "chan")
        session.start()
        first = session.info().consumer
        for _ in range(3):
            assert rundir.run([apps.flood, "1000"]).returncode == 0
            until(lambda: not session.info().streams, "its trace is closed")
        assert session.stop() == []
        last = session.info().consumer
        assert first is not None
        assert last is not None
        assert last.pid == first.pid
        totals = count(session)
        assert (totals.recorded, totals.discarded) == (3000, 0)
        session.destroy()
        assert registry.log() == []
