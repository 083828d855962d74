# SPDX-License-Identifier: MIT
"""Closing the packets being written while a session has no consumer, which else does that."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Iterable

from sessiond.registry import Session
from sessiond.traces import Trace

__all__ = ["Switcher"]

#: Nobody waits for these packets: more often than this would only be work.
_SHORTEST_SECONDS = 0.01


class Switcher:
    """Switches the streams of a session, its channels' timers included.

    Parameters
    ----------
    traces : callable
        Returns the traces there are.
    ours : callable
        Whether it is on us: nobody else switches.
    """

    def __init__(
        self,
        session: Session,
        traces: Callable[[], Iterable[Trace]],
        ours: Callable[[], bool],
    ) -> None:
        self._session = session
        self._traces = traces
        self._ours = ours
        self._task: asyncio.Task[None] | None = None
        self._closed = False
        #: closed, or there are other timers
        self._news = asyncio.Event()

    def start(self) -> None:
        """Run the switch timers, if a channel has one, from now on; again: those it has now."""
        self._news.set()
        if self._periods() and self._task is None:
            self._task = asyncio.ensure_future(self._run())

    async def switch(self, final: bool, channels: Collection[int] | None = None) -> None:
        """Close the packets being written.

        Parameters
        ----------
        final : bool
            Where nothing is being written, write an empty packet.
        channels : collection of int, optional
            Ids of those concerned; default: all.
        """
        for trace in tuple(self._traces()):
            if self._ours() and not trace.closed:
                # Kept: a thread cannot be taken back from memory that is let go.
                with trace.kept():
                    await asyncio.to_thread(trace.switch, final, channels)

    def close(self) -> None:
        """Stop the timers."""
        # Not cancelled: see `switch`.
        self._closed = True
        self._news.set()

    def _periods(self) -> dict[int, float]:
        return {
            channel.id: max(channel.options.switch_timer_us / 1e6, _SHORTEST_SECONDS)
            for channel in self._session.channels
            if channel.options.switch_timer_us
        }

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        periods: dict[int, float] = {}
        due: dict[int, float] = {}
        while not self._closed:
            if self._news.is_set():
                self._news.clear()
                before, periods = periods, self._periods()
                kept = {channel for channel in periods if periods[channel] == before.get(channel)}
                due = {
                    channel: due[channel] if channel in kept else loop.time() + period
                    for channel, period in periods.items()
                }
            wait = min(due.values()) - loop.time() if due else None
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), wait)
            now = loop.time()
            late = {channel for channel, when in due.items() if when <= now}
            if late and self._session.state == "active" and not self._closed:
                await self.switch(False, late)
            # From now, not from when it was due: what was missed is not made up for.
            due.update((channel, loop.time() + periods[channel]) for channel in late)
