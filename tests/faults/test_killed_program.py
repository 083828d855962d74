# SPDX-License-Identifier: MIT
"""Programs killed in the middle of a write: what they committed, and what others write on."""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from helpers.apps import Apps
from helpers.babeltrace import babeltrace2_text, discarded
from helpers.lttng import lttng_sessiond
from helpers.registry import RunningRegistry, running_registry, until
from helpers.ringwriter import Reservation, writers_into
from helpers.rundir import Rundir

import ustconsumer
from ustconsumer.abi.ring import RING_LAYOUTS
from ustconsumer.client.session import Session
from ustconsumer.protocol.control import ChannelOptions
from ustconsumer.ringbuffer.geometry import Geometry

pytestmark = pytest.mark.peers("gcc", "lttng-ust-headers", "babeltrace2")

SMALL = 4096
ENDLESS = 2_000_000_000
_TICK = re.compile(r"vpid = (\d+)\b.* seq = (\d+), thread = 0, text = \"flood\" \}$")
_OVERWRITTEN = re.compile(r"WARNING: Tracer discarded \d+ packets? ")


def ticks(output: Path) -> tuple[dict[int, list[int]], int]:
    """Return the numbers of the events of each process, and how many were discarded."""
    reading = babeltrace2_text(output)
    # Overwritten packets are no error.
    lines = [line for line in reading.stderr.splitlines() if not _OVERWRITTEN.match(line)]
    found: dict[int, list[int]] = {}
    for line in reading.lines:
        if "flood:tick" in line:
            match = _TICK.search(line)
            assert match, line
            found.setdefault(int(match[1]), []).append(int(match[2]))
    return found, discarded("\n".join(lines))


def lost(session: Session) -> int:
    return sum(s.lost_full + s.lost_wrap + s.lost_big for s in session.info().streams)


def repaired(session: Session) -> int:
    consumer = session.info().consumer
    assert consumer is not None
    return consumer.stats.repaired


def stop(session: Session) -> None:
    """Stop; nothing may have been left or given up."""
    # A program may begin before it has its buffers, on a busy machine or when it is killed then.
    late = re.compile(r"\d+ programs? ran ")
    assert not [line for line in session.stop() if not late.match(line)]


@contextmanager
def recording(
    registry: RunningRegistry,
    output: Path,
    num_subbuf: int = 4,
    mode: str = "discard",
    buffers: str = "uid",
) -> Iterator[Session]:
    session = registry.client.create("killed", output)
    options = ChannelOptions(subbuf_size=SMALL, num_subbuf=num_subbuf, mode=mode, buffers=buffers)
    session.enable_channel("chan", options)
    session.enable_event("flood:tick", "chan")
    session.add_context(["vpid"])
    session.start()
    yield session
    session.destroy()


class Waiting:
    """A flood that has its buffers and waits for a file before it writes."""

    def __init__(
        self, registry: RunningRegistry, rundir: Rundir, apps: Apps, count: int, name: str
    ):
        self.file = rundir.home / name
        self.process = rundir.start([apps.flood, str(count), "--wait-start", self.file])
        pid = self.process.pid
        until(
            lambda: pid in (known := registry.applications()) and known[pid].sessions,
            "the program has its buffers",
        )

    @property
    def pid(self) -> int:
        return self.process.pid

    def go(self) -> None:
        self.file.touch()

    def run(self) -> None:
        self.go()
        assert self.process.wait() == 0


def kill_while_writing(rundir: Rundir, apps: Apps, session: Session, choose: random.Random) -> int:
    """Kill a program at full speed, at a random moment; return its pid."""
    before = sum(stream.produced for stream in session.info().streams)
    victim = rundir.start([apps.flood, str(ENDLESS)])
    some = before + choose.randrange(1, 200_000)
    until(lambda: sum(s.produced for s in session.info().streams) > some, "the program writes")
    victim.kill()
    assert victim.wait() == -signal.SIGKILL
    return victim.pid


def check_victim(numbers: list[int], lost_before: int) -> None:
    """A process that is killed has no gaps but what was counted as discarded."""
    assert numbers == sorted(set(numbers))
    gaps = numbers[-1] + 1 - len(numbers) if numbers else 0
    assert gaps <= lost_before


@pytest.mark.repeat(ci=3, soak=100)
@pytest.mark.parametrize("buffers", ["uid", "pid"])
def test_alone(rundir: Rundir, apps: Apps, buffers: str, repeat: int) -> None:
    choose = random.Random(repeat)  # noqa: S311 - no secret
    with running_registry(rundir) as registry:
        for run in range(repeat):
            output = rundir.home / f"alone-{run}"
            num_subbuf = choose.choice([2, 4, 64])
            with recording(registry, output, num_subbuf, buffers=buffers) as session:
                pid = kill_while_writing(rundir, apps, session, choose)
                stop(session)
            found, counted = ticks(output)
            assert set(found) == {pid}
            check_victim(found[pid], counted)


