# SPDX-License-Identifier: MIT
"""The consumer: scan the rings, move what is readable to the sink, obey the registry."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from ustconsumer._native.ring import (
    DRAIN_EMPTY,
    DRAIN_ERRNO,
    DRAIN_HELD,
    DRAIN_LIE,
    DRAIN_MORE,
    PUMP_IDLE,
    PUMP_WORD,
    Ring,
)
from ustconsumer._native.window import Window
from ustconsumer.client.connection import Connection
from ustconsumer.consumer.holes import Holes
from ustconsumer.consumer.outage import PASSING, Outage
from ustconsumer.consumer.pacer import Pacer
from ustconsumer.consumer.packet import Packet, Trace
from ustconsumer.consumer.sink import DrainingWriter, Sink, Writer
from ustconsumer.consumer.subscription import MappedStream, Subscription
from ustconsumer.errors import RingBufferError, UstConsumerError
from ustconsumer.protocol.control import ConsumerStats

__all__ = ["Consumer"]

#: Bytes moved before others (streams, the registry) get their turn.
_TURN = 4 << 20
#: The same as a time: the registry's pushes wait no longer than this.
_SLICE_NS = 10_000_000
#: Seconds an idle consumer sleeps before it looks without having been woken: a wake-up
#: may be lost with the writer that owed it.
_RESCAN = 1.0
#: Seconds that a drain waits for a sub-buffer that a living process holds open.
_HELD_LIMIT = 5.0


class Consumer:
    """Moves a session's packets to a sink until the session ends.

    Parameters
    ----------
    connection : Connection
        To the registry; owned from now on.
    session : str
    sink : Sink
        Or, with a callable, what makes one from the session's output directory.
    kind : str
        Shown by ``drtrace status``.
    report : callable
        Told each problem, one line.

    Raises
    ------
    CommandError
        No such session, or it has a consumer.
    """

    def __init__(
        self,
        connection: Connection,
        session: str,
        sink: Sink | Callable[[str], Sink],
        kind: str = "library",
        report: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._report = report
        self._writers: dict[Ring, Writer] = {}
        self._draining: list[DrainingWriter] = []
        self._problems: list[str] = []
        self._given_up: set[Ring] = set()
        self._packets = 0
        self._bytes = 0
        self._pacer = Pacer()
        self._subscription = Subscription(connection, session, kind, self._open_stream)
        self._outage = Outage(self._subscription.rings, self._problem, report)
        self._holes = Holes(self._subscription, self._problem, report)
        self._sink = sink(self._subscription.output) if callable(sink) else sink
        self._stop_read, self._stop_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._subscription.watch(self._stop_read)

    @property
    def stop_fd(self) -> int:
        """Descriptor that ends `run` when a byte is written to it (`signal.set_wakeup_fd`)."""
        return self._stop_write

    def stats(self) -> ConsumerStats:
        """Return the totals so far."""
        rings = self._subscription.streams
        return ConsumerStats(
            packets=self._packets + sum(ring.packet_count for ring in rings),
            bytes=self._bytes + sum(ring.byte_count for ring in rings),
            repaired=self._holes.repaired,
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
            self._finish(final=subscription.orphaned and not subscription.ended)
        finally:
            self._close()

    # -- the loop ----------------------------------------------------------------

    def _loop(self) -> None:
        subscription = self._subscription
        while not (subscription.ended or (subscription.orphaned and subscription.writers_gone)):
            stopped = subscription.wait(0) if self._move() else self._sleep()
            if stopped:
                return
            self._holes.look()
            # One at a time: another may come while this one is carried out.
            while subscription.drains:
                drain = subscription.drains.pop(0)
                self._finish(drain.final)
                subscription.drained(drain, self.stats())

    def _move(self) -> bool:
        """Move what is readable for a moment; return whether there may be more."""
        self._retry()
        rings = self._subscription.rings
        pacer = self._pacer
        reason, ring, fill = rings.pump(
            _SLICE_NS, _TURN, int(pacer.pause_s * 1e9), pacer.patience
        )  # fmt: skip
        pacer.found(fill)
        if reason == PUMP_WORD:
            self._sync_metadata()
        elif ring is not None:
            # A sink in Python, or one that stopped: `_drain` finds out why.
            self._drain(ring, _TURN)
        if fill:
            for writer in self._draining:
                writer.settle()
        return reason != PUMP_IDLE

    def _sleep(self) -> bool:
        """Sleep until there is something to do; return whether `stop_fd` was written."""
        rings = self._subscription.rings
        # Store 1, full barrier, look again, sleep: a packet delivered before the store
        # is found now, one delivered after it wakes us.
        rings.set_active(1)
        stopped = False
        if not rings.scan():
            stopped = self._subscription.wait(self._outage.retry_s if self._outage else _RESCAN)
        rings.set_active(0)
        return stopped

    def _retry(self) -> None:
        """Try again what the sink could not take a moment ago."""
        if self._outage.due:
            self._sync_metadata()
            for ring in self._outage.resume():
                self._drain(ring, _TURN)
            self._outage.check_over()

    def _drain(self, ring: Ring, max_bytes: int) -> int:
        """Move packets of one ring; deal with what stops it."""
        mapped = self._subscription.streams[ring]
        if mapped.stream.trace.id in self._outage.undeclared:
            self._outage.wait(ring)
            return DRAIN_ERRNO
        try:
            # Not there yet if it could not be opened.
            writer = self._writers.get(ring) or self._open_writer(mapped)
            if isinstance(writer, DrainingWriter):
                status = writer.drain(ring, max_bytes)
                if status == DRAIN_ERRNO:
                    raise OSError(ring.error, os.strerror(ring.error))
                if status == DRAIN_LIE:
                    raise RingBufferError(ring.lie)
            else:
                status = self._deliver(ring, writer, max_bytes)
        except OSError as error:
            # Its buffer fills, then events are discarded.
            self._outage.wait(ring)
            self._outage.failed(error)
            return DRAIN_ERRNO
        except UstConsumerError as error:
            self._give_up(ring, str(error))
            return DRAIN_LIE
        return status

    def _deliver(self, ring: Ring, writer: Writer, max_bytes: int) -> int:
        """Hand packets to a sink as views, one at a time: at least once."""
        mapped = self._subscription.streams[ring]
        moved = 0
        while moved < max_bytes:
            packet = take_packet(mapped)
            if packet is None:
                return DRAIN_EMPTY
            try:
                writer.write((packet,))
                packet.release()
            except BaseException:
                ring.put()
                raise
            ring.put_next()
            moved += packet.packet_size
            self._packets += 1
            self._bytes += packet.packet_size
        return DRAIN_MORE

    def _sync_metadata(self) -> None:
        """Metadata before packets: whatever id a packet read later uses is declared."""
        undeclared = self._outage.undeclared
        for trace, text in self._subscription.metadata():
            try:
                self._sink.metadata(trace, text)
            except (OSError, UstConsumerError) as error:
                self._subscription.return_metadata(trace, text)
                self._undeclared(trace, error)
            else:
                undeclared.discard(trace.id)

    def _undeclared(self, trace: Trace, error: OSError | UstConsumerError) -> None:
        """Metadata of a trace was not written: its packets wait, or nobody wants them.

        Without a stream nothing is lost; who opens the first one is told why he cannot.
        """
        for ring, mapped in self._subscription.streams.items():
            if mapped.stream.trace.id != trace.id or ring in self._given_up:
                continue
            if isinstance(error, OSError):
                self._outage.undeclared.add(trace.id)
                self._outage.wait(ring)
                self._outage.failed(error)
            else:
                self._give_up(ring, str(error))

    # -- ends ----------------------------------------------------------------------

    def _finish(self, final: bool) -> None:
        """Drain every ring; with ``final``, close the packets being written and drain those."""
        deadline = time.monotonic() + _HELD_LIMIT
        self._drain_all(deadline)
        if final:
            for ring in self._subscription.streams:
                if ring not in self._given_up:
                    ring.switch(True)
            self._drain_all(deadline)
        self._sync_metadata()

    def _drain_all(self, deadline: float) -> None:
        """Drain what is there now; a sub-buffer held open is waited for until ``deadline``."""
        while True:
            left = False
            self._sync_metadata()
            self._outage.resume()
            for ring, mapped in self._subscription.streams.items():
                if ring not in self._given_up:
                    # A whole buffer is all that was there; writers may go on for ever.
                    status = self._drain(ring, mapped.stream.geometry.buf_size)
                    left |= status in (DRAIN_HELD, DRAIN_ERRNO)
            self._outage.check_over()
            if not left:
                return
            if time.monotonic() >= deadline:
                self._problem(
                    "packets are left in the buffers: a process holds one open, "
                    "or the output takes nothing"
                )
                return
            self._holes.look()
            # The registry's word on a hole comes in here.
            self._subscription.wait(0.01)

    def _close(self) -> None:
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()
        self._draining.clear()
        self._sink.close()
        self._subscription.release()
        self._subscription.close()
        os.close(self._stop_read)
        os.close(self._stop_write)

    # -- streams -------------------------------------------------------------------

    def _open_stream(self, mapped: MappedStream) -> None:
        try:
            self._open_writer(mapped)
        except OSError as error:
            if error.errno not in PASSING:
                raise
            self._outage.wait(mapped.ring)
            self._outage.failed(error)
        self._sync_metadata()
        self._pacer.add_buffer(mapped.stream.geometry.buf_size)

    def _open_writer(self, mapped: MappedStream) -> Writer:
        writer = self._sink.open(mapped.stream)
        if isinstance(writer, DrainingWriter):
            writer.attach(mapped.ring)
            self._draining.append(writer)
        self._writers[mapped.ring] = writer
        return writer

    def _give_up(self, ring: Ring, reason: str) -> None:
        """Close a stream that contradicts itself; the others go on."""
        mapped = self._subscription.streams[ring]
        self._outage.forget(ring)
        self._given_up.add(ring)
        # Its writers need not wake us any more.
        ring.close()
        writer = self._writers.pop(ring, None)
        if writer is not None:
            self._draining = [each for each in self._draining if each is not writer]
            writer.close()
        self._problem(f"stream {mapped.stream.trace.path}/{mapped.stream.name} closed: {reason}")

    def _problem(self, line: str) -> None:
        self._problems.append(line)
        self._report(line)


def take_packet(mapped: MappedStream) -> Packet | None:
    """Take the next packet of a stream as a view; None when there is none.

    The ring holds the sub-buffer until ``put`` or ``put_next``.

    Raises
    ------
    RingBufferError
        The packet contradicts its buffer; it is given back.
    """
    ring, geometry = mapped.ring, mapped.stream.geometry
    if not ring.get_next():
        return None
    try:
        page, packet_size, content_size, sequence = ring.mend_held()
    except RingBufferError:
        ring.put()
        raise
    start = geometry.data_at(page)
    window = Window(mapped.memory, start, packet_size)
    return Packet(mapped.stream, window, content_size, sequence)
