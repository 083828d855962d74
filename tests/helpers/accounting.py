# SPDX-License-Identifier: MIT
"""Whether every event is somewhere: recorded, discarded and counted, or overwritten."""

from __future__ import annotations

import os
import re
from pathlib import Path

from helpers.babeltrace import babeltrace2_text
from helpers.streams import FilePacket, floods, streams

from ustconsumer.client.session import Session
from ustconsumer.client.totals import Totals, count

__all__ = [
    "CPU",
    "LONG",
    "PACKET",
    "SHORT",
    "Trace",
    "check_discarded",
    "check_overwritten",
    "check_positions",
    "overwritten",
    "pin",
    "stop",
    "text_for",
]

#: facts, ring buffer 4: header of a packet, of an event, of one after a pause or the first
PACKET, SHORT, LONG = 84, 6, 14
#: Where `pin` keeps programs.
CPU = min(os.sched_getaffinity(0))
_EVENTS = re.compile(r"WARNING: Tracer discarded (\d+) events? ")
_PACKETS = re.compile(r"WARNING: Tracer discarded (\d+) packets? ")
#: Its counter is not 0 in the first packet, and there is no earlier one to compare with.
_BEFORE = re.compile(r"WARNING: Tracer may have discarded events ")


def pin() -> None:
    """Keep a program on one CPU, so that all its events are in one stream."""
    os.sched_setaffinity(0, {CPU})


def text_for(events: int, subbuf_size: int) -> int:
    """Return a text of flood's with which a sub-buffer holds so many events, always.

    Any of them may have the longer header: how often a program pauses is not its choice.
    """
    size = (subbuf_size - PACKET) // events - (LONG - SHORT)
    room = subbuf_size - PACKET - events * size
    assert events * (LONG - SHORT) <= room < size
    return size - SHORT - 8


def stop(session: Session) -> Totals:
    """Stop; nothing may be left in the buffers."""
    late = re.compile(r"\d+ programs? ran ")
    assert not [line for line in session.stop() if not late.match(line)]
    for stream in session.info().streams:
        assert stream.produced == stream.consumed
    return count(session)


class Trace:
    """What is in a trace: by babeltrace2, and by the bytes.

    Parameters
    ----------
    output : Path
    *options : str
        Of babeltrace2.

    Attributes
    ----------
    lines : list of str
        One per event.
    events_lost, packets_lost : int
        What babeltrace2 says about them.
    streams : dict
        Packets of each stream.
    """

    def __init__(self, output: Path, *options: str) -> None:
        reading = babeltrace2_text(output, *options)
        self.lines = reading.lines
        self.streams = streams(output)
        first = [packets[0] for packets in self.streams.values() if packets]
        before = [packet.discarded for packet in first if packet.discarded]
        self.events_lost, self.packets_lost, unknown = sum(before), 0, 0
        for line in reading.stderr.splitlines():
            if _BEFORE.match(line):
                unknown += 1
                continue
            events, packets = _EVENTS.match(line), _PACKETS.match(line)
            assert events or packets, f"babeltrace2 warns: {line}"
            self.events_lost += int(events[1]) if events else 0
            self.packets_lost += int(packets[1]) if packets else 0
        assert unknown == len(before)
        for packets_ in self.streams.values():
            counters = [packet.discarded for packet in packets_]
            assert counters == sorted(counters)

    @property
    def counters(self) -> int:
        """Events discarded, as the last packet of each stream says."""
        return sum(packets[-1].discarded for packets in self.streams.values() if packets)

    @property
    def records(self) -> int:
        return sum(
            1 for packets in self.streams.values() for packet in packets for _ in floods(packet)
        )


def check_discarded(trace: Trace, totals: Totals, emitted: int) -> None:
    """Nothing but events that were counted is missing."""
    assert totals.recorded is not None
    assert totals.recorded + totals.discarded == emitted, totals
    counted = (len(trace.lines), trace.records)
    assert counted == (totals.recorded, totals.recorded), (counted, totals)
    lost = (trace.events_lost, trace.counters)
    assert lost == (totals.discarded, totals.discarded), (lost, totals)
    assert trace.packets_lost == 0
    for packets in trace.streams.values():
        assert [packet.sequence for packet in packets] == list(range(len(packets)))


def overwritten(packets: list[FilePacket]) -> int:
    """Return how many packets of a stream are gone."""
    sequences = [packet.sequence for packet in packets]
    assert sequences == sorted(set(sequences))
    return sequences[-1] + 1 - len(sequences)


def check_overwritten(
    trace: Trace, totals: Totals, emitted: int, each: int, exact: bool = True
) -> None:
    """Nothing is missing but what was counted, and ``each`` events per packet overwritten.

    Not ``exact``: a timer may have closed packets before they were full.
    """
    assert len(trace.lines) == trace.records == totals.recorded
    assert trace.events_lost == totals.discarded
    gone = sum(map(overwritten, trace.streams.values()))
    # What babeltrace2 cannot know is what came before the first packet.
    assert trace.packets_lost == gone - sum(p[0].sequence for p in trace.streams.values())
    missing = emitted - totals.recorded - totals.discarded
    assert 0 <= missing <= each * gone
    if not exact:
        return
    assert missing == each * gone
    for packets in trace.streams.values():
        # Full, but for the last one: the stream was closed in it.
        for packet in packets[:-1]:
            assert sum(1 for _ in floods(packet)) == each


def check_positions(session: Session, trace: Trace, subbuf_size: int) -> None:
    """The last packet of each file is the last one of its stream."""
    names = {Path(path).name: packets for path, packets in trace.streams.items()}
    for stream in session.info().streams:
        packets = names[f"chan_{stream.cpu}"]
        assert (packets[-1].sequence + 1) * subbuf_size == stream.produced
