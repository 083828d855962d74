# SPDX-License-Identifier: MIT
"""The registry killed while programs write and register: traces, consumers, the next registry."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Collection
from pathlib import Path

import pytest
from helpers import processes
from helpers.apps import Apps
from helpers.babeltrace import babeltrace2_text
from helpers.registry import RunningRegistry, running_registry, until
from helpers.rundir import Rundir
from helpers.streams import streams

from ustconsumer.client.session import Session
from ustconsumer.protocol.control import ChannelOptions

pytestmark = pytest.mark.peers("gcc", "lttng-ust-headers", "babeltrace2")

#: Without a registry an event costs nothing: no number of them lasts.
ENDLESS = "-1"
#: Events that a process's own buffers have room for.
FEW = 100
#: Seconds until programs have registered with the next registry.
AGAIN = 6.0
KINDS = {
    "uid": ChannelOptions(subbuf_size=16384, num_subbuf=4),
    "pid": ChannelOptions(subbuf_size=4096, num_subbuf=4, buffers="pid"),
    "over": ChannelOptions(subbuf_size=4096, num_subbuf=8, mode="overwrite"),
}
_LOSS = re.compile(r"WARNING: Tracer (may have )?discarded (\d+ )?(events?|packets?) ")


def record_all(
    registry: RunningRegistry, home: Path, prefix: str, events: str = "*"
) -> dict[str, Session]:
    """Start a recording of every kind; return the sessions by kind."""
    sessions = {}
    for kind, options in KINDS.items():
        session = registry.client.create(f"{prefix}-{kind}", str(home / f"{prefix}-{kind}"))
        session.enable_channel("chan", options)
        session.add_context(["vpid"])
        session.enable_event(events)
        session.start()
        sessions[kind] = session
    return sessions


def consumers(sessions: dict[str, Session]) -> list[int]:
    found = []
    for session in sessions.values():
        consumer = session.info().consumer
        assert consumer is not None
        found.append(consumer.pid)
    return found


def pids_in(output: Path, kind: str) -> set[int]:
    """Read a whole trace; nothing of it may be unknown or missing. Return whose events it has."""
    found: set[int] = set()
    # A session may have none yet, if no program came so far.
    for trace in [*output.glob("ust/uid/*/64-bit"), *output.glob("ust/pid/*")]:
        reading = babeltrace2_text(trace)
        for line in reading.stderr.splitlines():
            assert _LOSS.match(line), line
        pids = re.findall(r" vpid = (\d+)", "\n".join(reading.lines))
        assert len(pids) == len(reading.lines)
        found.update(map(int, pids))
        for packets in streams(trace).values():
            numbers = [packet.sequence for packet in packets]
            if kind == "over":
                assert numbers == sorted(set(numbers))
            else:
                assert numbers == list(range(len(numbers)))
    return found


def until_all_recorded(sessions: dict[str, Session], pids: set[int]) -> None:
    for session in sessions.values():
        until(lambda s=session: set(s.info().processes) == pids, "all are recorded")


def until_so_many_write(session: Session, programs: int) -> None:
    """Wait until each of them has filled its own buffers many times."""

    def busy() -> int:
        written: Counter[str] = Counter()
        for stream in session.info().streams:
            written[stream.trace] += stream.produced
        return sum(size > 1 << 18 for size in written.values())

    until(lambda: busy() == programs, "they write")


def kill(registry: RunningRegistry, sessions: dict[str, Session]) -> None:
    """Kill a registry, and wait until its consumers have ended by themselves."""
    drainers = consumers(sessions)
    registry.kill()
    for pid in drainers:
        assert processes.ended(pid, 60), "a consumer waits for a registry that is gone"


@pytest.mark.full_speed
@pytest.mark.repeat(ci=2, soak=20)
def test_while_programs_write(user_rundir: Rundir, apps: Apps, repeat: int) -> None:
    """Consumers finish what is there; programs come back to the next registry."""
    times = [killed_while_programs_write(user_rundir, apps, run) for run in range(repeat)]
    print(f"\n{repeat} times: programs registered again within {max(times):.1f} s")
    assert max(times) < AGAIN


def check_kinds(home: Path, prefix: str, busy: set[int], brief: Collection[int] = ()) -> None:
    """In its own buffers each program has events; in those of all it may have had no room."""
    for kind in KINDS:
        found = pids_in(home / f"{prefix}-{kind}", kind)
        if kind == "pid":
            assert found == busy.union(brief)
        else:
            assert busy & found
            assert found <= busy.union(brief)


def killed_while_programs_write(rundir: Rundir, apps: Apps, run: int) -> float:
    """Return how long it took programs to register again."""
    home, now, go = rundir.home, rundir.home / f"now{run}", rundir.home / f"go{run}"
    # Together: what one writes while another is not there yet takes long to read.
    floods = [
        rundir.start([apps.flood, ENDLESS, threads, "--wait-start", now])
        for threads in ("1", "1", "2")
    ]
    pids = {flood.pid for flood in floods}
    # Has no event before the registry is killed, and few enough after that to lose none.
    idle = rundir.start([apps.flood, str(FEW), "--wait-start", go])
    everybody = pids | {idle.pid}
    with running_registry(rundir, private=False) as registry:
        sessions = record_all(registry, home, f"before{run}", "flood:*")
        until_all_recorded(sessions, everybody)
        now.touch()
        until_so_many_write(sessions["pid"], len(pids))
        kill(registry, sessions)
    check_kinds(home, f"before{run}", pids)
    assert [program.poll() for program in (*floods, idle)] == [None] * len(everybody)

    with running_registry(rundir, private=False) as registry:
        began = time.monotonic()
        sessions = record_all(registry, home, f"after{run}", "nothing:*")
        until(lambda: set(registry.applications()) == everybody, "they have registered again")
        took = time.monotonic() - began
        until_all_recorded(sessions, everybody)
        for session in sessions.values():
            session.enable_event("flood:*")
        go.touch()
        assert idle.wait() == 0
        until_so_many_write(sessions["pid"], len(pids))
        for session in sessions.values():
            session.stop()
        for flood in floods:
            flood.kill()
            flood.wait()
        for session in sessions.values():
            session.destroy()
    check_kinds(home, f"after{run}", pids, {idle.pid})
    (own,) = (home / f"after{run}-pid").glob(f"ust/pid/*-{idle.pid}-*")
    lines = babeltrace2_text(own).lines
    assert [int(re.findall(r" seq = (\d+)", line)[0]) for line in lines] == list(range(FEW))
    return took


@pytest.mark.full_speed
@pytest.mark.repeat(ci=2, soak=30)
def test_while_programs_register(rundir: Rundir, apps: Apps, repeat: int) -> None:
    """At any moment of the registrations of many programs; the next registry is as good as new."""
    choose = random.Random(repeat)  # noqa: S311 - no secret
    for run in range(repeat):
        killed_in_a_storm(rundir, apps, f"storm{run}", choose)
        output = rundir.home / f"next{run}"
        with running_registry(rundir) as registry:
            session = registry.client.create("next", str(output))
            session.enable_event("flood:tick")
            assert session.start() == []
            assert rundir.run([apps.flood, "1000"]).returncode == 0
            assert session.stop() == []
            session.destroy()
        assert len(babeltrace2_text(output).lines) == 1000


def killed_in_a_storm(rundir: Rundir, apps: Apps, prefix: str, choose: random.Random) -> None:
    script = f"while :; do {apps.flood} 300 & {apps.fields} & {apps.flood} 300 2; wait; done"
    some, moment = choose.randrange(1, 40), choose.random() * 0.02
    with running_registry(rundir) as registry:
        sessions = record_all(registry, rundir.home, prefix)
        shells = [
            rundir.start(["sh", "-c", script], stdout=subprocess.DEVNULL, process_group=0)
            for _ in range(2)
        ]
        until(lambda: len(sessions["uid"].info().processes) >= some, "programs register")
        # Any moment: what is checked holds whichever it was.
        time.sleep(moment)
        kill(registry, sessions)
    for shell in shells:
        os.killpg(shell.pid, signal.SIGKILL)
        shell.wait()
    for kind in KINDS:
        pids_in(rundir.home / f"{prefix}-{kind}", kind)


def descendant(pid: int, name: str) -> int:
    """Return the process of this name that is next below another."""
    queue = [pid]
    for pid in queue:
        if Path(f"/proc/{pid}/comm").read_text().strip() == name:
            return pid
        for task in Path(f"/proc/{pid}/task").iterdir():
            queue += map(int, (task / "children").read_text().split())
    raise AssertionError(f"no {name}")


@pytest.mark.parametrize("buffers", ["uid", "pid"])
def test_of_a_recorded_command(buffers: str, rundir: Rundir, apps: Apps) -> None:
    """The command runs to its end; one line says what became of the recording."""
    output, go = rundir.home / "trace", rundir.home / "go"
    script = f"{apps.flood} {ENDLESS} 2 & one=$!; {apps.flood} {ENDLESS} & two=$!; "
    script += f"until [ -e {go} ]; do sleep 0.01; done; kill -9 $one $two; wait; exit 7"
    recorder = rundir.start_drtrace(
        *("record", "-o", output, "-e", "flood:*", "--subbuf-size=4k", f"--buffers-{buffers}"),
        *("sh", "-c", script),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )

    def written() -> list[int]:
        """Return bytes per trace of a flood; all programs of a user have one trace."""
        sizes: Counter[Path] = Counter()
        for file in output.rglob("channel0_*"):
            if file.is_file():
                sizes[file.parent] += file.stat().st_size
        return [size for size in sizes.values() if size > 1 << 18]

    traces = {"uid": 1, "pid": 2}[buffers]
    until(lambda: len(written()) == traces, "the programs write")
    os.kill(descendant(recorder.pid, "ltt-sessiond"), signal.SIGKILL)
    assert recorder.poll() is None
    go.touch()
    stdout, stderr = recorder.communicate()
    assert (recorder.returncode, stdout) == (125, "")
    # The programs were killed in the middle of a write, which may be said as well.
    lines = [line for line in stderr.splitlines() if not line.startswith("Warning: ust-consumerd[")]
    assert len(lines) == 1
    assert f"what was recorded until then is in {output}" in lines[0]
    # In buffers of all programs one of them may have had no room.
    assert traces <= len(pids_in(output, buffers)) <= 2
