# SPDX-License-Identifier: MIT
"""Consumers killed at every step under load: a program writes on, a successor goes on.

``pytest --soak --timeout=3600 -s tests/faults/test_kill_points.py`` prints the table of
``docs/reliability.md``. What is in the trace then is compared with what the program
emitted; every step in every state of a buffer is ``tests/unit/_native/test_kill_points.py``.
"""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from helpers import processes
from helpers.apps import Apps
from helpers.killbuild import points_in_sources
from helpers.registry import RunningRegistry, running_registry, until
from helpers.rundir import Rundir

from ustconsumer.client.totals import count
from ustconsumer.protocol.control import ChannelOptions

pytestmark = pytest.mark.peers("gcc", "cython", "lttng-ust-headers")

ENTRY = struct.Struct(">9Q")
INDEX_HEADER = 16
EVENTS = 1_000_000
#: Programs that write so many, one after the other, until a point was passed often enough.
MOST_FLOODS = 10
#: (mode, sub-buffers): a few, that a fast program fills while nobody reads, or enough for all.
BUFFERS = {"discard": ("discard", 8), "overwrite": ("overwrite", 2048), "tight": ("overwrite", 8)}
#: These first: in CI there is time for a few.
FIRST = ["exchange_swapped", "index_torn", "data_written", "put_released", "switch_reserved"]
POINTS = FIRST + [point for point in points_in_sources() if point not in FIRST]
#: What a consumer that writes to disk does in overwrite mode only: it takes pages.
OVERWRITE_ONLY = (
    *("snapshot_", "exchange_", "get_", "put_", "deliver_id"),
    *("take_over_page", "take_over_released"),
)
#: Points passed by who finds a certain work of a dead one: where that one dies.
PREDECESSORS = {
    "take_over_page": "exchange_swapped",
    "take_over_released": "get_held",
    "move_forward": "index_written",
    "move_moved": "index_written",
}


@dataclass
class Row:
    """A line of the table.

    Attributes
    ----------
    lost : int
        Events neither recorded nor counted as discarded. With ``tight`` buffers those of
        overwritten packets are not told from others: not counted.
    twice, overwritten : int
        Packets.
    """

    point: str
    mode: str
    lost: int = 0
    twice: int = 0
    overwritten: int = 0
    go_on_ms: float = 0

    def __str__(self) -> str:
        lost = f"{self.overwritten} overwritten" if self.mode == "tight" else self.lost
        columns = (self.point, self.mode, lost, self.twice, f"{self.go_on_ms:.0f} ms")
        return f"| {' | '.join(map(str, columns))} |"


