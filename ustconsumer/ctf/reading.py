# SPDX-License-Identifier: MIT
"""Reads the events of traces: all streams merged by time, one packet of each in memory.

`open_trace` is for users; `records` has the same as whatever a
`ustconsumer.ctf.decode.Form` makes of them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from heapq import heapify, heappop, heappushpop
from typing import Any, Literal, TypeVar
from weakref import WeakValueDictionary

import msgspec

from ustconsumer.ctf.classes import EventClass
from ustconsumer.ctf.datapackets import HEADER_SIZE, Files, PacketHeader
from ustconsumer.ctf.decode import VALUES, Form, StreamDecoder, Value
from ustconsumer.ctf.traces import SingleTrace, Stream, find
from ustconsumer.errors import DecodeError

__all__ = ["Event", "Loss", "Trace", "open_trace", "records"]

R = TypeVar("R")
#: (nanoseconds, rank of its stream, record, packet); a loss has no packet.
#: No two at a time are of the same rank, so comparing them ends there.
_Entry = tuple[int, int, Any, PacketHeader | None]


class Loss(msgspec.Struct, frozen=True):
    """Events or packets of a stream that were not recorded."""

    stream: Stream
    what: Literal["event", "packet"]
    #: None if there is only a total, of unknown beginning.
    count: int | None
    #: Between when and when, in nanoseconds since the epoch.
    begin: int
    end: int


class Event(msgspec.Struct, frozen=True):
    """An event of a trace."""

    #: nanoseconds since the epoch
    timestamp: int
    event_class: EventClass
    #: by name; enumerations are ints that know their labels
    fields: dict[str, Value]
    #: recorded with each event of the channel: "vpid", "procname" ...
    context: dict[str, Value]
    stream: Stream
    packet: PacketHeader

    @property
    def name(self) -> str:
        """``provider:tracepoint``"""
        return self.event_class.name

    @property
    def loglevel(self) -> int | None:
        return self.event_class.loglevel

    @property
    def cpu(self) -> int:
        return self.packet.cpu_id

    def __repr__(self) -> str:
        seconds, rest = divmod(self.timestamp, 1_000_000_000)
        return (
            f"<Event {self.name!r} at {seconds}.{rest:09d}, cpu {self.cpu}: "
            f"{self.fields}, context {self.context}>"
        )


class Trace:
    """What was recorded, in and below a directory: iterate over it for its events.

    Parameters
    ----------
    *paths : str or path
        Directories: of a trace, of a session with several traces, of many sessions.

    Attributes
    ----------
    traces : list of SingleTrace
        One for each user or process, with what its metadata declares; by uuid.

    Raises
    ------
    UsageError
        No trace there.
    DecodeError
        A trace's metadata or the beginning of a file makes no sense.

    Examples
    --------
    >>> for event in Trace("/home/me/lttng-traces/hello"):
    ...     print(event.timestamp, event.name, event.fields["number"])

    Notes
    -----
    Files are read up to the size that they have now. Nothing stays open.
    """

    def __init__(self, *paths: str | os.PathLike[str]) -> None:
        self._paths = [os.fspath(path) for path in paths]
        self.traces = find(*paths)

    def __repr__(self) -> str:
        paths = ", ".join(map(repr, self._paths))
        return f"Trace({paths}): {len(self.traces)} traces, {len(self.streams)} streams"

    @property
    def streams(self) -> list[Stream]:
        """Those of all traces."""
        return [stream for trace in self.traces for stream in trace.streams]

    def __iter__(self) -> Iterator[Event]:
        """Yield the events, by time.

        Raises
        ------
        DecodeError
            At the place where a stream makes no sense, after the events before it.
        """
        streams = self.streams
        for nanoseconds, rank, record, packet in _merged(streams, lambda _: VALUES):
            if packet is not None:
                event_class, _, context, fields = record
                yield Event(nanoseconds, event_class, fields, context, streams[rank], packet)

    def losses(self) -> Iterator[Loss]:
        """Yield what was lost, one stream after the other. Reads packet headers only."""
        for stream in self.streams:
            before: PacketHeader | None = None
            for packet in stream.packets():
                yield from _losses(stream, before, packet)
                before = packet


def open_trace(*paths: str | os.PathLike[str]) -> Trace:
    """Open what was recorded, in and below directories: see `Trace`."""
    return Trace(*paths)


def records(
    traces: Iterable[SingleTrace],
    form: Callable[[SingleTrace], Form[R]],
    lost: Callable[[Loss], None],
) -> Iterator[tuple[int, R]]:
    """Yield (nanoseconds since the epoch, record) by time, records of one time as babeltrace2.

    Parameters
    ----------
    traces : iterable of SingleTrace
    form : callable
        Returns what makes something of the records of a trace.
    lost : callable
        Gets each loss, between the records where babeltrace2 reports it.

    Raises
    ------
    DecodeError
        See `Trace`.
    """
    streams = [stream for trace in traces for stream in trace.streams]
    for nanoseconds, _, record, packet in _merged(streams, form):
        if packet is None:
            lost(record)
        else:
            yield nanoseconds, record


def _merged(streams: list[Stream], form: Callable[[SingleTrace], Form[Any]]) -> Iterator[_Entry]:
    """Yield the entries of all streams by time, those of one time in the streams' order.

    That is babeltrace2's: uuid of the trace, stream class id, stream instance id.
    """
    files = Files()
    # One for all streams of a class, as long as there are any.
    decoders: WeakValueDictionary[tuple[bytes, int], StreamDecoder[Any]] = WeakValueDictionary()

    def opened(rank: int) -> _Entry | None:
        stream = streams[rank]
        key = (stream.trace.declared.uuid, stream.class_id)
        decoder = decoders.get(key)
        if decoder is None:
            decoder = StreamDecoder(stream.trace.declared, stream.class_id, form(stream.trace))
            decoders[key] = decoder
        advance[rank] = partial(next, _entries(stream, rank, decoder, files), None)
        return advance[rank]()

    # A stream is opened when its time comes: until then no packet of it is in memory.
    advance: list[Callable[[], _Entry | None]] = [
        partial(opened, rank) for rank in range(len(streams))
    ]
    heap: list[_Entry] = [(_start(stream), rank, None, None) for rank, stream in enumerate(streams)]
    heapify(heap)
    try:
        while heap:
            entry = heappop(heap)
            while True:
                if entry[2] is not None:
                    yield entry
                rank = entry[1]
                following = advance[rank]()
                if following is None:
                    advance[rank] = _ended
                    break
                entry = heappushpop(heap, following)
    finally:
        files.close()


def _start(stream: Stream) -> int:
    return stream.trace.declared.clock.nanoseconds(stream.files[0].timestamp_begin)


def _ended() -> None:
    return None


def _entries(
    stream: Stream, rank: int, decoder: StreamDecoder[Any], files: Files
) -> Iterator[_Entry]:
    clock = stream.trace.declared.clock
    nanoseconds = clock.nanoseconds
    # Nearly all clocks count nanoseconds.
    offset = nanoseconds(0) if clock.frequency == 1_000_000_000 else None
    before: PacketHeader | None = None
    for packet in stream.packets(files):
        for loss in _losses(stream, before, packet):
            yield loss.begin, rank, loss, None
        before = packet
        if packet.content_size == HEADER_SIZE:
            continue
        last = packet.timestamp_begin
        end = packet.timestamp_end or 1 << 64
        events = decoder.records(
            files.content(packet), HEADER_SIZE, last, packet.cpu_id, str(packet)
        )
        for cycles, record in events:
            if not last <= cycles <= end:
                raise DecodeError(
                    f"{packet}: event at {cycles}: not between the one before it, or the packet's "
                    f"beginning, {last}, and the packet's end, {end}"
                )
            last = cycles
            yield nanoseconds(cycles) if offset is None else cycles + offset, rank, record, packet


def _losses(stream: Stream, before: PacketHeader | None, packet: PacketHeader) -> Iterator[Loss]:
    """Yield what is lost between two packets, as babeltrace2 counts it."""
    nanoseconds = stream.trace.declared.clock.nanoseconds
    begin, end = nanoseconds(packet.timestamp_begin), nanoseconds(packet.timestamp_end)
    if before is None:
        # How many of these were lost before the first packet that is left, nobody knows.
        if packet.events_discarded:
            yield Loss(stream, "event", None, begin, end)
        return
    ended = nanoseconds(before.timestamp_end) if before.timestamp_end else begin
    # Totals that decrease are nonsense, and counted as babeltrace2 does.
    if events := (packet.events_discarded - before.events_discarded) % (1 << 64):
        yield Loss(stream, "event", events, ended, end)
    # In a buffer that overwrites, packets that nobody read in time.
    if (packets := (packet.sequence - before.sequence) % (1 << 64)) > 1:
        yield Loss(stream, "packet", packets - 1, ended, begin)
