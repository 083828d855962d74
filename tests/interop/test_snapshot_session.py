# SPDX-License-Identifier: MIT
"""What a session in snapshot mode has, and what nobody gets of it."""

from __future__ import annotations

import os

import pytest
from helpers.apps import Apps
from helpers.babeltrace import babeltrace2_text
from helpers.registry import RunningRegistry, running_registry, until
from helpers.rundir import Rundir

import ustconsumer
from ustconsumer.abi.ring import RING_LAYOUTS
from ustconsumer.client.connection import Connection
from ustconsumer.errors import CommandError
from ustconsumer.paths import possible_cpus
from ustconsumer.protocol.control import Attach, Attached, ChannelOptions
from ustconsumer.ringbuffer.geometry import Geometry

pytestmark = pytest.mark.peers("gcc", "lttng-ust-headers", "babeltrace2")

_OPTIONS = ChannelOptions(subbuf_size=1 << 16, num_subbuf=4, mode="overwrite", buffers="pid")


def flight(registry: RunningRegistry, rundir: Rundir, name: str = "mine") -> ustconsumer.Session:
    return registry.client.create(name, rundir.home / name, snapshot=True)


def test_a_channel_overwrites_unless_told_otherwise(rundir: Rundir) -> None:
    with running_registry(rundir) as registry:
        session = flight(registry, rundir)
        session.enable_channel("one")
        session.enable_channel("other", ChannelOptions(mode="discard"))
        assert {each.name: each.options.mode for each in session.info().channels} == {
            "one": "overwrite",
            "other": "discard",
        }
        plain = registry.client.create("plain", rundir.home / "plain")
        plain.enable_channel("one")
        assert [each.options.mode for each in plain.info().channels] == ["discard"]


def test_a_consumer_is_refused(rundir: Rundir) -> None:
    """Whether the registry should start it, or it comes by itself."""
    with running_registry(rundir) as registry:
        session = flight(registry, rundir)
        session.enable_event("*")
        session.start()
        with pytest.raises(CommandError, match="in snapshot mode: it has no consumer"):
            session.spawn_consumer()
        result = rundir.run_python("-P", "-m", "consumerd", "disk", "mine", "--rundir", rundir.path)
        assert result.returncode != 0
        assert "in snapshot mode: it has no consumer" in result.stderr
        assert session.info().consumer is None


@pytest.mark.parametrize("consume", [False, True])
def test_only_a_consumer_gets_the_wake_up_pipe(rundir: Rundir, consume: bool) -> None:
    with running_registry(rundir) as registry:
        session = registry.client.create("mine", rundir.home / "trace")
        session.enable_event("*")
        session.start(consumer=None)
        connection = Connection.connect(rundir.path, role="consumer" if consume else "observer")
        try:
            reply, fds = connection.exchange(Attach(session="mine", consume=consume, kind="test"))
            for fd in fds:
                os.close(fd)
        finally:
            connection.close()
        assert isinstance(reply, Attached)
        assert len(fds) == consume


def test_a_new_program_gets_the_room_of_those_that_ended(rundir: Rundir, apps: Apps) -> None:
    """Under a quota that is full, also in another session."""
    geometry = Geometry(
        RING_LAYOUTS["ust-9-x86_64"], _OPTIONS.subbuf_size, _OPTIONS.num_subbuf, overwrite=True
    )
    room = 5 * geometry.file_size * possible_cpus() // 2
    with running_registry(rundir, "--max-memory", str(room)) as registry:
        sessions = [flight(registry, rundir, name) for name in ("one", "two")]
        for session in sessions:
            session.enable_channel("channel0", _OPTIONS)
            session.enable_event("flood:tick")
        one, two = sessions

        def kept(session: ustconsumer.Session) -> int:
            info = session.info()
            return len({stream.trace for stream in info.streams}) + info.dropped

        one.start()
        for number in range(2):
            assert rundir.run([apps.flood, "10", "--from", str(number * 10)]).returncode == 0
            until(lambda number=number: kept(one) == number + 1, "its buffers are kept")  # type: ignore[misc]
        until(lambda: not registry.applications(), "they have ended")
        one.stop()
        two.start()
        assert rundir.run([apps.flood, "10", "--from", "20"]).returncode == 0
        until(lambda: one.info().dropped == 1, "the oldest had to go")
        snapshots = [session.snapshot() for session in sessions]
        assert two.info().dropped == 0
        for session in sessions:
            session.destroy()
    for snapshot, first in zip(snapshots, (10, 20), strict=True):
        lines = babeltrace2_text(snapshot.path).lines
        numbers = [int(line.partition("seq = ")[2].split(",")[0]) for line in lines]
        assert sorted(numbers) == list(range(first, first + 10))
