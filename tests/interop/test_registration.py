# SPDX-License-Identifier: MIT
"""Real programs register with the registry: all of them, in time, whatever others do."""

from __future__ import annotations

import fcntl
import os
import resource
import signal
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from helpers.apps import Apps
from helpers.babeltrace import babeltrace2_text
from helpers.registry import RunningRegistry, running_registry, until
from helpers.rundir import Rundir

from ustconsumer.protocol.control import ChannelOptions, StreamInfo

#: Loads the tracer into a Python program; forks without telling it; the parent ends.
_BARE_FORK = """
import ctypes, os, sys, time
ctypes.CDLL("liblttng-ust.so.1")
if os.fork():
    sys.stdin.read(1)
    os._exit(0)
print(os.getpid(), flush=True)
time.sleep(600)
"""


@pytest.fixture
def registry(rundir: Rundir) -> Iterator[RunningRegistry]:
    with running_registry(rundir, "-v") as running:
        yield running


@pytest.mark.peers("gcc", "babeltrace2", "lttng-ust-headers")
@pytest.mark.repeat(ci=40, soak=1000)
def test_every_program_is_recorded_from_its_first_event(
    registry: RunningRegistry,
    rundir: Rundir,
    apps: Apps,
    repeat: int,
    record_property: Callable[[str, object], None],
) -> None:
    # A program whose registration timed out begins its main function unrecorded: its
    # events, emitted at once, are what tells.
    session = registry.client.create("many", rundir.home / "trace")
    session.enable_channel("channel0", ChannelOptions(subbuf_size=16384, num_subbuf=8))
    session.enable_event("flood:*")
    session.enable_event("sleeper:*")
    stopped = rundir.start([apps.sleeper, "20"])
    until(lambda: stopped.pid in registry.applications(), "the sleeper registers")
    stopped.send_signal(signal.SIGSTOP)
    warnings = session.start()
    assert len(warnings) == 1
    assert f"pid {stopped.pid}" in warnings[0]
    child = -1

    begin = time.monotonic()
    pids = set()
    running: list[subprocess.Popen[bytes]] = []
    for number in range(repeat):
        if number == repeat // 2:
            child = _bare_fork(registry, rundir)
        running.append(rundir.start([apps.flood, "3"]))
        pids.add(running[-1].pid)
        if len(running) == 4:
            assert running.pop(0).wait() == 0
    for process in running:
        assert process.wait() == 0
    seconds = time.monotonic() - begin
    record_property("registrations_per_second", repeat / seconds)

    assert registry.applications()[stopped.pid].state == "slow"
    stopped.send_signal(signal.SIGCONT)
    until(
        lambda: registry.applications()[stopped.pid].sessions == ["many"],
        "the stopped program is recorded after all",
    )
    stopped.terminate()
    stopped.wait()
    os.kill(child, signal.SIGKILL)
    assert session.stop() == []
    info = session.info()
    assert pids <= set(info.processes)
    assert not [line for line in registry.log() if "closed" in line]
    session.destroy()
    recorded = Counter(
        line.split("flood:tick")[1].split("seq = ")[1].split(",")[0]
        for line in babeltrace2_text(rundir.home / "trace").lines
        if "flood:tick" in line
    )
    assert recorded == {"0": repeat, "1": repeat, "2": repeat}
    print(f"{repeat} registrations, 0 time-outs, {seconds:.2f} s, {repeat / seconds:.0f}/s")