@pytest.mark.repeat(ci=3, soak=100)
def test_beside_another_that_writes_afterwards(rundir: Rundir, apps: Apps, repeat: int) -> None:
    """Whatever the killed one left: the survivor's recorded + discarded = emitted."""
    choose, count, total = random.Random(repeat), 20_000, 0  # noqa: S311 - no secret
    with running_registry(rundir) as registry:
        for run in range(repeat):
            output = rundir.home / f"after-{run}"
            with recording(registry, output) as session:
                survivor = Waiting(registry, rundir, apps, count, f"go-{run}")
                pid = kill_while_writing(rundir, apps, session, choose)
                before = lost(session)
                survivor.run()
                stop(session)
                after = lost(session)
                total += repaired(session)
                # Writers go through every sub-buffer again.
                wrap = sum(stream.lost_wrap for stream in session.info().streams)
                session.start()
                assert rundir.run([apps.flood, str(count)]).returncode == 0
                stop(session)
                assert sum(stream.lost_wrap for stream in session.info().streams) == wrap
                last = lost(session)
            found, counted = ticks(output)
            check_victim(found.pop(pid, []), before)
            assert len(found.pop(survivor.pid)) + after - before == count
            (numbers,) = found.values()
            assert len(numbers) + last - after == count
            assert counted == last
    print(f"{repeat} programs killed, {total} packets repaired")


@pytest.mark.repeat(ci=3, soak=100)
@pytest.mark.parametrize("mode", ["discard", "overwrite"])
def test_beside_another_that_writes_at_the_same_time(
    rundir: Rundir, apps: Apps, mode: str, repeat: int
) -> None:
    choose, count = random.Random(repeat), 400_000  # noqa: S311 - no secret
    with running_registry(rundir) as registry:
        for run in range(repeat):
            output = rundir.home / f"same-{run}"
            with recording(registry, output, mode=mode) as session:
                survivor = Waiting(registry, rundir, apps, count, f"go-{run}")
                survivor.go()
                pid = kill_while_writing(rundir, apps, session, choose)
                assert survivor.process.wait() == 0
                stop(session)
                lost_both = lost(session)
            found, counted = ticks(output)
            assert set(found) <= {pid, survivor.pid}
            victim = found.get(pid, [])
            assert victim == sorted(set(victim))
            mine = found.get(survivor.pid, [])
            assert mine == sorted(set(mine))
            assert counted == lost_both
            if mode == "discard":
                gaps = victim[-1] + 1 - len(victim) if victim else 0
                # What is left over are those that the killed one lost at its very end.
                assert lost_both - gaps - (count - len(mine)) >= 0


# -- holes made on purpose -----------------------------------------------------------------


def leave_holes(pid: int, geometry: Geometry) -> int:
    """Reserve an event in each of a process's buffers, and never commit it; return how many."""
    holes = 0
    for shared, writer, began in writers_into(pid, geometry):
        now = max(began, writer.memory.load("last_tsc"))
        assert isinstance(writer.reserve(0, bytes(20), now), Reservation)
        writer.memory.release()
        shared.close()
        holes += 1
    assert holes
    return holes


GEOMETRY = Geometry(RING_LAYOUTS["ust-9-x86_64"], SMALL, 4)


@pytest.mark.parametrize("count", [0, 10, 20_000])
def test_events_behind_a_hole_are_in_the_trace(rundir: Rundir, apps: Apps, count: int) -> None:
    output = rundir.home / "behind"
    with running_registry(rundir) as registry, recording(registry, output) as session:
        survivor = Waiting(registry, rundir, apps, count, "go")
        holes = leave_holes(survivor.pid, GEOMETRY)
        survivor.run()
        stop(session)
        assert repaired(session) == holes
        discards = lost(session)
    found, counted = ticks(output)
    assert len(found.get(survivor.pid, [])) + discards == count
    assert counted == discards
    if count < 100:
        assert discards == 0


def test_a_program_of_your_own_that_consumes_repairs_too(rundir: Rundir, apps: Apps) -> None:
    with running_registry(rundir) as registry:
        session = registry.client.create("killed", rundir.home / "unused")
        session.enable_channel("chan", ChannelOptions(subbuf_size=SMALL, num_subbuf=4))
        session.enable_event("flood:tick", "chan")
        with ustconsumer.attach("killed", consume=True, rundir=rundir.path) as attached:
            session.start()
            survivor = Waiting(registry, rundir, apps, 20_000, "go")
            leave_holes(survivor.pid, GEOMETRY)
            survivor.go()
            seen: dict[int, list[int]] = {}
            for packet in attached.packets(timeout=3.0):
                seen.setdefault(packet.stream.cpu, []).append(packet.sequence)
            assert survivor.process.wait() == 0
        assert seen
        assert all(numbers == list(range(len(numbers))) for numbers in seen.values())
        session.destroy()


