# SPDX-License-Identifier: MIT
"""The consumer: scan the rings, move what is readable to the sink, obey the registry."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from ustconsumer.client.connection import Connection
from ustconsumer.consumer.ends import Ends
from ustconsumer.consumer.holes import Holes
from ustconsumer.consumer.mapping import MappedStream
from ustconsumer.consumer.pacer import Pacer
from ustconsumer.consumer.rotations import Rotations
from ustconsumer.consumer.sink import ComputingSink, LinkedSink, Sink
from ustconsumer.consumer.streams import Streams
from ustconsumer.consumer.subscription import Subscription
from ustconsumer.protocol.control import Attached, ConsumerStats

__all__ = ["Consumer"]

#: Bytes moved before others (streams, the registry) get their turn.
_TURN = 4 << 20
#: The same as a time: the registry's pushes wait no longer than this.
_SLICE_NS = 10_000_000
#: Large buffers bear long pauses, and a turn has several: one without is a pass too many.
_PAUSES = 4
#: Seconds an idle consumer sleeps before it looks without having been woken: a wake-up
#: may be lost with the writer that owed it.
_RESCAN = 1.0


class Consumer:
    """Moves a session's packets to a sink until the session ends.

    Parameters
    ----------
    connection : Connection
        To the registry; owned from now on.
    session : str
    sink : Sink
        Or, with a callable, what makes one from what the registry says of the session.
    kind : str
        Shown by ``drtrace status``.
    report : callable
        Told each problem, one line.
    workers : int
        Most threads that move packets at a time, this one among them; there is one until
        a backlog is measured. Each stream's writer meets one thread at a time. 0: what
        the sink asks for, or one.

    Raises
    ------
    CommandError
        No such session, or it has a consumer.
    """

    def __init__(
        self,
        connection: Connection,
        session: str,
        sink: Sink | Callable[[Attached], Sink],
        kind: str = "library",
        report: Callable[[str], None] = lambda line: None,
        workers: int = 0,
    ) -> None:
        self._report = report
        self._problems: list[str] = []
        #: How many of them the registry knows.
        self._told = 0
        self._pacer = Pacer()
        self._subscription = Subscription(connection, session, kind, self._open, workers)
        made = sink(self._subscription.attached) if callable(sink) else sink
        if isinstance(made, ComputingSink) and not workers:
            self._subscription.rings.most = made.workers
        self._linked = made if isinstance(made, LinkedSink) else None
        if self._linked is not None:
            self._subscription.listen(self._linked.fd)
        self._streams = Streams(self._subscription, made, self._problem, report)
        self._holes = Holes(self._subscription, self._streams.live, self._problem, report)
        self._ends = Ends(self._subscription, self._streams, self._holes, self._problem)
        self._rotations = Rotations(self._subscription, self._streams, made, self._done)
        self._stop_read, self._stop_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._subscription.watch(self._stop_read)

    @property
    def stop_fd(self) -> int:
        """Descriptor that ends `run` when a byte is written to it (`signal.set_wakeup_fd`)."""
        return self._stop_write

    def stats(self) -> ConsumerStats:
        """Return the totals so far."""
        packets, moved = self._streams.totals()
        return ConsumerStats(
            packets=packets,
            bytes=moved,
            repaired=self._holes.repaired,
            unwritten_bytes=self._ends.unwritten_bytes,
            unwritten_events=self._ends.unwritten_events,
            place="" if self._linked is None else self._linked.place,
            problems=list(self._problems),
        )

    def run(self) -> None:
        """Consume until the session ends or `stop_fd` is written; then drain and close.

        After a clean end everything delivered is in the sink, and the lease is given
        back. If the registry goes away, the applications it leaves behind are drained
        until the last one is gone.
        """
        subscription = self._subscription
        try:
            self._loop()
            # A destroyed session was stopped: its last packets are closed already, also
            # if the registry was gone by the time we read of it.
            self._ends.finish(final=subscription.orphaned and not subscription.ended)
            self._rotations.finish()
        finally:
            self._close()

    # -- the loop ----------------------------------------------------------------

    def _loop(self) -> None:
        subscription = self._subscription
        while not (subscription.ended or (subscription.orphaned and subscription.writers_gone)):
            more = self._move()
            self._attend()
            if subscription.wait(0) if more else self._sleep():
                return
            while subscription.chunks:
                self._rotations.take(subscription.chunks.pop(0))
            # One at a time: another may come while this one is carried out.
            while subscription.drains:
                drain = subscription.drains.pop(0)
                self._ends.finish(drain.final)
                subscription.drained(drain, self.stats())

    def _move(self) -> bool:
        """Move what is readable for a moment; return whether there may be more."""
        streams, pacer = self._streams, self._pacer
        if self._subscription.heard:
            self._subscription.heard = False
            streams.settle()
            streams.outage.hurry()
        streams.retry(_TURN)
        pause_ns = int(pacer.pause_s * 1e9)
        found = self._subscription.rings.round(
            max(_SLICE_NS, _PAUSES * pause_ns), _TURN, pause_ns, pacer.patience, streams.deliver
        )
        pacer.found(found.fill)
        if found.news:
            streams.sync_metadata()
        for ring in found.stopped:
            # A writer that could not be opened, or one that failed: `drain` finds out why.
            streams.drain(ring, _TURN)
        if found.fill:
            streams.settle()
        return found.more

    def _attend(self) -> None:
        """Do what is due: timers, holes, traces that end."""
        self._subscription.retry()
        self._streams.switch_due()
        self._holes.look()
        self._rotations.look()
        for trace in self._ends.look():
            self._subscription.trace_closed(trace, self.stats())
        if len(self._problems) > self._told:
            self._told = len(self._problems)
            self._subscription.tell(self.stats())

    def _sleep(self) -> bool:
        """Sleep until there is something to do; return whether `stop_fd` was written."""
        rings = self._subscription.rings
        # Store 1, full barrier, look again, sleep: a packet delivered before the store
        # is found now, one delivered after it wakes us.
        rings.set_active(1)
        stopped = False
        if not rings.scan():
            stopped = self._subscription.wait(
                min(
                    self._streams.outage.retry_s,
                    self._subscription.retry_s,
                    self._streams.timers.wait_s(time.monotonic()),
                    self._ends.wait_s,
                    self._holes.wait_s,
                    self._rotations.wait_s,
                    _RESCAN,
                )
            )
        rings.set_active(0)
        return stopped

    # -- streams -------------------------------------------------------------------

    def _open(self, mapped: MappedStream) -> None:
        self._streams.open(mapped)
        self._pacer.add_buffer(mapped.stream.geometry.buf_size)

    def _close(self) -> None:
        self._streams.close()
        self._subscription.release()
        self._subscription.close()
        os.close(self._stop_read)
        os.close(self._stop_write)

    def _done(self, token: int, problem: str, place: str) -> None:
        self._subscription.done(token, self.stats(), problem, place)

    def _problem(self, line: str) -> None:
        self._problems.append(line)
        self._report(line)
