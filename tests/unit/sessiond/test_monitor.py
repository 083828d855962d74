# SPDX-License-Identifier: MIT
"""The monitor timer looks by itself, and not where it is off."""

from __future__ import annotations

import asyncio
import types
from typing import Any, cast

import pytest

from sessiond.monitor import Monitor
from sessiond.registry import Channel
from ustconsumer.protocol.control import ChannelOptions, StreamInfo


class Stream:
    looks = 0

    def sample(self) -> StreamInfo:
        self.looks += 1
        return StreamInfo(
            id=0,
            trace="",
            channel="",
            cpu=0,
            produced=0,
            consumed=0,
            lost_full=0,
            lost_wrap=0,
            lost_big=0,
        )


@pytest.mark.parametrize(("state", "period_us"), [("active", 1), ("inactive", 1), ("active", 0)])
def test_the_timer(state: str, period_us: int) -> None:
    channel = Channel(0, "c", ChannelOptions(monitor_timer_us=period_us))
    stream = Stream()
    buffers = types.SimpleNamespace(streams=[stream])
    trace = types.SimpleNamespace(closed=False, channels={0: buffers})
    session = types.SimpleNamespace(channels=[channel], state=state)
    monitor = Monitor(cast(Any, session), lambda: [cast(Any, trace)])

    async def watch() -> None:
        monitor.start()
        for _ in range(1000):
            if stream.looks > 3 or (state, period_us) != ("active", 1):
                break
            await asyncio.sleep(0.01)
        else:
            raise AssertionError("it does not look")
        # Two more of its shortest periods.
        await asyncio.sleep(0.2)
        seen = stream.looks
        monitor.close()
        await asyncio.sleep(0.2)
        assert stream.looks == seen

    asyncio.run(watch())
    if not period_us:
        assert stream.looks == 0
        assert monitor.loads() == {}
    elif state != "active":
        # When it was started.
        assert stream.looks == 1
