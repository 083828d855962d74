# SPDX-License-Identifier: MIT
"""Every kind of channel with real programs: modes, timers, sizes, contexts, several at once."""

from __future__ import annotations

import fcntl
import os
import re
import struct
import termios
from collections import Counter
from pathlib import Path

import pytest
from helpers.apps import Apps
from helpers.babeltrace import babeltrace2_text, discarded
from helpers.drtrace import end_registry
from helpers.lttng import lttng_sessiond
from helpers.registry import running_registry, until
from helpers.rundir import Rundir

from ustconsumer.client.connection import Connection
from ustconsumer.client.session import Session
from ustconsumer.client.totals import count
from ustconsumer.paths import possible_cpus
from ustconsumer.protocol.control import Attach, ChannelOptions

pytestmark = pytest.mark.peers("gcc", "lttng-ust-headers", "babeltrace2")

CPU = min(os.sched_getaffinity(0))
#: facts, ctf layout 8: (magic, major, minor, size of an entry), then entries whose last
#: word is the sequence number of the packet
INDEX_HEADER = struct.Struct(">IIII")
INDEX_ENTRY = struct.Struct(">9Q")


def pin() -> None:
    """Have a program record into the buffers of one CPU."""
    os.sched_setaffinity(0, {CPU})


def sequences(output: Path) -> dict[str, list[int]]:
    """Return the sequence numbers of the packets in each stream's index."""
    found = {}
    for index in sorted(output.glob("ust/*/**/index/*.idx")):
        raw = index.read_bytes()
        assert INDEX_HEADER.unpack_from(raw)[3] == INDEX_ENTRY.size
        entries = INDEX_ENTRY.iter_unpack(raw[INDEX_HEADER.size :])
        found[index.stem] = [entry[-1] for entry in entries]
    return found


def ticks(lines: list[str]) -> list[int]:
    return [int(match[1]) for line in lines if (match := re.search(r" seq = (\d+),", line))]


def write_out(session: Session) -> None:
    """Have what a session without a consumer recorded written, and destroy it."""
    session.spawn_consumer()
    until(
        lambda: all(stream.consumed == stream.produced for stream in session.info().streams),
        "everything is written",
    )
    session.destroy()


