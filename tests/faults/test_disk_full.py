# SPDX-License-Identifier: MIT
"""An output that is full for a while: nothing twice, nothing uncounted, said once."""

from __future__ import annotations

import os
import re
import resource
import struct
from pathlib import Path

import pytest
from helpers.apps import Apps
from helpers.babeltrace import babeltrace2_text, discarded
from helpers.peers import need_namespaces
from helpers.registry import running_registry, until
from helpers.rundir import Rundir

from ustconsumer.client.session import Session
from ustconsumer.client.unpack import unpack
from ustconsumer.protocol.control import ChannelOptions, Destination

pytestmark = pytest.mark.peers("gcc", "lttng-ust-headers", "babeltrace2")

ENTRY = struct.Struct(">9Q")
INDEX_HEADER = 16
EVENTS = 20_000
SAID = "output: File too large; events are discarded meanwhile"


def room(pid: int, size: int) -> None:
    """Let a process write files of ``size`` bytes at most; -1: as large as it likes."""
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size if size >= 0 else hard, hard))


def lost(session: Session) -> int:
    return sum(stream.lost_full for stream in session.info().streams)


def flood(rundir: Rundir, apps: Apps) -> bool:
    """Run the program on one CPU, so that one stream has to take it all."""
    cpu = str(min(os.sched_getaffinity(0)))
    return rundir.run(["taskset", "-c", cpu, apps.flood, str(EVENTS)]).returncode == 0


def sequences(index: Path) -> list[int]:
    raw = index.read_bytes()[INDEX_HEADER:]
    return [entry[8] for entry in ENTRY.iter_unpack(raw)]


@pytest.mark.parametrize(
    ("size", "level"),
    [
        pytest.param(0, 0, id="nothing-can-be-opened"),
        pytest.param(4096, 0, id="metadata-in-part"),
        pytest.param(5 * 16384 + 5000, 0, id="data-in-part"),
        pytest.param(0, 3, id="nothing-can-be-opened-compressed"),
        pytest.param(500, 3, id="metadata-in-part-compressed"),
        pytest.param(20_000, 3, id="data-in-part-compressed"),
    ],
)
def test_it_goes_on_by_itself_when_there_is_room(
    rundir: Rundir, apps: Apps, size: int, level: int
) -> None:
    output = rundir.home / "trace"
    with running_registry(rundir) as registry:
        session = registry.client.create("s", output, destination=Destination(zstd=level))
        session.enable_channel("chan", ChannelOptions(subbuf_size=16384, num_subbuf=4))
        session.enable_event("flood:tick", "chan")
        session.start()
        consumer = session.info().consumer
        assert consumer is not None
        room(consumer.pid, size)
        floods = 3

        def is_full() -> bool:
            # A consumer that gets no turn has only taken what the buffers hold, which fits.
            nonlocal floods
            floods += 1
            assert flood(rundir, apps)
            return bool(session.info().problems)

        until(is_full, "the output takes nothing")
        assert flood(rundir, apps)
        assert lost(session) > 0
        full = sum(stream.consumed for stream in session.info().streams)
        if not size:
            assert full == 0
        # Another one registers, and its metadata is wanted, while nothing can be written.
        assert flood(rundir, apps)

        room(consumer.pid, -1)
        until(
            lambda: sum(stream.consumed for stream in session.info().streams) > full,
            "packets are taken again",
        )
        assert flood(rundir, apps)
        warnings = session.stop()
        assert session.info().problems == [SAID]
        now = session.info().consumer
        assert now is not None
        assert now.pid == consumer.pid
        session.destroy()
        log = registry.log()
    assert warnings == [f"consumer: {SAID}"]
    said = [line for line in log if "ust-consumerd" in line]
    # What is said goes to a file as well: not even that can be written when nothing can.
    wanted = [SAID, "the output takes packets again"][not size :]
    assert [line.split(": ", 1)[1] for line in said] == wanted
    if level:
        unpacked = unpack(output)
        assert not unpacked.problems
        output = Path(unpacked.path)
    for index in output.glob("**/index/*.idx"):
        assert sequences(index) == list(range(len(sequences(index)))), index
    reading = babeltrace2_text(output)
    assert len(reading.lines) + discarded(reading.stderr) == floods * EVENTS


#: A small disk, for whoever may mount one.
SMALL = 'mount -t tmpfs -o size=1m none {0} && exec "$@"'


def drtrace_on_a_small_disk(rundir: Rundir, place: Path, *arguments: str) -> tuple[int, str, str]:
    """Run ``drtrace`` with an output that never has room for more than a few packets."""
    place.mkdir()
    argv = rundir.drtrace_argv(*arguments)
    # A mount of its own: it is gone with the last process that sees it.
    own_mounts = ["-m"] if os.getuid() == 0 else ["-cm", "--keep-caps"]
    need_namespaces(*own_mounts)
    shell = ["unshare", *own_mounts, "sh", "-c", SMALL.format(place), "sh", *argv]
    result = rundir.run(shell)
    return result.returncode, result.stdout, result.stderr


def test_what_a_full_disk_never_took_is_counted(rundir: Rundir, apps: Apps) -> None:
    events = 100_000
    status, stdout, stderr = drtrace_on_a_small_disk(
        rundir,
        rundir.home / "small",
        *("record", "--strict", "-o", str(rundir.home / "small" / "trace"), "-e", "flood:*"),
        *("--", str(apps.flood), str(events)),
    )
    summary = re.match(r"(\d+) events recorded, (\d+) discarded, 1 process,", stdout)
    assert summary, (stdout, stderr)
    assert int(summary[1]) + int(summary[2]) == events
    assert int(summary[2]) > 0
    assert status == 3
    # The fact, and what it cost: once each.
    first, last = stderr.splitlines()
    assert first.endswith("; events are discarded meanwhile")
    left = re.search(r": (\d+) bytes with (\d+) events are left in the buffers, not written", last)
    assert left, stderr
    assert 0 < int(left[2]) <= int(summary[2])


def test_an_ended_trace_waits_for_room(rundir: Rundir, apps: Apps) -> None:
    """Buffers of a process that is gone stay until the output takes what is in them."""
    output = rundir.home / "trace"
    with running_registry(rundir) as registry:
        session = registry.client.create("s", output)
        options = ChannelOptions(subbuf_size=16384, num_subbuf=4, buffers="pid")
        session.enable_channel("chan", options)
        session.enable_event("flood:tick", "chan")
        session.start()
        consumer = session.info().consumer
        assert consumer is not None
        room(consumer.pid, 0)
        for _ in range(3):
            assert rundir.run([apps.flood, "100"]).returncode == 0
        until(lambda: len(session.info().problems) == 1, "the output takes nothing")
        room(consumer.pid, -1)
        until(lambda: not session.info().streams, "what was waiting is written")
        session.stop()
        session.destroy()
    reading = babeltrace2_text(output)
    assert (len(reading.lines), discarded(reading.stderr)) == (300, 0)
