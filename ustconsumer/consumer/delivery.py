# SPDX-License-Identifier: MIT
"""What one connection to a relay does: announce streams, send, ask what arrived, close."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from itertools import islice

from ustconsumer.consumer.flow import Flow, Outgoing
from ustconsumer.consumer.relaylink import RelayLink
from ustconsumer.consumer.traffic import TraceText, Traffic
from ustconsumer.ctf.packets import MetadataPacketWriter
from ustconsumer.errors import BrokenResourceError
from ustconsumer.protocol.relay import METADATA, NO_SEQUENCE, CloseCommand, Index

__all__ = ["Delivery"]

#: Packets of a stream that are sent before others get their turn.
_TURN = 32
#: Seconds between two questions whether something has arrived; doubled while nothing has.
_ASK, _MAX_ASK = 0.001, 0.1
#: Questions before that, one upon the other: a packet is mostly a moment behind its index.
_EARLY = 8
#: Periods of a live session that viewers get for the end of a trace, and seconds at most.
_LINGER, _MAX_LINGER = 2.5, 4.0
#: Nanoseconds that packets of a live session are held back.
_HOLD_NS = 100_000_000
#: Seconds in which a new stream has its class.
_NEW = 1.0
#: Between two looks whether there is hope still.
_LOOK = 0.2


@dataclass
class _Announced:
    """A stream, or a trace's metadata, that the relay knows.

    ``sent``: packets of a stream, bytes of a text. ``following``: packets with a smaller
    sequence number are there, from an earlier connection. ``restarts``: how often the relay
    heard that the text starts over.
    """

    handle: int
    sent: int = 0
    following: int = 0
    restarts: int = 0
    #: time until which viewers know of it
    end: int = 1

    @property
    def last(self) -> int:
        """Number, in its transmission, of the last packet that was sent."""
        return self.sent - 1 if self.sent else NO_SEQUENCE


class Delivery:
    """Brings what is on its way over one connection.

    Parameters
    ----------
    traffic : Traffic
    link : RelayLink
    event : asyncio.Event
        Set by who adds to the traffic.
    live_us : int
        Period of a live session, 0: it is none.
    """

    def __init__(
        self, traffic: Traffic, link: RelayLink, event: asyncio.Event, live_us: int = 0
    ) -> None:
        self._traffic = traffic
        self._link = link
        self._event = event
        self._sent = asyncio.Event()
        self._streams: dict[Flow, _Announced] = {}
        self._texts: dict[str, _Announced] = {}
        # LTTng's relay ends a stream for viewers when its producer does, whether or not they
        # have read it: they get time to.
        self._period = live_us / 1e6
        self._linger = 0.0 if link.resumable else min(_LINGER * self._period, _MAX_LINGER)
        #: by the trace's id: when its end has arrived
        self._complete: dict[str, float] = {}

    async def run(self) -> None:
        """Deliver until the traffic has ended and all of it has arrived.

        Raises
        ------
        OSError, UstConsumerError
            The connection is lost, or nothing arrives any more.
        """
        work = asyncio.ensure_future(self._work())
        asking = asyncio.ensure_future(self._ask())
        tasks = {work, asking, self._link.failed}
        try:
            while True:
                done, _ = await asyncio.wait(
                    tasks, timeout=_LOOK, return_when=asyncio.FIRST_COMPLETED
                )
                for task in done:
                    task.result()
                if work in done:
                    return
                with self._traffic.lock:
                    if self._traffic.is_hopeless:
                        raise BrokenResourceError(f"relay {self._link.url}: it takes nothing")
        finally:
            for task in (work, asking):
                task.cancel()
                with contextlib.suppress(BaseException):
                    await task

    async def _work(self) -> None:
        while True:
            self._event.clear()
            more = await self._send()
            await self._change_chunk()
            await self._close_ended()
            with self._traffic.lock:
                over = self._traffic.ending and not self._traffic.texts
                last = self._traffic.last_chunk
            if over:
                await (self._link.close_chunk(*last) if last else self._link.close_chunk())
                await self._link.flush()
                with self._traffic.lock:
                    self._traffic.finished = True
                return
            if not more:
                await self._wait()

    async def _wait(self) -> None:
        """Wait for something to do; as long as viewers get time, look every now and then."""
        with self._traffic.lock:
            held = bool(self._period) and any(
                flow.waiting or flow.beacon for flow in self._traffic.flows
            )
        seconds = _HOLD_NS / 2e9 if held else self._period / 2 if self._complete else None
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._event.wait(), seconds)

    async def _send(self) -> bool:
        """Send some of what waits; return whether there is more."""
        traffic = self._traffic
        # Packets first, then text: what was here before a packet is sent before it.
        with traffic.lock:
            traffic.load(_TURN)
            until = self._until()
            work = [
                (
                    flow,
                    [
                        each
                        for each in islice(flow.waiting, _TURN)
                        if each.end <= until and traffic.may_send(flow, each)
                    ],
                )
                for flow in traffic.flows
                if flow.waiting
            ]
            # All its streams are here when a class is declared. Babeltrace never comes back
            # from a trace whose streams appear one by one.
            texts = [(text, len(text.text)) for text in traffic.texts.values() if text.classes]
        for text, size in texts:
            await self._announce(text)
            await self._send_text(text, size)
        await self._link.drain()
        for flow, packets in work:
            announced = self._streams.get(flow)
            if announced is not None:
                await self._send_packets(flow, announced, packets)
        self._send_beacons(until)
        await self._link.drain()
        with traffic.lock:
            traffic.load(_TURN)
            return not self._period and any(
                flow.waiting and traffic.may_send(flow, flow.waiting[0])
                for flow in traffic.flows
                if flow in self._streams
            )

    async def _announce(self, text: TraceText) -> None:
        """Tell the relay of streams that it does not know yet."""
        link, trace = self._link, text.trace
        with self._traffic.lock:
            new = [flow for flow in self._traffic.flows_of(text) if flow not in self._streams]
        if not new and trace.id in self._texts:
            return
        files = [
            (each.name, each.tracefile_size, each.tracefile_count)
            for each in (flow.stream for flow in new)
        ]
        if trace.id not in self._texts:
            files.append((METADATA, 0, 0))
        added = await asyncio.gather(
            *(
                link.add_stream(name, trace.path, trace.uuid, size, count)
                for name, size, count in files
            )
        )
        for flow, answer in zip(new, added, strict=False):
            announced = self._streams[flow] = _Announced(answer.handle)
            if answer.next_sequence != NO_SEQUENCE:
                announced.following = answer.next_sequence
        if trace.id not in self._texts:
            self._texts[trace.id] = _Announced(added[-1].handle, added[-1].text_size)
        await link.publish()

    async def _send_text(self, text: TraceText, size: int) -> None:
        announced = self._texts[text.trace.id]
        while announced.restarts != text.restarts:
            # Also where the relay had it from an earlier connection: which text, who knows.
            announced.restarts, announced.sent, size = text.restarts, 0, 0
            await self._link.reset_metadata(announced.handle, announced.restarts)
        with self._traffic.lock:
            # Of a text that started over all there is: its size was another's.
            part = bytes(text.text[announced.sent : size or None])
        if part:
            packets = MetadataPacketWriter(text.trace.uuid).append(part)
            self._link.send_metadata(announced.handle, packets)
            announced.sent += len(part)

    async def _send_packets(
        self, flow: Flow, announced: _Announced, packets: list[Outgoing]
    ) -> None:
        link, stream = self._link, flow.stream
        for packet in packets:
            with self._traffic.lock:
                # Those that it has may be read long after it said so.
                self._traffic.arrived(flow.known(announced.following))
                if not flow.waiting or flow.waiting[0] is not packet:
                    continue
                flow.sent.append(flow.waiting.popleft())
            link.send_packet(
                announced.handle,
                announced.sent,
                packet.content,
                packet.packet_size - len(packet.content),
            )
            link.send_index(
                Index(
                    handle=announced.handle,
                    net=announced.sent,
                    packet_size=packet.packet_size * 8,
                    content_size=len(packet.content) * 8,
                    begin=packet.begin,
                    end=packet.end,
                    discarded=packet.discarded,
                    class_id=stream.channel_id,
                    instance=stream.cpu,
                    sequence=packet.sequence,
                )
            )
            announced.sent += 1
            announced.end = packet.end
            self._sent.set()
            if link.is_full:
                await link.drain()

    def _until(self) -> int:
        """Return the time until which viewers may know what happened; the caller has the lock.

        Babeltrace does not bear streams that begin before what it has shown already, and they
        are made a moment before we hear of them, and have a class a moment later.
        """
        if not self._period:
            return NO_SEQUENCE
        flows = self._traffic.flows
        if any(flow not in self._streams and flow.age_s < _NEW for flow in flows):
            return 0
        return time.clock_gettime_ns(time.CLOCK_MONOTONIC) - _HOLD_NS

    def _send_beacons(self, until: int) -> None:
        with self._traffic.lock:
            due = [
                (flow, announced, flow.beacon)
                for flow, announced in self._streams.items()
                # A relay takes no word on a stream of which it knows no packet.
                if announced.end <= flow.beacon <= until and not flow.waiting and announced.sent
            ]
            for flow, _, _ in due:
                flow.beacon = 0
        for flow, announced, timestamp in due:
            class_id = flow.stream.channel_id
            self._link.send_index(
                Index(announced.handle, announced.sent - 1, 0, 0, 0, timestamp, 0, class_id, 0, 0)
            )

    async def _ask(self) -> None:
        """Find out what has arrived: an index is acknowledged before its packet is there."""
        traffic, delay, early = self._traffic, _ASK, _EARLY
        while True:
            self._sent.clear()
            with traffic.lock:
                asked = [
                    (flow, len(flow.sent), announced)
                    for flow, announced in self._streams.items()
                    if flow.sent
                ]
            if not asked:
                await self._sent.wait()
                continue
            pending = await asyncio.gather(
                *(self._link.pending(each.handle, each.sent - 1) for _, _, each in asked)
            )
            with traffic.lock:
                for (flow, count, _), missing in zip(asked, pending, strict=True):
                    if not missing:
                        traffic.arrived(flow.arrived(count))
                # Traces may be complete, or there is room for what is kept.
                more = traffic.keeper is not None or traffic.has_ended or traffic.change is not None
            if not all(pending):
                delay, early = _ASK, _EARLY
                if more:
                    self._event.set()
            elif early:
                early -= 1
            elif not self._link.resumable:
                # One of ours has waited before it answered.
                await asyncio.sleep(delay)
                delay = min(2 * delay, _MAX_ASK)

    def _lingers(self, text: TraceText, flows: list[Flow]) -> bool:
        """Return whether viewers get more time; tell them that nothing else comes."""
        now = asyncio.get_running_loop().time()
        since = self._complete.setdefault(text.trace.id, now)
        known = any(each in self._streams for each in flows)
        if known and now - since < self._linger:
            with self._traffic.lock:
                for flow in flows:
                    flow.beacon = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
            return True
        del self._complete[text.trace.id]
        return False

    async def _change_chunk(self) -> None:
        """Go on in the next trace chunk, once all of this one has arrived.

        The streams are closed and made again: of a chunk without any LTTng's relay, too, lets
        go at once, whatever is in them.
        """
        link = self._link
        with self._traffic.lock:
            change = self._traffic.change
            if change is None or not change.is_due:
                return
            if not change.settled:
                self._traffic.all_arrived(change)
                return
            change.begun = True
        old, place = link.chunk, ""
        if old is None:
            problem = f"relay {link.url}: it has no trace chunks, which LTTng's has from 2.11 on"
        elif change.delete and not link.clears:
            problem = f"relay {link.url}: it does not let sessions be cleared"
        else:
            await self._close_all()
            await link.change_chunk(
                change.chunk,
                change.closed,
                CloseCommand.DELETE if change.delete else CloseCommand.MOVE_TO_COMPLETED,
            )
            problem, place = "", link.archive_of(old, change.closed)
        with self._traffic.lock:
            self._traffic.end_change(change, problem, place)

    async def _close_all(self) -> None:
        texts, self._texts = self._texts, {}
        streams, self._streams = self._streams, {}
        for each in texts.values():
            await self._link.close_stream(each.handle, NO_SEQUENCE)
        for each in streams.values():
            await self._link.close_stream(each.handle, each.last)

    async def _close_ended(self) -> None:
        """Close the traces that ended and have arrived: metadata, then streams, as LTTng does."""
        with self._traffic.lock:
            ended = [
                (text, self._traffic.flows_of(text))
                for text in self._traffic.texts.values()
                if text.ended
            ]
            ended = [
                (text, flows)
                for text, flows in ended
                if all(flow.ended and flow.is_empty for flow in flows)
            ]
        for text, flows in ended:
            if self._lingers(text, flows):
                continue
            announced = self._texts.pop(text.trace.id, None)
            if announced is not None:
                await self._link.close_stream(announced.handle, NO_SEQUENCE)
            for flow in flows:
                known = self._streams.pop(flow, None)
                if known is not None:
                    await self._link.close_stream(known.handle, known.last)
            with self._traffic.lock:
                self._traffic.forget(text)