def test_overwritten_is_the_oldest_and_only_that(rundir: Rundir, apps: Apps) -> None:
    """Without a reader: what is left is the end of what was recorded, to its last event."""
    output, size, events = rundir.home / "trace", 4096, 20_000
    with running_registry(rundir) as registry:
        session = registry.client.create("s", str(output))
        options = ChannelOptions(mode="overwrite", subbuf_size=size, num_subbuf=4)
        session.enable_channel("chan", options)
        session.enable_event("flood:*")
        session.start(consumer=None)
        assert rundir.run([apps.flood, str(events)], preexec_fn=pin).returncode == 0
        session.stop()
        streams = {f"chan_{stream.cpu}": stream for stream in session.info().streams}
        assert session.info().channels[0].discarded == 0
        write_out(session)
    reading = babeltrace2_text(output)
    left = ticks(reading.lines)
    assert left == list(range(events - len(left), events))
    mine = streams[f"chan_{CPU}"]
    # More was recorded than fits; all of the four sub-buffers that can hold something does.
    assert mine.produced // size > 4
    assert 3 <= (mine.produced - mine.consumed) / size <= 4
    for name, numbers in sequences(output).items():
        stream = streams[name]
        assert numbers == list(range(stream.consumed // size, stream.produced // size))


@pytest.mark.full_speed
@pytest.mark.parametrize("buffers", ["uid", "pid"])
def test_overwriting_under_a_reader(buffers: str, rundir: Rundir, apps: Apps) -> None:
    """Whole packets are missing, each is missed, and nothing comes twice."""
    output, size = rundir.home / "trace", 4096
    with running_registry(rundir) as registry:
        session = registry.client.create("s", str(output))
        options = ChannelOptions(mode="overwrite", buffers=buffers, subbuf_size=size, num_subbuf=2)
        session.enable_channel("chan", options)
        session.enable_event("flood:*")
        session.start()
        assert rundir.run([apps.flood, "200000", "2"]).returncode == 0
        assert session.stop() == []
        totals = count(session)
        session.destroy()
    reading = babeltrace2_text(output)
    assert len(reading.lines) == totals.recorded
    missed: Counter[str] = Counter()
    for line in reading.stderr.splitlines():
        # Events are discarded where a writer, preempted, has not left a sub-buffer that the
        # others have come back to: not counted for babeltrace2 if that was before the first
        # packet.
        match = re.match(
            r"WARNING: Tracer (?:may have )?discarded (\d* ?)(event|packet)s? .*/(chan_\d+)\"", line
        )
        assert match, line
        if match[2] == "packet":
            missed[match[3]] += int(match[1])
    for name, numbers in sequences(output).items():
        assert numbers == sorted(set(numbers))
        # Those before the first one nobody can miss.
        assert missed[name] == numbers[-1] + 1 - numbers[0] - len(numbers)
    for thread in (0, 1):
        lines = [line for line in reading.lines if f"thread = {thread}," in line]
        assert ticks(lines) == sorted(set(ticks(lines)))


@pytest.mark.parametrize("mode", ["discard", "overwrite"])
def test_with_a_read_timer_writers_wake_nobody(mode: str, rundir: Rundir, apps: Apps) -> None:
    with running_registry(rundir) as registry:
        for name, period in (("by-writer", 0), ("by-timer", 1000)):
            session = registry.client.create(name, str(rundir.home / name))
            options = ChannelOptions(
                mode=mode, subbuf_size=4096, num_subbuf=4, read_timer_us=period
            )
            session.enable_channel("chan", options)
            session.enable_event("flood:*")
            session.start(consumer=None)
            assert rundir.run([apps.flood, "1000"]).returncode == 0
            # What the writers put into the pipe is still there: nobody has read it.
            with Connection.connect(rundir.path, role="consumer") as connection:
                attach = Attach(session=name, consume=True, kind="test")
                _, (pipe,) = connection.exchange(attach)
                (waiting,) = struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, b"\0" * 4))
                os.close(pipe)
            assert bool(waiting) == (name == "by-writer")
            until(lambda session=session: session.info().consumer is None, "the lease is free")
            # The timer's consumer finds them all the same.
            session.stop()
            write_out(session)
            left = ticks(babeltrace2_text(rundir.home / name).lines)
            assert left[-1 if mode == "overwrite" else 0] == (999 if mode == "overwrite" else 0)


def test_a_switch_timer_without_a_consumer(rundir: Rundir, apps: Apps) -> None:
    """The registry switches, only the channel that wants it, and no empty sub-buffer."""
    with running_registry(rundir) as registry:
        session = registry.client.create("s", str(rundir.home / "trace"))
        for name, period in (("timed", 1), ("idle", 1), ("untimed", 0)):
            options = ChannelOptions(subbuf_size=4096, num_subbuf=64, switch_timer_us=period)
            session.enable_channel(name, options)
        session.enable_event("sleeper:*", "timed")
        session.enable_event("sleeper:*", "untimed")
        session.start(consumer=None)
        program = rundir.start([apps.sleeper, "20"], preexec_fn=pin)

        def produced(channel: str) -> int:
            streams = session.info().streams
            return max((s.produced for s in streams if s.channel == channel), default=0)

        # 4096 bytes hold some 300 beats of 13 bytes, and there are 50 in a second.
        until(lambda: produced("timed") >= 4 * 4096, "packets are closed before they are full")
        # The same events in one packet, which holds them and its header.
        assert 84 < produced("untimed") < 4096
        # Its first packet was open from the beginning; after that there is nothing to close.
        assert produced("idle") <= 4096
        session.stop()
        write_out(session)
        program.terminate()
        assert program.wait() == 0


