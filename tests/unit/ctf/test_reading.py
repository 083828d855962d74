# SPDX-License-Identifier: MIT
"""Events of all streams by time, and what was lost between them."""

from __future__ import annotations

import os
import random
import re
import shutil
import struct
import tracemalloc
from collections.abc import Iterable
from pathlib import Path

import pytest
from helpers import captured
from helpers.handmade import OFFSET, UUID, Packet, description, tick, write, write_ticks

import ustconsumer.ctf
from ustconsumer.ctf.classes import Clock
from ustconsumer.ctf.decode import VALUES
from ustconsumer.ctf.metadata import event_block, stream_block, trace_header
from ustconsumer.ctf.reading import Loss, Trace, open_trace, records
from ustconsumer.ctf.types import Field, Integer
from ustconsumer.errors import DecodeError


def ticks(*times: int, number: int = 0) -> bytes:
    return b"".join(tick(time, number) for time in times)


def test_an_event(tmp_path: Path) -> None:
    """All that a user sees of it."""
    record = Integer(32, signed=False)
    text = trace_header(description()) + stream_block(2, [Field("vpid", record)])
    text += event_block(2, 5, "shop:order", 6, [Field("number", record), Field("_under", record)])
    directory = tmp_path / "ust" / "uid" / "0" / "64-bit"
    directory.mkdir(parents=True)
    (directory / "metadata").write_text(text)
    raw = struct.pack("<HIIII", 5, 150, 77, 12, 13)
    (directory / "shop_3").write_bytes(Packet(100, 200, raw, 2, 3, 9).raw())
    trace = open_trace(tmp_path)
    (event,) = trace
    assert event.timestamp == OFFSET + 150
    assert event.name == "shop:order"
    assert event.loglevel == 6
    assert event.cpu == 3
    assert event.fields == {"number": 12, "_under": 13}
    assert event.context == {"vpid": 77}
    assert event.event_class is trace.traces[0].declared.events[2][5]
    assert event.stream is trace.streams[0]
    assert event.packet.sequence == 9
    assert repr(event) == (
        "<Event 'shop:order' at 1795376888.195931599, cpu 3: {'number': 12, '_under': 13}, "
        "context {'vpid': 77}>"
    )
    assert repr(trace) == f"Trace({str(tmp_path)!r}): 1 traces, 1 streams"
    assert repr(event.stream) == f"<Stream 'shop_3' of {str(directory)!r}>"
    # As often as one likes.
    assert list(trace) == [event]


def test_names() -> None:
    assert ustconsumer.ctf.Trace is Trace
    assert "Trace" in dir(ustconsumer.ctf)
    assert not hasattr(ustconsumer.ctf, "trace")


def test_lttngs_own(tmp_path: Path) -> None:
    """Names and contexts; the counts are babeltrace2's (``fixtures/make.py``)."""
    (tmp_path / "metadata").write_bytes((captured.FIXTURES / "metadata").read_bytes())
    names = ["channel0_0", "channel0_1", "contexts_0", "contexts_1"]
    for name in names:
        (tmp_path / name).write_bytes(captured.data(name))
    trace = Trace(tmp_path)
    assert [stream.name for stream in trace.streams] == [
        *(name for name in names if name.startswith("contexts")),
        *(name for name in names if name.startswith("channel")),
    ]
    events = list(trace)
    times = [event.timestamp for event in events]
    assert times == sorted(times)
    counted = dict.fromkeys(names, 0)
    for event in events:
        counted[event.stream.name] += 1
    assert counted == {name: count(name) for name in names}
    # The program, and the tracer's own thread in it.
    names_seen = {event.context["procname"] for event in events if "procname" in event.context}
    assert names_seen == {"fields", "fields-ust"}


def count(name: str) -> int:
    return int(captured.counts()[name])


def streams(directory: Path, times: dict[str, tuple[int, Iterable[int]]]) -> None:
    """Write a stream for each name: its class, and times of events."""
    write_ticks(
        directory,
        **{
            name: [Packet(0, 100, ticks(*when, number=number), class_id, number)]
            for number, (name, (class_id, when)) in enumerate(times.items())
        },
    )


