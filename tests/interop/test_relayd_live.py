# SPDX-License-Identifier: MIT
"""Live viewers at our relay: of unmodified LTTng, and of ours."""

from __future__ import annotations

import contextlib
import re
import socket
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.apps import Apps
from helpers.lttng import lttng_sessiond
from helpers.registry import RunningRegistry, running_registry, until
from helpers.relayd import Relayd, relayd
from helpers.rundir import Rundir

from ustconsumer.client.session import Session
from ustconsumer.protocol import viewer
from ustconsumer.protocol.control import ChannelOptions, Destination

_EVENTS = 300
_PERIOD_US = 100_000
_SEQ = re.compile(r"flood:tick: .*seq = (\d+)")


class Follower:
    """A babeltrace2 that follows a live session."""

    def __init__(self, relay: Relayd, session: str, output: Path):
        self._path = output
        with open(output, "w") as out, open(output.with_suffix(".err"), "w") as err:
            self.process = subprocess.Popen(
                ["babeltrace2", "--input-format=lttng-live", relay.viewer_url(session)],
                stdout=out,
                stderr=err,
            )

    def wait(self) -> list[int]:
        """Wait for its end; return the numbers of the events that it saw, in order."""
        assert self.process.wait(60) == 0, self._path.with_suffix(".err").read_text()
        return [int(number) for number in _SEQ.findall(self._path.read_text())]


@contextlib.contextmanager
def following(relay: Relayd, session: str, output: Path) -> Iterator[Follower]:
    """Run a babeltrace2 that has found the session; its name leads it to the relay."""
    until(lambda: any(row[5] == session for row in listed(relay)), "the session is there")
    one = Follower(relay, session, output)
    try:
        until(lambda: any(row[2] for row in listed(relay)), "somebody follows")
        yield one
    finally:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait()


class Peer:
    """A viewer that says what a test wants."""

    def __init__(self, relay: Relayd):
        self._socket = socket.create_connection(("127.0.0.1", relay.live), timeout=60)
        self._file = self._socket.makefile("rb")
        self.ask(viewer.Command.CONNECT, struct.pack(">QIII", 2**64 - 1, 2, 4, 1), 20)
        assert self.ask(viewer.Command.CREATE_SESSION, b"", 4) == struct.pack(">I", 1)

    def ask(self, command: int, payload: bytes, size: int) -> bytes:
        self.send(command, payload)
        return self._file.read(size)

    def send(self, command: int, payload: bytes) -> None:
        self._socket.sendall(struct.pack(">QII", len(payload), command, 0) + payload)

    def sessions(self) -> list[tuple[int, int, int, int, str, str]]:
        """Return id, live timer, clients, streams, host, name of each session."""
        (count,) = struct.unpack(">I", self.ask(viewer.Command.LIST_SESSIONS, b"", 4))
        rows = []
        for _ in range(count):
            *numbers, host, name = struct.unpack(">QIII64s255s", self._file.read(339))
            rows.append((*numbers, host.rstrip(b"\0").decode(), name.rstrip(b"\0").decode()))
        return rows

    def close(self) -> None:
        self._file.close()
        self._socket.close()


def listed(relay: Relayd) -> list[tuple[int, int, int, int, str, str]]:
    peer = Peer(relay)
    try:
        return peer.sessions()
    finally:
        peer.close()


@pytest.fixture(params=["ours", "ours --zstd", "lttng"])
def relay(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Relayd]:
    kind, *options = request.param.split()
    with relayd(kind, tmp_path / "relay", *options) as running:
        yield running


@pytest.fixture
def our_relay(tmp_path: Path) -> Iterator[Relayd]:
    with relayd("ours", tmp_path / "relay") as running:
        yield running


def live_session(registry: RunningRegistry, relay: Relayd, buffers: str) -> Session:
    session = registry.client.create(
        "s", "", destination=Destination(url=relay.url, live_us=_PERIOD_US)
    )
    session.enable_channel("ch", ChannelOptions(subbuf_size=65536, buffers=buffers))
    session.enable_event("flood:tick", channel="ch")
    session.start()
    return session


@pytest.mark.parametrize("buffers", ["uid", "pid"])
def test_a_viewer_sees_everything_of_ours(
    rundir: Rundir, relay: Relayd, apps: Apps, tmp_path: Path, buffers: str
) -> None:
    """Also the end: of programs that live shorter than a period, with buffers of their own."""
    with running_registry(rundir) as registry:
        session = live_session(registry, relay, buffers)
        with following(relay, "s", tmp_path / "seen") as follower:
            for number in range(3):
                first = number * _EVENTS
                result = rundir.run([apps.flood, str(_EVENTS), "--from", str(first)])
                assert result.returncode == 0
            session.stop()
            session.destroy()
            assert follower.wait() == list(range(3 * _EVENTS))


def test_events_are_seen_while_the_session_goes_on(
    rundir: Rundir, relay: Relayd, apps: Apps, tmp_path: Path
) -> None:
    """An idle stream does not hold up the others: it says that nothing comes."""
    with running_registry(rundir) as registry:
        session = live_session(registry, relay, "uid")
        with following(relay, "s", tmp_path / "seen") as follower:
            rundir.run([apps.flood, str(_EVENTS)])
            # Babeltrace fills a page before it writes to a file.
            until(lambda: (tmp_path / "seen").stat().st_size, "something was seen")
            assert follower.process.poll() is None
            session.destroy()
            assert follower.wait() == list(range(_EVENTS))


def test_two_viewers_see_the_same_and_one_that_stops_reading_disturbs_nobody(
    rundir: Rundir, our_relay: Relayd, apps: Apps, tmp_path: Path
) -> None:
    relay = our_relay
    with running_registry(rundir) as registry:
        session = live_session(registry, relay, "uid")
        with (
            following(relay, "s", tmp_path / "one") as one,
            following(relay, "s", tmp_path / "two") as two,
        ):
            until(lambda: listed(relay)[0][2] == 2, "two follow")
            deaf = Peer(relay)
            attach = struct.pack(">QQI", listed(relay)[0][0], 0, 1)
            deaf.send(viewer.Command.ATTACH_SESSION, attach)
            for _ in range(2000):
                deaf.send(viewer.Command.LIST_SESSIONS, b"")
            rundir.run([apps.flood, str(_EVENTS)])
            session.stop()
            session.destroy()
            assert one.wait() == list(range(_EVENTS))
            assert two.wait() == list(range(_EVENTS))
            deaf.close()


@pytest.mark.parametrize("buffers", ["--buffers-uid", "--buffers-pid"])
def test_viewers_follow_unmodified_lttng(
    our_relay: Relayd, apps: Apps, tmp_path: Path, buffers: str
) -> None:
    with lttng_sessiond() as lttng:
        lttng("create", "l", f"--live={_PERIOD_US}", f"--set-url={our_relay.url}")
        lttng("enable-channel", "-u", "ch", "--subbuf-size=65536", buffers)
        lttng("enable-event", "-u", "flood:tick", "-c", "ch")
        lttng("start", "l")
        with (
            following(our_relay, "l", tmp_path / "one") as one,
            following(our_relay, "l", tmp_path / "two") as two,
        ):
            until(lambda: listed(our_relay)[0][2] == 2, "two follow")
            for number in range(2):
                lttng.rundir.run([apps.flood, str(_EVENTS), "--from", str(number * _EVENTS)])
            lttng("stop", "l")
            lttng("destroy", "l")
            assert one.wait() == list(range(2 * _EVENTS))
            assert two.wait() == list(range(2 * _EVENTS))