#: (bytes, sub-buffers, mode): the ends of the range and some between
GEOMETRIES = [
    (4096, 1, "discard"),
    (4096, 2, "discard"),
    (4096, 2, "overwrite"),
    (4096, 64, "discard"),
    (65536, 2, "overwrite"),
    (1 << 20, 4, "discard"),
    (4 << 20, 2, "discard"),
    (4 << 20, 64, "overwrite"),
]


def test_every_size(rundir: Rundir, apps: Apps) -> None:
    events = 100
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with running_registry(rundir) as registry:
        for size, number, mode in GEOMETRIES:
            if size * (number + 1) * possible_cpus() > memory // 4:
                continue  # a machine of many CPUs
            name = f"{size}x{number}-{mode}"
            session = registry.client.create(name, str(rundir.home / name))
            options = ChannelOptions(subbuf_size=size, num_subbuf=number, mode=mode)
            session.enable_channel("chan", options)
            session.enable_event("flood:*")
            session.start()
            # Making half a gigabyte of buffers may take longer than `main` of a program waits.
            go = rundir.home / f"go-{name}"
            program = rundir.start([apps.flood, str(events), "--wait-start", go])
            until(
                lambda pid=program.pid: (
                    pid in (known := registry.applications()) and known[pid].sessions
                ),
                "the program has its buffers",
            )
            # 100 events of at most 28 bytes fit in the smallest sub-buffer.
            go.touch()
            assert program.wait() == 0
            # `main` may have begun without them, which is said; it waited with its events.
            said = [line for line in session.stop() if "before buffers were ready" not in line]
            assert said == []
            assert (count(session).recorded, count(session).discarded) == (events, 0)
            session.destroy()
            reading = babeltrace2_text(rundir.home / name)
            assert (ticks(reading.lines), reading.stderr) == (list(range(events)), "")


def test_contexts(rundir: Rundir, apps: Apps) -> None:
    """Each context in a channel of its own, all of one program: types and values."""
    contexts = ["vpid", "vtid", "procname", "pthread_id", "ip", "cpu_id"]
    output, events = rundir.home / "trace", 20
    with running_registry(rundir) as registry:
        session = registry.client.create("s", str(output))
        for name in ["none", *contexts]:
            session.enable_channel(name, ChannelOptions(subbuf_size=16384))
            if name == "none":
                session.enable_event("lttng_ust_statedump:bin_info", name)
            else:
                session.enable_event("flood:*", name)
                session.add_context([name], name)
        session.start()
        program = rundir.start([apps.flood, str(events), "2"], preexec_fn=pin)
        assert program.wait() == 0
        session.stop()
        session.destroy()
    reading = babeltrace2_text(output)
    assert reading.stderr == ""
    values: dict[str, dict[int, Counter[str]]] = {name: {} for name in contexts}
    for line in reading.lines:
        # The packet's cpu_id, the context, the fields.
        match = re.search(
            r"flood:tick: \{ cpu_id = (\d+) \}, \{ (\w+) = ([^,]*) \}, "
            r"\{ seq = \d+, thread = (\d),",
            line,
        )
        if match:
            assert int(match[1]) == CPU
            by_thread = values[match[2]].setdefault(int(match[4]), Counter())
            by_thread[match[3]] += 1
    # Every event has one value of each context, the same for all events of a thread.
    single = {
        (name, thread): value
        for name, by_thread in values.items()
        for thread, counter in by_thread.items()
        for value, times in counter.items()
        if times == events
    }
    assert len(single) == 2 * len(contexts)
    pid = str(program.pid)
    assert (single["vpid", 0], single["vpid", 1]) == (pid, pid)
    assert single["vtid", 0] == pid
    assert int(single["vtid", 1]) > program.pid
    assert (single["procname", 0], single["procname", 1]) == ('"flood"', '"flood"')
    assert 0 != int(single["pthread_id", 0]) != int(single["pthread_id", 1]) != 0
    assert (single["cpu_id", 0], single["cpu_id", 1]) == (str(CPU), str(CPU))
    (where,) = [line for line in reading.lines if f'path = "{apps.flood}"' in line]
    base, length = re.search(r"baddr = (0x[0-9A-F]+), memsz = (\d+)", where).groups()  # type: ignore[union-attr]
    for thread in (0, 1):
        assert 0 <= int(single["ip", thread]) - int(base, 16) < int(length)


