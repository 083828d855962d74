# SPDX-License-Identifier: MIT
"""Programs killed at full speed: the snapshot has every committed event up to the torn one.

What was committed the program has said itself, in a file that outlives it; whether the
kill tore an event is what the counters in the buffers say.
"""

from __future__ import annotations

import mmap
import os
import random
import signal
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.apps import Apps
from helpers.babeltrace import babeltrace2_text
from helpers.registry import RunningRegistry, running_registry, until
from helpers.rundir import Rundir
from helpers.streams import floods, snapshot_streams

from ustconsumer.abi.ring import RING_LAYOUTS
from ustconsumer.consumer.snapshot import Snapshot
from ustconsumer.protocol.control import ChannelOptions
from ustconsumer.ringbuffer.geometry import Geometry
from ustconsumer.ringbuffer.memory import StreamMemory

pytestmark = pytest.mark.peers("gcc", "lttng-ust-headers", "babeltrace2")

LAYOUT = RING_LAYOUTS["ust-9-x86_64"]


def torn(registry: RunningRegistry, geometry: Geometry) -> list[bool]:
    """Return of each buffer with events whether something reserved in it was never committed."""
    found = []
    for entry in Path(f"/proc/{registry.process.pid}/fd").iterdir():
        try:
            if not os.readlink(entry).startswith("/memfd:ust-chan"):
                continue
            fd = os.open(entry, os.O_RDONLY)
        except FileNotFoundError:
            continue  # closed meanwhile
        shared = mmap.mmap(fd, geometry.file_size, mmap.MAP_SHARED, mmap.PROT_READ)
        os.close(fd)
        words = StreamMemory(shared, geometry)
        offset = words.load("offset")
        if offset > geometry.header_size:
            found.append(any(_holes(words, geometry, offset)))
        words.release()
        shared.close()
    assert found
    return found


def _holes(words: StreamMemory, geometry: Geometry, offset: int) -> Iterator[bool]:
    size = geometry.subbuf_size
    last = geometry.subbuf_trunc(offset)
    for position in range(max(0, last - geometry.buf_size + size), last + 1, size):
        base = geometry.commit_base(position)
        counted = words.load_cc(geometry.index(position)) - base & geometry.commit_count_mask
        yield counted != min(offset - position, size)


class Killed:
    """A program that is killed at full speed, and the snapshot that is taken then.

    Attributes
    ----------
    complete : tuple of int
        Events each thread has emitted.
    snapshot : Snapshot
    torn : bool
        An event was reserved and never committed.
    lost : int
        Events that the program could not record.
    """

    def __init__(
        self,
        registry: RunningRegistry,
        rundir: Rundir,
        apps: Apps,
        run: int,
        threads: int,
        spread: bool,
        buffers: str,
    ) -> None:
        choose = random.Random(run)  # noqa: S311 - no secret
        num_subbuf = choose.choice([2, 4, 16])
        session = registry.client.create("killed", rundir.home / f"s-{run}", snapshot=True)
        options = ChannelOptions(
            subbuf_size=4096, num_subbuf=num_subbuf, mode="overwrite", buffers=buffers
        )
        session.enable_channel("chan", options)
        session.enable_event("flood:tick", "chan")
        session.start()
        self._file = rundir.home / f"progress-{run}"
        self._threads = threads
        command = [apps.progress, self._file, str(threads), *(("--spread",) if spread else ())]
        process: subprocess.Popen[bytes] = rundir.start(command)
        some = choose.randrange(1, 50_000)
        until(lambda: min(self.complete, default=0) > some, "it writes")
        process.kill()
        assert process.wait() == -signal.SIGKILL
        self.snapshot = session.snapshot()
        self.torn = any(torn(registry, Geometry(LAYOUT, 4096, num_subbuf, overwrite=True)))
        self.lost = sum(stream.lost for stream in session.info().streams)
        session.destroy()
        assert self.snapshot.lost == 0, self.snapshot.problems
        place = Path(self.snapshot.path)
        packets = [each for found in snapshot_streams(place).values() for each in found]
        counted = sum(1 for packet in packets for _ in floods(packet))
        assert len(babeltrace2_text(place).lines) == counted

    @property
    def complete(self) -> tuple[int, ...]:
        raw = self._file.read_bytes() if self._file.exists() else b""
        return struct.unpack(f"<{self._threads}q", raw) if len(raw) == 8 * self._threads else ()


def events(snapshot: Snapshot) -> dict[int, list[int]]:
    """Return the numbers of the events of each thread; packets have no gaps."""
    found: dict[int, list[int]] = {}
    for packets in snapshot_streams(Path(snapshot.path)).values():
        sequences = [packet.sequence for packet in packets]
        assert sequences == list(range(sequences[0], sequences[0] + len(sequences)))
        for packet in packets:
            for record in floods(packet):
                found.setdefault(record.thread, []).append(record.seq)
    return found


@pytest.mark.repeat(ci=4, soak=200)
@pytest.mark.parametrize("buffers", ["uid", "pid"])
@pytest.mark.parametrize("threads", [1, 2])
def test_each_thread_has_its_stream(
    threads: int, buffers: str, rundir: Rundir, apps: Apps, repeat: int
) -> None:
    if threads > len(os.sched_getaffinity(0)):
        pytest.skip("two CPUs are needed")
    with running_registry(rundir) as registry:
        for run in range(repeat):
            killed = Killed(registry, rundir, apps, run, threads, True, buffers)
            found = events(killed.snapshot)
            for thread, complete in enumerate(killed.complete):
                numbers = found[thread]
                # Its newest event may have been committed and not yet counted.
                assert numbers[-1] + 1 in (complete, complete + 1), killed.snapshot.problems
                assert numbers == list(range(numbers[0], numbers[-1] + 1))


@pytest.mark.repeat(ci=6, soak=300)
@pytest.mark.parametrize("buffers", ["uid", "pid"])
def test_two_threads_in_one_stream(buffers: str, rundir: Rundir, apps: Apps, repeat: int) -> None:
    """What one has written behind the torn event of the other, in the same packet, is gone.

    So is what one emits while the other is paused in an event and the buffer comes round:
    that is counted as lost.
    """
    cut = 0
    with running_registry(rundir) as registry:
        for run in range(repeat):
            killed = Killed(registry, rundir, apps, run, 2, False, buffers)
            found = events(killed.snapshot)
            missing = {}
            for thread, numbers in found.items():
                assert numbers == sorted(set(numbers))
                missing[thread] = killed.complete[thread] - (numbers[-1] + 1)
            told = (missing, killed.lost, killed.snapshot.problems)
            # The newest may have been committed and not yet counted.
            assert all(gone >= -1 for gone in missing.values()), told
            if killed.torn:
                cut += 1
                # Everything of the one whose event is torn came before that; one that had no
                # turn for long may have been overwritten altogether.
                assert len(missing) < 2 or min(missing.values()) <= 0, told
            else:
                assert max(missing.values()) <= killed.lost, told
    print(f"\n{repeat} programs killed, {cut} left an event torn")
