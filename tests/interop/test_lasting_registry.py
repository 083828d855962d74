# SPDX-License-Identifier: MIT
"""A registry that stays: in the background, noticed by programs that ran before it."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest
from helpers import processes
from helpers.apps import Apps
from helpers.registry import running_registry, until
from helpers.rundir import Rundir

from ustconsumer.client.registry import connect
from ustconsumer.errors import BrokenResourceError


def _wait_word(uid: int) -> int:
    # facts, application protocol 1.3: an i32, 0 no daemon, 1 a daemon listens.
    word = Path("/dev/shm") / f"lttng-ust-wait-8-{uid}"  # noqa: S108 (liblttng-ust's own)
    return int.from_bytes(word.read_bytes()[:4], "little")


@pytest.mark.peers("gcc", "lttng-ust-headers")
def test_programs_that_wait_are_woken(user_rundir: Rundir, apps: Apps) -> None:
    uid = user_rundir.user.uid
    early = user_rundir.start([apps.sleeper, "5", "--ready", user_rundir.home / "ready"])
    until((user_rundir.home / "ready").exists, "the program runs")
    with running_registry(user_rundir, private=False) as registry:
        assert _wait_word(uid) == 1
        until(lambda: early.pid in registry.applications(), "it notices the registry")
        until(
            lambda: registry.applications()[early.pid].tracer.startswith("2."), "it says what it is"
        )
    assert _wait_word(uid) == 0
    # It goes on without a registry, and is there for the next one.
    assert early.poll() is None
    with running_registry(user_rundir, private=False) as registry:
        until(lambda: early.pid in registry.applications(), "it notices the next registry")


@pytest.mark.peers("gcc", "lttng-ust-headers")
def test_a_private_registry_leaves_others_asleep(user_rundir: Rundir, apps: Apps) -> None:
    uid = user_rundir.user.uid
    with running_registry(user_rundir) as registry:
        program = user_rundir.start([apps.sleeper, "5"])
        until(lambda: program.pid in registry.applications(), "the program registers")
        assert _wait_word(uid) == 0


def test_in_the_background(user_rundir: Rundir) -> None:
    starter = user_rundir.start_python(
        "-m", "sessiond", "--rundir", user_rundir.path, "--daemonize", stderr=subprocess.PIPE
    )
    _, said = starter.communicate()
    assert (starter.returncode, said) == (0, b"")
    second = user_rundir.start_python(
        "-m", "sessiond", "--rundir", user_rundir.path, "--daemonize", stderr=subprocess.PIPE
    )
    _, said = second.communicate()
    assert second.returncode == 1
    assert said.count(b"\n") == 1
    assert user_rundir.path.stat().st_mode & 0o777 == 0o700
    with connect(user_rundir.path) as registry:
        pid = registry.connection.welcome.pid
        assert registry.connection.welcome.uid == user_rundir.user.uid
        assert os.getsid(pid) != os.getsid(0)
        registry.shutdown()
    assert processes.ended(pid, 60)
    assert list(user_rundir.path.iterdir()) == []
    with pytest.raises(BrokenResourceError):
        connect(user_rundir.path)


@pytest.mark.parametrize("private", [True, False])
def test_it_ends_with_its_lifeline(user_rundir: Rundir, private: bool) -> None:
    reading, writing = os.pipe()
    options = ["--private"] if private else []
    registry = user_rundir.start_python(
        *("-m", "sessiond", "--rundir", str(user_rundir.path), "--lifeline", str(reading)),
        *options,
        pass_fds=(reading,),
    )
    os.close(reading)
    until(lambda: _answers(user_rundir), "it listens")
    os.close(writing)
    assert registry.wait() == 0
    assert list(user_rundir.path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_first(rundir: Rundir, apps: Apps, number: signal.Signals) -> None:
    with running_registry(rundir) as registry:
        session = registry.client.create("end", rundir.home / "trace")
        session.enable_event("flood:*")
        assert session.start() == []
        program = rundir.start([apps.flood, "5"])
        assert program.wait() == 0
        registry.process.send_signal(number)
        assert registry.process.wait() == 0
        assert registry.log() == []
    trace = rundir.home / "trace" / "ust" / "uid" / str(rundir.user.uid) / "64-bit"
    # One packet of 4096 bytes in the stream of the CPU the program ran on, at least.
    assert sum(path.stat().st_size for path in trace.glob("channel0_[0-9]*")) >= 4096
    assert (trace / "metadata").exists()


@pytest.mark.peers("gcc", "lttng-ust-headers")
def test_a_second_signal_is_not_waited_for(rundir: Rundir, apps: Apps) -> None:
    stopped = rundir.start([apps.sleeper, "5"])
    process = rundir.start_python("-m", "sessiond", "--rundir", rundir.path)
    until(lambda: _answers(rundir), "it listens")
    with connect(rundir.path) as registry:
        until(lambda: registry.applications(), "the program registers")
        session = registry.create("end", rundir.home / "trace")
        session.enable_event("sleeper:*")
        assert session.start(consumer=None) == []
        stopped.send_signal(signal.SIGSTOP)
        process.send_signal(signal.SIGTERM)
        # Its first step is to take no new clients; then it waits for the stopped program.
        until(lambda: not _answers(rundir), "the first signal is being dealt with")
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 1
    # SIGTERM would not reach it.
    stopped.kill()
    assert list(rundir.path.iterdir()) == []


def _answers(rundir: Rundir) -> bool:
    try:
        connect(rundir.path).close()
    except BrokenResourceError:
        return False
    return True
