# SPDX-License-Identifier: MIT
"""Every event is somewhere: in the trace, among the discarded, or in a packet overwritten.

How many there were is what the programs were told; what was recorded is counted three
times: by us, by babeltrace2, and by a walk over the bytes.
"""

from __future__ import annotations

import json
import os
import re
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
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
from helpers.registry import RunningRegistry, running_registry, until
from helpers.rundir import Rundir
from helpers.streams import floods

from ustconsumer.client.session import Session
from ustconsumer.protocol.control import ChannelOptions

pytestmark = pytest.mark.peers("gcc", "lttng-ust-headers", "babeltrace2")

SMALL = 4096
MS = 1000


@contextmanager
def recording(
    registry: RunningRegistry, output: Path, options: ChannelOptions, event: str
) -> Iterator[Session]:
    """Record, with no consumer to begin with."""
    session = registry.client.create("counted", str(output))
    session.enable_channel("chan", options)
    session.enable_event(event)
    assert session.start(consumer=None) == []
    yield session
    session.destroy()


def emit(rundir: Rundir, apps: Apps, session: Session, programs: int, *arguments: object) -> None:
    """Run so many programs at once, from when all of them are recorded to their end."""
    go = rundir.home / "go"
    command = [apps.flood, *map(str, arguments), "--wait-start", go]
    before = len(session.info().processes)
    started = [rundir.start(command) for _ in range(programs)]
    until(lambda: len(session.info().processes) == before + programs, "all are recorded")
    go.touch()
    for program in started:
        assert program.wait() == 0
    go.unlink()


def caught_up(session: Session) -> bool:
    """Return whether a consumer has read all but the packet that is open."""
    return all(s.produced - s.consumed < SMALL for s in session.info().streams)


def quiet(registry: RunningRegistry) -> bool:
    """Return whether the registry had nothing to say but that the machine is slow."""
    return all(" did not map " in line for line in registry.log())


#: programs at once, threads of each
CROWDS = [(1, 1), (1, 2), (1, 8), (30, 1)]
TIMERS = {"woken": {}, "timed": {"read_timer_us": 10 * MS, "switch_timer_us": 10 * MS}}


@pytest.mark.parametrize("timers", TIMERS)
@pytest.mark.parametrize("buffers", ["uid", "pid"])
def test_discarded(buffers: str, timers: str, rundir: Rundir, apps: Apps) -> None:
    """Recorded + discarded = emitted, to the event."""
    few, many = 2000, 30_000
    options = ChannelOptions(subbuf_size=SMALL, num_subbuf=2, buffers=buffers, **TIMERS[timers])
    with running_registry(rundir) as registry:
        for programs, threads in CROWDS:
            output = rundir.home / f"trace-{programs}-{threads}"
            share = many // programs // threads
            with recording(registry, output, options, "flood:tick") as session:
                # Nobody reads yet: some are discarded whatever the machine does.
                emit(rundir, apps, session, programs, few, threads)
                session.spawn_consumer()
                emit(rundir, apps, session, programs, share, threads)
                totals = stop(session)
                assert totals.discarded > 0
                assert session.info().channels[0].discarded == totals.discarded
                trace = Trace(output)
                if buffers == "uid":
                    check_positions(session, trace, SMALL)
            check_discarded(trace, totals, programs * threads * (few + share))
            # Each number was emitted once by each thread of each program, both times.
            numbers = Counter(
                r for packets in trace.streams.values() for p in packets for r in floods(p)
            )
            assert max(numbers.values()) <= 2 * programs
        assert quiet(registry)