def test_order(tmp_path: Path) -> None:
    """Time, then uuid, stream class, instance: whatever the files are called."""
    streams(tmp_path / "a", {"z": (0, [1, 2, 2, 5]), "y": (0, [2, 5]), "x": (1, [2, 3])})
    first = tmp_path / "b"
    write_ticks(first, "0000" + UUID[4:], c=[Packet(0, 9, ticks(2, 2, number=9))])
    events = [
        (event.timestamp - OFFSET, event.name, event.fields["n"]) for event in Trace(tmp_path)
    ]
    assert events == [
        (1, "p:tick0", 0),
        (2, "p:tick0", 9),
        (2, "p:tick0", 9),
        (2, "p:tick0", 0),
        (2, "p:tick0", 0),
        (2, "p:tick0", 1),
        (2, "p:tick1", 2),
        (3, "p:tick1", 2),
        (5, "p:tick0", 0),
        (5, "p:tick0", 1),
    ]


def test_losses(tmp_path: Path) -> None:
    """Counted as babeltrace2 counts (facts, section 9), and told where it tells."""
    write_ticks(
        tmp_path / "t",
        c_0=[
            Packet(0, 10, ticks(1), sequence=4, discarded=3),
            Packet(12, 20, ticks(15), sequence=5, discarded=3),
            Packet(22, 30, ticks(25), sequence=9, discarded=10),
            Packet(32, 40, ticks(35), sequence=9, discarded=9),
        ],
        c_1=[Packet(0, 50, ticks(9, 11, 21, 30, 31), cpu_id=1)],
    )
    trace = Trace(tmp_path)
    stream = trace.streams[0]

    def loss(what: str, count: int | None, begin: int, end: int) -> Loss:
        assert what in ("event", "packet")
        kind = "event" if what == "event" else "packet"
        return Loss(stream, kind, count, OFFSET + begin, OFFSET + end)

    expected = [
        loss("event", None, 0, 10),
        loss("event", 7, 20, 30),
        loss("packet", 3, 20, 22),
        loss("event", (1 << 64) - 1, 30, 40),
    ]
    assert list(trace.losses()) == expected
    told: list[Loss] = []
    seen = [
        (time - OFFSET, len(told))
        for time, _ in records(trace.traces, lambda _: VALUES, told.append)
    ]
    assert told == expected
    assert seen == [
        *((1, 1), (9, 1), (11, 1), (15, 1)),
        *((21, 3), (25, 3), (30, 4), (31, 4), (35, 4)),
    ]


@pytest.mark.parametrize(
    ("times", "reason"),
    [
        ([15, 14], r"event at 14: not between .* beginning, 15, and the packet's end, 20"),
        ([15, 21], r"event at 21: not between .* beginning, 15, and the packet's end, 20"),
        ([9], r"event at 9: not between .* beginning, 10, and the packet's end, 20"),
    ],
)
def test_times_that_cannot_be(times: list[int], reason: str, tmp_path: Path) -> None:
    write_ticks(tmp_path / "t", c_0=[Packet(0, 5, ticks(3)), Packet(10, 20, ticks(*times))])
    events = iter(Trace(tmp_path))
    seen = [next(events).timestamp - OFFSET for _ in times]
    assert seen == [3, *times[:-1]]
    with pytest.raises(DecodeError, match=rf"c_0: packet 1 at byte 4096: {reason}"):
        next(events)


def test_an_end_that_a_crash_left_open(tmp_path: Path) -> None:
    write_ticks(
        tmp_path / "t",
        c_0=[Packet(10, 0, ticks(15, 90)), Packet(90, 95, ticks(95), sequence=3, discarded=2)],
    )
    trace = Trace(tmp_path)
    assert [event.timestamp - OFFSET for event in trace] == [15, 90, 95]
    assert [(loss.begin - OFFSET, loss.end - OFFSET) for loss in trace.losses()] == [
        (90, 95),
        (90, 90),
    ]


def test_other_streams_go_on_until_the_error(tmp_path: Path) -> None:
    write_ticks(
        tmp_path / "t",
        c_0=[Packet(0, 9, ticks(1)), Packet(10, 20, ticks(12)[:-1])],
        c_1=[Packet(0, 50, ticks(2, 5, 30), cpu_id=1)],
    )
    events = iter(Trace(tmp_path))
    assert [next(events).timestamp - OFFSET] == [1]
    with pytest.raises(DecodeError, match=r"c_0: packet 1 at byte 4096: .*leaves its packet"):
        list(events)


