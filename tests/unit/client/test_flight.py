# SPDX-License-Identifier: MIT
"""When a flight recorder takes snapshots; the session is made up."""

from __future__ import annotations

import os
import select
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ustconsumer.client import flight
from ustconsumer.client.flight import FlightRecorder, check_options, flight_channel
from ustconsumer.client.occasions import occasions
from ustconsumer.client.signals import CommandSignals
from ustconsumer.consumer.snapshot import Snapshot
from ustconsumer.errors import BrokenResourceError, CommandError, UsageError
from ustconsumer.protocol.control import ChannelOptions, Notification

USR1 = int(signal.SIGUSR1)


class Session:
    """Takes empty snapshots, or raises what it is told to."""

    connection = SimpleNamespace(welcome=SimpleNamespace(rundir="/rundir"))

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.error: Exception | None = None
        self.empty = False
        self.problems: list[str] = []
        self.taken = 0
        self.dropped = 0

    def snapshot(self) -> Snapshot:
        if self.error is not None:
            raise self.error
        path = self.directory / str(self.taken)
        if not self.empty:
            path.mkdir()
        self.taken += 1
        return Snapshot(path=str(path), packets=2, bytes=8192, lost=1, problems=self.problems)

    def describe(self) -> list[Any]:
        return []

    def info(self) -> Any:
        channels = [SimpleNamespace(discarded=3), SimpleNamespace(discarded=4)]
        return SimpleNamespace(processes=[10, 11], channels=channels, dropped=self.dropped)


class Recorded:
    """A flight recorder of such a session."""

    def __init__(self, directory: Path, *words: str, condition: str = "") -> None:
        self.session: Any = Session(directory)
        self.lines: list[str] = []
        wanted = occasions(words)
        self.signals = CommandSignals(False, wanted.signals)
        self.recorder = FlightRecorder(
            self.session, wanted, condition, self.signals, self.lines.append
        )

    @property
    def on(self) -> list[str]:
        return [snapshot.occasion for snapshot in self.recorder.snapshots]


@pytest.mark.parametrize("status", [0, 1, 127, 128, 128 + 65, 255, 128 + signal.SIGSEGV])
def test_exit_is_every_end(status: int, tmp_path: Path) -> None:
    recorded = Recorded(tmp_path)
    recorded.recorder.command_ended(status)
    assert recorded.on == []
    recorded.recorder.finish()
    assert recorded.on == ["exit"]


@pytest.mark.parametrize(
    ("status", "taken"),
    [
        *((status, []) for status in (0, 1, 3, 127, 128, 128 + 65, 255)),
        *((128 + number, ["crash"]) for number in (signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL)),
    ],
)
def test_a_crash_is_an_end_by_a_signal(status: int, taken: list[str], tmp_path: Path) -> None:
    recorded = Recorded(tmp_path, "crash")
    recorded.recorder.command_ended(status)
    recorded.recorder.finish()
    assert recorded.on == taken
    said = "" if taken else "nothing was kept: there was no crash"
    assert recorded.recorder.why_none() == said


def test_a_recorded_orphan_that_is_killed_is_a_crash(tmp_path: Path) -> None:
    recorded = Recorded(tmp_path, "crash")
    recorded.recorder.reaped(10, 1)
    # Not recorded.
    recorded.recorder.reaped(12, -signal.SIGSEGV)
    assert recorded.on == []
    recorded.recorder.reaped(10, -signal.SIGSEGV)
    assert recorded.on == ["crash"]
    # One that follows at once: soon, and not lost.
    recorded.recorder.reaped(11, -signal.SIGSEGV)
    assert recorded.on == ["crash"]
    assert 0 < (recorded.recorder.timeout() or 0) <= 1
    recorded.recorder.finish()
    assert recorded.on == ["crash", "crash"]
    ignorant = Recorded(tmp_path, "exit")
    ignorant.recorder.reaped(10, -signal.SIGSEGV)
    assert ignorant.on == []


