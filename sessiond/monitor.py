# SPDX-License-Identifier: MIT
"""Sampling how full the buffers of a session are, with its channels' monitor timers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Iterable

from sessiond.load import Load
from sessiond.registry import Channel, Session
from sessiond.traces import Stream, Trace
from ustconsumer.abi.packet import CTF_MAGIC, DATA_PACKET
from ustconsumer.errors import DecodeError
from ustconsumer.protocol.control import ChannelLoad

__all__ = ["Monitor"]

#: More often than this would say nothing of a rate, and cost.
_SHORTEST_SECONDS = 0.1
#: Bytes of a packet that may be looked at under the loop.
_LARGEST_PACKET = 4 << 20


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
            channel.name: self._loads[channel.id].info(channel.options.subbuf_size)
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
            young = load is not None and now - load.sampled < age
            if young and oldest is None:
                continue
            streams = self._streams(channel)
            if not streams:
                continue
            if load is None:
                load = self._loads[channel.id] = Load(channel.options.mode == "overwrite")
            samples = [stream.sample() for _, stream in streams]
            if young:
                # Too short for a rate; what was lost counts.
                load.note_losses(samples)
            else:
                size = channel.options.subbuf_size * channel.options.num_subbuf
                load.add(now, samples, size)
            # Not at every sample of a long one: it takes milliseconds of the loop.
            if load.highest_burst > 2 * load.measured and not load.overwrite:
                first = [each for each in streams if each[1].id == load.hardest]
                load.event_size = _event_size([*first, *streams]) or load.event_size
                load.measured = load.highest_burst

    def _streams(self, channel: Channel) -> list[tuple[Trace, Stream]]:
        return [
            (trace, stream)
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


def _event_size(streams: Iterable[tuple[Trace, Stream]]) -> float:
    """Return the mean bytes of an event in some packet that is in memory; 0: there is none.

    Programs may write there meanwhile, whatever they like.
    """
    from ustconsumer.ctf.count import EventCounter  # for those who lose events

    for trace, stream in streams:
        geometry = stream.geometry
        if geometry.subbuf_size > _LARGEST_PACKET:
            continue
        described = trace.description()
        counter = EventCounter(described.contexts, described.events)
        # One of them is being written.
        for page in range(min(geometry.num_subbuf, 2)):
            raw = os.pread(stream.fd, geometry.subbuf_size, geometry.data_at(page))
            if len(raw) < geometry.subbuf_size or DATA_PACKET.get(raw, 0, "magic") != CTF_MAGIC:
                continue
            try:
                events, _, _ = counter.count(raw)
            except DecodeError:
                continue
            content: int = DATA_PACKET.get(raw, 0, "content_size") // 8 - geometry.header_size
            if events:
                return max(content, 0) / events
    return 0.0