@pytest.mark.parametrize("timers", [*TIMERS, "read"])
@pytest.mark.parametrize("buffers", ["uid", "pid"])
def test_overwritten(buffers: str, timers: str, rundir: Rundir, apps: Apps) -> None:
    """Sequence numbers show exactly what was overwritten, to the event."""
    few, many, each = 100, 3000, 4
    periods = {"read_timer_us": 10 * MS} if timers == "read" else TIMERS[timers]
    options = ChannelOptions(
        subbuf_size=SMALL, num_subbuf=2, mode="overwrite", buffers=buffers, **periods
    )
    text = text_for(each, SMALL)
    with running_registry(rundir) as registry:
        for programs, threads in CROWDS:
            output = rundir.home / f"trace-{programs}-{threads}"
            share = many // programs // threads
            with recording(registry, output, options, "flood:tick") as session:
                # Nobody reads yet: some are overwritten whatever the machine does.
                emit(rundir, apps, session, programs, few, threads, "--text", text)
                session.spawn_consumer()
                emit(rundir, apps, session, programs, share, threads, "--text", text)
                totals = stop(session)
                trace = Trace(output)
                if buffers == "uid":
                    check_positions(session, trace, SMALL)
            emitted = programs * threads * (few + share)
            assert sum(map(overwritten, trace.streams.values())) > 0
            check_overwritten(trace, totals, emitted, each, exact=timers != "timed")
        assert quiet(registry)


@pytest.mark.full_speed
@pytest.mark.parametrize("timers", TIMERS)
def test_numbers_are_missing_where_packets_are(timers: str, rundir: Rundir, apps: Apps) -> None:
    """One thread on one CPU: each run of missing numbers lies in a gap, each gap has one."""
    output, share = rundir.home / "trace", 3000
    options = ChannelOptions(subbuf_size=SMALL, num_subbuf=2, mode="overwrite", **TIMERS[timers])
    with (
        running_registry(rundir) as registry,
        recording(registry, output, options, "flood:tick") as session,
    ):

        def write(turn: int) -> None:
            command = [apps.flood, str(share), "--from", str(turn * share)]
            assert rundir.run(command, preexec_fn=pin).returncode == 0

        write(0)
        session.spawn_consumer()
        write(1)
        until(lambda: caught_up(session), "the consumer has caught up")
        consumer = session.info().consumer
        assert consumer is not None
        os.kill(consumer.pid, signal.SIGSTOP)
        try:
            write(2)
        finally:
            os.kill(consumer.pid, signal.SIGCONT)
        until(lambda: caught_up(session), "the consumer has caught up")
        write(3)
        totals = stop(session)
        trace = Trace(output)
        check_positions(session, trace, SMALL)
    # The tracer drops an event only if another writer is in the way.
    assert totals.discarded == 0
    (packets,) = (p for path, p in trace.streams.items() if path.endswith(f"chan_{CPU}"))
    assert packets[0].sequence > 0
    # A timer closes no empty packet, and any other.
    payload = 4 + 4 + len("flood") + 1
    fewest = 1 if timers == "timed" else ROOM // (LONG + payload)
    most = ROOM // (SHORT + payload)
    following, sequence, gaps = 0, 0, 0
    for packet in packets:
        numbers = [record.seq for record in floods(packet)]
        if not numbers:
            assert packet is packets[-1]
            break
        assert numbers == list(range(numbers[0], numbers[-1] + 1))
        missing, gone = numbers[0] - following, packet.sequence - sequence
        assert gone * fewest <= missing <= gone * most, (packet.sequence, gone, missing)
        gaps += gone > 0
        following, sequence = numbers[-1] + 1, packet.sequence + 1
    assert following == 4 * share
    assert gaps >= 2


# -- the summary of `drtrace record` ---------------------------------------------------------

#: sub-buffers, their number, threads
RECORDS = [("4k", 2, 1), ("4k", 2, 8), ("16k", 4, 2), ("128k", 4, 1), ("128k", 4, 8)]