def test_a_signal_asks_for_a_snapshot_each_time(tmp_path: Path) -> None:
    recorded = Recorded(tmp_path, "USR1", "HUP")
    with recorded.signals:
        assert recorded.recorder.descriptors() == [recorded.signals.requested]
        for number in (signal.SIGUSR1, signal.SIGHUP, signal.SIGUSR1):
            os.kill(os.getpid(), number)
            recorded.recorder.look()
        # Just before the end: the end is no reason to forget it.
        os.kill(os.getpid(), signal.SIGUSR1)
        recorded.recorder.command_ended(0)
        recorded.recorder.finish()
    assert recorded.on == ["SIGUSR1", "SIGHUP", "SIGUSR1", "SIGUSR1"]
    totals = recorded.recorder.totals()
    assert totals is not None
    assert (totals.packets, totals.bytes, totals.discarded, totals.processes) == (8, 32768, 7, 2)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(28, "No space left on device"), "no snapshot on exit: [Errno 28] No space left"),
        (CommandError("no room"), "no snapshot on exit: no room"),
        # Who ends the session says so.
        (BrokenResourceError("gone"), None),
    ],
)
def test_a_snapshot_that_fails_is_said_and_all_goes_on(
    error: Exception, said: str | None, tmp_path: Path
) -> None:
    recorded = Recorded(tmp_path, "exit")
    recorded.session.error = error
    recorded.recorder.finish()
    assert recorded.recorder.why_none() == "nothing could be kept"
    assert [line.startswith(said or "") for line in recorded.lines] == [True] * bool(said)


class Wire:
    """The connection to a registry of which programs tell events."""

    def __init__(self) -> None:
        self.ours, self._theirs = socket.socketpair()
        self.requests: list[Any] = []
        self.refusal: CommandError | None = None

    @classmethod
    def install(cls, monkeypatch: pytest.MonkeyPatch) -> Wire:
        wire = cls()
        monkeypatch.setattr(
            flight, "Connection", SimpleNamespace(connect=lambda rundir: wire._reach(rundir))
        )
        return wire

    def _reach(self, rundir: str) -> Wire:
        assert rundir == "/rundir"
        return self

    def request(self, message: Any) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.requests.append(message)

    def tell(self, *patterns: str) -> None:
        for pattern in patterns:
            (name,) = [r.name for r in self.requests[:-1] if r.event.pattern == pattern]
            self._theirs.send(name.encode().ljust(64))

    def hang_up(self) -> None:
        self._theirs.close()

    @property
    def pending(self) -> int:
        return 0

    def fileno(self) -> int:
        return self.ours.fileno()

    def receive(self, timeout: float) -> tuple[Notification, list[int]] | None:
        assert timeout == 0
        if not select.select([self.ours], [], [], 0)[0]:
            return None
        name = self.ours.recv(64).decode().strip()
        if not name:
            raise BrokenResourceError("gone")
        return Notification(trigger=name, pid=1, time=0), []

    def close(self) -> None:
        self.ours.close()
        self._theirs.close()


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Iterator[Wire]:
    made = Wire.install(monkeypatch)
    yield made
    assert made.ours.fileno() == -1, "the connection was left open"


def test_programs_are_asked_to_tell_of_the_events(wire: Wire, tmp_path: Path) -> None:
    recorded = Recorded(tmp_path, "shop:error", "a:*", condition="code > 4")
    with recorded.recorder:
        *triggers, listen = wire.requests
        assert [trigger.event.pattern for trigger in triggers] == ["shop:error", "a:*"]
        assert {trigger.event.filter for trigger in triggers} == {"code > 4"}
        assert [[each.kind for each in trigger.actions] for trigger in triggers] == [["notify"]] * 2
        assert listen.triggers == [trigger.name for trigger in triggers]
        assert recorded.recorder.descriptors() == [wire.fileno()]


def test_a_trigger_that_is_refused(wire: Wire, tmp_path: Path) -> None:
    wire.refusal = CommandError("no such thing")
    with pytest.raises(CommandError, match="no such thing"):
        Recorded(tmp_path, "shop:error").recorder.__enter__()


