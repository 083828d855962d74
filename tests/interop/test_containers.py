# SPDX-License-Identifier: MIT
"""Programs in pid namespaces of their own: registered, recorded, shown with both pids."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from helpers.apps import Apps
from helpers.babeltrace import babeltrace2_text
from helpers.peers import need_namespaces
from helpers.registry import running_registry, until
from helpers.rundir import Rundir

from ustconsumer.client.registry import Registry, connect
from ustconsumer.protocol.control import AppInfo, ChannelOptions

pytestmark = pytest.mark.peers("gcc", "lttng-ust-headers", "babeltrace2")

#: A container as docs/containers.md has it; who is not root needs a user namespace for it.
OPTIONS = ["-pf" if os.getuid() == 0 else "-cpf", "--mount-proc", "--kill-child=SIGTERM"]


@pytest.fixture
def container() -> list[str]:
    """Give what runs a command in a container of its own, as its process 1."""
    need_namespaces(*OPTIONS)
    return ["unshare", *OPTIONS]


def child_of(pid: int) -> int:
    """Return the only child of a process, as we number it."""
    (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(child)


def row(rundir: Rundir, number: str) -> str:
    """Return what ``drtrace apps`` says of a program, spaces folded; empty if nothing."""
    said = rundir.drtrace("--rundir", rundir.path, "apps").stdout
    lines = (" ".join(line.split()) for line in said.splitlines())
    return next((line for line in lines if line.startswith(f"{number} ")), "")


@pytest.mark.parametrize("buffers", ["uid", "pid"])
def test_it_is_recorded_and_shown_with_both_pids(
    rundir: Rundir, apps: Apps, container: list[str], buffers: str
) -> None:
    output, go = rundir.home / "trace", rundir.home / "go"
    with running_registry(rundir) as registry:
        session = registry.client.create("s", output)
        session.enable_channel("c", ChannelOptions(buffers=buffers))
        session.enable_event("flood:tick", "c")
        session.add_context(["vpid"], channel="c")
        assert session.start() == []
        outside = rundir.start([*container, apps.flood, "100", "--wait-start", go])
        until(lambda: session.info().processes, "it has buffers")
        (pid,) = session.info().processes
        info = registry.applications()[pid]
        assert (info.pid, info.ns_pid) == (pid, 1)
        assert pid == child_of(outside.pid)
        assert row(rundir, str(pid)).startswith(f"{pid} (1 inside) {os.getuid()} flood 9.0 64 ")
        go.touch()
        assert outside.wait() == 0
        until(lambda: not registry.applications(), "it is gone")
        assert session.stop() == []
        session.destroy()
    lines = babeltrace2_text(output).lines
    # What it knows of itself is what the container shows it.
    assert sum("flood:tick" in line and "vpid = 1 }" in line for line in lines) == 100
    if buffers == "pid":
        # lttng-sessiond names the directory by the pid that the kernel tells it, not by the
        # one that the program claims: facts, application protocol 2.2.
        (place,) = (output / "ust" / "pid").iterdir()
        assert re.fullmatch(rf"flood-{pid}-\d{{8}}-\d{{6}}", place.name)
        assert re.search(rf"\bvpid = {pid};", (place / "metadata").read_bytes().decode("latin1"))


def test_a_bare_fork_in_it_is_told_of(rundir: Rundir, apps: Apps, container: list[str]) -> None:
    file = rundir.home / "file"
    with running_registry(rundir) as registry:
        session = registry.client.create("s", rundir.home / "trace")
        session.enable_event("fork:tick")
        session.start()
        outside = rundir.start([*container, apps.barefork, "10", "--until", file])

        def strangers() -> list[AppInfo]:
            return [app for app in registry.client.applications() if app.state == "unregistered"]

        until(strangers, "the child is seen")
        (stranger,) = strangers()
        parent = child_of(outside.pid)
        assert stranger.pid == child_of(parent)
        assert f"writes through the registration of 'barefork' (pid {parent})" in stranger.reason
        file.touch()
        assert outside.wait() == 0
        assert session.stop() == []


@contextmanager
def registry_of_another_pid_namespace(rundir: Rundir, container: list[str]) -> Iterator[Registry]:
    """Run a registry that does not see our processes."""
    reading, writing = os.pipe()
    arguments = ["-m", "sessiond", "--rundir", str(rundir.path), "--private"]
    process = rundir.start(
        [*container, sys.executable, "-P", *arguments, "--ready-fd", str(writing)],
        pass_fds=(writing,),
        stderr=subprocess.DEVNULL,
    )
    os.close(writing)
    try:
        select.select([reading], [], [], 60)
        assert os.read(reading, 1)
    finally:
        os.close(reading)
    with connect(rundir.path) as client:
        yield client
        client.shutdown()
    assert process.wait() == 0


def test_the_registry_in_one_container_the_program_in_another(
    rundir: Rundir, apps: Apps, container: list[str]
) -> None:
    """Their pids mean nothing to each other; the kernel's handle of the process does."""
    output, go = rundir.home / "trace", rundir.home / "go"
    with registry_of_another_pid_namespace(rundir, container) as client:
        session = client.create("s", output)
        session.enable_channel("c", ChannelOptions(buffers="pid"))
        session.enable_event("*:*", "c")
        assert session.start() == []
        early = rundir.start([*container, apps.sleeper, "1"])
        late = rundir.start([apps.flood, "100", "--wait-start", go])
        until(lambda: len(client.applications()) == 2, "both are registered")
        states = {(app.pid, app.ns_pid): app for app in client.applications()}
        if any(app.state == "refused" for app in states.values()):
            pytest.skip("this kernel does not tell such processes apart (Linux 6.9 does)")
        assert states.keys() == {(0, 1), (0, late.pid)}
        line = row(rundir, f"? ({late.pid} inside)")
        assert f" {os.getuid()} flood 9.0 64 " in line
        until(
            lambda: all(app.sessions == ["s"] for app in client.applications()),
            "both are recorded",
        )
        go.touch()
        assert late.wait() == 0
        # Its end is seen although its pid is not.
        until(lambda: [app.ns_pid for app in client.applications()] == [1], "one has ended")
        os.kill(child_of(early.pid), signal.SIGKILL)
        early.wait()
        until(lambda: not client.applications(), "the other has, too")
        session.stop()
        assert len(session.info().processes) == 2
        session.destroy()
    places = sorted(path.name for path in (output / "ust" / "pid").iterdir())
    flood, sleeper = (name.rsplit("-", 2)[0] for name in places)
    assert (flood, sleeper) == (f"flood-{late.pid}", "sleeper-1")
    lines = babeltrace2_text(output).lines
    assert sum("flood:tick" in line for line in lines) == 100
