# SPDX-License-Identifier: MIT
"""The streams of a session, each with its writer: opened, moved, given up, closed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator

from ustconsumer._native.ring import DRAIN_EMPTY, DRAIN_ERRNO, DRAIN_LIE, DRAIN_MORE, Ring
from ustconsumer._native.window import Window
from ustconsumer.consumer.mapping import MappedStream
from ustconsumer.consumer.outage import PASSING, Outage
from ustconsumer.consumer.packet import Packet, Stream, Trace
from ustconsumer.consumer.sink import (
    DrainingWriter,
    LinkedSink,
    LiveWriter,
    ResumingWriter,
    RotatingSink,
    Sink,
    Writer,
)
from ustconsumer.consumer.subscription import Subscription
from ustconsumer.consumer.timers import Timers
from ustconsumer.errors import RingBufferError, UstConsumerError

__all__ = ["Outlet", "Streams", "take_packet"]


class Outlet:
    """A stream and the writer that its packets go to.

    Attributes
    ----------
    writer : Writer or None
        None while it could not be opened.
    packets, bytes : int
        Handed to a writer in Python; what a native one moved is counted by the ring.
    """

    def __init__(self, mapped: MappedStream) -> None:
        self.mapped = mapped
        self.writer: Writer | None = None
        self.draining: DrainingWriter | None = None
        self.packets = 0
        self.bytes = 0

    def use(self, writer: Writer) -> None:
        """Take the writer."""
        if isinstance(writer, ResumingWriter):
            writer.attach(self.mapped.ring)
        if isinstance(writer, DrainingWriter):
            self.draining = writer
        self.writer = writer

    def move(self, max_bytes: int) -> int:
        """Move packets; return a ``DRAIN_*`` value. One thread at a time.

        Raises
        ------
        OSError
            The output takes nothing now.
        UstConsumerError
            The stream contradicts itself, or its writer gives up.
        """
        ring = self.mapped.ring
        if self.draining is not None:
            status = self.draining.drain(ring, max_bytes)
            if status == DRAIN_ERRNO:
                raise OSError(ring.error, os.strerror(ring.error))
            if status == DRAIN_LIE:
                raise RingBufferError(ring.lie)
            return status
        assert self.writer is not None
        return self._deliver(self.writer, max_bytes)

    def close(self) -> None:
        """Close the writer."""
        writer, self.writer, self.draining = self.writer, None, None
        if writer is not None:
            writer.close()

    def _deliver(self, writer: Writer, max_bytes: int) -> int:
        """Hand packets to a sink as views, one at a time: at least once."""
        ring = self.mapped.ring
        moved = 0
        while moved < max_bytes:
            packet = take_packet(self.mapped)
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
            self.packets += 1
            self.bytes += packet.packet_size
        return DRAIN_MORE


class Streams:
    """Every stream of a subscription, and what keeps packets from the sink.

    Parameters
    ----------
    subscription : Subscription
    sink : Sink
    problem : callable
        Told what was lost or has to wait, one line each.
    report : callable
        Told that it does not any more.

    Attributes
    ----------
    outage : Outage
        What waits until the output takes something.
    timers : Timers
        Of the rings.
    """

    def __init__(
        self,
        subscription: Subscription,
        sink: Sink,
        problem: Callable[[str], None],
        report: Callable[[str], None],
    ) -> None:
        self.outage = Outage(subscription.rings, problem, report)
        self.timers: Timers[Ring] = Timers()
        self._subscription = subscription
        self._sink = sink
        self._live_us = sink.live_us if isinstance(sink, LinkedSink) else 0
        self._problem = problem
        self._outlets: dict[Ring, Outlet] = {}
        self._given_up: set[Ring] = set()
        #: Of streams that are closed.
        self._packets = 0
        self._bytes = 0

    def totals(self) -> tuple[int, int]:
        """Return the packets and bytes that were moved so far."""
        packets, moved = self._packets, self._bytes
        for ring, outlet in self._outlets.items():
            packets += ring.packet_count + outlet.packets
            moved += ring.byte_count + outlet.bytes
        return packets, moved

    @property
    def under_way(self) -> bool:
        """Whether packets were taken by the sink that have not arrived."""
        return any(mapped.ring.ahead for mapped in self.live())

    def live(self, trace: str | None = None) -> Iterator[MappedStream]:
        """Yield the streams (of one trace) that were not given up."""
        for ring, mapped in tuple(self._subscription.streams.items()):
            if ring not in self._given_up and trace in (None, mapped.stream.trace.id):
                yield mapped

    def open(self, mapped: MappedStream) -> None:
        """Take a new stream; its application does not write yet.

        Raises
        ------
        OSError, UstConsumerError
            The sink does not want it.
        """
        outlet = Outlet(mapped)
        try:
            outlet.use(self._sink.open(mapped.stream))
        except OSError as error:
            if error.errno not in PASSING:
                raise
            self.outage.wait(mapped.ring)
            self.outage.failed(error)
        self._outlets[mapped.ring] = outlet
        try:
            self.sync_metadata()
        except BaseException:
            del self._outlets[mapped.ring]
            outlet.close()
            raise
        self._set_timers(mapped)

    def _set_timers(self, mapped: MappedStream) -> None:
        # As with LTTng, a live session's timer is the one of its channels.
        switch_us = self._live_us or mapped.switch_timer_us
        self.timers.add(mapped.ring, switch_us, mapped.read_timer_us, time.monotonic())

    def switch_due(self) -> None:
        """Close the packets being written whose switch timer says so."""
        while self._subscription.retimed:
            mapped = self._subscription.retimed.pop()
            if mapped.ring in self._outlets and mapped.ring not in self._given_up:
                self.timers.remove(mapped.ring)
                self._set_timers(mapped)
        for ring in self.timers.due(time.monotonic()):
            # Until an event is there the stream's class may be undeclared: who reads the
            # trace while it grows could not tell what the packet is.
            outlet = self._outlets[ring]
            if self._live_us and isinstance(outlet.writer, LiveWriter):
                self._tick(outlet, outlet.writer)
            elif ring.positions()[1] != outlet.mapped.stream.geometry.header_size:
                ring.switch(False)

    def _tick(self, outlet: Outlet, writer: LiveWriter) -> None:
        """Close what was written to a live stream, or tell its viewers that nothing was."""
        if not writer.declared:
            return
        ring = outlet.mapped.ring
        # Before the look: what is written behind it is newer.
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        # The first one closes an empty packet: a relay takes no word on a stream without any.
        if ring.switch(False):
            return
        consumed, produced = ring.positions()
        if (consumed + ring.ahead) % (1 << 64) == produced:
            writer.say_idle(now)

    def deliver(self, ring: Ring, max_bytes: int) -> bool:
        """Hand packets of a ring to its writer in Python; return whether it took them.

        For any thread, as long as it is one at a time per ring; who calls it lets `drain`
        find out why it did not.
        """
        outlet = self._outlets[ring]
        if outlet.writer is None or outlet.draining is not None:
            return False
        try:
            outlet.move(max_bytes)
        except (OSError, UstConsumerError):
            return False
        return True

    def drain(self, ring: Ring, max_bytes: int) -> int:
        """Move packets of one ring; deal with what stops it."""
        outlet = self._outlets[ring]
        if outlet.mapped.stream.trace.id in self.outage.undeclared:
            self.outage.wait(ring)
            return DRAIN_ERRNO
        try:
            if outlet.writer is None:
                outlet.use(self._sink.open(outlet.mapped.stream))
            return outlet.move(max_bytes)
        except OSError as error:
            # Its buffer fills, then events are discarded.
            self.outage.wait(ring)
            self.outage.failed(error)
            return DRAIN_ERRNO
        except UstConsumerError as error:
            self._give_up(outlet, str(error))
            return DRAIN_LIE

    def retry(self, max_bytes: int) -> None:
        """Try again what the sink could not take a moment ago."""
        if self.outage.due:
            self.sync_metadata()
            for ring in self.outage.resume():
                self.drain(ring, max_bytes)
            self.outage.check_over()

    def settle(self) -> None:
        """Let writers do what they do between two passes."""
        for outlet in self._outlets.values():
            if outlet.draining is not None:
                outlet.draining.settle()

    def sync_metadata(self) -> None:
        """Metadata before packets: whatever id a packet read later uses is declared."""
        undeclared = self.outage.undeclared
        for trace, text in self._subscription.metadata():
            try:
                self._sink.metadata(trace, text)
            except (OSError, UstConsumerError) as error:
                self._subscription.return_metadata(trace, text)
                self._undeclared(trace, error)
            else:
                undeclared.discard(trace.id)

    def advance(self, ring: Ring, sink: RotatingSink) -> None:
        """Have a stream go on in the next chunk; between two passes only."""
        outlet = self._outlets[ring]
        if ring in self._given_up or not sink.behind(outlet.mapped.stream):
            return
        self._start_over(ring, outlet, sink.advance)

    def _cleared(self, sink: RotatingSink, stream: Stream) -> Writer:
        sink.clear(stream)
        return self._sink.open(stream)

    def _start_over(self, ring: Ring, outlet: Outlet, again: Callable[[Stream], Writer]) -> None:
        """Have a stream go on with another writer."""
        # The total of a stream goes on in its next file.
        discarded = ring.last_discarded
        outlet.close()
        try:
            outlet.use(again(outlet.mapped.stream))
        except OSError as error:
            # Tried again like any other stream whose writer could not be opened.
            self.outage.wait(ring)
            self.outage.failed(error)
        except UstConsumerError as error:
            self._give_up(outlet, str(error))
        ring.last_discarded = max(ring.last_discarded, discarded)

    def clear(self, sink: RotatingSink) -> None:
        """Forget what is in the buffers and what was written.

        Raises
        ------
        OSError
            A file cannot be cut.
        """
        for mapped in self.live():
            ring, outlet = mapped.ring, self._outlets[mapped.ring]
            ring.switch(False)
            # Not past a packet that somebody is still writing; and not for ever.
            for _ in range(mapped.stream.geometry.num_subbuf):
                if not ring.get_next():
                    break
                ring.put_next()
            self._start_over(ring, outlet, lambda stream: self._cleared(sink, stream))
        sink.clear_ended()

    def close_trace(self, trace: str) -> None:
        """Close what belongs to a trace that nobody writes any more, and let go of its memory."""
        for ring in [
            r for r, m in self._subscription.streams.items() if m.stream.trace.id == trace
        ]:
            outlet = self._outlets.pop(ring)
            self._packets += ring.packet_count + outlet.packets
            self._bytes += ring.byte_count + outlet.bytes
            if ring not in self._given_up:
                self.outage.forget(ring)
                self.timers.remove(ring)
            self._given_up.discard(ring)
            outlet.close()
        self.outage.undeclared.discard(trace)
        self.outage.check_over()
        known = self._subscription.traces.get(trace)
        if known is not None:
            self._sink.end(known[0])
        self._subscription.remove_trace(trace)

    def close(self) -> None:
        """Close every writer and the sink."""
        for outlet in self._outlets.values():
            outlet.close()
        self._sink.close()

    def _undeclared(self, trace: Trace, error: OSError | UstConsumerError) -> None:
        """Metadata of a trace was not written: its packets wait, or nobody wants them.

        Without a stream nothing is lost; who opens the first one is told why he cannot.
        """
        for mapped in self.live(trace.id):
            outlet = self._outlets.get(mapped.ring)
            if isinstance(error, OSError):
                self.outage.undeclared.add(trace.id)
                self.outage.wait(mapped.ring)
                self.outage.failed(error)
            elif outlet is not None:
                self._give_up(outlet, str(error))

    def _give_up(self, outlet: Outlet, reason: str) -> None:
        """Close a stream that contradicts itself; the others go on."""
        ring, stream = outlet.mapped.ring, outlet.mapped.stream
        self.outage.forget(ring)
        self.timers.remove(ring)
        self._given_up.add(ring)
        # Its writers need not wake us any more.
        ring.close()
        outlet.close()
        self._problem(f"stream {stream.trace.path}/{stream.name} closed: {reason}")


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
