# SPDX-License-Identifier: MIT
"""Every geometry a program is given, in every mode: what it writes is where it must be."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest
from helpers.accounting import (
    CPU,
    LONG,
    PACKET,
    SHORT,
    Trace,
    check_discarded,
    check_overwritten,
    check_positions,
    overwritten,
    pin,
    stop,
    text_for,
)
from helpers.apps import Apps
from helpers.registry import RunningRegistry, running_registry
from helpers.rundir import Rundir
from helpers.streams import FilePacket

from ustconsumer.client.session import Session
from ustconsumer.protocol.control import ChannelOptions

pytestmark = pytest.mark.peers("gcc", "lttng-ust-headers", "babeltrace2")

KB, MB = 1 << 10, 1 << 20
MS = 1000
#: Sizes and numbers of sub-buffers.
GEOMETRIES = [
    (4 * KB, 1),
    (4 * KB, 2),
    (4 * KB, 64),
    (64 * KB, 2),
    (1 * MB, 4),
    (4 * MB, 2),
]
#: How many events fill a sub-buffer; babeltrace2 takes long for large ones.
EACH = {4 * KB: 4, 64 * KB: 64, 1 * MB: 256, 4 * MB: 512}
TIMERS = {
    "woken": {},
    "read": {"read_timer_us": 10 * MS},
    "switch": {"switch_timer_us": 10 * MS},
    "both": {"read_timer_us": 10 * MS, "switch_timer_us": 10 * MS},
}
CLIENTS = [("discard", "woken"), ("discard", "read"), ("overwrite", "woken"), ("overwrite", "read")]


def named(geometry: tuple[int, int]) -> str:
    size, number = geometry
    return f"{size // KB}Kx{number}"


def new_session(
    registry: RunningRegistry, output: Path, event: str, options: ChannelOptions
) -> Session:
    session = registry.client.create("s", str(output))
    session.enable_channel("chan", options)
    session.enable_event(event)
    return session


def saturate(
    registry: RunningRegistry, rundir: Rundir, apps: Apps, options: ChannelOptions
) -> None:
    """Write two turns of a buffer with nobody reading, then two more beside a consumer."""
    size, number = options.subbuf_size, options.num_subbuf
    each = EACH[size]
    events = 2 * each * number + 10
    output = rundir.home / f"trace-{size}-{number}-{options.mode}-{options.read_timer_us}"
    program = [apps.flood, str(events), "--text", str(text_for(each, size))]
    session = new_session(registry, output, "flood:tick", options)
    assert session.start(consumer=None) == []
    for _ in range(2):
        assert rundir.run(program, preexec_fn=pin).returncode == 0
        if session.info().consumer is None:
            session.spawn_consumer()
    totals = stop(session)
    trace = Trace(output)
    check_positions(session, trace, size)
    session.destroy()
    if options.mode == "discard":
        check_discarded(trace, totals, 2 * events)
        assert totals.discarded >= events - each * number
    else:
        exact = not options.switch_timer_us
        check_overwritten(trace, totals, 2 * events, each, exact=exact)
        assert sum(map(overwritten, trace.streams.values())) >= number


@pytest.mark.parametrize(("mode", "timers"), CLIENTS)
def test_saturated(mode: str, timers: str, rundir: Rundir, apps: Apps) -> None:
    with running_registry(rundir) as registry:
        for size, number in GEOMETRIES:
            if mode == "discard" or number > 1:
                options = ChannelOptions(
                    subbuf_size=size, num_subbuf=number, mode=mode, **TIMERS[timers]
                )
                saturate(registry, rundir, apps, options)
        assert not [line for line in registry.log() if " did not map " not in line]


@pytest.mark.repeat(ci=0, soak=1)
@pytest.mark.parametrize("timers", TIMERS)
@pytest.mark.parametrize("mode", ["discard", "overwrite"])
def test_the_largest_saturated(
    mode: str, timers: str, rundir: Rundir, apps: Apps, repeat: int
) -> None:
    """256 MiB a CPU, and more than a gigabyte of events."""
    if not repeat:
        pytest.skip("half a gigabyte of memory: with --soak")
    options = ChannelOptions(subbuf_size=4 * MB, num_subbuf=64, mode=mode, **TIMERS[timers])
    with running_registry(rundir) as registry:
        saturate(registry, rundir, apps, options)
        assert not [line for line in registry.log() if " did not map " not in line]


# -- which event lands where, by the tracer's rules ------------------------------------------


def expected(
    sizes: list[int], times: dict[int, int], subbuf_size: int
) -> tuple[list[list[int]], list[int], int]:
    """Return the numbers of the events in each packet, the bytes in it, how many are too big.

    Facts, ring buffer 4.3 and 6.2, for one writer in a buffer with room for everything.

    Parameters
    ----------
    sizes : list of int
        Of the payloads.
    times : dict of int
        Nanoseconds, of the events that were recorded.
    """
    packets: list[list[int]] = [[]]
    contents = [PACKET]
    too_big, last = 0, 0
    for number, payload in enumerate(sizes):
        # Of one that is not there only the size counts: more than any header makes up for.
        long = number in times and (times[number] - last) >> 27 != 0
        size = payload + (LONG if long else SHORT)
        if PACKET + size > subbuf_size:
            too_big += 1
            continue
        if contents[-1] + size > subbuf_size:
            packets.append([])
            contents.append(PACKET)
        packets[-1].append(number)
        contents[-1] += size
        last = times[number]
    if contents[-1] == subbuf_size:
        # Full; the end of the recording closes an empty one.
        packets.append([])
        contents.append(PACKET)
    return packets, contents, too_big


def choose_sizes(choose: random.Random, subbuf_size: int, number: int) -> list[int]:
    """Return sizes of payloads, some too big, for which a buffer certainly has room."""
    largest = subbuf_size - PACKET - LONG
    # What a packet has left over is less than the next event.
    room = (subbuf_size - PACKET) * number
    sizes: list[int] = []
    while len(sizes) < 200:
        kind = choose.randrange(8)
        if kind == 0:
            # Whatever the header. babeltrace2 never sees it.
            sizes.append(largest + 9 + choose.randrange(1000))
            continue
        size = choose.randrange(6, min(largest, 20 * KB) + 1 if kind < 4 else 200)
        room -= 2 * (size + LONG)
        if room < 0:
            break
        sizes.append(size)
    return sizes or [6]


_LINE = re.compile(r"\[(\d+)\] \S+ sized:event: .*\{ seq = (\d+), text = \"(x*)\" \}")


@pytest.mark.repeat(ci=2, soak=50)
@pytest.mark.parametrize("geometry", [*GEOMETRIES, (16 * KB, 4), (4 * KB, 256)], ids=named)
def test_events_of_any_size(
    geometry: tuple[int, int], rundir: Rundir, apps: Apps, repeat: int
) -> None:
    choose = random.Random(repr(geometry))  # noqa: S311 - no secret
    size, number = geometry
    with running_registry(rundir) as registry:
        for run in range(repeat):
            mode, timers = choose.choice(CLIENTS if number > 1 else CLIENTS[:2])
            sizes = choose_sizes(choose, size, number)
            options = ChannelOptions(
                subbuf_size=size, num_subbuf=number, mode=mode, **TIMERS[timers]
            )
            output = rundir.home / f"trace-{run}"
            session = new_session(registry, output, "sized:event", options)
            assert session.start() == []
            assert rundir.run([apps.sized, *map(str, sizes)], preexec_fn=pin).returncode == 0
            totals = stop(session)
            session.destroy()
            trace = Trace(output, "--clock-cycles")
            times = {}
            for line in trace.lines:
                match = _LINE.match(line)
                assert match, line[:200]
                times[int(match[2])] = int(match[1])
                assert len(match[3]) == sizes[int(match[2])] - 5
            packets, contents, too_big = expected(sizes, times, size)
            (stream,) = (p for path, p in trace.streams.items() if path.endswith(f"chan_{CPU}"))
            assert (len(trace.lines), totals.discarded) == (len(sizes) - too_big, too_big)
            assert [packet.content_size for packet in stream] == contents
            assert [numbers(packet) for packet in stream] == packets


def numbers(packet: FilePacket) -> list[int]:
    """Walk the records of a packet, all of them sized:event."""
    raw, at, found = packet.records, 0, []
    while at < len(raw):
        at += LONG if raw[at : at + 2] == b"\xff\xff" else SHORT
        found.append(int.from_bytes(raw[at : at + 4], "little"))
        at = raw.index(0, at + 4) + 1
    return found
