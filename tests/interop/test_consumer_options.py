# SPDX-License-Identifier: MIT
"""Consumers beyond the default: buffers per process, timers, several workers, direct writes."""

from __future__ import annotations

import os
import struct
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from helpers.apps import Apps
from helpers.babeltrace import babeltrace2_text, discarded
from helpers.registry import RunningRegistry, running_registry, until
from helpers.rundir import Rundir

from ustconsumer.client.connection import Connection
from ustconsumer.client.session import Session
from ustconsumer.client.totals import count
from ustconsumer.consumer import Consumer, Packet, Sink, Stream, Trace, pool
from ustconsumer.consumer import consumer as consumer_module
from ustconsumer.consumer.sinks.disk import DiskSink
from ustconsumer.protocol.control import ChannelOptions

pytestmark = pytest.mark.peers("gcc", "lttng-ust-headers", "babeltrace2")

ENTRY = struct.Struct(">9Q")
INDEX_HEADER = 16


def sequences(index: Path) -> list[int]:
    raw = index.read_bytes()[INDEX_HEADER:]
    return [entry[8] for entry in ENTRY.iter_unpack(raw)]


def made(registry: RunningRegistry, output: Path, **options: object) -> Session:
    session = registry.client.create("s", output)
    session.enable_channel("chan", ChannelOptions(**options))  # type: ignore[arg-type]
    session.enable_event("flood:tick", "chan")
    return session


def consumer_of(session: Session) -> int:
    consumer = session.info().consumer
    assert consumer is not None
    return consumer.pid


def packets_of(session: Session) -> int:
    consumer = session.info().consumer
    assert consumer is not None
    return consumer.stats.packets


def all_closed(session: Session, packets: int) -> None:
    until(lambda: packets_of(session) >= packets, "the packets are counted")
    until(lambda: not session.info().streams, "the buffers are gone")


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def mapped(pid: int) -> int:
    """Return the ring buffers and metadata logs that a process has mapped."""
    return Path(f"/proc/{pid}/maps").read_text().count("/memfd:")


@pytest.mark.repeat(ci=12, soak=1000)
def test_a_process_that_ended_leaves_only_its_trace(
    rundir: Rundir, apps: Apps, repeat: int
) -> None:
    output = rundir.home / "trace"
    with running_registry(rundir) as registry:
        session = made(registry, output, buffers="pid", subbuf_size=16384, num_subbuf=4)
        session.start()
        pid = consumer_of(session)
        before = 0
        for number in range(repeat):
            assert rundir.run([apps.flood, "500"]).returncode == 0
            if number in (0, repeat - 1):
                # Nothing of it waits for the end of the session.
                all_closed(session, number + 1)
                assert mapped(pid) == 0
                before = before or descriptors(pid)
        assert descriptors(pid) == before
        assert session.stop() == []
        totals = count(session)
        assert (totals.recorded, totals.discarded) == (500 * repeat, 0)
        assert consumer_of(session) == pid
        session.destroy()
    traces = [path for path in (output / "ust" / "pid").iterdir() if path.is_dir()]
    assert len(traces) == repeat
    reading = babeltrace2_text(output)
    assert len(reading.lines) == 500 * repeat
    assert discarded(reading.stderr) == 0


def test_consume_starts_a_consumer_with_options(rundir: Rundir, apps: Apps) -> None:
    output = rundir.home / "trace"
    with running_registry(rundir) as registry:
        session = made(registry, output)

        def consume(*options: str) -> tuple[int, str, str]:
            result = rundir.drtrace("--rundir", rundir.path, "consume", *options)
            return result.returncode, result.stdout, result.stderr

        assert consume("s", "--workers=3", "--direct") == (
            0,
            "Consumer started for session s\n",
            "",
        )
        pid = consumer_of(session)
        # A forked consumer has the command line of its spawner: its options are in what it does.
        refused = consume("s")
        assert refused[0] == 1
        assert f"session s has a disk consumer (pid {pid})" in refused[2]
        session.start()
        assert rundir.run([apps.flood, "100"]).returncode == 0
        session.stop()
        assert count(session).recorded == 100
        session.destroy()
        assert consume("s", "--workers=0")[0] == 1


CHANNELS = 4


