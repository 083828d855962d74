# SPDX-License-Identifier: MIT
"""Snapshots beside a recording at full speed, and of programs that stand still."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from helpers.accounting import pin, stop
from helpers.apps import Apps
from helpers.babeltrace import babeltrace2_text
from helpers.lttng import lttng_sessiond
from helpers.registry import RunningRegistry, running_registry, until
from helpers.rundir import Rundir
from helpers.streams import FilePacket, floods, snapshot_streams, streams
from helpers.viewing import babeltrace2

from ustconsumer.client.session import Session
from ustconsumer.client.totals import Totals
from ustconsumer.protocol.control import ChannelOptions

pytestmark = pytest.mark.peers("gcc", "lttng-ust-headers", "babeltrace2")

#: Of one recording.
SNAPSHOTS = 30
#: Each of the two threads emits so many a turn.
SHARE = 400_000
SIZE = 1 << 15
SMALL = 4096
_SEQ = re.compile(r" seq = (\d+)")
_LOST = re.compile(r"WARNING: Tracer (may have discarded events|discarded \d+ (events?|packets?)) ")


@contextmanager
def recording(registry: RunningRegistry, output: Path) -> Iterator[Session]:
    session = registry.client.create("live", output)
    session.enable_channel("chan", ChannelOptions(subbuf_size=SIZE, num_subbuf=8))
    session.enable_event("flood:tick", "chan")
    session.start()
    yield session
    session.destroy()


class Floods:
    """Programs with 2 threads, one after the other at full speed."""

    def __init__(self, rundir: Rundir, apps: Apps) -> None:
        self._rundir = rundir
        self._command = [apps.flood, str(SHARE), "2", "--text", "100"]
        self.programs = 1
        self._running = rundir.start(self._command)

    def keep_running(self) -> None:
        """Start another one if the last has ended."""
        if self._running.poll() is not None:
            assert self._running.returncode == 0
            self.programs += 1
            self._running = self._rundir.start(self._command)

    def end(self) -> int:
        """Wait for the last one; return how many events there were."""
        assert self._running.wait() == 0
        return self.programs * 2 * SHARE


def check_against(taken: list[FilePacket], recorded: list[FilePacket]) -> None:
    """What was taken of a stream is what was recorded, but for the end of the last packet."""
    numbers = [packet.sequence for packet in taken]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    for packet in taken:
        whole = recorded[packet.sequence]
        assert packet.begin == whole.begin
        # Cut: the last one, or where a thread was stopped in the middle of an event.
        assert whole.records.startswith(packet.records)
        if packet.content_size == whole.content_size and packet is not taken[-1]:
            assert packet.records == whole.records


@pytest.mark.full_speed
@pytest.mark.repeat(ci=1, soak=10)
def test_beside_a_recording_at_full_speed(rundir: Rundir, apps: Apps, repeat: int) -> None:
    with running_registry(rundir) as registry:
        for run in range(repeat):
            output = rundir.home / f"with-{run}"
            snapshots = []
            with recording(registry, output) as session:
                programs = Floods(rundir, apps)
                until(lambda: any(s.produced > SIZE for s in session.info().streams), "events")
                for _ in range(SNAPSHOTS):
                    programs.keep_running()
                    snapshots.append(session.snapshot(rundir.home / f"snapshots-{run}"))
                emitted = programs.end()
                totals = stop(session)
            check_recorded(totals, emitted, output)
            packets = streams(output)
            cut = 0
            for snapshot in snapshots:
                assert snapshot.lost == 0, snapshot.problems
                cut += len(snapshot.problems)
                reading = babeltrace2(snapshot.path)
                assert reading.status == 0, reading.stderr
                for line in reading.stderr.decode().splitlines():
                    assert _LOST.match(line), f"babeltrace2 warns: {line}"
                found = snapshot_streams(Path(snapshot.path))
                counted = sum(1 for each in found.values() for p in each for _ in floods(p))
                assert reading.stdout.count(b"\n") == counted
                for name, taken in found.items():
                    check_against(taken, packets[name])
            assert max(snapshot.packets for snapshot in snapshots) > 2
            with recording(registry, rundir.home / f"without-{run}") as session:
                alone = Floods(rundir, apps)
                while alone.programs < programs.programs:
                    alone.keep_running()
                    session.info()
                assert alone.end() == emitted
                without = stop(session)
            assert without.recorded + without.discarded == emitted
            print(
                f"\n{SNAPSHOTS} snapshots during {emitted} events, {cut} cut by a stopped thread: "
                f"{totals.discarded} discarded, {without.discarded} without snapshots, "
                f"ratio {totals.discarded / max(without.discarded, 1):.2f}"
            )


def check_recorded(totals: Totals, emitted: int, output: Path) -> None:
    assert totals.recorded + totals.discarded == emitted, totals
    result = subprocess.run(
        ["babeltrace2", output, "--component=sink.utils.counter", "--params=step=+0"],
        capture_output=True,
        text=True,
        check=True,
    )
    (line,) = (line for line in result.stdout.splitlines() if " Event message" in line)
    assert int(line.split()[0].replace(",", "")) == totals.recorded
    assert discarded_at_the_end(output) == totals.discarded
    for packets in streams(output).values():
        assert [packet.sequence for packet in packets] == list(range(len(packets)))


def discarded_at_the_end(output: Path) -> int:
    return sum(packets[-1].discarded for packets in streams(output).values() if packets)


# -- programs that stand still -------------------------------------------------------------

#: Fills 4 sub-buffers several times, and ends in the middle of one.
EVENTS = 2010


def numbers(directory: Path) -> list[int]:
    """Return the numbers of the events in a snapshot, by time."""
    reading = babeltrace2_text(directory)
    for line in reading.stderr.splitlines():
        assert _LOST.match(line), f"babeltrace2 warns: {line}"
    return [int(match[1]) for line in reading.lines if (match := _SEQ.search(line))]


def test_ten_snapshots_hold_the_same_events(rundir: Rundir, apps: Apps) -> None:
    with running_registry(rundir) as registry:
        session = registry.client.create("still", rundir.home / "s", snapshot=True)
        session.enable_channel(
            "chan", ChannelOptions(subbuf_size=SMALL, num_subbuf=4, mode="overwrite")
        )
        session.enable_event("flood:tick", "chan")
        session.start()
        assert rundir.run([apps.flood, str(EVENTS)], preexec_fn=pin).returncode == 0
        before = {s.id: (s.produced, s.consumed) for s in session.info().streams}
        found = [numbers(Path(session.snapshot().path)) for _ in range(10)]
        assert {s.id: (s.produced, s.consumed) for s in session.info().streams} == before
        session.stop()
        after = numbers(Path(session.snapshot().path))
        session.destroy()
    first = found[0]
    # The newest are there, without a switch, and of the older ones what the buffer holds.
    assert first == list(range(EVENTS - len(first), EVENTS))
    assert len(first) > 3 * (SMALL - 200) // 34
    assert found == [first] * 10
    assert after == first


@pytest.mark.peers("lttng", "lttng-sessiond")
def test_those_of_lttng_shrink(apps: Apps) -> None:
    """What it does in the same place: each snapshot closes a packet, which costs the oldest."""
    with lttng_sessiond() as lttng:
        home = lttng.rundir.home
        lttng("create", "still", "--snapshot", f"--output={home / 's'}")
        sizes = (f"--subbuf-size={SMALL}", "--num-subbuf=4")
        lttng("enable-channel", "-u", "--overwrite", *sizes, "chan")
        lttng("enable-event", "-u", "-c", "chan", "flood:tick")
        lttng("start")
        command = [apps.flood, str(EVENTS)]
        assert lttng.rundir.run(command, preexec_fn=pin).returncode == 0
        found = []
        for number in range(10):
            lttng("snapshot", "record", "-s", "still", f"--name=n{number}")
            (place,) = (home / "s").glob(f"n{number}-*")
            found.append(numbers(place))
        lttng("destroy")
    counts = [len(each) for each in found]
    print(f"\nevents in ten snapshots of LTTng, nothing recorded meanwhile: {counts}")
    assert counts[0] > 0
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] < counts[0]