def test_several_channels_and_sessions_on_one_program(rundir: Rundir, apps: Apps) -> None:
    """Different sizes, modes, contexts and kinds of buffers: each has every event."""
    events, threads = 2000, 2
    kinds = {
        "shared": [
            ("big", ChannelOptions(subbuf_size=65536, num_subbuf=8), ["vpid"]),
            ("ring", ChannelOptions(subbuf_size=16384, num_subbuf=32, mode="overwrite"), []),
        ],
        "own": [
            (
                "small",
                ChannelOptions(subbuf_size=4096, num_subbuf=128, buffers="pid"),
                ["vtid", "procname"],
            ),
            (
                "timed",
                ChannelOptions(
                    subbuf_size=4096,
                    num_subbuf=128,
                    buffers="pid",
                    mode="overwrite",
                    read_timer_us=5000,
                    switch_timer_us=20000,
                ),
                ["vpid", "vtid", "cpu_id"],
            ),
        ],
    }
    with running_registry(rundir) as registry:
        sessions = []
        for name, channels in kinds.items():
            session = registry.client.create(name, str(rundir.home / name))
            for channel, options, contexts in channels:
                session.enable_channel(channel, options)
                session.enable_event("flood:*", channel)
                if contexts:
                    session.add_context(contexts, channel)
            session.start()
            sessions.append(session)
        program = rundir.start([apps.flood, str(events), str(threads)])
        assert program.wait() == 0
        for session in sessions:
            assert session.stop() == []
            assert count(session).recorded == 2 * events * threads
            session.destroy()
    for name, channels in kinds.items():
        reading = babeltrace2_text(rundir.home / name)
        assert discarded(reading.stderr) == 0
        kinds_of_events: dict[tuple[str, ...], list[str]] = {}
        for line in reading.lines:
            match = re.search(r"\{ cpu_id = \d+ \}, (?:\{ ([^}]*) \}, )?\{ (seq .*) \}$", line)
            assert match, line
            names = tuple(part.split(" = ")[0] for part in (match[1] or "").split(", ") if part)
            kinds_of_events.setdefault(names, []).append(match[2])
        expected = sorted(
            f'seq = {seq}, thread = {thread}, text = "flood"'
            for seq in range(events)
            for thread in range(threads)
        )
        assert kinds_of_events.keys() == {tuple(contexts) for _, _, contexts in channels}
        for found in kinds_of_events.values():
            assert sorted(found) == expected


@pytest.mark.peers("lttng", "lttng-sessiond")
def test_starting_and_stopping_twice_is_a_warning(user_rundir: Rundir) -> None:
    said = []
    with lttng_sessiond() as lttng:
        for rundir, command in (
            (lttng.rundir, lambda *words: lttng.rundir.run(["lttng", "-n", *words])),
            (
                user_rundir,
                lambda *words: user_rundir.drtrace("--rundir", user_rundir.path, *words),
            ),
        ):
            command("create", "twice", "-o", rundir.home / "twice")
            command("enable-event", "-u", "-a")
            results = [command(verb) for verb in ("stop", "start", "start", "stop", "stop")]
            said.append([result.stderr for result in results])
    # lttng's own manual says 4 of a warning; it returns the error's number, 80 and 81.
    assert [result.returncode for result in results] == [4, 0, 4, 0, 4]
    user_rundir.drtrace("--rundir", user_rundir.path, "destroy", "-a")
    end_registry(user_rundir)
    assert said[0] == said[1]
    assert said[0][2] == "Warning: Tracing already started for session twice\n"