class OneAtATime:
    """A sink in Python that would notice a second thread, or a packet out of order."""

    def __init__(self) -> None:
        self.threads: Counter[int] = Counter()
        self.sequences: dict[str, list[int]] = {}
        self.content = 0
        self.faults: list[str] = []

    def open(self, stream: Stream) -> OneAtATime.Writer:
        return OneAtATime.Writer(self, stream)

    def metadata(self, trace: Trace, text: bytes) -> None:
        pass

    def end(self, trace: Trace) -> None:
        pass

    def close(self) -> None:
        pass

    class Writer:
        def __init__(self, sink: OneAtATime, stream: Stream) -> None:
            self._sink = sink
            self._busy = threading.Lock()
            self._seen = sink.sequences.setdefault(stream.name, [])

        def write(self, packets: Sequence[Packet]) -> None:
            if not self._busy.acquire(blocking=False):
                self._sink.faults.append(f"{threading.current_thread().name} was not alone")
            for packet in packets:
                self._seen.append(packet.sequence)
                # Without the GIL for a while, as who compresses or sends.
                packet.copy().sort()
            self._sink.threads[threading.get_ident()] += 1
            self._busy.release()

        def close(self) -> None:
            pass


@pytest.mark.parametrize("kind", ["python", "disk"])
def test_several_workers_keep_every_stream_in_order(
    rundir: Rundir, apps: Apps, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    events, threads = 20_000, 2
    workers = []
    # Whether one worker is enough depends on the machine: here it never is.
    deal = pool.Pool._deal
    monkeypatch.setattr(pool.Pool, "_resize", lambda self, full: deal(self, max(1, len(self) // 2)))
    output = rundir.home / "trace"
    with running_registry(rundir) as registry:
        session = registry.client.create("s", output)
        for number in range(CHANNELS):
            session.enable_channel(f"chan{number}", ChannelOptions(subbuf_size=4096, num_subbuf=16))
            session.enable_event("flood:tick", f"chan{number}")
        python = OneAtATime()
        sink: Sink = python if kind == "python" else DiskSink(output)
        consumer = Consumer(Connection.connect(rundir.path, "consumer"), "s", sink, workers=4)
        running = threading.Thread(target=consumer.run)
        running.start()
        session.start()
        assert rundir.run([apps.flood, str(events), str(threads)]).returncode == 0
        assert session.stop() == []
        streams = session.info().streams
        assert len(streams) >= 2 * CHANNELS or os.cpu_count() == 1
        workers.append(consumer._subscription.rings.workers)
        assert all(stream.consumed == stream.produced for stream in streams)
        if kind == "disk":
            totals = count(session)
            assert totals.recorded + totals.discarded == CHANNELS * threads * events
        session.destroy()
        running.join()
    assert workers[0] > 1
    if kind == "python":
        assert not python.faults
        assert len(python.threads) > 1
        for taken in python.sequences.values():
            assert taken == list(range(len(taken)))
    else:
        for index in output.glob("**/index/*.idx"):
            assert sequences(index) == list(range(len(sequences(index)))), index
        reading = babeltrace2_text(output)
        assert len(reading.lines) + discarded(reading.stderr) == CHANNELS * threads * events


@pytest.mark.parametrize("timer", ["switch_timer_us", "read_timer_us"])
def test_a_timer_wakes_a_consumer_that_nobody_wakes(
    rundir: Rundir, apps: Apps, timer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Without its timers it would sleep for ever: no writer wakes it, no drain comes.
    monkeypatch.setattr(consumer_module, "_RESCAN", 3600.0)
    output = rundir.home / "trace"
    with running_registry(rundir) as registry:
        # 60,000 bytes of events: of one sub-buffer a part, of a small one several times all.
        size = 4096 if timer == "read_timer_us" else 1 << 20
        session = made(registry, output, subbuf_size=size, num_subbuf=64, **{timer: 10_000})
        consumer = Consumer(Connection.connect(rundir.path, "consumer"), "s", DiskSink(output))
        running = threading.Thread(target=consumer.run)
        running.start()
        session.start()
        assert rundir.run([apps.flood, "3000"]).returncode == 0
        until(lambda: any(s.consumed for s in session.info().streams), "packets are taken")
        if timer == "switch_timer_us":
            until(
                lambda: all(s.consumed == s.produced for s in session.info().streams if s.consumed),
                "the last packet is closed",
            )
            # Without an event a stream has no packet: its class might be undeclared.
            assert all(s.consumed or s.produced == 84 for s in session.info().streams)
        session.stop()
        assert count(session).recorded == 3000
        session.destroy()
        running.join()