def test_a_burst_of_events_is_in_two_snapshots(
    wire: Wire, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(flight.time, "monotonic", lambda: now)
    recorded = Recorded(tmp_path, "shop:error", "a:*")
    with recorded.recorder as recorder:
        wire.tell("a:*")
        recorder.look()
        assert recorded.on == ["a:*"]
        assert recorder.timeout() is None
        for _ in range(50):
            wire.tell("a:*", "shop:error")
            recorder.look()
        assert recorded.on == ["a:*"]
        assert recorder.timeout() == 1.0
        # Whatever else they tell is no reason to wake up.
        assert recorder.descriptors() == []
        now += 1.0
        recorder.look()
        recorder.look()
        assert recorded.on == ["a:*", "shop:error"]
        assert recorder.timeout() is None
        # The end is no reason to forget the last one.
        wire.tell("a:*")
        recorder.finish()
        assert recorded.on == ["a:*", "shop:error", "a:*"]


def test_what_the_last_program_told_is_waited_for(wire: Wire, tmp_path: Path) -> None:
    """Its end is known at once; what it told comes by way of the registry."""
    recorded = Recorded(tmp_path, "a:*")
    with recorded.recorder as recorder:
        late = threading.Timer(0.1, wire.tell, ["a:*"])
        late.start()
        recorder.finish()
        late.join()
    assert recorded.on == ["a:*"]


def test_nobody_tells_any_more(wire: Wire, tmp_path: Path) -> None:
    recorded = Recorded(tmp_path, "a:*")
    with recorded.recorder as recorder:
        wire.hang_up()
        recorder.look()
        assert recorder.descriptors() == []
        recorder.finish()
    assert recorded.lines == []


def test_what_is_wrong_with_a_snapshot_is_said(tmp_path: Path) -> None:
    recorded = Recorded(tmp_path, "exit")
    recorded.session.problems = ["channel0_1: 1 packet is damaged"]
    recorded.recorder.finish()
    assert recorded.lines == ["snapshot on exit: channel0_1: 1 packet is damaged"]
    assert recorded.recorder.snapshots[0].lost == 1


@pytest.mark.parametrize(("dropped", "said"), [(1, "1 program that"), (3, "3 programs that")])
def test_what_newer_programs_took_the_room_of_is_said(
    dropped: int, said: str, tmp_path: Path
) -> None:
    recorded = Recorded(tmp_path, "exit")
    recorded.session.dropped = dropped
    recorded.recorder.finish()
    (line,) = recorded.lines
    assert line.startswith(f"buffers of {said} had ended were given up")


def test_a_snapshot_of_nothing(tmp_path: Path) -> None:
    recorded = Recorded(tmp_path, "exit")
    recorded.session.empty = True
    recorded.recorder.finish()
    assert recorded.on == []
    assert recorded.lines == ["no snapshot on exit: nothing was recorded until then"]


def test_an_uncountable_snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(flight, "add_files", fail)
    recorded = Recorded(tmp_path, "exit")
    recorded.recorder.finish()
    assert recorded.on == ["exit"]
    assert recorded.recorder.totals() is None
    assert recorded.lines == [f"cannot count what is in {tmp_path}/0: [Errno 5] Input/output error"]


def test_buffers() -> None:
    default = flight_channel()
    assert (default.mode, default.buffers) == ("overwrite", "uid")
    assert default.subbuf_size * default.num_subbuf == 4 << 20
    each = flight_channel(buffers="pid")
    assert (each.buffers, each.subbuf_size * each.num_subbuf) == ("pid", 512 << 10)
    # A profile's may be smaller, for a consumer that takes them at once, or larger.
    small = flight_channel(ChannelOptions(subbuf_size=32768, num_subbuf=2, read_timer_us=200))
    assert small == default
    large = flight_channel(ChannelOptions(subbuf_size=2 << 20, num_subbuf=8))
    assert large == ChannelOptions(subbuf_size=2 << 20, num_subbuf=8, mode="overwrite")


@pytest.mark.parametrize(
    ("channel", "workers", "direct", "words"),
    [
        (ChannelOptions(), 0, False, "--discard"),
        (ChannelOptions(mode="overwrite", read_timer_us=1), 0, False, "--read-timer"),
        (ChannelOptions(mode="overwrite", switch_timer_us=1), 0, False, "--switch-timer"),
        (flight_channel(), 2, False, "--workers"),
        (flight_channel(), 1, True, "--workers and --direct"),
    ],
)
def test_what_makes_no_sense(
    channel: ChannelOptions, workers: int, direct: bool, words: str
) -> None:
    with pytest.raises(UsageError, match=f"leave out {words}$"):
        check_options(channel, workers, direct)
    check_options(flight_channel(), 0, False)
