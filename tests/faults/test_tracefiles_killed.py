# SPDX-License-Identifier: MIT
"""Consumers are killed while they go from one small trace file to the next."""

from __future__ import annotations

import os
import random
import re
import signal
import struct
import time
from pathlib import Path

import pytest
from helpers.apps import Apps
from helpers.babeltrace import babeltrace2_text, discarded
from helpers.registry import running_registry, until
from helpers.rundir import Rundir

from ustconsumer.client.session import Session
from ustconsumer.protocol.control import ChannelOptions, Destination

pytestmark = pytest.mark.peers("gcc", "lttng-ust-headers", "babeltrace2")

EVENTS = 60_000
SIZE = 8192
_SEQ = re.compile(r"seq = (\d+)")
_ENTRY = struct.Struct(">9Q")


def _pid(session: Session) -> int:
    consumer = session.info().consumer
    return 0 if consumer is None else consumer.pid


def _record(
    rundir: Rundir, apps: Apps, output: Path, repeat: int, count: int, zstd: int
) -> tuple[int, dict[str, int]]:
    """Record while consumers are killed; return how many events were discarded, and packets made.

    The latter by stream.
    """
    with running_registry(rundir) as registry:
        session = registry.client.create("s", output, destination=Destination(zstd=zstd))
        options = ChannelOptions(
            subbuf_size=4096, num_subbuf=512, tracefile_size=SIZE, tracefile_count=count
        )
        session.enable_channel("ch", options)
        session.enable_event("flood:tick", channel="ch")
        session.start()
        killed: set[int] = set()
        for number in range(repeat):
            until(lambda: _pid(session) not in {0, *killed}, "a consumer")
            pid = _pid(session)
            program = rundir.start([apps.flood, str(EVENTS), "--from", str(number * EVENTS)])
            time.sleep(random.uniform(0.005, 0.08))  # noqa: S311
            os.kill(pid, signal.SIGKILL)
            killed.add(pid)
            assert program.wait() == 0
            until(lambda: _pid(session) not in killed, "the registry has noticed")
            # Who is killed often has no successor by itself.
            session.spawn_consumer()
        until(lambda: _pid(session) not in {0, *killed}, "the last consumer")
        session.stop()
        info = session.info()
        session.destroy()
    lost = sum(channel.discarded for channel in info.channels)
    return lost, {f"ch_{stream.cpu}": stream.produced // 4096 for stream in info.streams}


def _streams(output: Path) -> dict[str, list[list[int]]]:
    """Return the packets' sequence numbers in the files of each stream, in their order."""
    found: dict[str, list[list[int]]] = {}
    for index in output.glob("**/index/ch_*.idx"):
        raw = index.read_bytes()[16:]
        assert len(raw) % _ENTRY.size == 0
        data = index.parent.parent / index.stem
        entries = list(_ENTRY.iter_unpack(raw))
        assert data.stat().st_size == sum(entry[1] // 8 for entry in entries) <= SIZE
        stream = data.name.rsplit("_", 1)[0]
        found.setdefault(stream, []).append([entry[8] for entry in entries])
    return {stream: sorted(files) for stream, files in found.items()}


@pytest.mark.repeat(ci=3, soak=30)
@pytest.mark.parametrize("zstd", [0, 1], ids=["plain", "zstd"])
def test_each_event_once(rundir: Rundir, apps: Apps, zstd: int, repeat: int) -> None:
    output = rundir.home / "trace"
    lost, made = _record(rundir, apps, output, repeat, 0, zstd)
    if zstd:
        result = rundir.drtrace("unpack", "--in-place", output)
        assert result.returncode == 0, result.stderr
    reading = babeltrace2_text(output)
    assert discarded(reading.stderr) == lost
    numbers = [int(number) for line in reading.lines for number in _SEQ.findall(line)]
    assert len(numbers) == len(set(numbers))
    assert len(numbers) + lost == repeat * EVENTS
    for name, files in _streams(output).items():
        sequences = [sequence for file in files for sequence in file]
        assert sequences == list(range(made[name]))
        assert {len(file) for file in files[:-1]} <= {2}


@pytest.mark.repeat(ci=3, soak=30)
def test_the_newest_packets_are_there(rundir: Rundir, apps: Apps, repeat: int) -> None:
    output = rundir.home / "trace"
    _, made = _record(rundir, apps, output, repeat, 3, 0)
    reading = babeltrace2_text(output)
    numbers = [int(number) for line in reading.lines for number in _SEQ.findall(line)]
    assert len(numbers) == len(set(numbers))
    for name, files in _streams(output).items():
        sequences = [sequence for file in files for sequence in file]
        assert sequences == list(range(sequences[0], made[name]))
        assert len(files) == 3 or sequences[0] == 0