@pytest.mark.parametrize(
    ("frequency", "offset", "cycles", "nanoseconds"),
    [
        (10**9, 5, 7, 12),
        (10**9, -5, 7, 2),
        (10**6, 3, 5, 8000),
        (3, 4, 2, 1_333_333_333 + 666_666_666),
    ],
)
def test_clock(frequency: int, offset: int, cycles: int, nanoseconds: int) -> None:
    assert Clock("c", frequency, offset).nanoseconds(cycles) == nanoseconds
    shifted = Clock("c", frequency, offset, 100).nanoseconds(cycles)
    assert shifted == nanoseconds + 100 * 10**9


def test_a_clock_that_does_not_count_nanoseconds(tmp_path: Path) -> None:
    write_ticks(tmp_path / "t", c_0=[Packet(0, 9, ticks(7))])
    metadata = tmp_path / "t" / "metadata"
    metadata.write_text(metadata.read_text().replace("freq = 1000000000", "freq = 1000"))
    expected = Clock("monotonic", 1000, OFFSET).nanoseconds(7)
    assert [event.timestamp for event in Trace(tmp_path)] == [expected]
    assert expected == OFFSET * 10**6 + 7 * 10**6


def test_nothing_stays_open(tmp_path: Path) -> None:
    streams(tmp_path / "t", {"a": (0, [1, 2]), "b": (0, [1, 2])})
    before = os.listdir("/proc/self/fd")
    trace = Trace(tmp_path)
    assert os.listdir("/proc/self/fd") == before
    events = iter(trace)
    next(events)
    assert len(os.listdir("/proc/self/fd")) > len(before)
    del events
    assert os.listdir("/proc/self/fd") == before
    assert len(list(trace)) == 4
    assert len(list(trace.losses())) == 0
    assert os.listdir("/proc/self/fd") == before


def test_one_packet_at_a_time(tmp_path: Path) -> None:
    """Memory grows neither with the length of a stream nor with streams that begin later."""
    count = 1000
    write_ticks(
        tmp_path / "t",
        **{
            f"c_{cpu}": [
                Packet(time, time, ticks(*[time] * count), cpu_id=cpu, sequence=number)
                for number, time in enumerate((100 * cpu, 100 * cpu + 1))
            ]
            for cpu in range(10)
        },
    )
    trace = Trace(tmp_path)
    tracemalloc.start()
    try:
        assert sum(1 for _ in trace) == 2 * 10 * count
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # Two at a time where one ends and the next begins, of 20.
    assert peak < 6 * count * len(tick(0, 0))


@pytest.mark.repeat(ci=150, soak=20000)
def test_damaged_traces(repeat: int, tmp_path: Path) -> None:
    """Are read, or refused with a reason."""
    reasons = []
    for seed in range(repeat):
        choose = random.Random(seed)  # noqa: S311 (the same for a seed)
        write(tmp_path / "t", seed % 20)
        for name in choose.sample(("metadata", "channel0_3"), choose.choice((1, 1, 2))):
            raw = bytearray((tmp_path / "t" / name).read_bytes())
            for _ in range(choose.randint(1, 3)):
                damage(choose, raw)
            (tmp_path / "t" / name).write_bytes(raw)
        try:
            for _ in Trace(tmp_path):
                pass
        except DecodeError as error:
            reasons.append(str(error))
        shutil.rmtree(tmp_path / "t")
    assert repeat // 2 < len(reasons) < repeat
    assert all(reason.startswith(str(tmp_path / "t")) for reason in reasons)


def damage(choose: random.Random, raw: bytearray) -> None:
    # Headers and declarations, too, not only values of events.
    at = choose.randrange(min(len(raw), choose.choice((100, 1000, len(raw)))))
    match choose.randrange(5):
        case 0:
            raw[at] = choose.randrange(256)
        case 1:
            del raw[at : at + choose.randrange(1, 20)]
        case 2:
            raw[at:at] = raw[choose.randrange(len(raw)) :][: choose.randrange(30)]
        case 3:
            raw[at : at + 8] = choose.choice((b"\xff", b"\0")) * 8
        case _:
            numbers = [match.span() for match in re.finditer(rb"\b\d+\b", raw)]
            start, end = choose.choice(numbers) if numbers else (at, at)
            number = choose.choice((0, 1, 7, 65, 1 << 28, 1 << 31, (1 << 64) - 1, 1 << 64))
            raw[start:end] = str(number).encode()