def _bare_fork(registry: RunningRegistry, rundir: Rundir) -> int:
    """Run a program that registers, forks and ends; return the child, which lives on.

    The child holds the sockets of the dead program, which must be gone all the same.
    """
    parent = rundir.start_python("-c", _BARE_FORK, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert parent.stdin
    assert parent.stdout
    child = int(parent.stdout.readline())
    until(
        lambda: any(app.pid == parent.pid for app in registry.client.applications()),
        "the forking program registers",
    )
    parent.stdin.close()
    parent.wait()
    until(lambda: parent.pid not in registry.applications(), "the dead program is gone")
    os.kill(child, 0)
    return child


@pytest.mark.peers("gcc", "lttng-ust-headers")
def test_programs_follow_the_session(registry: RunningRegistry, rundir: Rundir, apps: Apps) -> None:
    session = registry.client.create("life", rundir.home / "trace")
    session.enable_event("sleeper:*")
    before = rundir.start([apps.sleeper, "1"])
    until(lambda: before.pid in registry.applications(), "the first program registers")
    assert registry.applications()[before.pid].sessions == []
    assert session.start(consumer=None) == []
    assert registry.applications()[before.pid].sessions == ["life"]
    after = rundir.start([apps.sleeper, "1"])
    until(
        lambda: (
            after.pid in registry.applications()
            and registry.applications()[after.pid].sessions == ["life"]
        ),
        "the second program joins",
    )
    until(lambda: _produced(session.info().streams) > 1000, "events arrive")
    # Nobody reads: one warning, and nothing is written after the stop.
    assert ["no consumer" in line for line in session.stop()] == [True]
    stopped = _produced(session.info().streams)
    assert registry.applications()[after.pid].sessions == []
    assert session.start(consumer=None) == []
    until(lambda: _produced(session.info().streams) > stopped, "events arrive again")
    session.destroy()
    assert registry.client.sessions() == []
    assert [app.state for app in registry.applications().values()] == ["registered"] * 2


@pytest.mark.peers("gcc", "lttng-ust-headers")
def test_a_stopped_program_holds_no_verb_up(
    registry: RunningRegistry, rundir: Rundir, apps: Apps
) -> None:
    session = registry.client.create("slow", rundir.home / "trace")
    session.enable_event("sleeper:*")
    stopped = rundir.start([apps.sleeper, "1", "--ready", rundir.home / "ready"])
    until((rundir.home / "ready").exists, "the program runs")
    assert session.start() == []
    stopped.send_signal(signal.SIGSTOP)
    other = rundir.start([apps.sleeper, "1"])
    until(
        lambda: (
            other.pid in registry.applications()
            and registry.applications()[other.pid].sessions == ["slow"]
        ),
        "another program joins meanwhile",
    )
    named = f"pid {stopped.pid}"
    assert [named in line for line in session.stop()] == [True]
    assert registry.applications()[stopped.pid].state == "slow"
    assert [named in line for line in session.info().slow] == [True]
    # The session it has not left yet can be destroyed, and its name used again.
    assert [named in line for line in session.destroy()] == [True]
    again = registry.client.create("slow", rundir.home / "again")
    again.enable_event("sleeper:*")
    assert [named in line for line in again.start()] == [True]
    assert registry.applications()[other.pid].sessions == ["slow"]
    stopped.send_signal(signal.SIGCONT)
    until(
        lambda: (
            registry.applications()[stopped.pid].sessions == ["slow"]
            and stopped.pid in again.info().processes
        ),
        "it leaves the old session and joins the new one by itself",
    )
    assert again.stop() == []
    assert not [line for line in registry.log() if "refused" in line]


def _produced(streams: list[StreamInfo]) -> int:
    return sum(stream.produced for stream in streams)


@pytest.mark.peers("lttng-sessiond")
def test_neighbours_refuse_each_other(user_rundir: Rundir) -> None:
    # An ordinary user's: root's lttng-sessiond has one directory for the whole machine.
    rundir = user_rundir
    with running_registry(rundir) as ours:
        assert rundir.run(["lttng-sessiond", "--no-kernel"]).returncode != 0
        assert f"(pid {ours.process.pid})" in _refusal(rundir)
        assert ours.client.sessions() == []
    assert list(rundir.path.iterdir()) == []
    theirs = rundir.start(
        ["lttng-sessiond", "--no-kernel"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    until((rundir.path / "client-lttng-sessiond").exists, "lttng-sessiond listens")
    until((rundir.path / "lttng-sessiond.pid").exists, "lttng-sessiond wrote its pid")
    until((rundir.path / "lttng-ust-sock-8").exists, "lttng-sessiond waits for programs")
    sockets = {path: path.stat().st_ino for path in rundir.path.glob("*sock*")}
    assert f"(pid {theirs.pid})" in _refusal(rundir)
    assert {path: path.stat().st_ino for path in rundir.path.glob("*sock*")} == sockets
    assert (rundir.path / "lttng-sessiond.lck").exists()


def _refusal(rundir: Rundir) -> str:
    """Start a registry that refuses; return the one line it says."""
    refused = rundir.start_python(
        "-m", "sessiond", "--rundir", rundir.path, stderr=subprocess.PIPE, text=True
    )
    _, said = refused.communicate()
    assert refused.returncode == 1
    assert said.count("\n") == 1
    return str(said)


def test_it_may_have_as_many_descriptors_as_the_system_allows(rundir: Rundir) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 512), hard))
    try:
        with running_registry(rundir) as registry:
            limits = resource.prlimit(registry.process.pid, resource.RLIMIT_NOFILE)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert limits == (hard, hard)


def test_what_a_dead_registry_left_is_replaced(rundir: Rundir) -> None:
    rundir.path.mkdir(mode=0o700)
    os.chown(rundir.path, rundir.user.uid, rundir.user.gid)
    for name in ("lttng-ust-sock-8", "drtrace.sock"):
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(rundir.path / name))
    (rundir.path / "lttng-sessiond.lck").touch()
    with running_registry(rundir) as running:
        assert running.client.sessions() == []
        # Which of the two an lttng-sessiond takes was decided when it was built.
        with (rundir.path / "lttng-sessiond.lck").open("r+b") as lock:
            for take in (fcntl.flock, fcntl.lockf):
                with pytest.raises(BlockingIOError):
                    take(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert (rundir.path / "lttng-ust-sock-8").stat().st_mode & 0o777 == 0o666
        assert (rundir.path / "drtrace.sock").stat().st_mode & 0o777 == 0o600