def test_a_stopped_writer_is_named_and_waited_for(rundir: Rundir, apps: Apps) -> None:
    output, count = rundir.home / "stopped", 5000
    with running_registry(rundir) as registry, recording(registry, output) as session:
        stopped = Waiting(registry, rundir, apps, 10, "go")
        leave_holes(stopped.pid, GEOMETRY)
        os.kill(stopped.pid, signal.SIGSTOP)
        other = rundir.start([apps.flood, str(count)])
        assert other.wait() == 0
        line = f"application 'flood' (pid {stopped.pid}) has not answered: it may still write"
        until(lambda: any(line in each for each in session.info().problems), "it is named")
        assert line in rundir.drtrace("--rundir", rundir.path, "status", "-s", "killed").stdout
        held = [s for s in session.info().streams if s.produced - s.consumed >= 3 * SMALL]
        assert held
        os.kill(stopped.pid, signal.SIGCONT)
        until(
            lambda: all(s.produced - s.consumed < SMALL for s in session.info().streams),
            "the holes are repaired",
        )
        assert not session.info().problems
        stopped.run()
        stop(session)
        discards = lost(session)
    found, counted = ticks(output)
    assert len(found[stopped.pid]) + len(found[other.pid]) + discards == count + 10
    assert counted == discards


# -- beside LTTng ----------------------------------------------------------------------------

#: Events of a program that starts after the kill, one each millisecond: never too many.
BEATS = 1000


def beats(output: Path) -> int:
    return sum("sleeper:beat" in line for line in babeltrace2_text(output).lines)


@pytest.mark.repeat(ci=1, soak=20)
def test_what_a_slow_program_loses_after_a_kill(rundir: Rundir, apps: Apps, repeat: int) -> None:
    """Prints one half of the table in docs/reliability.md."""
    choose, recorded, stuck = random.Random(repeat), [], 0  # noqa: S311 - no secret
    with running_registry(rundir) as registry:
        for run in range(repeat):
            output = rundir.home / f"slow-{run}"
            with recording(registry, output) as session:
                session.enable_event("sleeper:beat", "chan")
                kill_while_writing(rundir, apps, session, choose)
                before = lost(session)
                assert rundir.run([apps.sleeper, "1", str(BEATS)]).returncode == 0
                stop(session)
                discards = lost(session) - before
                stuck += repaired(session) > 0
            recorded.append(beats(output))
            assert recorded[-1] + discards == BEATS
    print(f"\n{repeat} kills, {stuck} left a packet unfinished; recorded of {BEATS}: {recorded}")


@pytest.mark.peers("lttng-sessiond", "lttng")
@pytest.mark.repeat(ci=0, soak=20)
def test_what_it_loses_with_lttng(apps: Apps, repeat: int) -> None:
    """Prints the other half. Nothing is asserted: it is LTTng's business."""
    if not repeat:
        pytest.skip("a measurement: with --soak")
    choose, recorded = random.Random(repeat), []  # noqa: S311 - no secret
    # Its daemon does not end by itself any more either, and leaves its sockets.
    with contextlib.suppress(AssertionError), lttng_sessiond() as lttng:
        rundir = lttng.rundir
        for run in range(repeat):
            output = rundir.home / f"slow-{run}"
            sizes = (f"--subbuf-size={SMALL}", "--num-subbuf=4")
            lttng("create", "killed", "-o", output)
            lttng("enable-channel", "--userspace", *sizes, "chan")
            for event in ("flood:tick", "sleeper:beat"):
                lttng("enable-event", "--userspace", "--channel=chan", event)
            lttng("start")
            victim = rundir.start([apps.flood, str(ENDLESS)])
            some = choose.randrange(1, 200_000)
            until(
                lambda: sum(f.stat().st_size for f in output.rglob("chan_?")) > some,  # noqa: B023
                "the program writes",
            )
            victim.kill()
            victim.wait()
            assert rundir.run([apps.sleeper, "1", str(BEATS)]).returncode == 0
            for verb in ("stop", "destroy"):
                # They wait for the packet that nobody finishes.
                with contextlib.suppress(subprocess.TimeoutExpired):
                    rundir.run(["lttng", "--no-sessiond", verb], timeout=5)
            recorded.append(beats(output))
    assert len(recorded) == repeat
    print(f"\n{repeat} kills with LTTng; recorded of {BEATS}: {recorded}")
