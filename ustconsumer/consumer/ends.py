# SPDX-License-Identifier: MIT
"""Ends: of a recording, and of traces that nobody writes any more."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from ustconsumer._native.ring import DRAIN_ERRNO, DRAIN_HELD
from ustconsumer.consumer.holes import Holes
from ustconsumer.consumer.left import count_left, is_empty
from ustconsumer.consumer.mapping import MappedStream
from ustconsumer.consumer.streams import Streams
from ustconsumer.consumer.subscription import Subscription

__all__ = ["Ends"]

#: Seconds that a sub-buffer is waited for that a process holds open.
_HELD_LIMIT = 5.0
#: Seconds without an arrival after which packets that were sent are not waited for, and how
#: much longer than everything else they may take.
_ARRIVAL_LIMIT = 2.0
_LINK_EXTRA = 3.0
#: Between two looks at what is waited for.
_LOOK = 0.01
#: Traces of processes that are gone, waiting in memory for an output that takes nothing.
_MAX_WAITING = 32


class _Arrivals:
    """Whether packets that were sent keep arriving.

    Parameters
    ----------
    streams : Streams
    deadline : float
        When nobody waits for them any more.
    """

    def __init__(self, streams: Streams, deadline: float) -> None:
        self._streams = streams
        self._deadline = deadline
        self._moved = streams.totals()
        self._last = time.monotonic()

    def go_on(self) -> bool:
        """Return whether it is worth waiting."""
        now, moved = time.monotonic(), self._streams.totals()
        if moved != self._moved:
            self._moved, self._last = moved, now
        return now - self._last < _ARRIVAL_LIMIT and now < self._deadline


class Ends:
    """Closes the last packets, waits for what is held open, says what had to be left.

    Parameters
    ----------
    subscription : Subscription
    streams : Streams
    holes : Holes
        Looked after while we wait.
    problem : callable
        Told what was left, one line each.

    Attributes
    ----------
    unwritten_bytes, unwritten_events : int
        What the sink did not take: of traces that are gone, and left by the last `finish`.
    """

    def __init__(
        self,
        subscription: Subscription,
        streams: Streams,
        holes: Holes,
        problem: Callable[[str], None],
    ) -> None:
        self._subscription = subscription
        self._streams = streams
        self._holes = holes
        self._problem = problem
        self._ending: dict[str, float] = {}
        #: by stream id: write position behind the final packet
        self._closed_at: dict[int, int] = {}
        #: by stream id: where a sub-buffer was waited for in vain
        self._held_at: dict[int, int] = {}
        self._left = (0, 0)
        self._lost = (0, 0)
        self._said: tuple[str | None, int] = (None, 0)

    @property
    def unwritten_bytes(self) -> int:
        return self._left[0] + self._lost[0]

    @property
    def unwritten_events(self) -> int:
        return self._left[1] + self._lost[1]

    @property
    def wait_s(self) -> float:
        """How long the consumer may sleep."""
        return _LOOK if self._ending else math.inf

    # -- the end of a recording ------------------------------------------------------

    def finish(self, final: bool) -> None:
        """Drain every ring; with ``final``, close the packets being written and drain those."""
        deadline = time.monotonic() + _HELD_LIMIT
        failed = self._drain_all(deadline, retry=True)
        if final:
            self._switch(None)
            failed = self._drain_all(deadline, retry=not failed)
        self._streams.sync_metadata()
        self._left = self._say_left(None) if failed else (0, 0)

    def _drain_all(self, deadline: float, retry: bool) -> bool:
        """Drain what is there now; return whether the output did not take it.

        A sub-buffer held open is waited for until ``deadline``; an output that takes nothing
        gets one more chance.
        """
        streams, outage = self._streams, self._streams.outage
        arrivals = _Arrivals(streams, deadline + _LINK_EXTRA)
        while True:
            held = []
            failed = False
            streams.sync_metadata()
            outage.resume()
            for mapped in streams.live():
                # A whole buffer is all that was there; writers may go on for ever.
                status = streams.drain(mapped.ring, mapped.stream.geometry.buf_size)
                if status == DRAIN_HELD and not self._known_held(mapped):
                    held.append(mapped)
                failed |= status == DRAIN_ERRNO
            outage.check_over()
            if streams.under_way:
                if arrivals.go_on():
                    self._wait(_LOOK)
                    continue
                failed = True
            if failed and not retry:
                return True
            if not failed and not held:
                return False
            if time.monotonic() >= deadline:
                self._name_held(held)
                return failed
            retry = not failed
            self._wait(min(outage.retry_s, _HELD_LIMIT) if failed else _LOOK)

    def _wait(self, seconds: float) -> None:
        """Let time pass; the registry's word on a hole comes in here."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self._holes.look()
            self._subscription.wait(min(left, _LOOK))

    # -- the end of a trace --------------------------------------------------------

    def look(self) -> list[str]:
        """Close the traces that nobody writes any more; return which are closed now.

        The loop drains them like the others, which do not wait for a process that is gone.
        """
        subscription = self._subscription
        now = time.monotonic()
        if subscription.ended_traces:
            self._streams.sync_metadata()
        for trace in subscription.ended_traces:
            # A full buffer has no room for the final packet, which says what was discarded
            # behind the last full one.
            for mapped in self._streams.live(trace):
                self._streams.drain(mapped.ring, mapped.stream.geometry.buf_size)
            self._switch(trace)
            self._ending[trace] = now + _HELD_LIMIT
        subscription.ended_traces.clear()
        closed = []
        for trace, deadline in tuple(self._ending.items()):
            left = [mapped for mapped in self._streams.live(trace) if not is_empty(mapped)]
            # Read but not arrived is the output's business too.
            waits = any(mapped.ring in self._streams.outage or mapped.ring.ahead for mapped in left)
            if left and (len(self._ending) <= _MAX_WAITING if waits else now < deadline):
                continue
            if waits:
                lost = self._say_left(trace)
                self._lost = (self._lost[0] + lost[0], self._lost[1] + lost[1])
            else:
                self._name_held(left)
            self._streams.sync_metadata()
            for mapped in self._streams.live(trace):
                self._closed_at.pop(mapped.stream.id, None)
                self._held_at.pop(mapped.stream.id, None)
            self._streams.close_trace(trace)
            del self._ending[trace]
            closed.append(trace)
        return closed

    # -- what both do ----------------------------------------------------------------

    def _switch(self, trace: str | None) -> None:
        for mapped in self._streams.live(trace):
            ring, stream = mapped.ring, mapped.stream
            # The end of a recording and that of a trace may come together, in either order:
            # one final packet, unless somebody wrote in between.
            ending = trace is not None or stream.trace.id in self._ending
            produced = ring.positions()[1]
            if ending and self._closed_at.get(stream.id) == produced:
                continue
            if self._subscription.orphaned and produced == stream.geometry.header_size:
                # No event yet: its class may be undeclared, and nobody is left to do it.
                continue
            ring.switch(True)
            produced = ring.positions()[1]
            # Inside a sub-buffer somebody has begun another packet already.
            closed = stream.geometry.subbuf_offset(produced) == 0
            self._closed_at[stream.id] = produced if closed else -1

    def _known_held(self, mapped: MappedStream) -> bool:
        """Return whether this sub-buffer was waited for already: once is enough."""
        return self._held_at.get(mapped.stream.id) == mapped.ring.positions()[0]

    def _name_held(self, held: list[MappedStream]) -> None:
        for mapped in held:
            if self._known_held(mapped):
                continue
            stream = mapped.stream
            self._held_at[stream.id] = mapped.ring.positions()[0]
            self._problem(
                f"stream {stream.trace.path}/{stream.name}: a process holds a packet open, "
                "what follows it is left in the buffer"
            )

    def _say_left(self, trace: str | None) -> tuple[int, int]:
        """Say and return how many bytes and events the output did not take."""
        left = [mapped for mapped in self._streams.live(trace) if not is_empty(mapped)]
        descriptions = self._subscription.describe()
        size, events = count_left(left, descriptions)
        if (trace, size) == self._said:
            return size, max(events, self._left[1])
        self._said = trace, size
        counted = f" with {events} events" if descriptions else ""
        self._problem(
            f"{size} bytes{counted} are left in the buffers, not written: the output takes nothing"
        )
        return size, events
