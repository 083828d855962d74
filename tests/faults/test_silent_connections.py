# SPDX-License-Identifier: MIT
"""Connections that never speak keep no program out, whoever makes them."""

from __future__ import annotations

import os
import subprocess

import pytest
from helpers.apps import Apps
from helpers.babeltrace import babeltrace2_text
from helpers.registry import running_registry, until
from helpers.rundir import Rundir
from helpers.users import User, ordinary_user

pytestmark = pytest.mark.peers("gcc", "lttng-ust-headers", "babeltrace2")

#: Processes and connections of each: 2,048, of which a multiple fills what one uid may have.
PROCESSES, EACH = 32, 64
#: Connects to a socket so many times and says nothing; "again": also for each that is closed.
CROWD = """
import os, select, socket, sys

place, processes, each, again = sys.argv[1], *map(int, sys.argv[2:])
for _ in range(processes - 1):
    if not os.fork():
        break
poller = select.poll()
poller.register(0, select.POLLIN)
crowd = {}

def join():
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(place)
    crowd[sock.fileno()] = sock
    poller.register(sock, select.POLLIN)

for _ in range(each):
    join()
os.write(1, b"there\\n")
while True:
    for fd, _ in poller.poll():
        if not fd:
            os._exit(0)
        poller.unregister(fd)
        crowd.pop(fd).close()
        if again:
            join()
"""


def crowd(rundir: Rundir, user: User, again: bool) -> subprocess.Popen[str]:
    """Start the connections, until stdin is closed; return when there were so many."""
    place = rundir.path / "lttng-ust-sock-8"
    process = rundir.start(
        user.python("-c", CROWD, place, str(PROCESSES), str(EACH), str(int(again))),
        env=user.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert [process.stdout.readline() for _ in range(PROCESSES)] == ["there\n"] * PROCESSES
    return process


@pytest.mark.parametrize("descriptors", [0, 400], ids=["enough", "few descriptors"])
@pytest.mark.parametrize("whose", ["own", "others"])
def test_a_program_is_recorded_in_the_crowd(
    rundir: Rundir, apps: Apps, whose: str, descriptors: int
) -> None:
    if whose == "others" and os.getuid():
        pytest.skip("only root can be somebody else")
    user = User(os.getuid(), os.getgid()) if whose == "own" else ordinary_user()
    # As open as the global registry's.
    for path in (rundir.home, rundir.path):
        path.mkdir(exist_ok=True)
        path.chmod(0o755)
    limit = ["prlimit", f"--nofile={descriptors}"] if descriptors else []
    output = rundir.home / "trace"
    with running_registry(rundir, prefix=limit) as registry:
        silent = crowd(rundir, user, again=bool(descriptors))
        session = registry.client.create("s", output)
        session.enable_event("flood:*")
        assert session.start() == []
        for _ in range(3):
            assert rundir.run([apps.flood, "100"]).returncode == 0
        late = rundir.start([apps.sleeper, "1"])
        until(lambda: late.pid in registry.applications(), "one more is registered")
        assert registry.applications()[late.pid].state != "refused"
        assert silent.poll() is None
        assert silent.stdin
        silent.stdin.close()
        assert session.stop() == []
        session.destroy()
        assert sum("flood:tick" in line for line in babeltrace2_text(output).lines) == 300
        # Said once, however many there are.
        (line,) = (line for line in registry.log() if "have not registered" in line)
        assert f"uid {user.uid} has " in line