class Stage:
    """A session, a program that floods it, and consumers that die."""

    def __init__(
        self, rundir: Rundir, registry: RunningRegistry, kill_ring: Path, row: Row
    ) -> None:
        self.rundir = rundir
        self.kill_ring = kill_ring
        self.name = f"{row.mode}-{row.point}"
        self.output = rundir.home / self.name
        self.session = registry.client.create(self.name, self.output)
        mode, num_subbuf = BUFFERS[row.mode]
        options = ChannelOptions(
            subbuf_size=16384, num_subbuf=num_subbuf, mode=mode, switch_timer_us=2000
        )
        self.session.enable_channel("chan", options)
        self.session.enable_event("flood:tick", "chan")
        self._consumers = 0

    def doomed(self, point: str, passes: int) -> tuple[subprocess.Popen[bytes], Path]:
        """Start a consumer that will die at a point; it attaches when the file exists."""
        self._consumers += 1
        gate = self.rundir.home / f"{self.name}-{self._consumers}"
        process = self.rundir.start_python(
            *("-P", "-m", "helpers.killbuild", self.kill_ring, point, str(passes), gate),
            *("disk", self.name, "--rundir", self.rundir.path),
            env={"PYTHONPATH": os.pathsep.join(each for each in sys.path if each)},
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        return process, gate

    def attached(self, process: subprocess.Popen[bytes]) -> bool:
        consumer = self.session.info().consumer
        return process.poll() is not None or (consumer is not None and consumer.pid == process.pid)

    def sequences(self) -> list[list[int]]:
        """Return the sequence numbers of the packets of each stream, as the indexes have them."""
        found = []
        for index in self.output.glob("**/index/*.idx"):
            raw = index.read_bytes()[INDEX_HEADER:]
            whole = raw[: len(raw) // ENTRY.size * ENTRY.size]
            found.append([entry[8] for entry in ENTRY.iter_unpack(whole)])
        return found

    def packets(self) -> int:
        return sum(map(len, self.sequences()))

    def emptied(self) -> bool:
        """Return whether all that was written is taken."""
        return all(stream.consumed == stream.produced for stream in self.session.info().streams)


def play(stage: Stage, apps: Apps, row: Row) -> None:
    """Have a consumer die, and another one go on; fill in what came of it."""
    session = stage.session
    go = stage.rundir.home / f"{stage.name}-go"
    predecessor = PREDECESSORS.get(row.point)
    # A packet is opened by a consumer at the end only.
    at_the_end = row.point.startswith(("header", "switch_h"))
    passes = 1 if predecessor or at_the_end or row.point.startswith("take_over") else 5
    session.start(consumer=None)
    flood = stage.rundir.start([apps.flood, str(EVENTS), "--wait-start", go])
    until(lambda: session.info().streams, "it is registered")
    last, last_gate = stage.doomed(row.point, passes)
    if predecessor:
        first, gate = stage.doomed(predecessor, 3)
        gate.touch()
        until(lambda: stage.attached(first), "it attaches")
        go.touch()
        assert first.wait() == -signal.SIGKILL
        last_gate.touch()
    else:
        last_gate.touch()
        until(lambda: stage.attached(last), "it attaches")
        go.touch()
    floods = [flood]
    until(lambda: last.poll() is not None or flood.poll() is not None, "one of the two ends")
    while not processes.ended(last.pid, 1) and not at_the_end and len(floods) < MOST_FLOODS:
        # On a busy machine it had few turns while the program ran, and took much in each.
        floods.append(stage.rundir.start([apps.flood, str(EVENTS)]))
        assert floods[-1].wait() == 0
    if last.poll() is None:
        session.stop()
    assert processes.ended(last.pid, 10), "the point was not passed"
    assert last.wait() == -signal.SIGKILL
    had = stage.packets()
    died = time.monotonic()
    session.spawn_consumer()
    until(lambda: stage.packets() > had, "its successor goes on")
    row.go_on_ms = (time.monotonic() - died) * 1000
    assert {each.wait() for each in floods} == {0}
    if session.info().state == "active":
        assert session.stop() == []
    until(stage.emptied, "all is taken")
    totals = count(session)
    emitted = len(floods) * EVENTS
    for numbers in filter(None, stage.sequences()):
        assert numbers == sorted(numbers)
        row.twice += len(numbers) - len(set(numbers))
        row.overwritten += numbers[-1] + 1 - len(set(numbers))
    if row.mode == "tight":
        # What there is was parsed by `count`; what is missing are whole packets.
        assert totals.recorded + totals.discarded <= emitted
    else:
        assert not row.overwritten
        row.lost = emitted - totals.recorded - totals.discarded
    session.destroy()


@pytest.mark.repeat(ci=6, soak=1000)
@pytest.mark.parametrize("mode", BUFFERS)
def test_a_successor_goes_on(
    rundir: Rundir, apps: Apps, kill_ring: Path, mode: str, repeat: int
) -> None:
    points = [p for p in POINTS if mode != "discard" or not p.startswith(OVERWRITE_ONLY)]
    with running_registry(rundir) as registry:
        for point in points[:repeat]:
            row = Row(point, mode)
            play(Stage(rundir, registry, kill_ring, row), apps, row)
            print(row, flush=True)
            assert (row.lost, row.twice) == (0, 0), row
