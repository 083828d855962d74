# SPDX-License-Identifier: MIT
"""Sampling how full the buffers of a session are, with its channels' monitor timers."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable

from sessiond.load import Load
from sessiond.registry import Channel, Session
from sessiond.traces import Trace
from ustconsumer.protocol.control import ChannelLoad, StreamInfo

__all__ = ["Monitor"]

#: More often than this would say nothing of a rate, and cost.
_SHORTEST_SECONDS = 0.1


class Monitor:
    """Samples the streams of a session.

    Parameters
    ----------
    session : Session
    traces : callable
        Returns the traces there are.
    """

    def __init__(self, session: Session, traces: Callable[[], Iterable[Trace]]) -> None:
        self._session = session
        self._traces = traces
        self._loads: dict[int, Load] = {}
        self._task: asyncio.Task[None] | None = None
        self._closed = False
        #: closed, or there are other timers
        self._news = asyncio.Event()

    def start(self) -> None:
        """Sample now, and with the timers there are from now on."""
        self._sample(time.monotonic(), 0.0)
        self._news.set()
        if self._periods() and self._task is None:
            self._task = asyncio.ensure_future(self._run())

    def close(self) -> None:
        """Stop."""
        self._closed = True
        self._news.set()

    def loads(self) -> dict[str, ChannelLoad]:
        """Return what was seen of each channel that is sampled, until now."""
        self._sample(time.monotonic(), _SHORTEST_SECONDS)
        return {
            channel.name: self._loads[channel.id].info()
            for channel in self._session.channels
            if channel.options.monitor_timer_us and channel.id in self._loads
        }

    def _periods(self) -> dict[int, float]:
        return {
            channel.id: max(channel.options.monitor_timer_us / 1e6, _SHORTEST_SECONDS)
            for channel in self._session.channels
            if channel.options.monitor_timer_us
        }

    def _sample(self, now: float, oldest: float | None = None) -> None:
        """Sample the channels whose last one is older, default: than their timers say."""
        periods = self._periods()
        for channel in self._session.channels:
            period = periods.get(channel.id)
            if period is None:
                continue
            load = self._loads.get(channel.id)
            age = period if oldest is None else oldest
            if load is not None and now - load.sampled < age:
                continue
            streams = self._streams(channel)
            if streams:
                if load is None:
                    load = self._loads[channel.id] = Load(channel.options.mode == "overwrite")
                load.add(now, streams, channel.options.subbuf_size * channel.options.num_subbuf)

    def _streams(self, channel: Channel) -> list[StreamInfo]:
        return [
            stream.sample()
            for trace in self._traces()
            if not trace.closed and channel.id in trace.channels
            for stream in trace.channels[channel.id].streams
        ]

    async def _run(self) -> None:
        while not self._closed:
            self._news.clear()
            periods = self._periods()
            now = time.monotonic()
            # One without buffers has nothing to be late with.
            sampled = {channel: load.sampled for channel, load in self._loads.items()}
            due = [sampled.get(channel, now) + period for channel, period in periods.items()]
            wait = max(min(due) - now, _SHORTEST_SECONDS) if due else None
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), wait)
            if self._session.state == "active" and not self._closed:
                self._sample(time.monotonic())
