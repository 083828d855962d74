# SPDX-License-Identifier: MIT
"""Snapshots of memory that contradicts itself: a partial trace or a complaint, nothing else."""

from __future__ import annotations

import mmap
import os
import random
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from helpers.apps import Apps
from helpers.babeltrace import babeltrace2_text
from helpers.registry import running_registry, until
from helpers.rundir import Rundir
from helpers.streams import snapshot_streams

from ustconsumer.abi.ring import RING_LAYOUTS
from ustconsumer.errors import UstConsumerError
from ustconsumer.protocol.control import ChannelOptions
from ustconsumer.ringbuffer.geometry import Geometry

SUBBUF_SIZE, NUM_SUBBUF = 4096, 16
#: Far above what a snapshot takes, and far below for ever.
SECONDS = 30.0
EVENTS = 300


@pytest.mark.parametrize(
    "mode",
    [
        pytest.param("static", marks=pytest.mark.repeat(ci=600, soak=100_000)),
        pytest.param("live", marks=pytest.mark.repeat(ci=120, soak=20_000)),
    ],
)
def test_whatever_the_memory_says_only_its_packets_come_out(mode: str, repeat: int) -> None:
    """Words are changed before, or by another process while, a snapshot is taken."""
    result = subprocess.run(
        [sys.executable, "-P", "-m", "helpers.hostile_snapshot", mode, "0", str(repeat)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    # Not everything was refused, or the test would show nothing.
    assert int(result.stdout) > repeat


@contextmanager
def liar(pid: int, channel: str, geometry: Geometry) -> Iterator[list[int]]:
    """Change words in the buffers of a program's channel all the time; count how often."""
    maps = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        if os.readlink(entry).startswith(f"/memfd:ust-{channel}"):
            fd = os.open(entry, os.O_RDWR)
            maps.append(mmap.mmap(fd, geometry.file_size))
            os.close(fd)
    assert maps
    headers = [geometry.data_at(page) for page in range(geometry.nr_pages)]
    words = [
        *[at for name, at in geometry.places().items() if name in ("offset", "consumed", "rsb_id")],
        *range(geometry.hot, geometry.data, 8),
        *range(geometry.pages, geometry.file_size - 7, 8),
        *[start + at for start in headers for at in (0, 20, *range(32, geometry.header_size, 8))],
    ]
    ended = threading.Event()
    changes = [0]

    def run() -> None:
        chance = random.Random(1)  # noqa: S311 (repeatable, not secret)
        while not ended.is_set():
            memory, at = chance.choice(maps), chance.choice(words) & ~7
            (old,) = struct.unpack_from("<Q", memory, at)
            value = chance.choice(
                (old ^ 1 << chance.randrange(64), chance.getrandbits(64), old + 1)
            )
            struct.pack_into("<Q", memory, at, value % (1 << 64))
            changes[0] += 1
            time.sleep(0)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield changes
    finally:
        ended.set()
        thread.join()
        for memory in maps:
            memory.close()


@pytest.mark.peers("gcc", "lttng-ust-headers", "babeltrace2")
@pytest.mark.repeat(ci=15, soak=1000)
@pytest.mark.parametrize("snapshot", [True, False], ids=["overwrite", "consumed"])
def test_a_session_one_of_whose_channels_lies(
    snapshot: bool, rundir: Rundir, apps: Apps, repeat: int
) -> None:
    geometry = Geometry(RING_LAYOUTS["ust-9-x86_64"], SUBBUF_SIZE, NUM_SUBBUF, overwrite=snapshot)
    mode = "overwrite" if snapshot else "discard"
    with running_registry(rundir) as registry:
        session = registry.client.create("s", rundir.home / "s", snapshot=snapshot)
        for channel in ("lying", "honest"):
            options = ChannelOptions(subbuf_size=SUBBUF_SIZE, num_subbuf=NUM_SUBBUF, mode=mode)
            session.enable_channel(channel, options)
        session.enable_event("sleeper:beat", "lying")
        session.enable_event("flood:tick", "honest")
        session.start()
        beating = rundir.start([apps.sleeper, "1"])
        until(lambda: any(s.produced > 1000 for s in session.info().streams), "it writes")
        assert rundir.run([apps.flood, str(EVENTS)]).returncode == 0
        given, said = 0, 0
        with liar(beating.pid, "lying", geometry) as changes:
            for number in range(repeat):
                before, began = changes[0], time.monotonic()
                until(lambda: changes[0] > before + 20, "the memory lies")  # noqa: B023
                try:
                    taken = session.snapshot(rundir.home / f"t-{number}")
                except (UstConsumerError, OSError):
                    said += 1
                    continue
                assert time.monotonic() - began < SECONDS
                given += 1
                said += bool(taken.problems)
                check(Path(taken.path), taken.lost)
        assert given
        beating.send_signal(signal.SIGKILL)
        beating.wait()
        last = Path(session.snapshot(rundir.home / "last").path)
        session.destroy()
    assert said
    if snapshot:
        check_honest(last)


def check(place: Path, lost: int) -> None:
    """Check that packets are whole, in order, and complete where nothing is said to be lost."""
    for name, packets in snapshot_streams(place).items():
        sequences = [packet.sequence for packet in packets]
        assert sequences == sorted(set(sequences)), name
        assert all(packet.content_size <= SUBBUF_SIZE for packet in packets)
        if sequences and (not lost or "honest" in name):
            assert sequences == list(range(sequences[0], sequences[0] + len(sequences))), name


def check_honest(place: Path) -> None:
    """Check that the other channel has all its events."""
    for file in place.rglob("lying_*"):
        file.unlink()
    lines = babeltrace2_text(place).lines
    assert sum("flood:tick" in line for line in lines) == EVENTS
