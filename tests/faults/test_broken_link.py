# SPDX-License-Identifier: MIT
"""Links that are refused, broken, slow or stand still: counted, and the program never waits."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from helpers.apps import Apps
from helpers.link import can_lose_packets, link, losing
from helpers.registry import RunningRegistry, running_registry, until
from helpers.relayd import Relayd, relayd
from helpers.rundir import Rundir

from ustconsumer.client.session import Session
from ustconsumer.protocol.control import ChannelOptions, Destination

pytestmark = pytest.mark.peers("gcc", "lttng-ust-headers", "babeltrace2", "lttng")

#: Many times what the buffers of a CPU hold.
_EVENTS = 300_000
_SUBBUF_SIZE, _NUM_SUBBUF = 16384, 8
#: An event of flood with a short header: number, thread, "flood" and its zero.
_MOST = _SUBBUF_SIZE * _NUM_SUBBUF // (6 + 14)
_SEQ = re.compile(r"seq = (\d+)")


class Streamed(NamedTuple):
    """A session that streams, and the program to be traced."""

    session: Session
    registry: RunningRegistry
    run: Callable[[], None]
    #: events so far
    emitted: Callable[[], int]


@contextmanager
def streamed(rundir: Rundir, apps: Apps, url: str, spool: Path | None = None) -> Iterator[Streamed]:
    with running_registry(rundir) as registry:
        destination = Destination(url=url, spool="" if spool is None else str(spool))
        session = registry.client.create("s", "", destination=destination)
        session.enable_channel(
            "ch", ChannelOptions(subbuf_size=_SUBBUF_SIZE, num_subbuf=_NUM_SUBBUF)
        )
        session.enable_event("flood:tick", channel="ch")
        session.start()
        runs = [0]

        def run() -> None:
            """Trace a program; it ends whatever the link does: `run` returns only then."""
            program = rundir.start([apps.flood, str(_EVENTS), "--from", str(runs[0] * _EVENTS)])
            runs[0] += 1
            assert program.wait(timeout=120) == 0

        yield Streamed(session, registry, run, lambda: runs[0] * _EVENTS)


def discarded(session: Session) -> int:
    return sum(channel.discarded for channel in session.info().channels)


def finish(streams: Streamed, relay: Relayd) -> tuple[Counter[int], int]:
    """End the session; return how often each event is at the relay, how many were discarded."""
    session = streams.session
    session.stop()
    while True:
        consumer = session.info().consumer
        assert consumer is not None
        if not consumer.stats.unwritten_bytes:
            break
        # The relay came back a moment too late for the stop.
        session.start()
        session.stop()
    lost = discarded(session)
    session.destroy()
    until(lambda: not Path(f"/proc/{consumer.pid}").exists(), "the consumer has ended")
    assert not [line for line in streams.registry.log() if "did not arrive" in line]
    found: Counter[int] = Counter()
    for metadata in relay.output.rglob("metadata"):
        if metadata.stat().st_size:
            result = subprocess.run(
                ["babeltrace2", metadata.parent], capture_output=True, text=True, timeout=300
            )
            assert relay.kind == "lttng" or not result.returncode, result.stderr
            found.update(int(number) for number in _SEQ.findall(result.stdout))
    return found, lost


def check(streams: Streamed, relay: Relayd, *, again: bool = False) -> None:
    """Everything was recorded or counted; ``again``: LTTng's relay may have some twice."""
    found, lost = finish(streams, relay)
    print(f"{relay.kind}: {streams.emitted()} emitted, {len(found)} found, {lost} discarded")
    assert len(found) + lost == streams.emitted()
    if relay.kind == "ours" or not again:
        assert max(found.values()) == 1


@pytest.mark.parametrize("kind", ["ours", "lttng"])
def test_refused(rundir: Rundir, apps: Apps, tmp_path: Path, kind: str) -> None:
    with relayd(kind, tmp_path / "relay") as relay:
        relay.kill()
        with streamed(rundir, apps, relay.url) as streams:
            streams.run()
            lost = discarded(streams.session)
            # What the buffers of the CPUs hold, and no more.
            cpus = os.cpu_count() or 1
            assert _EVENTS - cpus * _MOST <= lost < _EVENTS
            relay.start()
            check(streams, relay)


@pytest.mark.parametrize("kind", ["ours", "lttng"])
def test_stalled(rundir: Rundir, apps: Apps, tmp_path: Path, kind: str) -> None:
    """The relay is stopped in the middle: what is under way arrives when it goes on."""
    with (
        relayd(kind, tmp_path / "relay") as relay,
        streamed(rundir, apps, relay.url) as streams,
    ):
        streams.run()
        before = discarded(streams.session)
        os.kill(relay.process.pid, signal.SIGSTOP)
        try:
            streams.run()
            assert discarded(streams.session) > before
        finally:
            os.kill(relay.process.pid, signal.SIGCONT)
        check(streams, relay)


@pytest.mark.parametrize("kind", ["ours", "lttng"])
def test_reset(rundir: Rundir, apps: Apps, tmp_path: Path, kind: str) -> None:
    with (
        relayd(kind, tmp_path / "relay") as relay,
        link(relay) as way,
        streamed(rundir, apps, way.url) as streams,
    ):
        for _ in range(3):
            streams.run()
            connections = way.connections
            way.reset()
            until(lambda n=connections: way.connections >= n + 2, "connected again")  # type: ignore[misc]
        check(streams, relay, again=True)


