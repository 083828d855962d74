# SPDX-License-Identifier: MIT
"""What is still in a buffer: how much of it, and how many events."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ustconsumer.consumer.mapping import MappedStream
from ustconsumer.ctf.count import EventCounter
from ustconsumer.errors import DecodeError, RingBufferError
from ustconsumer.protocol.control import TraceDescription

__all__ = ["count_left", "is_empty"]


def is_empty(mapped: MappedStream) -> bool:
    """Return whether everything written to a stream was taken."""
    consumed, produced = mapped.ring.positions()
    return (produced - consumed) % (1 << 64) < mapped.ring.subbuf_size


def count_left(
    streams: Iterable[MappedStream], traces: Iterable[TraceDescription]
) -> tuple[int, int]:
    """Count the packets that nobody took; they stay where they are.

    Parameters
    ----------
    streams : iterable of MappedStream
        Nobody else takes from them meanwhile.
    traces : iterable of TraceDescription
        The layout of their records.

    Returns
    -------
    size : int
        Bytes of the packets.
    events : int
        In those that can be read: a sub-buffer that a process holds open is passed over.
    """
    counters: dict[str, EventCounter] = {}
    for trace in traces:
        counter = EventCounter(trace.contexts, trace.events)
        counters.update(dict.fromkeys((trace.path, *trace.also), counter))
    size = events = 0
    for mapped in streams:
        known = counters.get(mapped.stream.trace.path)
        for packet in _packets(mapped):
            size += len(packet)
            if known is not None:
                try:
                    events += known.count(packet)[0]
                except DecodeError:
                    # Its size is all we can say of it.
                    continue
    return size, events


def _packets(mapped: MappedStream) -> Iterator[bytes]:
    """Yield copies of the packets from the consumed position on."""
    ring, geometry = mapped.ring, mapped.stream.geometry
    consumed, produced = ring.positions()
    # At most the buffer, whatever the positions say.
    for number in range(geometry.num_subbuf):
        position = (consumed + number * ring.subbuf_size) % (1 << 64)
        if (produced - position) % (1 << 64) < ring.subbuf_size:
            return
        if not ring.get(position):
            continue
        try:
            page, packet_size, _, _ = ring.mend_held()
            start = geometry.data_at(page)
            packet = mapped.memory[start : start + packet_size]
        except RingBufferError:
            continue
        finally:
            ring.put()
        yield packet
