# SPDX-License-Identifier: MIT
"""A packet that somebody unknown leaves unfinished, and then finishes after all."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator

import pytest
from helpers.accounting import Trace, stop
from helpers.apps import Apps
from helpers.registry import running_registry, until
from helpers.ringwriter import Reservation, writers_into
from helpers.rundir import Rundir

from ustconsumer.abi.ring import RING_LAYOUTS
from ustconsumer.protocol.control import ChannelOptions
from ustconsumer.ringbuffer.geometry import Geometry
from ustconsumer.ringbuffer.memory import StreamMemory

pytestmark = pytest.mark.peers("gcc", "lttng-ust-headers", "babeltrace2")

SIZE, NUMBER, EVENTS = 4096, 64, 1000
GEOMETRY = Geometry(RING_LAYOUTS["ust-9-x86_64"], SIZE, NUMBER)
#: seq 0, thread 0, no text
TICK = bytes(9)


def reservations(pid: int) -> Iterator[tuple[mmap.mmap, StreamMemory, Reservation]]:
    """Reserve an event in each of a process's buffers."""
    for shared, writer, began in writers_into(pid, GEOMETRY):
        reservation = writer.reserve(0, TICK, began)
        assert isinstance(reservation, Reservation)
        yield shared, writer.memory, reservation


def test_it_is_said_only_as_long_as_it_is_so(rundir: Rundir, apps: Apps) -> None:
    output, go = rundir.home / "trace", rundir.home / "go"
    with running_registry(rundir) as registry:
        session = registry.client.create("s", str(output))
        session.enable_channel("chan", ChannelOptions(subbuf_size=SIZE, num_subbuf=NUMBER))
        session.enable_event("flood:tick")
        session.start()
        program = rundir.start([apps.flood, str(EVENTS), "--wait-start", go])
        until(lambda: registry.applications().get(program.pid), "it registers")
        until(lambda: registry.applications()[program.pid].sessions, "it has its buffers")
        held = list(reservations(program.pid))
        assert held
        go.touch()
        assert program.wait() == 0
        line = f"(pid {os.getpid()}) writes without being registered"
        until(lambda: any(line in each for each in session.info().problems), "it is said")
        for shared, memory, reservation in held:
            reservation.commit()
            memory.release()
            shared.close()
        until(lambda: not session.info().problems, "it is not so any more")
        totals = stop(session)
        assert (totals.recorded, totals.discarded) == (EVENTS + len(held), 0)
        session.destroy()
    assert len(Trace(output).lines) == EVENTS + len(held)
