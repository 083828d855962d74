# SPDX-License-Identifier: MIT
"""SIGTERM at any moment: drain, close, exit 0; what a consumer left its successor writes."""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import processes
from helpers.apps import Apps
from helpers.babeltrace import babeltrace2_text, discarded
from helpers.registry import RunningRegistry, running_registry, until
from helpers.rundir import Rundir

from ustconsumer.client.session import Session
from ustconsumer.protocol.control import ChannelOptions

pytestmark = pytest.mark.peers("gcc", "lttng-ust-headers", "babeltrace2")

ENTRY = struct.Struct(">9Q")
INDEX_HEADER = 16
EVENTS = 200_000


def in_order(output: Path) -> bool:
    for index in output.glob("**/index/*.idx"):
        raw = index.read_bytes()[INDEX_HEADER:]
        numbers = [entry[8] for entry in ENTRY.iter_unpack(raw)]
        if numbers != list(range(len(numbers))):
            return False
    return True


def started(registry: RunningRegistry, output: Path) -> Session:
    session = registry.client.create("s", output)
    session.enable_channel("chan", ChannelOptions(subbuf_size=16384, num_subbuf=8))
    session.enable_event("flood:tick", "chan")
    session.start()
    return session


def consumer_of(session: Session) -> int:
    consumer = session.info().consumer
    assert consumer is not None
    return consumer.pid


def moments(repeat: int) -> list[float]:
    """Return times spread over that in which the program emits its events."""
    return [0.3 * number / repeat for number in range(repeat)]


@pytest.mark.repeat(ci=3, soak=50)
def test_a_consumer_at_any_moment(rundir: Rundir, apps: Apps, repeat: int) -> None:
    for number, moment in enumerate(moments(repeat)):
        output = rundir.home / f"trace-{number}"
        with running_registry(rundir) as registry:
            stop_a_consumer(registry, rundir, apps, output, moment)
            # It was no death, and had no successor of its own.
            assert registry.log() == []
        assert in_order(output)
        reading = babeltrace2_text(output)
        assert len(reading.lines) + discarded(reading.stderr) == EVENTS


def stop_a_consumer(
    registry: RunningRegistry, rundir: Rundir, apps: Apps, output: Path, moment: float
) -> None:
    session = started(registry, output)
    pid = consumer_of(session)
    program = rundir.start([apps.flood, str(EVENTS)])
    # Any moment: what is checked holds whichever it was.
    time.sleep(moment)
    os.kill(pid, signal.SIGTERM)
    assert processes.ended(pid, 60)
    until(lambda: session.info().consumer is None, "the lease is free")
    # The session goes on without; who wants a consumer starts one.
    shown = rundir.drtrace("--rundir", rundir.path, "status", "-s", "s").stdout
    assert "Consumer:     none" in shown
    assert in_order(output)
    again = rundir.drtrace("--rundir", rundir.path, "consume", "s")
    assert again.returncode == 0, again.stderr
    assert consumer_of(session) != pid
    assert program.wait() == 0
    assert session.stop() == []
    session.destroy()


def test_a_consumer_that_has_hardly_begun(rundir: Rundir) -> None:
    place = rundir.home / "r"
    place.mkdir(mode=0o755)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(place / "drtrace.sock"))
        silent.listen()
        consumer = rundir.start_python("-P", "-m", "consumerd", "disk", "s", "--rundir", place)
        with silent.accept()[0]:
            # It waits for an answer that does not come, and there is nothing to drain.
            consumer.terminate()
            assert consumer.wait() == 0
    (place / "drtrace.sock").unlink()


@pytest.mark.repeat(ci=2, soak=50)
def test_a_registry_at_any_moment(rundir: Rundir, apps: Apps, repeat: int) -> None:
    for number, moment in enumerate(moments(repeat)):
        output = rundir.home / f"trace-{number}"
        # It ends with status 0 at the end of the block: SIGTERM is what ends it there.
        with running_registry(rundir) as registry:
            pid = consumer_of(started(registry, output))
            rundir.start([apps.flood, str(EVENTS)])
            time.sleep(moment)
        assert processes.ended(pid, 60)
        assert in_order(output)
        # The program may not have registered before the end.
        if any(output.rglob("metadata")):
            babeltrace2_text(output)


TWICE = """
import os, signal, sys
from consumerd.program import _catch
reading, writing = os.pipe()
_catch(writing)
os.kill(os.getpid(), signal.SIGTERM)
assert os.read(reading, 1)
print("draining", flush=True)
os.kill(os.getpid(), signal.SIGTERM)
print("still here", flush=True)
"""


def test_a_second_one_is_at_once() -> None:
    result = subprocess.run(
        [sys.executable, "-P", "-c", TWICE], capture_output=True, text=True, check=False
    )
    # No signal's death, which would have a successor.
    assert (result.returncode, result.stdout) == (128 + signal.SIGTERM, "draining\n"), result