def check_summary(rundir: Rundir, emitted: int, output: Path, *words: object) -> None:
    """Record a command of so many events; summary, babeltrace2 and the bytes agree."""
    # However slow the machine is, no program runs without being recorded.
    patient = {"LTTNG_UST_REGISTER_TIMEOUT": "-1"}
    options = ["record", "--json", "-e", "flood:tick", "-c", "vpid", "-o", output]
    result = rundir.drtrace(*options, *map(str, words), env=patient)
    assert (result.returncode, result.stderr) == (0, "")
    answer = json.loads(result.stdout)
    totals = answer["totals"]
    trace = Trace(output)
    assert answer["warnings"] == []
    assert totals["recorded"] + totals["discarded"] == emitted
    assert totals["recorded"] == len(trace.lines)
    assert totals["discarded"] == trace.events_lost == trace.counters
    assert trace.packets_lost == 0
    every = [packet for packets in trace.streams.values() for packet in packets]
    assert totals["packets"] == len(every)
    assert totals["bytes"] == sum(packet.packet_size for packet in every)


@pytest.mark.full_speed
@pytest.mark.parametrize("buffers", ["--buffers-uid", "--buffers-pid"])
def test_the_summary_of_one_program(buffers: str, rundir: Rundir, apps: Apps) -> None:
    events = 40_000
    for size, number, threads in RECORDS:
        check_summary(
            rundir,
            events,
            rundir.home / f"trace-{size}-{threads}",
            *(buffers, f"--subbuf-size={size}", f"--num-subbuf={number}"),
            *("--", apps.flood, events // threads, threads),
        )


@pytest.mark.full_speed
@pytest.mark.parametrize("buffers", ["--buffers-uid", "--buffers-pid"])
def test_the_summary_of_thirty_programs(buffers: str, rundir: Rundir, apps: Apps) -> None:
    """They begin when all of them are registered."""
    programs, events = 30, 1500
    ready = rundir.home / "ready"
    script = f"all=$(seq -f {ready}%.0f {programs}); "
    script += f"for one in $all; do {apps.flood} {events} --ready $one --wait-start $all & done; "
    script += "wait"
    check_summary(
        rundir,
        programs * events,
        rundir.home / "trace",
        *(buffers, "--subbuf-size=4k", "--num-subbuf=2", "--", "sh", "-c", script),
    )


# -- an event as large as a sub-buffer, and a byte larger ------------------------------------

#: What a packet of the smallest size has room for, header of the event included.
ROOM = SMALL - PACKET
#: Milliseconds after which an event gets the longer header: 2^27 ns, and some more.
PAUSE = "+150"


class Sized:
    """One run of the program whose events have given sizes, alone on one CPU."""

    def __init__(self, rundir: Rundir, apps: Apps, mode: str, *words: int | str) -> None:
        output = rundir.home / "trace"
        options = ChannelOptions(subbuf_size=SMALL, num_subbuf=64, mode=mode)
        with running_registry(rundir) as registry:
            session = registry.client.create("sized", str(output))
            session.enable_channel("chan", options)
            session.enable_event("sized:event")
            session.start()
            command = [apps.sized, *map(str, words)]
            assert rundir.run(command, preexec_fn=pin).returncode == 0
            self.totals = stop(session)
            lost = [(s.lost_full, s.lost_wrap, s.lost_big) for s in session.info().streams]
            session.destroy()
        assert sum(full + wrap for full, wrap, _ in lost) == 0
        self.too_big = sum(big for _, _, big in lost)
        assert self.totals.discarded == self.too_big
        trace = Trace(output)
        assert len(trace.lines) == self.totals.recorded
        assert trace.counters == self.too_big
        self.numbers = [int(re.findall(r"seq = (\d+)", line)[0]) for line in trace.lines]
        (packets,) = (p for path, p in trace.streams.items() if path.endswith(f"chan_{CPU}"))
        assert [packet.sequence for packet in packets] == list(range(len(packets)))
        self.packets = packets

    @property
    def contents(self) -> list[int]:
        """Bytes in each packet, without its header."""
        return [packet.content_size - PACKET for packet in self.packets]


MODES = pytest.mark.parametrize("mode", ["discard", "overwrite"])


@MODES
def test_the_first_event_fills_a_packet(mode: str, rundir: Rundir, apps: Apps) -> None:
    run = Sized(rundir, apps, mode, ROOM - LONG)
    assert (run.numbers, run.too_big) == ([0], 0)
    # The end of the recording closes an empty one behind it.
    assert run.contents == [ROOM, 0]
    assert run.packets[0].packet_size == SMALL


@MODES
def test_the_first_event_is_a_byte_too_big(mode: str, rundir: Rundir, apps: Apps) -> None:
    run = Sized(rundir, apps, mode, ROOM - LONG + 1, 5)
    assert (run.numbers, run.too_big) == ([1], 1)
    assert run.contents == [LONG + 5]


@MODES
def test_later_events_fill_a_packet_or_are_too_big(mode: str, rundir: Rundir, apps: Apps) -> None:
    large = ROOM - LONG
    run = Sized(rundir, apps, mode, 5, PAUSE, large, PAUSE, large + 1, 5, PAUSE, large, large * 9)
    assert (run.numbers, run.too_big) == ([0, 2, 5, 7], 2)
    assert run.contents == [LONG + 5, ROOM, LONG + 5, ROOM, 0]
    assert [packet.discarded for packet in run.packets] == [0, 0, 1, 1, 2]


@MODES
def test_an_event_fills_what_is_left_of_a_packet(mode: str, rundir: Rundir, apps: Apps) -> None:
    """Or goes into the next one, if it is a byte larger than that."""
    # Longer headers, whatever the machine does.
    half = (ROOM - 2 * LONG) // 2
    run = Sized(rundir, apps, mode, half, PAUSE, half, PAUSE, half + 1, PAUSE, half, PAUSE, half)
    assert run.numbers == [0, 2, 4, 6, 8]
    assert run.contents == [ROOM, LONG + half + 1, ROOM, 0]


@MODES
def test_events_with_the_short_header(mode: str, rundir: Rundir, apps: Apps) -> None:
    """Each pair is a small event and one that fills a packet; in others it is a byte too big."""
    pairs, large = 20, ROOM - SHORT
    run = Sized(rundir, apps, mode, *[5, large] * pairs, *[5, large + 1] * pairs)
    small = range(0, 4 * pairs, 2)
    assert set(small) <= set(run.numbers)
    assert max(run.numbers) == 4 * pairs - 2, "one that is too big was recorded"
    # A program that was paused just then needed the longer header, and had no room.
    filled = set(run.numbers) - set(small)
    assert filled
    assert filled <= set(range(1, 2 * pairs, 2))
    assert run.too_big == 2 * pairs - len(filled)
    assert run.contents.count(ROOM) == len(filled)


@pytest.mark.parametrize("buffers", ["uid", "pid"])
def test_a_loss_behind_the_last_packet(buffers: str, rundir: Rundir, apps: Apps) -> None:
    """The buffer ends with a full packet: only an empty one can say what came after it."""
    large = ROOM - LONG
    output = rundir.home / "trace"
    options = ChannelOptions(subbuf_size=SMALL, num_subbuf=2, buffers=buffers)
    with (
        running_registry(rundir) as registry,
        recording(registry, output, options, "sized:event") as session,
    ):
        command = [apps.sized, *map(str, [large, PAUSE, large, PAUSE, 5])]
        assert rundir.run(command, preexec_fn=pin).returncode == 0
        session.spawn_consumer()
        if buffers == "pid":
            until(lambda: not session.info().streams, "its trace ends")
        totals = stop(session)
        assert (totals.recorded, totals.discarded) == (2, 1)
    trace = Trace(output)
    (packets,) = (p for path, p in trace.streams.items() if path.endswith(f"chan_{CPU}"))
    assert [packet.content_size - PACKET for packet in packets] == [ROOM, ROOM, 0]
    assert [packet.discarded for packet in packets] == [0, 0, 1]
