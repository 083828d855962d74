# SPDX-License-Identifier: MIT
"""Programs that cannot be recorded: turned away before anything could harm them, and why."""

from __future__ import annotations

import os
import re
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.apps import Apps
from helpers.peers import need_namespaces
from helpers.registry import RunningRegistry, running_registry, until
from helpers.rundir import Rundir
from helpers.users import User

#: The kernel's stand-in for uids that a user namespace does not know.
OVERFLOW = int(Path("/proc/sys/kernel/overflowuid").read_text())


def shown(rundir: Rundir, pid: int) -> str:
    """Return what ``drtrace apps`` says of a process, spaces folded; empty if it is not there."""
    result = rundir.drtrace("--rundir", rundir.path, "apps")
    assert (result.returncode, result.stderr) == (0, "")
    # A long reason goes on in the lines below its program.
    blocks = re.split(r"\n(?=\d)", result.stdout)
    return next((" ".join(block.split()) for block in blocks if block.startswith(f"{pid} ")), "")


@pytest.fixture
def registry(rundir: Rundir) -> Iterator[RunningRegistry]:
    with running_registry(rundir) as running:
        yield running


def test_of_the_other_byte_order(registry: RunningRegistry, rundir: Rundir) -> None:
    # facts, application protocol 2.1, as a big-endian machine stores it.
    numbers = (0xC57C57C5, 9, 0, os.getpid(), os.getppid(), 0, 0, 64, 8, 8, 8, 8, 8, 0)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(rundir.path / "lttng-ust-sock-8"))
        sock.sendall(struct.pack(">14I16s64x", *numbers, b"big"))
        assert sock.recv(1) == b""
    line = shown(rundir, os.getpid())
    assert " big 9.0 64 - refused - its byte order is not this machine's" in line


@pytest.mark.peers("gcc", "lttng-ust-headers")
@pytest.mark.parametrize("possible", ["0", "0-511"])
def test_that_sees_other_cpus(
    registry: RunningRegistry, rundir: Rundir, apps: Apps, possible: str
) -> None:
    """As in a container: given a stream for each of ours it would abort, or write past them."""
    # As who it is: the wait word of uid 0, which it would be by -r, may be root's.
    own_mounts = ("-cm", "--keep-caps")
    need_namespaces(*own_mounts)
    ours = Path("/sys/devices/system/cpu/possible")
    if ours.read_text().strip() == possible:
        pytest.skip(f"this machine has CPUs {possible}")
    theirs = rundir.home / "possible"
    theirs.write_text(possible + "\n")
    session = registry.client.create("s", rundir.home / "trace")
    session.enable_event("*")
    session.start()
    script = f"mount --bind {theirs} {ours} && exec {apps.sleeper} 1"
    program = rundir.start(["unshare", *own_mounts, "sh", "-c", script])
    until(lambda: program.pid in registry.applications(), "it is seen")
    seen = int(possible.split("-")[-1]) + 1
    line = shown(rundir, program.pid)
    assert re.search(rf" sleeper \S+ 64 - refused - it sees {seen} possible CPUs", line), line
    program.terminate()
    assert program.wait() == 0
    assert session.stop() == []


@pytest.mark.peers("gcc", "lttng-ust-headers")
def test_of_a_user_that_is_unknown_here(
    registry: RunningRegistry, rundir: Rundir, apps: Apps
) -> None:
    if os.getuid():
        pytest.skip("only root can run a program as somebody else")
    # As open as the global registry's.
    for path in (rundir.home, rundir.path):
        path.chmod(0o755)
    stranger = User(OVERFLOW, OVERFLOW, ["setpriv", f"--reuid={OVERFLOW}", "--clear-groups"])
    program = rundir.start(stranger.argv([apps.sleeper, "1"]))
    until(lambda: program.pid in registry.applications(), "it is seen")
    assert f"refused - its uid is {OVERFLOW}" in shown(rundir, program.pid)
    program.terminate()
    assert program.wait() == 0
