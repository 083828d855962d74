# SPDX-License-Identifier: MIT
"""A Python program killed with SIGKILL, anywhere, while others write into the same buffers."""

from __future__ import annotations

import random
import re
import shutil
import signal
from collections import defaultdict
from pathlib import Path

import pytest
from helpers.accounting import Trace, stop
from helpers.apps import Apps
from helpers.pyapps import STORM
from helpers.registry import RunningRegistry, running_registry, until
from helpers.ringwriter import Reservation, writers_into
from helpers.rundir import Rundir

from ustconsumer.abi.ring import RING_LAYOUTS
from ustconsumer.client.session import Session
from ustconsumer.protocol.control import ChannelOptions
from ustconsumer.ringbuffer.geometry import Geometry

pytestmark = pytest.mark.peers("babeltrace2", "gcc", "lttng-ust-headers")

TICK = re.compile(r"(storm|flood):tick: .*vpid = (\d+) \}, \{ seq = (\d+), thread = (\d+),")
EVENTS = 50_000
SMALL = 4096


def seen(output: Path) -> tuple[dict[int, dict[int, list[int]]], Trace]:
    """Return the numbers of the events of each process and thread."""
    trace = Trace(output)
    assert trace.packets_lost == 0
    found: dict[int, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    for line in trace.lines:
        match = TICK.search(line)
        assert match, line
        found[int(match[2])][int(match[4])].append(int(match[3]))
    for threads in found.values():
        for numbers in threads.values():
            assert numbers == sorted(set(numbers))
    return found, trace


def gaps(threads: dict[int, list[int]]) -> int:
    """Return how many events of a process are missing before its last ones."""
    return sum(numbers[-1] + 1 - len(numbers) for numbers in threads.values())


def create(registry: RunningRegistry, name: str, output: Path, num_subbuf: int) -> Session:
    session = registry.client.create(name, output)
    options = ChannelOptions(subbuf_size=SMALL, num_subbuf=num_subbuf)
    session.enable_channel("chan", options)
    session.add_context(["vpid"], "chan")
    session.enable_event("storm:tick", "chan")
    session.enable_event("flood:tick", "chan")
    session.start()
    return session


def repaired(session: Session) -> int:
    consumer = session.info().consumer
    assert consumer is not None
    return consumer.stats.repaired


def recorded(registry: RunningRegistry, pid: int) -> bool:
    known = registry.applications().get(pid)
    return known is not None and bool(known.sessions)


@pytest.mark.repeat(ci=3, soak=100)
def test_others_go_on(rundir: Rundir, apps: Apps, repeat: int) -> None:
    """What it emitted is there up to some event; what the others emitted is, all of it."""
    program = rundir.home / "storm.py"
    program.write_text(STORM)
    mended = 0
    with running_registry(rundir) as registry:
        for run in range(repeat):
            choose = random.Random(run)  # noqa: S311 - no secret
            output = rundir.home / f"trace{run}"
            # Small sub-buffers have more places to die in.
            session = create(registry, f"s{run}", output, choose.choice([4, 64, 2048]))
            go = rundir.home / f"go{run}"
            others = [
                rundir.start_python(program, str(EVENTS // 2), "2", "0", "20", go),
                rundir.start([apps.flood, str(EVENTS), "--wait-start", go]),
            ]
            victim = rundir.start_python(program, "1000000000", "3", "0", "20", go)
            for process in (victim, *others):
                until(lambda pid=process.pid: recorded(registry, pid), "it is recorded")  # type: ignore[misc]
            some = choose.randrange(1, 1_000_000)
            go.touch()
            until(
                lambda: sum(s.produced for s in session.info().streams) > some,  # noqa: B023
                "they write",
            )
            victim.send_signal(signal.SIGKILL)
            assert victim.wait() == -signal.SIGKILL
            for other in others:
                assert other.wait() == 0
            totals = stop(session)
            mended += repaired(session)
            session.destroy()
            found, trace = seen(output)
            assert (totals.recorded, totals.discarded) == (len(trace.lines), trace.counters)
            # Whose they are is not counted. The victim may have lost some at its very end.
            mine = found.pop(victim.pid, {})
            missing = 2 * EVENTS - sum(
                len(n) for threads in found.values() for n in threads.values()
            )
            assert len(found) == len(others)
            assert 0 <= missing <= totals.discarded - gaps(mine)
            if not totals.discarded:
                assert missing == gaps(mine) == 0
            shutil.rmtree(output)
    print(f"{repeat} Python programs killed, {mended} packets repaired")


GEOMETRY = Geometry(RING_LAYOUTS["ust-9-x86_64"], SMALL, 4)


@pytest.mark.parametrize("events", [10, 20_000])
def test_a_hole_that_a_python_program_has_to_answer_for(
    rundir: Rundir, apps: Apps, events: int
) -> None:
    """It says that it is not in the middle of an event; then the hole is repaired."""
    output = rundir.home / "trace"
    program = rundir.home / "storm.py"
    program.write_text(STORM)
    go = rundir.home / "go"
    with running_registry(rundir) as registry:
        session = create(registry, "holes", output, 4)
        storm = rundir.start_python(program, str(events), "2", "0", "20", go)
        flood = rundir.start([apps.flood, str(events), "--wait-start", go])
        for process in (storm, flood):
            until(lambda pid=process.pid: recorded(registry, pid), "it is recorded")  # type: ignore[misc]
        holes = 0
        for shared, writer, began in writers_into(storm.pid, GEOMETRY):
            now = max(began, writer.memory.load("last_tsc"))
            assert isinstance(writer.reserve(0, bytes(20), now), Reservation)
            writer.memory.release()
            shared.close()
            holes += 1
        assert holes
        go.touch()
        assert (storm.wait(), flood.wait()) == (0, 0)
        totals = stop(session)
        assert repaired(session) == holes
        session.destroy()
    found, _ = seen(output)
    assert totals.recorded + totals.discarded == 3 * events
    if events == 10:
        assert totals.discarded == 0
        assert set(found) == {storm.pid, flood.pid}
