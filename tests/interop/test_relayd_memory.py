# SPDX-License-Identifier: MIT
"""A relay that keeps live sessions in memory: viewers read them, nothing is on disk."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.apps import Apps
from helpers.lttng import Lttng, lttng_sessiond
from helpers.registry import running_registry, until
from helpers.relayd import Relayd, relayd
from helpers.relaypeer import Producer, Viewer, packet_of
from helpers.rundir import Rundir

from ustconsumer.protocol.control import ChannelOptions, Destination
from ustconsumer.protocol.viewer import IndexStatus

_EVENTS = 500
_SEQ = re.compile(r"flood:tick: .*seq = (\d+)")


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[Relayd]:
    with relayd("ours", tmp_path / "relay", "--memory=16M") as running:
        yield running
        assert not list(running.output.iterdir())


def follow(relay: Relayd, session: str, output: Path) -> subprocess.Popen[bytes]:
    """Start a babeltrace2 and wait until it follows."""
    until(lambda: session in names(relay), "the session is there")
    with open(output, "w") as out:
        process = subprocess.Popen(
            ["babeltrace2", "--input-format=lttng-live", relay.viewer_url(session)], stdout=out
        )
    until(lambda: clients(relay) == 1, "somebody follows")
    return process


def names(relay: Relayd) -> dict[str, int]:
    peer = Viewer(relay.live)
    try:
        return peer.sessions()
    finally:
        peer.close()


def clients(relay: Relayd) -> int:
    """Return how many viewers follow the only session."""
    peer = Viewer(relay.live)
    try:
        count = int.from_bytes(peer.call(2, b"", 4), "big")
        rows = [peer.connection.exactly(339) for _ in range(count)]
        return sum(int.from_bytes(row[12:16], "big") for row in rows)
    finally:
        peer.close()


def seen(process: subprocess.Popen[bytes], output: Path) -> list[int]:
    """Wait for the viewer's end; return the numbers of the events."""
    assert process.wait(60) == 0
    return [int(number) for number in _SEQ.findall(output.read_text())]


@pytest.mark.parametrize("buffers", ["uid", "pid"])
def test_a_viewer_sees_everything_of_ours(
    rundir: Rundir, relay: Relayd, apps: Apps, tmp_path: Path, buffers: str
) -> None:
    with running_registry(rundir) as registry:
        session = registry.client.create(
            "s", "", destination=Destination(url=relay.url, live_us=100_000)
        )
        session.enable_channel("ch", ChannelOptions(buffers=buffers))
        session.enable_event("flood:tick", channel="ch")
        session.start()
        viewer = follow(relay, "s", tmp_path / "seen")
        try:
            for number in range(2):
                first = str(number * _EVENTS)
                assert rundir.run([apps.flood, str(_EVENTS), "--from", first]).returncode == 0
            session.stop()
            session.destroy()
            assert seen(viewer, tmp_path / "seen") == list(range(2 * _EVENTS))
        finally:
            viewer.kill()
            viewer.wait()


def lttng_live(lttng: Lttng, relay: Relayd) -> None:
    lttng("create", "l", "--live=100000", f"--set-url={relay.url}")
    lttng("enable-event", "-u", "flood:tick")
    lttng("start", "l")


def test_a_viewer_follows_unmodified_lttng(relay: Relayd, apps: Apps, tmp_path: Path) -> None:
    with lttng_sessiond() as lttng:
        lttng_live(lttng, relay)
        viewer = follow(relay, "l", tmp_path / "seen")
        try:
            lttng.rundir.run([apps.flood, str(_EVENTS)])
            lttng.rundir.run([apps.flood, str(_EVENTS), "--from", str(_EVENTS)])
            lttng("stop", "l")
            lttng("destroy", "l")
            assert seen(viewer, tmp_path / "seen") == list(range(2 * _EVENTS))
        finally:
            viewer.kill()
            viewer.wait()


def test_a_viewer_that_is_too_slow_goes_on_with_what_is_there(tmp_path: Path) -> None:
    """And has the packet that it was told of."""
    with relayd("ours", tmp_path / "relay", "--memory=1M") as relay:
        producer = Producer((relay.control, relay.data), live_us=1000)
        stream, metadata = producer.add("ch_0"), producer.add("metadata")
        producer.publish()
        producer.metadata(metadata, b"m" * 4096)
        packets = [packet_of(number, 1000, 65536) for number in range(100)]
        producer.put(stream, 0, packets[0])
        producer.wait(stream, 0)
        viewer = Viewer(relay.live)
        status, streams = viewer.attach(viewer.sessions()["s"])
        assert (status, set(streams)) == (1, {"ch_0", "metadata"})
        assert viewer.next_index(stream)[0] == 0
        for number in range(1, 100):
            producer.put(stream, number, packets[number])
        producer.wait(stream, 99)
        # The first is not kept for others.
        assert viewer.packet(stream, 0, 65536) == (1, packets[0].stored)
        seen = []
        while (entry := viewer.next_index(stream))[7] == IndexStatus.OK:
            number = entry[0] // 65536
            assert viewer.packet(stream, entry[0], 65536) == (1, packets[number].stored)
            seen.append(number)
        # 15 packets of 64 KiB, metadata and what is known of them have room in 1 MiB.
        assert seen == list(range(85, 100))
        assert viewer.metadata(metadata) == (1, b"m" * 4096)
        assert "missed 84 packets" in relay.log
        viewer.close()
        producer.close()