@pytest.mark.parametrize("kind", ["ours", "lttng"])
def test_slow(rundir: Rundir, apps: Apps, tmp_path: Path, kind: str) -> None:
    """Slower than the program: the rest is discarded and counted, without an outage."""
    with (
        relayd(kind, tmp_path / "relay") as relay,
        link(relay) as way,
        streamed(rundir, apps, way.url) as streams,
    ):
        way.rate = 1e6
        streams.run()
        assert discarded(streams.session) > 0
        assert way.connections <= 2
        way.rate = 0
        check(streams, relay)


@pytest.mark.parametrize("kind", ["ours", "lttng"])
def test_standing_still(rundir: Rundir, apps: Apps, tmp_path: Path, kind: str) -> None:
    """The connections stay, nothing comes through; then they break."""
    with (
        relayd(kind, tmp_path / "relay") as relay,
        link(relay) as way,
        streamed(rundir, apps, way.url) as streams,
    ):
        streams.run()
        before = discarded(streams.session)
        way.flowing.clear()
        streams.run()
        assert discarded(streams.session) > before
        way.reset()
        way.flowing.set()
        check(streams, relay, again=True)


def test_restarted(rundir: Rundir, apps: Apps, tmp_path: Path) -> None:
    """An orderly end and a new start: the files go on where they were."""
    with (
        relayd("ours", tmp_path / "relay") as relay,
        streamed(rundir, apps, relay.url) as streams,
    ):

        def connected() -> int:
            return sum(line.endswith(": connected") for line in streams.registry.log())

        for number in range(2):
            streams.run()
            relay.stop()
            streams.run()
            relay.start()
            until(lambda n=number: connected() > n, "connected again")  # type: ignore[misc]
        check(streams, relay)
        assert connected() == 2
    assert len(list(relay.output.rglob("metadata"))) == 1


@pytest.mark.parametrize("kind", ["ours", "lttng"])
def test_a_spool_takes_more_than_the_buffers_hold(
    rundir: Rundir, apps: Apps, tmp_path: Path, kind: str
) -> None:
    """It goes to disk, and arrives when the relay is there."""
    spool = rundir.home / "spool"
    with relayd(kind, tmp_path / "relay") as relay:
        relay.kill()
        with streamed(rundir, apps, relay.url, spool) as streams:
            for _ in range(2):
                streams.run()

            def waiting() -> int:
                return sum(file.stat().st_size for file in spool.rglob("*") if file.is_file())

            until(lambda: waiting() > 4 * _SUBBUF_SIZE * _NUM_SUBBUF, "packets are kept")
            relay.start()
            check(streams, relay)
    assert not any(spool.iterdir())


def replaced(session: Session, kill: Callable[[], None]) -> None:
    """Kill the consumer after, or while, something else is done; wait for the next one."""
    before = session.info().consumer
    assert before is not None
    kill()
    os.kill(before.pid, signal.SIGKILL)

    def gone() -> bool:
        now = session.info().consumer
        return now is None or now.pid != before.pid

    until(gone, "the registry has noticed")
    # Who is killed often has no successor by itself.
    session.spawn_consumer()
    until(lambda: session.info().consumer is not None, "another consumer")


@pytest.mark.parametrize("kind", ["ours", "lttng"])
def test_a_consumer_that_is_killed_leaves_its_spool_to_the_next(
    rundir: Rundir, apps: Apps, tmp_path: Path, kind: str
) -> None:
    spool = rundir.home / "spool"
    with relayd(kind, tmp_path / "relay") as relay:
        relay.kill()
        with streamed(rundir, apps, relay.url, spool) as streams:
            for _ in range(2):
                replaced(streams.session, streams.run)
            relay.start()
            check(streams, relay)
    assert not any(spool.iterdir())


@pytest.mark.repeat(ci=3, soak=50)
@pytest.mark.parametrize("kept", [False, True], ids=["buffers", "spool"])
def test_a_consumer_that_is_killed_under_load(
    rundir: Rundir, apps: Apps, tmp_path: Path, kept: bool, repeat: int
) -> None:
    """With our relay: the next one goes on behind what has arrived."""
    spool = rundir.home / "spool" if kept else None
    with (
        relayd("ours", tmp_path / "relay") as relay,
        link(relay) as way,
        streamed(rundir, apps, way.url, spool) as streams,
    ):
        # So slow that there is always something under way.
        way.rate = 20e6
        for _ in range(repeat):
            replaced(streams.session, streams.run)
        way.rate = 0
        check(streams, relay)


@pytest.mark.parametrize("kind", ["ours", "lttng"])
def test_packets_are_lost(rundir: Rundir, apps: Apps, tmp_path: Path, kind: str) -> None:
    """Nothing comes back any more, for a moment each time: TCP sends again, we need not."""
    if not can_lose_packets():
        pytest.skip("no network namespace of our own: needs root")
    with (
        relayd(kind, tmp_path / "relay") as relay,
        losing(relay) as (way, lose),
        streamed(rundir, apps, way.url) as streams,
    ):
        for _ in range(2):
            streams.run()
            before = discarded(streams.session)
            lose(True)
            streams.run()
            assert discarded(streams.session) > before
            lose(False)
        check(streams, relay, again=True)
